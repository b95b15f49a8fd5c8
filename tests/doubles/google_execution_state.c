/* Executions: how they are, and how they end. */
#include "google_run.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- how it is ---- */

static cJSON *read_state(const char *key)
{
    char *path = store_path("executions/%s/state.json", execution_id(key)), *text = NULL;
    size_t cap = 0;
    FILE *file = fopen(path, "re");
    cJSON *state = file && getdelim(&text, &cap, '\0', file) > 0 ? cJSON_Parse(text) : NULL;
    if (file)
        fclose(file);
    free(text);
    free(path);
    return state;
}

/* Whether its supervisor lives. */
static bool is_supervised(const char *key)
{
    char *path = store_path("executions/%s/lock", execution_id(key));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool held = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (fd >= 0)
        close(fd);
    free(path);
    return held;
}

static void add_condition(cJSON *list, const char *type, const char *state, const char *message,
                          const char *reason)
{
    cJSON *condition = cJSON_CreateObject();
    cJSON_AddStringToObject(condition, "type", type);
    cJSON_AddStringToObject(condition, "state", state);
    if (*message)
        cJSON_AddStringToObject(condition, "message", message);
    json_set_now(condition, "lastTransitionTime");
    if (*reason)
        cJSON_AddStringToObject(condition, "executionReason", reason);
    cJSON_AddItemToArray(list, condition);
}

/* proto3: zero is not written. */
static void add_count(cJSON *json, const char *name, int count)
{
    json_set(json, name, count ? cJSON_CreateNumber(count) : NULL);
}

struct counts {
    int running, succeeded, failed, cancelled, retried;
    int code; /* of a failed one */
    bool timed_out;
};

static struct counts count_tasks(const cJSON *state)
{
    struct counts counts = {0};
    const cJSON *task;
    bool cancelled = cJSON_IsTrue(cJSON_GetObjectItem(state, "cancelled"));
    cJSON_ArrayForEach(task, cJSON_GetObjectItem(state, "tasks"))
    {
        bool timed_out = cJSON_IsTrue(cJSON_GetObjectItem(task, "timedOut"));
        int code = (int)json_int(task, "code", 0);
        counts.retried += (int)json_int(task, "attempt", 0);
        if (json_int(task, "pid", 0))
            counts.running++;
        else if (cancelled && (code || !json_int(task, "ended", 0)))
            counts.cancelled++;
        else if (json_int(task, "ended", 0) && code == 0 && !timed_out)
            counts.succeeded++;
        else if (json_int(task, "ended", 0)) {
            counts.failed++;
            counts.code = code;
            counts.timed_out = timed_out;
        }
    }
    return counts;
}

static void add_completed(cJSON *conditions, const char *id, const struct counts *counts,
                          bool ended, const char *failed)
{
    char message[400];
    if (*failed) {
        add_condition(conditions, "Completed", "CONDITION_FAILED", failed, "");
    } else if (!ended) {
        add_condition(conditions, "Completed", "CONDITION_RECONCILING", "", "");
    } else if (counts->cancelled) {
        add_condition(conditions, "Completed", "CONDITION_FAILED", "The execution was cancelled.",
                      "CANCELLED");
    } else if (counts->failed) {
        snprintf(message, sizeof message,
                 counts->timed_out
                     ? "Task %.80s-task0 failed with message: The configured timeout was reached."
                     : "Task %.80s-task0 failed with message: The container exited with an error.",
                 id);
        add_condition(conditions, "Completed", "CONDITION_FAILED", message, "NON_ZERO_EXIT_CODE");
    } else {
        add_condition(conditions, "Completed", "CONDITION_SUCCEEDED",
                      "Execution completed successfully.", "");
    }
}

static void set_time(cJSON *json, const char *name, int64_t ms)
{
    char text[40];
    store_time(ms, text);
    if (ms)
        json_set_string(json, name, text);
}

