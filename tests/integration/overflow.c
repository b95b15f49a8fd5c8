/*
 * Overflow: the runner at home hands tasks to Cloud Run. Both halves are real: the stand-in for
 * Google's APIs starts `claude-runner job` for each execution.
 */
#include "overflow_scene.h"

/* ---- a task like any other ---- */

static void a_cloud_task_is_answered_as_one_at_home_is(void **state)
{
    (void)state;
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "standin: touch made.txt",
                                         AWAY ",\"taskId\":\"whole\",\"metadata\":{\"a\":[1]},"
                                              "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"},"
                                              "\"postExecutionActions\":{\"uploadFiles\":"
                                              "{\"globPatterns\":[\"*.txt\"]}}");
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", "completed");
    assert_json_text(reply->json, "executor", "cloud");
    assert_json_number(reply->json, "exit_code", 0);
    assert_json_number(reply->json, "metadata.a.0", 1);
    assert_json_number(reply->json, "cloud.attempt", 1);
    assert_true(json_number(reply->json, "cloud.vcpuSeconds") > 0);
    assert_json_text(reply->json, "uploadedFiles.0.originalPath", "made.txt");
    reply_free(reply);
    assert_int_equal(executions(), 1);
    assert_false(object_is_there("whole", "payload.enc"));
    reply = runner_get(runner, "/tasks/whole/outputs");
    assert_json_text(reply->json, "outputs.0.path", "made.txt");
    reply_free(reply);
    reply = runner_get(runner, "/tasks/whole/outputs/made.txt");
    assert_status(reply, 200);
    reply_free(reply);
    reply = runner_get(runner, "/tasks/whole/outputs/other.txt");
    assert_status(reply, 404);
    reply_free(reply);
    reply = runner_get(runner, "/tasks/whole/outputs.tgz");
    assert_status(reply, 200);
    reply_free(reply);
}

static void a_command_runs_there_as_here(void **state)
{
    (void)state;
    runner_start(runner);
    static const char *const where[] = {"local", "cloud"};
    for (size_t i = 0; i < COUNT(where); i++) {
        char *json = textf("{\"command\":\"echo out; echo \\\"$MINE\\\" | wc -c >&2; exit 3\","
                           "\"executor\":\"%s\",\"env\":{\"MINE\":\"" CANARY "\"},"
                           "\"taskId\":\"command-%s\"}",
                           where[i], where[i]);
        struct reply *reply = runner_post(runner, "/exec", json);
        assert_status(reply, 200);
        assert_json_text(reply->json, "executor", where[i]);
        assert_json_text(reply->json, "stdout", "out\n");
        assert_json_text(reply->json, "stderr", "25\n");
        assert_json_text(reply->json, "reason", "exit_status");
        assert_json_number(reply->json, "exit_code", 3);
        char *path = textf("/tasks/command-%s/events", where[i]);
        struct reply *events = runner_get(runner, path);
        assert_int_equal(text_count(events->body, "event: stdout"), 1);
        assert_int_equal(text_count(events->body, "event: stderr"), 1);
        assert_int_equal(text_count(events->body, "event: error"), 1);
        reply_free(events);
        reply_free(reply);
        free(path);
        free(json);
    }
    assert_int_equal(executions(), 1);
}

static void outputs_are_stored_where_the_request_wants_them(void **state)
{
    (void)state;
    runner_start(runner);
    static const char *const where[] = {"local", "cloud"};
    for (size_t i = 0; i < COUNT(where); i++) {
        char *more = textf("\"executor\":\"%s\",\"postExecutionActions\":{\"uploadFiles\":{"
                           "\"globPatterns\":[\"*.txt\"],\"gcsPrefix\":\"kept/%s\"}}",
                           where[i], where[i]);
        char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/kept%%2F%s%%2Fmade.txt", where[i]);
        char *gcs = textf("gs://" CLOUD_BUCKET "/kept/%s/made.txt", where[i]);
        struct reply *reply = runner_execute(runner, "standin: touch made.txt", more);
        assert_json_text(reply->json, "executor", where[i]);
        assert_json_text(reply->json, "uploadedFiles.0.gcsPath", gcs);
        reply_free(reply);
        reply = cloud_call(cloud, "GET", path, NULL);
        assert_status(reply, 200);
        reply_free(reply);
        free(gcs);
        free(path);
        free(more);
    }
    /* files are memory there: what does not fit is named, with what helps */
    struct reply *reply =
        runner_execute(runner, "standin: ok said",
                       AWAY ",\"postCommands\":[\"truncate -s 5G big\"],\"postExecutionActions\":"
                            "{\"uploadFiles\":{\"globPatterns\":[\"big\"]}}");
    assert_status(reply, 200);
    assert_json_contains(reply->json, "uploadError", "'big' has 5368709120 bytes");
    assert_json_contains(reply->json, "uploadError", "--memory");
    reply_free(reply);
    reply = runner_execute(runner, "x",
                           "\"postExecutionActions\":{\"uploadFiles\":{"
                           "\"globPatterns\":[\"*\"],\"gcsPrefix\":\"sessions/a\"}}");
    assert_problem(reply, 400, "invalid_request");
    reply_free(reply);
}

