#include "overflow_scene.h"

#include <unistd.h>

/* True once an event of the job has reached the runner. */
static bool speaks(const char *id)
{
    char *path = textf("%s/tasks/%s/events", runner->state, id), *text = read_file(path, NULL);
    bool said = text && strstr(text, "tick 3");
    free(text);
    free(path);
    return said;
}

/* ---- ending ---- */

static void a_cancelled_cloud_task_is_gone(void **state)
{
    (void)state;
    runner_start(runner);
    char *id = runner_submit(runner, "standin: tick 100000 20", AWAY ",\"taskId\":\"gone\"");
    EVENTUALLY(END_MS, speaks("gone"));
    struct reply *reply = runner_delete(runner, "/tasks/gone");
    assert_status(reply, 200);
    reply_free(reply);
    assert_outcome("gone", "cancelled", "cancelled");
    EVENTUALLY(20000, runner_task_processes(there) == 0);
    free(id);
}

static void an_execution_that_is_lost_ends_its_task_or_runs_it_again(void **state)
{
    (void)state;
    runner_start(runner);
    free(runner_submit(runner, "standin: tick 100000 20", AWAY ",\"taskId\":\"lost\""));
    EVENTUALLY(END_MS, speaks("lost"));
    /* its first execution does not get to its end */
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"again%2Fresult.json\",\"hold\":true},{\"method\":"
                         "\"storage.objects.insert\",\"pathContains\":\"again%2Foutcome.json\","
                         "\"hold\":true}]}");
    free(runner_submit(runner, "standin: tick 400 20",
                       AWAY ",\"taskId\":\"again\",\"retryInterrupted\":true"));
    EVENTUALLY(END_MS, speaks("again"));
    cloud_control(cloud, "{\"killExecutions\":true,\"faults\":[]}");
    assert_outcome("lost", "failed", "interrupted");
    runner_await(runner, "again", "completed", SLOW_MS);
    struct reply *reply = runner_result(runner, "again");
    assert_json_number(reply->json, "cloud.attempt", 2);
    reply_free(reply);
    assert_int_equal(executions(), 3);
}

static void events_that_vanish_are_told(void **state)
{
    (void)state;
    runner_start(runner);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.get\",\"pathContains\":"
                         "\"events%2F\",\"times\":400,\"status\":503}]}");
    char *id = runner_submit(runner, "standin: tick 100 30", AWAY ",\"taskId\":\"holes\"");
    EVENTUALLY(END_MS, object_is_there("holes", "result.json"));
    cloud_control(cloud, "{\"faults\":[],\"vanish\":{\"bucket\":\"" CLOUD_BUCKET "\",\"name\":"
                         "\"sessions/holes/events/00000000000000000000\"}}");
    await_end(id, "completed");
    struct reply *reply = runner_result(runner, id);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(reply->json, "truncated")));
    reply_free(reply);
    char *events = events_of(id);
    assert_non_null(strstr(events, "were lost in the cloud"));
    assert_non_null(strstr(events, "\"tick 99\""));
    free(events);
    free(id);
}

/* ---- exactly one ---- */

static void a_lost_answer_starts_nothing_twice(void **state)
{
    (void)state;
    runner_start(runner);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"" RUN "\",\"cut\":\"after\"}]}");
    char *id = runner_submit(runner, "standin: tick 5 20", AWAY ",\"taskId\":\"after\"");
    assert_outcome("after", "completed", NULL);
    assert_ticks("after", 5);
    assert_int_equal(executions(), 1);
    free(id);
}

static void a_request_that_was_lost_is_made_again(void **state)
{
    (void)state;
    runner_start(runner);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"" RUN "\",\"cut\":\"before\"}]}");
    char *id = runner_submit(runner, "standin: tick 5 20", AWAY ",\"taskId\":\"before\"");
    assert_outcome("before", "completed", NULL);
    assert_int_equal(executions(), 1);
    assert_true(object_is_there("before", "claim-1.json"));
    assert_true(object_is_there("before", "claim-2.json"));
    free(id);
}

static void a_full_quota_puts_the_task_back(void **state)
{
    (void)state;
    runner_start(runner);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"" RUN "\",\"status\":429,\"times\":6}]}");
    char *id = runner_submit(runner, "standin: tick 5 20", AWAY ",\"taskId\":\"quota\"");
    char *path = textf("%s/tasks/quota/events", runner->state), *text = NULL;
    EVENTUALLY(END_MS, (free(text), text = read_file(path, NULL)) && strstr(text, "cloud_full"));
    free(text);
    free(path);
    cloud_control(cloud, "{\"faults\":[]}");
    runner_await(runner, id, "completed", SLOW_MS);
    assert_int_equal(executions(), 1);
    free(id);
}

