/* A job in the stand-in for Google's cloud: its payload, its execution, and what it leaves in the
 * bucket. */
#ifndef TESTS_JOB_SCENE_H
#define TESTS_JOB_SCENE_H

#include "cloud.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-5f2c9d7e41-secret"
#define OBJECTS "/storage/v1/b/" CLOUD_BUCKET "/o"
#define ID_MAX 80

enum { END_MS = 60000, NOT_OURS = 3 };

static struct api *api;       /* Anthropic's stand-in */
static struct cloud *cloud;   /* Google's stand-in */
static struct runner *runner; /* gives paths and variables; it is never started */
static char task[ID_MAX];     /* the id of the one that was sent last */
static char execution[512];   /* the name of the one that was started last */

/* ---- the bucket ---- */

struct object {
    char *data;
    size_t size;
};

static inline char *object_path(const char *name)
{
    char *out = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&out, &size);
    fprintf(file, OBJECTS "/sessions%%2F%s%%2F", task);
    for (; *name; name++)
        *name == '/' ? fputs("%2F", file) : fputc(*name, file);
    fclose(file);
    return out;
}

/* Returns the object sessions/TASK/NAME; data is NULL when there is none. */
static inline struct object fetch(const char *name)
{
    struct object object = {0};
    char *path = object_path(name), *media = textf("%s?alt=media", path);
    struct reply *reply = cloud_call(cloud, "GET", media, NULL);
    if (reply->status == 200) {
        object.data = calloc(1, reply->body_size + 1);
        memcpy(object.data, reply->body, reply->body_size);
        object.size = reply->body_size;
    } else {
        assert_int_equal(reply->status, 404);
    }
    reply_free(reply);
    free(path);
    free(media);
    return object;
}

static inline bool is_there(const char *name)
{
    struct object object = fetch(name);
    free(object.data);
    return object.data != NULL;
}

/* All objects whose names begin with the prefix: an array of {name, size, …}. */
static inline cJSON *list(const char *prefix)
{
    cJSON *all = cJSON_CreateArray();
    char *token = strdup("");
    while (token) {
        char *path = textf(OBJECTS "?prefix=%s%s%s", prefix, *token ? "&pageToken=" : "", token);
        struct reply *reply = cloud_call(cloud, "GET", path, NULL);
        assert_status(reply, 200);
        cJSON *items = cJSON_GetObjectItem(reply->json, "items");
        while (cJSON_GetArraySize(items) > 0)
            cJSON_AddItemToArray(all, cJSON_DetachItemFromArray(items, 0));
        free(token);
        const char *next = json_text(reply->json, "nextPageToken");
        token = *next ? strdup(next) : NULL;
        reply_free(reply);
        free(path);
    }
    return all;
}

/* ---- sending and starting ---- */

/* Seals the request for the task `sealed_for` (NULL: the task itself) and puts it where `task`
 * looks. */
static inline void send_sealed(const char *id, const char *attempt, const char *request,
                               const char *sealed_for)
{
    int status = -1;
    char *in = textf("%s/request", runner->dir), *log = textf("%s/seal.log", runner->dir);
    write_file(in, request, 0600);
    char *command = textf("exec '%s' '%s' %s %s <'%s'", TEST_SEAL, id, attempt,
                          sealed_for ? sealed_for : "", in);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    pid_t pid = proc_start(argv, runner->env, log, log);
    bool ended = proc_wait(pid, 20000, &status);
    char *said = read_file(log, NULL);
    if (!ended || status != 0)
        fail_msg("seal-payload: %s", said ? said : "");
    free(said);
    unlink(in);
    unlink(log);
    free(in);
    free(log);
    free(command);
    snprintf(task, sizeof task, "%s", id);
}

/* Sends a task with this prompt and these fields, as its first attempt. */
static inline void send_task(const char *id, const char *prompt, const char *more)
{
    char *request = prompt_json(prompt, more);
    send_sealed(id, "1", request, NULL);
    free(request);
}

