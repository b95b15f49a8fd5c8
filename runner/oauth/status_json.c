/* A login's state as JSON. */
#include "base/clock.h"
#include "base/str.h"
#include "runner/oauth/keeper.h"

#include <string.h>

static void print_time(const char *name, int64_t ms, struct buf *out)
{
    char time[CLOCK_TEXT_SIZE];
    if (ms > 0)
        buf_addf(out, ",\"%s\":\"%s\"", name, clock_format(ms, time));
    else
        buf_addf(out, ",\"%s\":null", name);
}

static void print_text(const char *name, const char *text, struct buf *out)
{
    buf_addf(out, ",\"%s\":\"", name);
    str_add_json(out, text, strlen(text));
    buf_addc(out, '"');
}

static void print_more(const struct keeper_status *status, struct buf *out)
{
    buf_adds(out, ",\"scopes\":[");
    for (const char *at = status->scopes; *at;) {
        size_t n = strcspn(at, " ");
        buf_addf(out, "%s\"", at == status->scopes ? "" : ",");
        str_add_json(out, at, n);
        buf_addc(out, '"');
        at += n + strspn(at + n, " ");
    }
    buf_addc(out, ']');
    print_text("subscription_type", status->subscription, out);
    print_time("last_refresh_at", status->refreshed_ms, out);
    if (status->refreshed_ms)
        print_text("last_refresh", status->refresh_ok ? "succeeded" : "failed", out);
    if (status->refreshed_ms && !status->refresh_ok)
        print_text("last_refresh_error", status->refresh_error, out);
}

void keeper_print(const struct keeper_status *status, bool whole, struct buf *out)
{
    bool usable = status->state == LOGIN_OK || status->not_needed;
    buf_addf(out, "\"configured\":%s,\"expired\":%s", status->configured ? "true" : "false",
             usable ? "false" : "true");
    print_time("expires_at", status->configured ? status->expires_ms : 0, out);
    if (status->configured && status->expires_ms > 0)
        buf_addf(out, ",\"hours_remaining\":%.1f",
                 status->remaining_ms > 0 ? (double)status->remaining_ms / 3600000.0 : 0.0);
    else
        buf_adds(out, ",\"hours_remaining\":null");
    buf_addf(out, ",\"refreshable\":%s", status->refreshable ? "true" : "false");
    print_time("verified_at", status->verified_ms, out);
    print_time("login_expires_at", status->configured ? status->login_expires_ms : 0, out);
    if (!usable)
        print_text("reason", login_state_name(status->state), out);
    if (whole)
        print_more(status, out);
}
