/*
 * The account that tasks share: its login is refreshed once for everybody, never reaches a task,
 * and when it is used up or lost, tasks wait instead of failing.
 */
#include "account_scene.h"

#include <string.h>

static void assert_health(const struct runner *runner, const char *status, const char *reason)
{
    struct reply *reply = http_call(runner->base, "GET", "/health", NULL, NULL);
    assert_json_text(reply->json, "status", status);
    if (reason)
        assert_json_text(reply->json, "reasons.0", reason);
    reply_free(reply);
}

/* --- one refresh for everybody --------------------------------------------------------------- */

#define TASKS 32

static void many_tasks_at_an_expired_token_cost_one_refresh(void **state)
{
    (void)state;
    char *ids[TASKS];
    struct api *api = api_new(), *tokens = token_server_new();
    struct runner *runner = with_login(api, tokens);
    api_control(api, "{\"tokens\":[\"" NEW_TOKEN "\"],\"apiKeys\":[]}");
    write_login(runner, OUTDATED, REFRESH_TOKEN, in_hours(-1));
    runner_start(runner);
    for (int i = 0; i < TASKS; i++)
        ids[i] = runner_submit(runner, "[[text:done]]", "");
    for (int i = 0; i < TASKS; i++) {
        runner_await(runner, ids[i], "completed", 120000);
        free(ids[i]);
    }
    assert_int_equal(refreshes(tokens), 1);
    char *path = textf("%s/.credentials.json", runner->config);
    char *text = read_file(path, NULL);
    assert_non_null(strstr(text, NEW_TOKEN));
    assert_non_null(strstr(text, NEW_REFRESH));
    assert_non_null(strstr(text, "\"kept\":[1,2]"));
    free(text);
    free(path);
    runner_free(runner);
    api_free(tokens);
    api_free(api);
}

static void a_token_that_is_refused_early_is_refreshed_once(void **state)
{
    (void)state;
    struct api *api = api_new(), *tokens = token_server_new();
    struct runner *runner = with_login(api, tokens);
    api_control(api, "{\"tokens\":[\"" NEW_TOKEN "\"],\"expired\":[\"" OUTDATED "\"]}");
    write_login(runner, OUTDATED, REFRESH_TOKEN, in_hours(8));
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "[[text:went on]]", "");
    assert_json_text(reply->json, "output", "went on");
    reply_free(reply);
    assert_int_equal(refreshes(tokens), 1);
    assert_health(runner, "healthy", NULL);
    runner_free(runner);
    api_free(tokens);
    api_free(api);
}

/* --- pauses ---------------------------------------------------------------------------------- */

static void a_usage_limit_lets_tasks_wait_and_ends_by_itself(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = with_login(api, NULL);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "[[error:429 reset=+20 times=1]][[text:x]]", "");
    char retry[32];
    assert_problem(reply, 429, "too_many_requests");
    assert_true(reply_header(reply, "Retry-After", retry, sizeof retry));
    reply_free(reply);
    assert_health(runner, "degraded", "usage_limit");
    reply = runner_execute(runner, "[[text:now]]", "");
    assert_problem(reply, 429, "too_many_requests");
    reply_free(reply);
    char *id = runner_submit(runner, "[[text:later]]", "");
    runner_await(runner, id, "waiting_limit", 15000);
    runner_await(runner, id, "completed", 90000);
    assert_health(runner, "healthy", NULL);
    free(id);
    runner_free(runner);
    api_free(api);
}

static struct stream *run(const struct runner *runner, const char *prompt)
{
    char *json = prompt_json(prompt, "");
    struct stream *stream = stream_open(runner->base, "POST", "/run", RUNNER_AUTH, json);
    free(json);
    return stream;
}

/* Too many requests at this moment: the CLI would give up, though waiting a second is enough. */
static void a_crowd_is_waited_out(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = with_login(api, NULL);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    runner_start(runner);
    struct reply *reply = runner_succeeded(
        runner, "[[error:429 status=allowed retry-after=1 times=1]][[text:went on]]", "");
    assert_json_text(reply->json, "output", "went on");
    reply_free(reply);
    assert_health(runner, "healthy", NULL);
    runner_free(runner);
    api_free(api);
}

static int retry_after(const struct runner *runner)
{
    char value[32];
    struct reply *reply = runner_execute(runner, "[[text:now]]", "");
    assert_problem(reply, 429, "too_many_requests");
    assert_true(reply_header(reply, "Retry-After", value, sizeof value));
    reply_free(reply);
    return (int)strtol(value, NULL, 10);
}

/* Nobody runs into the same limit again after a restart; who logs in with another account goes on.
 */
