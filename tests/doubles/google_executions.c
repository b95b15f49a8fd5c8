/* Cloud Run v2: what is asked of executions and their tasks. */
#include "google_run.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *find_execution(struct call *call, char **ret_key)
{
    char name[700];
    snprintf(name, sizeof name, "projects/%s/locations/%s/jobs/%s/executions/%s", call->args[0],
             call->args[1], call->args[2], call->args[3]);
    cJSON *execution = store_getf("run:%s", name);
    *ret_key = NULL;
    if (!execution)
        call_missing(call, name);
    else if (asprintf(ret_key, "run:%s", name) < 0)
        abort();
    return execution;
}

static cJSON *get_execution(struct call *call)
{
    char *key;
    cJSON *execution = find_execution(call, &key);
    cJSON *json = execution ? execution_show(key, execution) : NULL;
    free(key);
    return json;
}

static cJSON *cancel_execution(struct call *call)
{
    char *key;
    cJSON *execution = find_execution(call, &key), *answer = NULL;
    if (execution && execution_refresh(key)) {
        call_fail(call, "FAILED_PRECONDITION",
                  "The execution %.200s has already completed and cannot be cancelled.",
                  call->args[3]);
    } else if (execution) {
        execution_cancel(key);
        answer = operation_new(call, "Execution", key, "");
    }
    free(key);
    return answer;
}

static cJSON *delete_execution(struct call *call)
{
    char *key;
    cJSON *execution = find_execution(call, &key), *answer = NULL;
    if (execution) {
        cJSON *gone = execution_show(key, execution);
        answer = operation_new(call, "Execution", key, "");
        execution_kill(key, true);
        store_delete(key);
        cJSON_Delete(gone);
    }
    free(key);
    return answer;
}

/* Newest first, as Google gives them, also those of one millisecond: the page token is how many
 * came before. */
struct found {
    const char *key;
    int64_t serial;
};

static int newer(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return (x->serial < y->serial) - (x->serial > y->serial);
}

static size_t find_executions(const char *prefix, struct found **ret_list)
{
    size_t n = 0, cap = 64;
    const char *key;
    const cJSON *document;
    *ret_list = malloc(cap * sizeof **ret_list);
    for (size_t i = store_seek(prefix); (document = store_at_prefix(i, prefix, &key)); i++) {
        if (n == cap)
            *ret_list = realloc(*ret_list, (cap *= 2) * sizeof **ret_list);
        if (!*ret_list)
            abort();
        (*ret_list)[n++] = (struct found){.key = key, .serial = json_int(document, "_serial", 0)};
    }
    qsort(*ret_list, n, sizeof **ret_list, newer);
    return n;
}

/* Behind which execution the page begins: its place in the list, -1: not one of our tokens. */
static long page_begin(struct call *call, const struct found *list, size_t n, const char *prefix)
{
    char *token = call_param(call, "pageToken");
    size_t size = 0, skip;
    unsigned char *bytes = token && *token ? base64_bytes(token, &size) : NULL;
    char epoch[32];
    long place = token && *token ? -1 : 0;
    skip = (size_t)snprintf(epoch, sizeof epoch, "%lld ", (long long)world_setting("pageEpoch"));
    if (bytes && strncmp((char *)bytes, epoch, skip) == 0 &&
        strncmp((char *)bytes + skip, prefix, strlen(prefix)) == 0)
        for (size_t i = 0; i < n; i++)
            if (strcmp(list[i].key, (char *)bytes + skip) == 0)
                place = (long)i + 1;
    free(bytes);
    free(token);
    return place;
}

static cJSON *list_executions(struct call *call)
{
    char *key = call_key(call), *prefix = NULL;
    struct found *found;
    if (asprintf(&prefix, "%s/", key) < 0)
        abort();
    size_t n = find_executions(prefix, &found), most = call_page_size(call, "pageSize");
    long from = page_begin(call, found, n, prefix);
    cJSON *json = NULL;
    if (from < 0) {
        call_fail(call, "INVALID_ARGUMENT", "The page token is invalid or has expired.");
    } else {
        json = cJSON_CreateObject();
        cJSON *list = n > (size_t)from ? cJSON_AddArrayToObject(json, "executions") : NULL;
        size_t to = (size_t)from + most < n ? (size_t)from + most : n;
        for (size_t i = (size_t)from; i < to; i++)
            cJSON_AddItemToArray(list, execution_show(found[i].key, store_get(found[i].key)));
        char *token = to < n ? call_page_token(found[to - 1].key) : NULL;
        if (token)
            cJSON_AddStringToObject(json, "nextPageToken", token);
        free(token);
    }
    free(found);
    free(key);
    free(prefix);
    return json;
}

