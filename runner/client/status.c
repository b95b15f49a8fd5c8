/* `claude-runner status`: /health for a person. */
#include "base/auto.h"
#include "runner/client/client.h"
#include "runner/client/commands.h"

#include <stdio.h>
#include <string.h>

static void print_uptime(long long seconds)
{
    if (seconds >= 86400)
        printf("up %lld d %lld h\n", seconds / 86400, seconds % 86400 / 3600);
    else if (seconds >= 3600)
        printf("up %lld h %lld min\n", seconds / 3600, seconds % 3600 / 60);
    else
        printf("up %lld min\n", seconds / 60);
}

static void print_login(const struct json *oauth)
{
    double hours = 0;
    const char *verified = text_of(oauth, "verified_at");
    if (!client_is_true(oauth, "configured")) {
        printf("login    none\n");
        return;
    }
    printf("login    %s", client_is_true(oauth, "expired") ? "expired" : "ok");
    if (json_number(json_get(oauth, "hours_remaining"), &hours) == 0)
        printf(", %.1f h left", hours);
    printf("%s",
           client_is_true(oauth, "refreshable") ? ", renewed by itself" : ", cannot be renewed");
    if (*verified)
        printf(", confirmed %s", verified);
    putchar('\n');
}

static void print_reasons(const struct json *reasons)
{
    if (json_count(reasons) == 0)
        return;
    printf("reasons ");
    for (const struct json *one = json_first(reasons); one; one = json_next(one))
        printf(" %s", json_text(one) ? json_text(one) : "?");
    putchar('\n');
}

static void print_health(const struct call *call, const struct json *health)
{
    const struct json *tasks = json_get(health, "tasks");
    const char *credential = text_of(health, "credential");
    printf("%s %s at %s: %s, ", text_of(health, "service"), text_of(health, "version"),
           call->to.url, text_of(health, "status"));
    print_uptime(number_of(health, "uptime_seconds"));
    print_reasons(json_get(health, "reasons"));
    if (strcmp(credential, "api_key") == 0)
        printf("uses     an API key\n");
    print_login(json_get(health, "oauth"));
    printf("tasks    %lld running, %lld waiting, %lld slots\n", number_of(tasks, "running"),
           number_of(tasks, "queued"), number_of(tasks, "slots"));
    long long wrong = number_of(json_get(health, "refused_callers"), "count");
    if (wrong > 0)
        printf("refused  %lld wrong secret%s, last %s\n", wrong, wrong == 1 ? "" : "s",
               text_of(json_get(health, "refused_callers"), "last"));
}

int client_status(struct call *call, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    if (settings_find(&call->to, &call->given, err) ||
        client_fetch(&call->to, "GET", "/health", NULL, &text, err))
        return -1;
    AUTO(json) struct json *health = json_parse(buf_str(&text), text.len, err);
    if (!health)
        return -1;
    if (call->json)
        printf("%s\n", buf_str(&text));
    else
        print_health(call, health);
    return strcmp(text_of(health, "status"), "healthy") == 0 ? 0 : 1;
}