static void a_usage_limit_outlives_a_restart_and_ends_with_another_login(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = with_login(api, NULL);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    runner_start(runner);
    char *id = runner_submit(runner, "[[error:429 reset=+3600 times=1]][[text:at last]]", "");
    runner_await(runner, id, "waiting_limit", 60000);
    struct reply *reply =
        http_call(runner->base, "POST", "/execute", RUNNER_AUTH "Prefer: wait=1\r\n",
                  "{\"prompt\":\"[[text:patient]]\"}");
    assert_status(reply, 202); /* it said that it would wait */
    char *patient = strdup(json_text(reply->json, "taskId"));
    reply_free(reply);
    runner_await(runner, patient, "waiting_limit", 20000);
    assert_in_range(retry_after(runner), 3500, 3601);
    int asked = asked_times(api, "at%20last");
    runner_crash(runner);
    runner_start(runner);
    assert_health(runner, "degraded", "usage_limit");
    assert_in_range(retry_after(runner), 3500, 3601);
    reply = runner_succeeded(runner, "[[text:my own]]", "\"anthropicApiKey\":\"" API_KEY "\"");
    reply_free(reply);
    runner_await(runner, id, "waiting_limit", 20000);
    assert_int_equal(asked_times(api, "at%20last"), asked);
    api_control(api, "{\"tokens\":[\"sk-ant-oat01-another\"]}");
    write_login(runner, "sk-ant-oat01-another", "sk-ant-ort01-another", in_hours(8));
    runner_await(runner, id, "completed", 60000);
    runner_await(runner, patient, "completed", 60000);
    assert_health(runner, "healthy", NULL);
    free(patient);
    free(id);
    runner_free(runner);
    api_free(api);
}

/* Who streams and did not say that it would wait is told, as /execute's caller is; a task that
 * nobody is attached to waits, and its events say why. */
static void a_usage_limit_reaches_those_who_stream(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = with_login(api, NULL);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    runner_start(runner);
    struct stream *stream = run(runner, "[[error:429 reset=+20 times=1]][[text:x]]");
    stream_until_end(stream, 90000);
    assert_int_equal(stream_count(stream, "\nevent: error\n"), 1);
    assert_int_equal(stream_count(stream, "\"reason\":\"usage_limit\""), 1);
    assert_int_equal(stream_count(stream, "\nevent: cancelled\n"), 1);
    assert_int_equal(stream_count(stream, "\nevent: done\n"), 1);
    stream_free(stream);
    struct reply *reply = runner_post(runner, "/run", "{\"prompt\":\"[[text:now]]\"}");
    assert_problem(reply, 429, "too_many_requests");
    reply_free(reply);
    reply = runner_post(runner, "/run-async", "{\"prompt\":\"[[text:later]]\"}");
    assert_status(reply, 202);
    char *path = textf("/tasks/%s/events", json_text(reply->json, "taskId"));
    stream = stream_open(runner->base, "GET", path, RUNNER_AUTH, NULL);
    stream_until_end(stream, 90000);
    assert_int_equal(stream_count(stream, "\nevent: done\ndata: {\"success\":true"), 1);
    stream_free(stream);
    reply_free(reply);
    free(path);
    runner_free(runner);
    api_free(api);
}

static void a_pause_is_kept_over_a_restart_and_other_credentials_pass(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = with_login(api, NULL);
    runner_start(runner); /* there is no login */
    char *id = runner_submit(runner, "[[text:at last]]", "");
    runner_await(runner, id, "waiting_login", 20000);
    struct reply *reply =
        runner_execute(runner, "[[text:my own]]", "\"anthropicApiKey\":\"" API_KEY "\"");
    assert_json_text(reply->json, "output", "my own");
    reply_free(reply);
    runner_crash(runner);
    runner_start(runner);
    runner_await(runner, id, "waiting_login", 20000);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    runner_await(runner, id, "completed", 60000);
    free(id);
    runner_free(runner);
    api_free(api);
}

static void a_refresh_that_is_refused_asks_for_a_login(void **state)
{
    (void)state;
    struct api *api = api_new(), *tokens = token_server_new();
    struct runner *runner = with_login(api, tokens);
    write_login(runner, OUTDATED, "sk-ant-ort01-never-given", in_hours(-1));
    runner_start(runner);
    char *id = runner_submit(runner, "[[text:at last]]", "");
    runner_await(runner, id, "waiting_login", 30000);
    struct reply *reply = runner_execute(runner, "[[text:now]]", "");
    assert_problem(reply, 401, "login_required");
    assert_memory_equal(json_text(reply->json, "error"), "OAuth", 5);
    reply_free(reply);
    assert_health(runner, "degraded", "login_needed");
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    runner_await(runner, id, "completed", 60000);
    free(id);
    runner_free(runner);
    api_free(tokens);
    api_free(api);
}

static bool is_healthy(const struct runner *runner)
{
    struct reply *reply = runner_get(runner, "/health");
    bool healthy = strcmp(json_text(reply->json, "status"), "healthy") == 0;
    reply_free(reply);
    return healthy;
}