/* Everything about it that changes. */
static void describe(const char *key, cJSON *json)
{
    cJSON *state = read_state(key), *conditions = cJSON_CreateArray();
    struct counts counts = count_tasks(state);
    const char *failed = json_string(json, "_failed");
    int64_t started = json_int(state, "started", 0), ended = json_int(state, "ended", 0);
    bool over = ended || *failed;
    add_completed(conditions, execution_id(key), &counts, over, failed);
    add_condition(conditions, "ResourcesAvailable", "CONDITION_SUCCEEDED", "", "");
    add_condition(conditions, "Started", started ? "CONDITION_SUCCEEDED" : "CONDITION_RECONCILING",
                  "", "");
    json_set(json, "conditions", conditions);
    add_count(json, "runningCount", *failed ? 0 : counts.running);
    add_count(json, "succeededCount", counts.succeeded);
    add_count(json, "failedCount", *failed ? 1 : counts.failed);
    add_count(json, "cancelledCount", counts.cancelled);
    add_count(json, "retriedCount", counts.retried);
    json_set(json, "reconciling", over ? NULL : cJSON_CreateTrue());
    set_time(json, "startTime", started);
    if (over)
        set_time(json, "completionTime", ended ? ended : store_now_ms());
    json_set_now(json, "updateTime");
    if (state)
        json_set(json, "_state", cJSON_Duplicate(state, 1));
    cJSON_Delete(state);
}

static bool is_going_on(const char *key)
{
    cJSON *state = read_state(key);
    bool going_on = state && !json_int(state, "ended", 0);
    cJSON_Delete(state);
    return going_on;
}

/* It has written something, so it had the lock; when that is free it will write no more. */
static bool is_lost(const char *key)
{
    return is_going_on(key) && !is_supervised(key) && is_going_on(key);
}

bool execution_refresh(const char *key)
{
    cJSON *execution = store_get(key);
    if (!execution || *json_string(execution, "completionTime"))
        return true;
    if (cJSON_IsTrue(cJSON_GetObjectItem(execution, "_hangs"))) /* lost, and nobody has noticed */
        return false;
    if (!*json_string(execution, "_failed") && is_lost(key))
        json_set_string(execution, "_failed", "The execution was lost: internal error.");
    describe(key, execution);
    if (!*json_string(execution, "completionTime"))
        return false;
    store_put(key, execution);
    return true;
}

cJSON *execution_show(const char *key, const cJSON *execution)
{
    execution_refresh(key);
    return call_shown(execution);
}

static bool is_execution(const char *key)
{
    const char *at = strstr(key, "/executions/");
    return at && !strchr(at + 12, '/');
}

size_t execution_count_running(void)
{
    size_t n = 0;
    const char *key;
    for (size_t i = store_seek("run:"); store_at_prefix(i, "run:", &key); i++)
        if (is_execution(key) && !execution_refresh(key))
            n++;
    return n;
}

/* ---- the end ---- */

static void signal_supervisor(const char *key, int number)
{
    cJSON *state = read_state(key);
    pid_t pid = (pid_t)json_int(state, "pid", 0);
    if (pid > 0 && is_supervised(key))
        kill(pid, number);
    cJSON_Delete(state);
}

/* A supervisor that has only just begun has no state yet, and looks for the file when it has. */
static void tell_supervisor(const char *key, const char *what, int number)
{
    char *path = store_path("executions/%s/%s", execution_id(key), what);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    free(path);
    signal_supervisor(key, number);
}

void execution_cancel(const char *key)
{
    tell_supervisor(key, "cancel", SIGTERM);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    remove(path);
    return 0;
}

void execution_kill(const char *key, bool forget)
{
    tell_supervisor(key, "kill", SIGUSR1);
    cJSON *state = read_state(key);
    bool has_begun = state != NULL;
    cJSON_Delete(state);
    if (!forget || !has_begun) /* it still looks for its folder's files */
        return;
    char *folder = store_path("executions/%s", execution_id(key));
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(folder);
}
