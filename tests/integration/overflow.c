/*
 * Overflow: what the runner at home hands to Cloud Run. Both halves are real: the stand-in for
 * Google's APIs starts `claude-runner job` for each execution.
 */
#include "cloud.h"
#include "stream.h"
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-7a1d5e20c3-secret"
#define RUN "run.projects.locations.jobs.run"
#define AWAY "\"executor\":\"cloud\""

enum { END_MS = 90000, SLOW_MS = 150000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *runner; /* at home */
static struct runner *there;  /* never started: the places and variables of executions */

static int set_up(void **state)
{
    (void)state;
    const char *binary = getenv("CR_BINARY");
    api = api_new();
    runner = runner_new();
    there = runner_new();
    cloud = cloud_new(binary ? binary : TEST_RUNNER, NULL);
    cloud_furnish(cloud, API_KEY "\n");
    cloud_use(cloud, there);
    runner_set(there, "ANTHROPIC_UPSTREAM", api->base);
    assert_int_equal(mkdir(there->state, 0711), 0);
    cloud_define_job(cloud, there);
    cloud_use(cloud, runner);
    runner_set(runner, "MAX_CONCURRENT_TASKS", "1");
    runner_set(runner, "OVERFLOW_AFTER_MS", "300");
    runner_set(runner, "CLOUD_RESOLVE_SECONDS", "6");
    return 0;
}

static void assert_no_trace(const char *text);

static int tear_down(void **state)
{
    (void)state;
    assert_no_trace(CANARY);
    runner_free(runner);
    cloud_free(cloud);
    runner_free(there);
    api_free(api);
    return 0;
}

/* ---- looking ---- */

static size_t runs(void)
{
    return cloud_count(cloud, RUN, NULL);
}

/* How many executions there have been. */
static int executions(void)
{
    struct reply *reply =
        cloud_call(cloud, "GET", "/v2/" CLOUD_JOB_NAME "/executions?pageSize=100", NULL);
    int count = 0;
    char token[200] = "";
    for (;;) {
        assert_status(reply, 200);
        count += cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "executions"));
        snprintf(token, sizeof token, "%s", json_text(reply->json, "nextPageToken"));
        reply_free(reply);
        if (!*token)
            return count;
        char *path = textf("/v2/" CLOUD_JOB_NAME "/executions?pageSize=100&pageToken=%s", token);
        reply = cloud_call(cloud, "GET", path, NULL);
        free(path);
    }
}

/* No object in the bucket, no request to Google and no event at home holds the text. */
static void assert_no_trace(const char *text)
{
    char *command =
        textf("grep -rlF -- '%s' '%s' '%s' >/dev/null 2>&1", text, cloud->state, runner->state);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    int status = -1;
    pid_t pid = proc_start(argv, runner->env, NULL, "/dev/null");
    assert_true(proc_wait(pid, 60000, &status));
    if (status == 0)
        fail_msg("'%s' is in a file of the bucket or of the runner", text);
    free(command);
    assert_int_equal(cloud_count(cloud, NULL, text), 0);
}

static bool object_is_there(const char *id, const char *name)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/sessions%%2F%s%%2F%s", id, name);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool there_is = reply->status == 200;
    reply_free(reply);
    free(path);
    return there_is;
}

/* The task's events as lines, to its end. */
static char *events_of(const char *id)
{
    char *path = textf("/tasks/%s/events", id);
    struct reply *reply =
        http_call(runner->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    assert_status(reply, 200);
    char *body = strdup(reply->body);
    reply_free(reply);
    free(path);
    return body;
}

/* Each of the ticks is there once and in order, `task` is first and `done` last, once. */
static void assert_ticks(const char *id, int count)
{
    char *events = events_of(id);
    const char *at = events;
    for (int i = 0; i < count; i++) {
        char *tick = textf("\"tick %d\"", i);
        if (text_count(events, tick) != 1)
            fail_msg("%s is there %zu times: %.3000s", tick, text_count(events, tick), events);
        const char *next = strstr(events, tick);
        assert_true(next > at);
        at = next;
        free(tick);
    }
    assert_int_equal(text_count(events, "\"event\":\"task\""), 1);
    assert_int_equal(text_count(events, "\"event\":\"done\""), 1);
    free(events);
}

static void await_end(const char *id, const char *state)
{
    runner_await(runner, id, state, END_MS);
}

static void await_runs(size_t count)
{
    EVENTUALLY(END_MS, runs() >= count);
}

static void assert_outcome(const char *id, const char *status, const char *reason)
{
    await_end(id, status);
    struct reply *reply = runner_result(runner, id);
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", status);
    if (reason)
        assert_json_text(reply->json, "reason", reason);
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    EVENTUALLY(10000, !object_is_there(id, "payload.enc"));
}

/* True once the job has said something that has come home. */
static bool speaks(const char *id)
{
    char *path = textf("%s/tasks/%s/events", runner->state, id), *text = read_file(path, NULL);
    bool said = text && strstr(text, "tick 3");
    free(text);
    free(path);
    return said;
}

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
    struct reply *reply = runner_execute(runner, "x",
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
    char *id = runner_submit(runner, "standin: tick 100000 20", AWAY ",\"taskId\":\"lost\"");
    EVENTUALLY(END_MS, speaks("lost"));
    cloud_control(cloud, "{\"killExecutions\":true}");
    assert_outcome("lost", "failed", "interrupted");
    free(id);
    id = runner_submit(runner, "standin: tick 150 30",
                       AWAY ",\"taskId\":\"again\",\"retryInterrupted\":true");
    EVENTUALLY(END_MS, speaks("again"));
    cloud_control(cloud, "{\"killExecutions\":true}");
    runner_await(runner, id, "completed", SLOW_MS);
    struct reply *reply = runner_result(runner, id);
    assert_json_number(reply->json, "cloud.attempt", 2);
    reply_free(reply);
    assert_int_equal(executions(), 3);
    free(id);
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
    reply = runner_execute(runner, "standin: ok x", AWAY); /* nothing holds this one up */
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

/* The runner dies while each of these requests is on its way. */
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
    EVENTUALLY(10000, now_ms() > until);
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
    char *ids[5];
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = runner_submit(runner, "standin: tick 10 50", AWAY);
    await_runs(2);
    assert_int_equal(runs(), 2);
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
    EVENTUALLY(10000, (text = read_file(path, NULL)) != NULL);
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
    /* a version that is no text, then Google being away: the last good one stays, over a restart
     * too
     */
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
        TEST(a_cloud_task_is_answered_as_one_at_home_is),
        TEST(a_command_runs_there_as_here),
        TEST(outputs_are_stored_where_the_request_wants_them),
        TEST(its_events_stream_as_they_come),
        TEST(what_finds_no_slot_goes_to_the_cloud),
        TEST(a_lost_login_sends_tasks_away_where_that_is_wanted),
        TEST(without_a_credential_that_may_leave_a_task_stays_and_says_why),
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
    return cmocka_run_group_tests_name("overflow", tests, NULL, NULL);
}