static inline void start(const char *attempt)
{
    char *body = textf("{\"overrides\":{\"containerOverrides\":[{\"env\":["
                       "{\"name\":\"TASK_ID\",\"value\":\"%s\"},"
                       "{\"name\":\"TASK_ATTEMPT\",\"value\":\"%s\"}]}]}}",
                       task, attempt);
    struct reply *reply = cloud_call(cloud, "POST", "/v2/" CLOUD_JOB_NAME ":run", body);
    assert_status(reply, 200);
    snprintf(execution, sizeof execution, "%s", json_text(reply->json, "metadata.name"));
    assert_string_not_equal(execution, "");
    reply_free(reply);
    free(body);
}

static inline char *execution_file(const char *name)
{
    return textf("%s/executions/%s/%s", cloud->state, strrchr(execution, '/') + 1, name);
}

/* What the supervisor of the execution records of its only task. */
static inline cJSON *execution_state(void)
{
    char *path = execution_file("state.json"), *text = read_file(path, NULL);
    cJSON *state = text ? cJSON_Parse(text) : NULL;
    free(path);
    free(text);
    return state;
}

static inline bool has_ended(void)
{
    cJSON *state = execution_state();
    bool ended = state && json_number(state, "tasks.0.ended") > 0;
    cJSON_Delete(state);
    return ended;
}

static inline char *job_log(void)
{
    if (!*execution)
        return strdup("");
    char *path = execution_file("output"), *text = read_file(path, NULL);
    free(path);
    return text ? text : strdup("");
}

static inline pid_t job_pid(void)
{
    cJSON *state = execution_state();
    pid_t pid = state ? (pid_t)json_number(state, "tasks.0.pid") : 0;
    cJSON_Delete(state);
    return pid;
}

/* Waits until the execution ends. Returns the job's exit status. */
static inline int await_end(int ms)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    while (!has_ended() && now_ms() < end)
        poll_pause();
    if (!has_ended()) {
        char *log = job_log();
        fail_msg("the execution has not ended: %.3000s", log);
    }
    cJSON *state = execution_state();
    int code = (int)json_number(state, "tasks.0.code");
    cJSON_Delete(state);
    return code;
}

static inline void assert_exit(int code)
{
    int got = await_end(END_MS);
    if (got != code) {
        char *log = job_log();
        fail_msg("exit status %d instead of %d: %.4000s", got, code, log);
    }
}

static inline void assert_log_says(const char *text)
{
    char *log = job_log();
    if (!strstr(log, text))
        fail_msg("no '%s' in the log: %.3000s", text, log);
    free(log);
}

static inline cJSON *result(void)
{
    struct object object = fetch("result.json");
    assert_non_null(object.data);
    cJSON *json = cJSON_Parse(object.data);
    assert_non_null(json);
    free(object.data);
    return json;
}

static inline void assert_result(const char *state, const char *reason)
{
    cJSON *json = result();
    assert_json_text(json, "state", state);
    assert_json_text(json, "reason", reason);
    cJSON_Delete(json);
}

/* ---- events ---- */

/* The pieces of events, joined in order. Fails unless each piece begins where the previous one
 * ended and is not too long. */
static inline struct object joined(size_t *ret_pieces)
{
    struct object all = {0};
    char *prefix = textf("sessions/%s/events/", task);
    cJSON *pieces = list(prefix), *piece;
    FILE *file = open_memstream(&all.data, &all.size);
    *ret_pieces = (size_t)cJSON_GetArraySize(pieces);
    cJSON_ArrayForEach(piece, pieces)
    {
        fflush(file);
        const char *name = json_text(piece, "name") + strlen(prefix);
        assert_int_equal(strlen(name), 20);
        assert_int_equal(strtoll(name, NULL, 10), (long long)all.size);
        char *short_name = textf("events/%s", name);
        struct object part = fetch(short_name);
        assert_non_null(part.data);
        assert_true(part.size > 2 && memcmp(part.data + part.size - 2, "\n\n", 2) == 0);
        size_t events = text_count(part.data, "\n\n");
        assert_true(part.size <= 256u << 10 || events == 1);
        fwrite(part.data, 1, part.size, file);
        free(part.data);
        free(short_name);
    }
    fclose(file);
    cJSON_Delete(pieces);
    free(prefix);
    return all;
}

