/* `claude-runner status`: what /health says, for a person. */
#include "base/auto.h"
#include "runner/cli/cli.h"
#include "runner/cli/client.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "usage: claude-runner status [--json] [OPTIONS]\n"
                            "\n"
                            "Says how a runner is. Exit status 0: healthy; 1: not, or away.\n"
                            "\n"
                            "  --json               what /health answers, as it is\n" CLIENT_HELP;

static long long number_of(const struct json *object, const char *name)
{
    int64_t value = 0;
    json_int(json_get(object, name), &value);
    return (long long)value;
}

static const char *text_of(const struct json *object, const char *name)
{
    const char *text = json_text(json_get(object, name));
    return text ? text : "";
}

static bool is_true(const struct json *object, const char *name)
{
    bool value = false;
    json_bool(json_get(object, name), &value);
    return value;
}

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
    if (!is_true(oauth, "configured")) {
        printf("login    none\n");
        return;
    }
    printf("login    %s", is_true(oauth, "expired") ? "expired" : "ok");
    if (json_number(json_get(oauth, "hours_remaining"), &hours) == 0)
        printf(", %.1f h left", hours);
    printf("%s", is_true(oauth, "refreshable") ? ", renewed by itself" : ", cannot be renewed");
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

static void print_health(const struct client *client, const struct json *health)
{
    const struct json *tasks = json_get(health, "tasks");
    const char *credential = text_of(health, "credential");
    printf("%s %s at %s: %s, ", text_of(health, "service"), text_of(health, "version"), client->url,
           text_of(health, "status"));
    print_uptime(number_of(health, "uptime_seconds"));
    print_reasons(json_get(health, "reasons"));
    if (strcmp(credential, "api_key") == 0)
        printf("uses     an API key\n");
    print_login(json_get(health, "oauth"));
    printf("tasks    %lld running, %lld waiting, %lld slots\n", number_of(tasks, "running"),
           number_of(tasks, "queued"), number_of(tasks, "slots"));
    long long wrong = number_of(json_get(health, "auth_failures"), "count");
    if (wrong > 0)
        printf("refused  %lld wrong secrets, last %s\n", wrong,
               text_of(json_get(health, "auth_failures"), "last"));
}

int cli_status(int argc, char **argv)
{
    struct err err;
    AUTO(client) struct client client = {0};
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    int opened = client_open(&client, argc, argv, usage, &err);
    if (opened)
        return opened > 0 ? 0 : client_fail(&client, &err);
    if (client_fetch(&client, "GET", "/health", NULL, &text, &err))
        return client_fail(&client, &err);
    AUTO(json) struct json *health = json_parse(buf_str(&text), text.len, &err);
    if (!health)
        return client_fail(&client, &err);
    if (client.json)
        printf("%s\n", buf_str(&text));
    else
        print_health(&client, health);
    if (fflush(stdout))
        return 1;
    return strcmp(text_of(health, "status"), "healthy") == 0 ? 0 : 1;
}