static void a_set_up_that_is_wrong_is_told_to_who_asks_for_the_cloud(void **state)
{
    (void)state;
    runner_set(runner, "OVERFLOW", "always");
    runner_start(runner);
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"run.jobs.run\",\"run.jobs.runWithOverrides\"]}}");
    struct reply *reply = runner_execute(runner, "standin: tick 3 10", AWAY);
    assert_json_text(reply->json, "reason", "cloud_error");
    assert_non_null(strstr(json_text(reply->json, "error"), "PERMISSION_DENIED"));
    reply_free(reply);
    reply = runner_execute(runner, "standin: tick 3 10", "");
    assert_json_text(reply->json, "executor", "local");
    assert_json_text(reply->json, "status", "completed");
    reply_free(reply);
    reply = runner_get(runner, "/health");
    assert_json_text(reply->json, "status", "degraded");
    assert_json_text(reply->json, "reasons.0", "cloud_unreachable");
    reply_free(reply);
}

static void a_failure_at_home_is_not_taken_for_the_clouds(void **state)
{
    (void)state;
    char *key = textf("%s/key", runner->dir);
    write_bytes(key, "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n",
                73);
    runner_set(runner, "GIT_SSH_KEY_FILE", key);
    runner_start(runner);
    assert_int_equal(unlink(key), 0);
    struct reply *reply = runner_execute(runner, "standin: ok x",
                                         AWAY ",\"repoUrl\":\"git@github.com:owner/name.git\"");
    assert_status(reply, 200);
    assert_json_text(reply->json, "reason", "repo_error");
    assert_non_null(strstr(json_text(reply->json, "error"), "key"));
    reply_free(reply);
    assert_int_equal(runs(), 0);
    reply = runner_execute(runner, "standin: ok x", AWAY); /* nothing delays this task */
    assert_json_text(reply->json, "status", "completed");
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    reply = runner_get(runner, "/health");
    assert_null(strstr(reply->body, "cloud_unreachable"));
    reply_free(reply);
    free(key);
}

/* ---- crashes ---- */

static void a_crash_at_home_loses_no_event_and_repeats_none(void **state)
{
    (void)state;
    runner_start(runner);
    char *id = runner_submit(runner, "standin: tick 120 50", AWAY ",\"taskId\":\"crash\"");
    EVENTUALLY(END_MS, speaks("crash"));
    for (int i = 0; i < 3; i++) {
        runner_crash(runner);
        runner_start(runner);
        char *now = runner_task_state(runner, id);
        if (strcmp(now, "completed") != 0)
            assert_string_equal(now, "running");
        free(now);
    }
    assert_outcome("crash", "completed", NULL);
    assert_ticks("crash", 120);
    assert_int_equal(executions(), 1);
    free(id);
}

/* The runner dies while each of these requests is in flight. */
static void a_crash_while_placing_starts_nothing_twice(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        const char *method;
        const char *cut;
    } steps[] = {
        {"crypt", "cloudkms.projects.locations.keyRings.cryptoKeys.encrypt", ""},
        {"upload", "storage.objects.insert", ""},
        {"asked", RUN, ""},
        {"answered", RUN, ",\"cut\":\"after\""},
    };
    /* much longer than the requests are held back */
    runner_set(runner, "CLOUD_RESOLVE_SECONDS", "30");
    for (size_t i = 0; i < COUNT(steps); i++) {
        char *faults = textf("{\"faults\":[{\"method\":\"%s\",\"delayMs\":3000%s}]}",
                             steps[i].method, steps[i].cut);
        char *more = textf(AWAY ",\"taskId\":\"%s\"", steps[i].id);
        runner_start(runner);
        cloud_control(cloud, faults);
        size_t before = cloud_count(cloud, steps[i].method, NULL);
        char *id = runner_submit(runner, "standin: tick 5 20", more);
        EVENTUALLY(END_MS, cloud_count(cloud, steps[i].method, NULL) > before);
        runner_crash(runner);
        cloud_control(cloud, "{\"faults\":[]}");
        runner_start(runner);
        assert_outcome(steps[i].id, "completed", NULL);
        assert_ticks(steps[i].id, 5);
        assert_int_equal(executions(), (int)i + 1);
        assert_int_equal(runner_stop(runner, 60000), 0);
        free(id);
        free(more);
        free(faults);
    }
}

static void a_runner_that_stops_leaves_its_cloud_tasks_running(void **state)
{
    (void)state;
    runner_set(runner, "DRAIN_SECONDS", "1");
    runner_start(runner);
    char *id = runner_submit(runner, "standin: tick 150 50", AWAY ",\"taskId\":\"left\"");
    EVENTUALLY(END_MS, speaks("left"));
    assert_int_equal(runner_stop(runner, 60000), 0);
    runner_start(runner);
    assert_outcome("left", "completed", NULL);
    assert_ticks("left", 150);
    assert_int_equal(executions(), 1);
    free(id);
}