/* ---- tasks ---- */

static cJSON *task_json(const cJSON *execution, const cJSON *task)
{
    char text[800];
    const char *parent = json_string(execution, "name");
    int code = (int)json_int(task, "code", 0), index = (int)json_int(task, "index", 0);
    cJSON *json = cJSON_CreateObject();
    snprintf(text, sizeof text, "%s/tasks/%s-task%d", parent, strrchr(parent, '/') + 1, index);
    cJSON_AddStringToObject(json, "name", text);
    cJSON_AddStringToObject(json, "execution", strrchr(parent, '/') + 1);
    cJSON_AddStringToObject(json, "job", json_string(execution, "job"));
    cJSON_AddStringToObject(json, "createTime", json_string(execution, "createTime"));
    for (const char *const *p =
             (const char *const[]){"started", "startTime", "ended", "completionTime", NULL};
         *p; p += 2) {
        store_time(json_int(task, p[0], 0), text);
        if (json_int(task, p[0], 0))
            cJSON_AddStringToObject(json, p[1], text);
    }
    if (index)
        cJSON_AddNumberToObject(json, "index", index);
    if (json_int(task, "attempt", 0))
        cJSON_AddNumberToObject(json, "retried", (double)json_int(task, "attempt", 0));
    if (!json_int(task, "ended", 0))
        return json;
    cJSON *result = cJSON_AddObjectToObject(json, "lastAttemptResult");
    cJSON *status = cJSON_AddObjectToObject(result, "status");
    bool timed_out = cJSON_IsTrue(cJSON_GetObjectItem(task, "timedOut"));
    if (code || timed_out) {
        cJSON_AddNumberToObject(status, "code", timed_out ? 4 : 2);
        cJSON_AddStringToObject(status, "message",
                                timed_out ? "The configured timeout was reached."
                                          : "The container exited with an error.");
    }
    if (code)
        cJSON_AddNumberToObject(result, "exitCode", code);
    if (json_int(task, "signal", 0))
        cJSON_AddNumberToObject(result, "termSignal", (double)json_int(task, "signal", 0));
    return json;
}

static cJSON *list_tasks(struct call *call)
{
    char *key, *token = call_param(call, "pageToken");
    cJSON *execution = find_execution(call, &key);
    const cJSON *task;
    int from = token ? (int)strtol(token, NULL, 10) : 0, i = 0;
    int to = from + (int)call_page_size(call, "pageSize");
    free(token);
    if (!execution)
        return NULL;
    execution_refresh(key);
    free(key);
    cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "tasks");
    cJSON_ArrayForEach(task, cJSON_GetObjectItem(cJSON_GetObjectItem(execution, "_state"), "tasks"))
    {
        char next[16];
        snprintf(next, sizeof next, "%d", to);
        if (i >= from && i < to)
            cJSON_AddItemToArray(list, task_json(execution, task));
        else if (i == to)
            cJSON_AddStringToObject(json, "nextPageToken", next);
        i++;
    }
    return json;
}

static cJSON *get_task(struct call *call)
{
    char *key;
    cJSON *execution = find_execution(call, &key), *json = NULL;
    const cJSON *task;
    if (execution)
        execution_refresh(key);
    free(key);
    cJSON_ArrayForEach(task, cJSON_GetObjectItem(cJSON_GetObjectItem(execution, "_state"), "tasks"))
    {
        cJSON *candidate = json ? NULL : task_json(execution, task);
        if (candidate &&
            strcmp(strrchr(json_string(candidate, "name"), '/') + 1, call->args[4]) == 0)
            json = candidate;
        else
            cJSON_Delete(candidate);
    }
    return json || call->sent ? json : call_missing(call, call->args[4]);
}

#define EXECUTIONS "run.projects.locations.jobs.executions."

const struct call_row google_execution_rows[] = {
    {EXECUTIONS "get", "run.executions.get", get_execution, false},
    {EXECUTIONS "list", "run.executions.list", list_executions, false},
    {EXECUTIONS "cancel", "run.executions.cancel", cancel_execution, false},
    {EXECUTIONS "delete", "run.executions.delete", delete_execution, false},
    {EXECUTIONS "tasks.get", "run.tasks.get", get_task, false},
    {EXECUTIONS "tasks.list", "run.tasks.list", list_tasks, false},
    {0},
};
