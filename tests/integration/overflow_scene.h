/* A runner at home and the cloud that runs the tasks that it sends away. */
#ifndef TESTS_OVERFLOW_SCENE_H
#define TESTS_OVERFLOW_SCENE_H

#include "cloud.h"
#include "stream.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CANARY "canary-7a1d5e20c3-secret"
#define RUN "run.projects.locations.jobs.run"
#define AWAY "\"executor\":\"cloud\""

enum { END_MS = 90000, SLOW_MS = 150000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *runner; /* at home */
static struct runner *there;  /* never started: it gives the paths and variables of executions */

static inline int set_up(void **state)
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

static inline void assert_no_trace(const char *text);

static inline int tear_down(void **state)
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

static inline size_t runs(void)
{
    return cloud_count(cloud, RUN, NULL);
}

/* The number of executions so far. */
static inline int executions(void)
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
static inline void assert_no_trace(const char *text)
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

/* One of the stand-in's numbers: "held" requests, or "running" executions. */
static inline int cloud_number(const char *what)
{
    cJSON *state = cloud_state(cloud);
    int count = (int)json_number(state, what);
    cJSON_Delete(state);
    return count;
}

static inline bool object_is_there(const char *id, const char *name)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/sessions%%2F%s%%2F%s", id, name);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool there_is = reply->status == 200;
    reply_free(reply);
    free(path);
    return there_is;
}

/* The task's events as lines, to its end. */
static inline char *events_of(const char *id)
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

/* Each tick is there once and in order; `task` comes first, and `done` once and last. */
static inline void assert_ticks(const char *id, int count)
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

static inline void await_end(const char *id, const char *state)
{
    runner_await(runner, id, state, END_MS);
}

static inline void assert_outcome(const char *id, const char *status, const char *reason)
{
    await_end(id, status);
    struct reply *reply = runner_result(runner, id);
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", status);
    if (reason)
        assert_json_text(reply->json, "reason", reason);
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    EVENTUALLY(20000, !object_is_there(id, "payload.enc"));
}

#endif