static void its_events_stream_as_they_come(void **state)
{
    (void)state;
    runner_start(runner);
    char *body = prompt_json("standin: tick 40 50", AWAY ",\"taskId\":\"ticks\"");
    struct reply *reply =
        http_call(runner->base, "POST", "/run", RUNNER_AUTH "Accept: text/event-stream\r\n", body);
    assert_status(reply, 200);
    assert_non_null(strstr(reply->body, "\"executor\":\"cloud\""));
    assert_non_null(strstr(reply->body, "event: placed\n"));
    assert_non_null(strstr(reply->body, "event: done\n"));
    assert_true(reply->n_chunks > 3);
    reply_free(reply);
    assert_ticks("ticks", 40);
    free(body);
}

static void what_finds_no_slot_goes_to_the_cloud(void **state)
{
    (void)state;
    runner_set(runner, "OVERFLOW", "full");
    runner_start(runner);
    char *first = runner_submit(runner, "standin: hang-middle", "");
    runner_await(runner, first, "running", END_MS);
    char *next = runner_submit(runner, "standin: tick 3 10", "\"taskId\":\"next\"");
    char *stays = runner_submit(runner, "standin: tick 3 10", "\"executor\":\"local\"");
    assert_outcome("next", "completed", NULL);
    char *local = runner_task_state(runner, stays);
    assert_string_equal(local, "pending");
    free(local);
    reply_free(runner_delete(runner, "/tasks/next"));
    char *path = textf("/tasks/%s", first);
    reply_free(runner_delete(runner, path));
    runner_await(runner, stays, "completed", END_MS);
    free(path);
    free(first);
    free(next);
    free(stays);
}

static void a_lost_login_sends_tasks_away_where_that_is_wanted(void **state)
{
    (void)state;
    runner_set(runner, "OVERFLOW", "unavailable");
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "standin: tick 3 10", "");
    assert_status(reply, 200);
    assert_json_text(reply->json, "executor", "cloud");
    assert_json_text(reply->json, "status", "completed");
    reply_free(reply);
    reply = runner_execute(runner, "standin: tick 3 10", "\"executor\":\"local\"");
    assert_status(reply, 401);
    reply_free(reply);
}

static void without_a_credential_that_may_leave_a_task_stays_and_says_why(void **state)
{
    (void)state;
    runner_set(runner, "OVERFLOW", "always");
    runner_set(runner, "CLOUD_API_KEY_SECRET", NULL);
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "x", AWAY);
    assert_problem(reply, 400, "invalid_request");
    assert_non_null(strstr(reply->body, "CLOUD_API_KEY_SECRET"));
    reply_free(reply);
    reply = runner_execute(runner, "standin: tick 3 10", "\"taskId\":\"home\"");
    assert_json_text(reply->json, "executor", "local");
    reply_free(reply);
    reply = runner_get(runner, "/tasks/home");
    assert_non_null(strstr(json_text(reply->json, "staysLocal"), "login stays at home"));
    reply_free(reply);
    assert_int_equal(runs(), 0);
    reply = runner_execute(runner, "standin: tick 3 10", "\"anthropicApiKey\":\"" API_KEY "\"");
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_cloud_task_is_answered_as_one_at_home_is),
        TEST(a_command_runs_there_as_here),
        TEST(outputs_are_stored_where_the_request_wants_them),
        TEST(its_events_stream_as_they_come),
        TEST(what_finds_no_slot_goes_to_the_cloud),
        TEST(a_lost_login_sends_tasks_away_where_that_is_wanted),
        TEST(without_a_credential_that_may_leave_a_task_stays_and_says_why),
    };
    return cmocka_run_group_tests_name("overflow", tests, NULL, NULL);
}