static void google_may_be_away_for_a_while(void **state)
{
    (void)state;
    runner_start(runner);
    char *id = runner_submit(runner, "standin: tick 100 50", AWAY ",\"taskId\":\"away\"");
    EVENTUALLY(END_MS, speaks("away"));
    cloud_kill(cloud);
    int64_t until = now_ms() + 3000;
    EVENTUALLY(20000, now_ms() > until);
    cloud_restart(cloud);
    cloud_control(cloud, "{\"expireTokens\":true}");
    assert_outcome("away", "completed", NULL);
    assert_ticks("away", 100);
    free(id);
}

/* ---- many ---- */

static void as_many_run_as_may_and_the_rest_waits(void **state)
{
    (void)state;
    runner_set(runner, "CLOUD_MAX_EXECUTIONS", "2");
    runner_start(runner);
    /* no execution ends before it may */
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"result.json\",\"hold\":true,\"times\":9}]}");
    char *ids[5];
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = runner_submit(runner, "standin: tick 10 50", AWAY);
    EVENTUALLY(END_MS, cloud_number("held") == 2);
    assert_int_equal(runs(), 2);
    cloud_control(cloud, "{\"faults\":[],\"release\":true}");
    for (size_t i = 0; i < COUNT(ids); i++) {
        runner_await(runner, ids[i], "completed", SLOW_MS);
        free(ids[i]);
    }
    assert_int_equal(executions(), COUNT(ids));
}

static void the_system_prompt_follows_its_secret(void **state)
{
    (void)state;
    runner_set(runner, "SYSTEM_PROMPT_SECRET", CLOUD_SECRET);
    runner_set(runner, "SYSTEM_PROMPT_POLL_SECONDS", "1");
    runner_start(runner);
    char *path = textf("%s/system-prompt", runner->state), *text = NULL;
    EVENTUALLY(20000, (text = read_file(path, NULL)) != NULL);
    assert_string_equal(text, API_KEY "\n");
    free(text);
    struct reply *reply = cloud_call(
        cloud, "POST", "/v1/projects/" CLOUD_PROJECT "/secrets/" CLOUD_SECRET ":addVersion",
        "{\"payload\":{\"data\":\"TmV3IHdvcmRz\"}}");
    assert_status(reply, 200);
    reply_free(reply);
    text = NULL;
    EVENTUALLY(20000, (free(text), text = read_file(path, NULL)) && strcmp(text, "New words") == 0);
    free(text);
    /* first a version that is not text, then Google is unreachable: the last good prompt stays in
     * use, also after a restart */
    reply = cloud_call(cloud, "POST",
                       "/v1/projects/" CLOUD_PROJECT "/secrets/" CLOUD_SECRET ":addVersion",
                       "{\"payload\":{\"data\":\"IAo=\"}}");
    assert_status(reply, 200);
    reply_free(reply);
    size_t asked = cloud_count(cloud, "secretmanager.projects.secrets.versions.access", NULL);
    EVENTUALLY(20000, cloud_count(cloud, "secretmanager.projects.secrets.versions.access", NULL) >
                          asked + 2);
    text = read_file(path, NULL);
    assert_string_equal(text, "New words");
    free(text);
    cloud_kill(cloud);
    assert_int_equal(runner_stop(runner, 60000), 0);
    runner_start(runner);
    text = read_file(path, NULL);
    assert_string_equal(text, "New words");
    free(text);
    cloud_restart(cloud);
    free(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_cancelled_cloud_task_is_gone),
        TEST(an_execution_that_is_lost_ends_its_task_or_runs_it_again),
        TEST(events_that_vanish_are_told),
        TEST(a_lost_answer_starts_nothing_twice),
        TEST(a_request_that_was_lost_is_made_again),
        TEST(a_full_quota_puts_the_task_back),
        TEST(a_set_up_that_is_wrong_is_told_to_who_asks_for_the_cloud),
        TEST(a_failure_at_home_is_not_taken_for_the_clouds),
        TEST(a_crash_at_home_loses_no_event_and_repeats_none),
        TEST(a_crash_while_placing_starts_nothing_twice),
        TEST(a_runner_that_stops_leaves_its_cloud_tasks_running),
        TEST(google_may_be_away_for_a_while),
        TEST(as_many_run_as_may_and_the_rest_waits),
        TEST(the_system_prompt_follows_its_secret),
    };
    return cmocka_run_group_tests_name("overflow_trouble", tests, NULL, NULL);
}
