/*
 * The subscription's windows, as the API and the CLI report them: where they are shown, what the
 * runner knows after a restart, and the owner's share of them.
 */
#include "testing.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct api *api;

/* A runner with a login and the real CLI, started. */
static struct runner *with_login(const char *name, const char *value)
{
    struct runner *runner = runner_new();
    char *path = textf("%s/.credentials.json", runner->config);
    char *text = textf("{\"claudeAiOauth\":{\"accessToken\":\"" API_TOKEN "\",\"expiresAt\":%lld}}",
                       ((long long)time(NULL) + 8 * 3600) * 1000);
    if (!api)
        api = api_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_use_real_cli(runner, api);
    if (name)
        runner_set(runner, name, value);
    write_file(path, text, 0600);
    free(text);
    free(path);
    runner_start(runner);
    return runner;
}

static void assert_windows(const struct runner *runner, const char *path, const char *at,
                           double five_hour, double seven_day)
{
    struct reply *reply = runner_get(runner, path);
    char *five = textf("%s.five_hour.used_percent", at);
    char *seven = textf("%s.seven_day.used_percent", at);
    char *end = textf("%s.five_hour.resets_at", at);
    assert_status(reply, 200);
    assert_json_number(reply->json, five, five_hour);
    assert_json_number(reply->json, seven, seven_day);
    assert_true(strlen(json_text(reply->json, end)) == strlen("2026-01-02T03:04:05.678Z"));
    free(end);
    free(seven);
    free(five);
    reply_free(reply);
}

static void the_windows_are_shown_everywhere_and_kept_over_a_restart(void **state)
{
    (void)state;
    struct runner *runner = with_login(NULL, NULL);
    struct reply *reply = runner_get(runner, "/health?verbose=true");
    assert_true(cJSON_IsNull(json_at(reply->json, "usage.five_hour")));
    reply_free(reply);
    reply_free(
        runner_succeeded(runner, "[[windows:5h=0.42 7d=0.07 reset=7200]][[text:hello]]", ""));
    assert_windows(runner, "/health?verbose=true", "usage", 42, 7);
    assert_windows(runner, "/oauth/status", "usage", 42, 7);
    reply = runner_get(runner, "/metrics");
    assert_non_null(
        strstr(reply->body, "\nclaude_runner_account_utilization_ratio{window=\"5h\"} 0.42"));
    assert_non_null(strstr(reply->body, "claude_runner_account_reset_timestamp_seconds{"));
    reply_free(reply);
    reply = http_call(runner->base, "GET", "/health?verbose=true", NULL, NULL);
    assert_null(json_at(reply->json, "usage")); /* only the owner sees this */
    reply_free(reply);
    assert_int_equal(runner_stop(runner, 20000), 0);
    runner_start(runner);
    assert_windows(runner, "/oauth/status", "usage", 42, 7);
    runner_free(runner);
}

static void what_a_requests_own_credential_uses_is_not_the_owners(void **state)
{
    (void)state;
    struct runner *runner = with_login(NULL, NULL);
    reply_free(runner_succeeded(runner, "[[windows:5h=0.9 7d=0.9]][[text:mine]]",
                                "\"anthropicOAuthToken\":\"" API_TOKEN "\""));
    struct reply *reply = runner_get(runner, "/oauth/status");
    assert_true(cJSON_IsNull(json_at(reply->json, "usage.five_hour")));
    reply_free(reply);
    runner_free(runner);
}

static bool has_reason(const struct runner *runner, const char *reason)
{
    struct reply *reply = http_call(runner->base, "GET", "/health", NULL, NULL);
    char *quoted = textf("\"%s\":\"", reason); /* as the documented remedies spell it */
    bool has = strstr(reply->body, quoted) != NULL;
    free(quoted);
    reply_free(reply);
    return has;
}

static void beyond_their_share_tasks_wait_with_a_reason_until_the_window_ends(void **state)
{
    (void)state;
    struct runner *runner = with_login("USAGE_KEEP_PERCENT", "30");
    reply_free(
        runner_succeeded(runner, "[[windows:5h=0.70 7d=0.1 reset=25]][[text:all of it]]", ""));
    assert_false(has_reason(runner, "usage_reserved"));
    reply_free(
        runner_succeeded(runner, "[[windows:5h=0.71 7d=0.1 reset=25]][[text:and more]]", ""));
    assert_true(has_reason(runner, "usage_reserved"));
    char *id = runner_submit(runner, "[[text:later]]", "");
    runner_await(runner, id, "waiting_limit", 20000);
    char *reason = runner_task_text(runner, id, "reason");
    char *until = runner_task_text(runner, id, "waitsUntil");
    assert_string_equal(reason, "usage_reserved");
    assert_string_not_equal(until, "");
    struct reply *reply = runner_execute(runner, "[[text:now]]", "");
    assert_status(reply, 429);
    assert_json_contains(reply->json, "error", "kept for the owner");
    reply_free(reply);
    reply = runner_execute(runner, "[[text:by key]]", "\"anthropicApiKey\":\"" API_KEY "\"");
    assert_json_text(reply->json, "output", "by key");
    reply_free(reply);
    reply = runner_post(runner, "/exec", "{\"command\":\"echo as ever\"}");
    assert_json_text(reply->json, "stdout", "as ever\n");
    reply_free(reply);
    runner_await(runner, id, "completed", 60000);
    assert_false(has_reason(runner, "usage_reserved"));
    free(until);
    free(reason);
    free(id);
    runner_free(runner);
}

static void the_share_is_still_kept_after_a_restart(void **state)
{
    (void)state;
    struct runner *runner = with_login("USAGE_KEEP_PERCENT", "50");
    reply_free(runner_succeeded(runner, "[[windows:5h=0.1 7d=0.9 reset=3600]][[text:once]]", ""));
    assert_int_equal(runner_stop(runner, 20000), 0);
    runner_start(runner);
    char *id = runner_submit(runner, "[[text:waits]]", "");
    runner_await(runner, id, "waiting_limit", 20000);
    assert_int_equal(runner_stop(runner, 20000), 0);
    runner_set(runner, "USAGE_KEEP_PERCENT", "0");
    runner_start(runner);
    runner_await(runner, id, "completed", 60000);
    free(id);
    runner_free(runner);
}

static int stop_api(void **state)
{
    (void)state;
    if (api)
        api_free(api);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_windows_are_shown_everywhere_and_kept_over_a_restart),
        cmocka_unit_test(what_a_requests_own_credential_uses_is_not_the_owners),
        cmocka_unit_test(beyond_their_share_tasks_wait_with_a_reason_until_the_window_ends),
        cmocka_unit_test(the_share_is_still_kept_after_a_restart),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, stop_api);
}