/* The pieces are the job's events file, byte for byte: each event's id is its offset, the first is
 * "task", the last is "done" (unless cut), and result.json has the length. */
static inline size_t assert_events_whole(bool done)
{
    size_t pieces, count = 0;
    struct object all = joined(&pieces);
    cJSON *json = result();
    assert_int_equal(all.size, (size_t)json_number(json, "eventsBytes"));
    cJSON_Delete(json);
    const char *last = all.data;
    for (const char *at = all.data; at && *at; count++) {
        char *expected = textf("id: %zu\n", (size_t)(at - all.data));
        if (strncmp(at, expected, strlen(expected)) != 0)
            fail_msg("no '%s' at that place: %.100s", expected, at);
        free(expected);
        last = at;
        at = strstr(at, "\n\n");
        at = at ? at + 2 : NULL;
    }
    assert_non_null(strstr(all.data, "event: task\n"));
    if (done && !strstr(last, "event: done\n"))
        fail_msg("the last event is %.200s", last);
    free(all.data);
    return count;
}

/* ---- what must hold for every job ---- */

static inline void assert_no_trace(const char *text)
{
    cJSON *objects = list("sessions/"), *object;
    char own_task[ID_MAX];
    snprintf(own_task, sizeof own_task, "%s", task);
    cJSON_ArrayForEach(object, objects)
    {
        const char *name = json_text(object, "name") + strlen("sessions/");
        const char *slash = strchr(name, '/');
        assert_non_null(slash);
        snprintf(task, sizeof task, "%.*s", (int)(slash - name), name);
        struct object content = fetch(slash + 1);
        if (content.data && memmem(content.data, content.size, text, strlen(text)))
            fail_msg("'%s' is in %s", text, json_text(object, "name"));
        free(content.data);
    }
    snprintf(task, sizeof task, "%s", own_task);
    cJSON_Delete(objects);
    char *log = job_log();
    if (strstr(log, text))
        fail_msg("'%s' is in the log: %s", text, log);
    free(log);
}

/* ---- set-up ---- */

static inline int set_up(void **state)
{
    (void)state;
    const char *binary = getenv("CR_BINARY");
    api = api_new();
    runner = runner_new();
    cloud = cloud_new(binary ? binary : TEST_RUNNER, NULL);
    cloud_furnish(cloud, API_KEY "\n");
    cloud_use(cloud, runner);
    runner_set(runner, "ANTHROPIC_UPSTREAM", api->base);
    runner_set(runner, "GIT_ALLOW", "file:");
    assert_int_equal(mkdir(runner->state, 0711), 0);
    cloud_define_job(cloud, runner);
    return 0;
}

/* No job may leave a process on the machine, or a secret anywhere. */
static inline int tear_down(void **state)
{
    (void)state;
    if (*execution) {
        assert_no_trace(API_KEY);
        assert_no_trace(CANARY);
        char *log = job_log();
        if (strstr(log, "Sanitizer") || strstr(log, "runtime error:"))
            fail_msg("%s", log);
        free(log);
    }
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    cloud_free(cloud);
    runner_free(runner);
    api_free(api);
    execution[0] = '\0';
    return 0;
}

/* ---- payloads that are none ---- */

static inline void assert_not_run(const char *error, bool payload_stays)
{
    assert_exit(0); /* the runner at home learns the cause from the result */
    cJSON *json = result();
    assert_json_text(json, "state", "failed");
    assert_json_text(json, "reason", "cloud_error");
    assert_json_contains(json, "error", error);
    assert_json_number(json, "eventsBytes", 0);
    cJSON_Delete(json);
    assert_int_equal(is_there("payload.enc"), payload_stays);
}

static inline void await_piece(void)
{
    EVENTUALLY(20000, is_there("events/00000000000000000000"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