static void a_token_server_that_is_away_is_no_lost_login(void **state)
{
    (void)state;
    char seconds[16];
    struct api *api = api_new(), *tokens = token_server_new();
    struct runner *runner = with_login(api, tokens);
    write_login(runner, OUTDATED, REFRESH_TOKEN, in_hours(-1));
    api_control(tokens, "{\"faults\":[{\"path\":\"/v1/oauth/token\",\"times\":99,\"cut\":"
                        "\"before\"}]}");
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "[[text:now]]", "");
    assert_problem(reply, 503, "unavailable");
    assert_json_contains(reply->json, "detail", "could not be refreshed");
    assert_true(reply_header(reply, "Retry-After", seconds, sizeof seconds));
    reply_free(reply);
    assert_health(runner, "degraded", "refresh_failed");
    reply = runner_get(runner, "/health");
    assert_json_contains(reply->json, "remedies.refresh_failed", "network");
    assert_null(strstr(reply->body, "login_needed"));
    reply_free(reply);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8)); /* also when it comes back */
    EVENTUALLY(30000, is_healthy(runner));
    runner_free(runner);
    api_free(tokens);
    api_free(api);
}

/* --- what a task may do with its lease ------------------------------------------------------- */

static const char *variable(const struct reply *reply, const char *name)
{
    static char value[512];
    const cJSON *entry, *list = NULL;
    cJSON *output = cJSON_Parse(json_text(reply->json, "output"));
    size_t len = strlen(name);
    value[0] = '\0';
    list = cJSON_GetObjectItem(output, "env");
    cJSON_ArrayForEach(entry, list) if (strncmp(entry->valuestring, name, len) == 0 &&
                                        entry->valuestring[len] == '=')
        snprintf(value, sizeof value, "%s", entry->valuestring + len + 1);
    cJSON_Delete(output);
    return value;
}

static void a_lease_ends_with_its_task(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "JAIL", "restricted"); /* where the proxy is on a loopback that we share */
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "standin: env", "");
    char *base = strdup(variable(reply, "ANTHROPIC_BASE_URL"));
    char *headers = textf("x-api-key: %s\r\nanthropic-version: 2023-06-01\r\n",
                          variable(reply, "ANTHROPIC_API_KEY"));
    reply_free(reply);
    assert_memory_equal(base, "http://127.0.0.1:", 17);
    assert_null(strstr(headers, API_KEY));
    reply = http_call(base, "POST", "/v1/messages", headers, "{}");
    assert_status(reply, 401);
    assert_json_text(reply->json, "error.type", "authentication_error");
    reply_free(reply);
    static const char *const kept_back[] = {"/api/oauth/claude_cli/create_api_key",
                                            "/v1/organizations/api_keys", "/v1/files",
                                            "/v1/messages/../../api/oauth/profile"};
    for (size_t i = 0; i < sizeof kept_back / sizeof *kept_back; i++) {
        reply = http_call(base, "POST", kept_back[i], headers, "{}");
        assert_true(reply->status == 404 || reply->status == 400);
        reply_free(reply);
    }
    free(base);
    free(headers);
    runner_free(runner);
}

static bool is_in_flight(const struct runner *runner, int count)
{
    char *line = textf("\nclaude_runner_proxy_in_flight %d\n", count);
    struct reply *reply = runner_get(runner, "/metrics");
    bool is = strstr(reply->body, line) != NULL;
    reply_free(reply);
    free(line);
    return is;
}

/* In the middle of an answer; the model would go on for half an hour. */
static void a_cancelled_task_lets_the_api_go(void **state)
{
    (void)state;
    struct api *api = NULL;
    struct runner *runner = runner_new_real(&api);
    runner_start(runner);
    char *id = runner_submit(runner, "[[drip:250]][[repeat:100000]]", "");
    EVENTUALLY(60000, is_in_flight(runner, 1));
    char *path = textf("/tasks/%s/cancel", id);
    struct reply *reply = runner_post(runner, path, "");
    assert_status(reply, 200);
    reply_free(reply);
    runner_await(runner, id, "cancelled", 30000);
    EVENTUALLY(20000, is_in_flight(runner, 0));
    free(path);
    free(id);
    runner_free(runner);
    api_free(api);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_tasks_at_an_expired_token_cost_one_refresh),
        cmocka_unit_test(a_token_that_is_refused_early_is_refreshed_once),
        cmocka_unit_test(a_usage_limit_lets_tasks_wait_and_ends_by_itself),
        cmocka_unit_test(a_crowd_is_waited_out),
        cmocka_unit_test(a_usage_limit_outlives_a_restart_and_ends_with_another_login),
        cmocka_unit_test(a_usage_limit_reaches_those_who_stream),
        cmocka_unit_test(a_pause_is_kept_over_a_restart_and_other_credentials_pass),
        cmocka_unit_test(a_refresh_that_is_refused_asks_for_a_login),
        cmocka_unit_test(a_token_server_that_is_away_is_no_lost_login),
        cmocka_unit_test(a_lease_ends_with_its_task),
        cmocka_unit_test(a_cancelled_task_lets_the_api_go),
    };
    return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
