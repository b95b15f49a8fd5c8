#include "runner/api/account.h"
#include "base/str.h"

#include "base/clock.h"
#include "runner/api/handlers.h"
#include "runner/api/page.h"
#include "runner/api/pages/pages.h"

#include <stdio.h>

void account_look(struct api *api, struct account *ret_account)
{
    keeper_status(api->keeper, &ret_account->login);
    breaker_status(api->breaker, &ret_account->breaker);
    usage_read(api->usage, ret_account->usage);
    ret_account->has_key = CONFIG_GET(api->config, anthropic_api_key) != NULL;
}

/* --- in words ------------------------------------------------------------------------------ */

/* Describes the state of the login for a person. */
static const char *describe(enum login_state state)
{
    switch (state) {
    case LOGIN_OK:
        return "Tasks run under this login.";
    case LOGIN_MISSING:
        return "Nobody has logged in yet. Tasks wait until somebody does.";
    case LOGIN_UNREADABLE:
    case LOGIN_MALFORMED:
        return "The credentials file is of no use. Tasks wait for a new login.";
    case LOGIN_EXPIRED:
    case LOGIN_REFUSED:
        return "Claude no longer takes this login. Tasks wait for a new one.";
    }
    return "";
}

/* The account's state, as a badge and a sentence. */
struct verdict {
    const char *kind, *badge, *sentence;
    bool fine; /* a new login would not improve anything */
};

static struct verdict judge(const struct account *account)
{
    bool key = account->has_key, works = account->login.state == LOGIN_OK;
    if (account->breaker.state == BREAKER_LIMIT && account->breaker.reserved)
        return (struct verdict){"warm", "waiting",
                                "Tasks have used their share of the account. The rest of it is "
                                "kept for you; they go on when the window ends.",
                                true};
    if (account->breaker.state == BREAKER_LIMIT)
        return (struct verdict){"warm", "usage limit",
                                key ? "The API key's usage limit is reached. Tasks wait."
                                    : "The account's usage limit is reached. Tasks wait, but need "
                                      "not if you log in with another account.",
                                key};
    if (account->breaker.state == BREAKER_LOGIN && (works || key))
        return (struct verdict){"bad", "refused",
                                key ? "Claude refuses the API key of the runner's settings. Tasks "
                                      "wait for another."
                                    : "Claude does not take this login at the moment. Tasks wait; "
                                      "it is tried again every minute.",
                                key};
    if (key)
        return (struct verdict){works ? "good" : "warm", works ? "working" : "not needed",
                                "Tasks use the API key of the runner's settings.", true};
    return (struct verdict){works ? "good" : "bad", works ? "working" : "login needed",
                            describe(account->login.state), works};
}

bool account_is_fine(const struct account *account)
{
    return judge(account).fine;
}

/* --- facts --------------------------------------------------------------------------------- */

static void add_fact(const char *name, const char *value, struct buf *out)
{
    buf_adds(out, "<dt>");
    str_add_html(out, name);
    buf_adds(out, "</dt><dd>");
    str_add_html(out, value);
    buf_adds(out, "</dd>\n");
}

static void add_time(const char *name, int64_t real_ms, struct buf *out)
{
    char time[CLOCK_TEXT_SIZE];
    clock_format(real_ms, time);
    buf_addf(out, "<dt>%s</dt><dd><time datetime=\"%s\" data-when>%.10s %.5s UTC</time></dd>\n",
             name, time, time, time + 11);
}

static void add_login(const struct keeper_status *login, struct buf *out)
{
    char text[64];
    int64_t minutes = login->remaining_ms > 0 ? login->remaining_ms / 60000 : 0;
    if (!login->configured)
        return;
    if (login->subscription[0])
        add_fact("Subscription", login->subscription, out);
    snprintf(text, sizeof(text), "%lld h %lld min left%s", (long long)(minutes / 60),
             (long long)(minutes % 60), login->refreshable ? ", renewed by itself" : "");
    if (login->expires_ms > 0)
        add_fact("Token", text, out);
    if (login->login_expires_ms > 0)
        add_time("Login ends", login->login_expires_ms, out);
    if (login->verified_ms)
        add_time("Confirmed", login->verified_ms, out);
    else
        add_fact("Confirmed", "not yet: no task has used it", out);
    if (login->refreshed_ms && !login->refresh_ok)
        add_fact("Last renewal", login->refresh_error, out);
}

/* Appends a bar for each window that shows how much of it is used. */
static void add_usage(const struct account *account, struct buf *out)
{
    static const char *const names[USAGE_WINDOWS] = {
        [USAGE_FIVE_HOUR] = "Used of five hours", [USAGE_SEVEN_DAY] = "Used of seven days"};
    char time[CLOCK_TEXT_SIZE];
    for (int i = 0; i < USAGE_WINDOWS; i++) {
        const struct usage_reading *one = &account->usage[i];
        if (!one->known)
            continue;
        clock_format(one->resets_ms, time);
        buf_addf(out,
                 "<dt>%s</dt><dd><meter min=\"0\" max=\"100\" high=\"80\" value=\"%.0f\"></meter> "
                 "%.0f %%, until <time datetime=\"%s\" data-when>%.10s %.5s UTC</time></dd>\n",
                 names[i], one->ratio * 100.0, one->ratio * 100.0, time, time, time + 11);
    }
}

void account_print(const struct account *account, struct buf *out)
{
    AUTO(buf) struct buf rows = BUF_INIT(16384), facts = BUF_INIT(17000);
    const struct verdict verdict = judge(account);
    if (account->breaker.state == BREAKER_LIMIT)
        add_time(account->breaker.reserved ? "Tasks go on" : "Limit ends",
                 account->breaker.until_ms, &rows);
    add_usage(account, &rows);
    add_login(&account->login, &rows);
    if (rows.len > 0)
        buf_addf(&facts, "<dl>\n%s</dl>\n", buf_str(&rows));
    PAGE_FILL(page_status_html, out, {.name = "kind", .text = verdict.kind},
              {.name = "badge", .text = verdict.badge},
              {.name = "sentence", .text = verdict.sentence}, {.name = "facts", .part = &facts});
}
