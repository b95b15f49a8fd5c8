/* Cloud Run v2: jobs, starting them, and operations. */
#include "google_run.h"

#include "google_auth.h"
#include "google_policy.h"
#include "google_world.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENV_NAMES_MAX = 1000, TIMEOUT_MAX_S = 604800, RETRIES_MAX = 10, TASKS_MAX = 64 };

#define TYPE "type.googleapis.com/google.cloud.run.v2."

/* ---- operations ---- */

/* The operation as it is now. That of an execution is done when the execution has ended. */
static cJSON *operation_show(const cJSON *operation)
{
    const char *target = json_string(operation, "target"), *kind = json_string(operation, "kind");
    cJSON *found = store_get(target), *json = cJSON_CreateObject();
    cJSON *thing = strcmp(kind, "Execution") == 0 && found ? execution_show(target, found)
                                                           : cJSON_Duplicate(found, 1);
    char type[128];
    bool is_execution = strcmp(kind, "Execution") == 0;
    bool done = json_int(operation, "ready", 0) <= store_now_ms() &&
                (!is_execution || !found || *json_string(thing, "completionTime"));
    if (!thing)
        thing = cJSON_Duplicate(cJSON_GetObjectItem(operation, "gone"), 1);
    if (!thing)
        thing = cJSON_CreateObject();
    snprintf(type, sizeof type, TYPE "%s", kind);
    json_set_string(thing, "@type", type);
    cJSON_AddStringToObject(json, "name", json_string(operation, "name"));
    cJSON_AddItemToObject(json, "metadata", cJSON_Duplicate(thing, 1));
    if (done) {
        cJSON_AddTrueToObject(json, "done");
        cJSON_AddItemToObject(json, "response", thing);
    } else {
        cJSON_Delete(thing);
    }
    return json;
}

cJSON *operation_new(struct call *call, const char *kind, const char *target_key,
                     const char *suffix)
{
    char name[400], key[410], id[37];
    random_name(id, 36);
    snprintf(name, sizeof name, "projects/%s/locations/%s/operations/%s%s", call->args[0],
             call->args[1], id, suffix);
    snprintf(key, sizeof key, "run:%s", name);
    cJSON *operation = cJSON_CreateObject();
    cJSON_AddStringToObject(operation, "name", name);
    cJSON_AddStringToObject(operation, "kind", kind);
    cJSON_AddStringToObject(operation, "target", target_key);
    cJSON_AddNumberToObject(operation, "ready",
                            (double)(store_now_ms() + world_setting("operationDelayMs")));
    store_put(key, operation);
    return operation_show(operation);
}

static cJSON *operation_get(struct call *call)
{
    char *key = call_key(call);
    cJSON *operation = store_get(key);
    cJSON *json = operation ? operation_show(operation) : call_missing(call, key + 4);
    free(key);
    return json;
}

/* Gives the lock back between two looks. */
static cJSON *operation_wait(struct call *call)
{
    const char *timeout = json_string(call->body, "timeout");
    int64_t end = store_now_ms() + (*timeout ? (int64_t)(strtod(timeout, NULL) * 1000) : 30000);
    for (;;) {
        store_lock();
        cJSON *json = operation_get(call);
        store_unlock();
        if (!json || cJSON_IsTrue(cJSON_GetObjectItem(json, "done")) || store_now_ms() >= end)
            return json;
        cJSON_Delete(json);
        if (!server_wait(call->conn, 25))
            return NULL;
    }
}

static cJSON *operation_delete(struct call *call)
{
    char *key = call_key(call);
    cJSON *json = store_delete(key) ? cJSON_CreateObject() : call_missing(call, key + 4);
    free(key);
    return json;
}

/* ---- jobs ---- */

static bool good_id(const char *id)
{
    size_t len = strlen(id);
    return len >= 1 && len <= 63 && islower((unsigned char)id[0]) && id[len - 1] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool range_fault(struct call *call, const char *field, double value, double most)
{
    return (value < 0 || value > most) &&
           !call_fail(call, "INVALID_ARGUMENT", "%s: must be between 0 and %g.", field, most);
}

static bool template_fault(struct call *call, const cJSON *outer)
{
    const cJSON *inner = cJSON_GetObjectItem(outer, "template");
    const cJSON *containers = cJSON_GetObjectItem(inner, "containers"), *container;
    const char *timeout = json_string(inner, "timeout");
    if (cJSON_GetArraySize(containers) < 1)
        return !call_fail(call, "INVALID_ARGUMENT",
                          "template.template.containers: must have at least one container.");
    cJSON_ArrayForEach(container, containers)
    {
        if (!*json_string(container, "image"))
            return !call_fail(call, "INVALID_ARGUMENT",
                              "template.template.containers[0].image: is required.");
        if (cJSON_GetArraySize(cJSON_GetObjectItem(container, "env")) > ENV_NAMES_MAX)
            return !call_fail(call, "INVALID_ARGUMENT", "env: too many variables.");
    }
    return range_fault(call, "template.template.timeout", strtod(timeout, NULL), TIMEOUT_MAX_S) ||
           range_fault(call, "template.template.max_retries",
                       (double)json_int(inner, "maxRetries", 3), RETRIES_MAX) ||
           range_fault(call, "template.task_count", (double)json_int(outer, "taskCount", 1),
                       TASKS_MAX);
}

/* The job runs as an account that exists, that the caller may act as, and that is not so new that
 * this is not known here yet. */
static bool account_fault(struct call *call, const cJSON *job)
{
    const char *account = json_string(
        cJSON_GetObjectItem(cJSON_GetObjectItem(job, "template"), "template"), "serviceAccount");
    char *key = *account ? auth_account_key(account) : NULL;
    bool bad = *account && (!key || auth_is_new(key) ||
                            !auth_may(call->account, "iam.serviceAccounts.actAs", key));
    free(key);
    if (bad)
        call_fail(call, "PERMISSION_DENIED",
                  "Permission 'iam.serviceaccounts.actAs' denied on service account %.200s (or it "
                  "may not exist).",
                  account);
    return bad;
}

/* What Google fills in. */
static void fill(cJSON *job)
{
    cJSON *outer = cJSON_GetObjectItem(job, "template");
    cJSON *inner = cJSON_GetObjectItem(outer, "template");
    if (!cJSON_GetObjectItem(outer, "taskCount"))
        cJSON_AddNumberToObject(outer, "taskCount", 1);
    if (!cJSON_GetObjectItem(inner, "timeout"))
        cJSON_AddStringToObject(inner, "timeout", "600s");
    if (!cJSON_GetObjectItem(inner, "maxRetries"))
        cJSON_AddNumberToObject(inner, "maxRetries", 3);
    if (!cJSON_GetObjectItem(inner, "executionEnvironment"))
        cJSON_AddStringToObject(inner, "executionEnvironment", "EXECUTION_ENVIRONMENT_GEN2");
    if (!*json_string(inner, "serviceAccount")) {
        char account[128];
        snprintf(account, sizeof account, "%lld-compute@developer.gserviceaccount.com",
                 world.project_number);
        json_set_string(inner, "serviceAccount", account);
    }
    cJSON *container;
    cJSON_ArrayForEach(container, cJSON_GetObjectItem(inner, "containers"))
    {
        cJSON *limits, *resources = cJSON_GetObjectItem(container, "resources");
        if (!resources)
            resources = cJSON_AddObjectToObject(container, "resources");
        limits = cJSON_GetObjectItem(resources, "limits");
        if (!limits)
            limits = cJSON_AddObjectToObject(resources, "limits");
        if (!cJSON_GetObjectItem(limits, "cpu"))
            cJSON_AddStringToObject(limits, "cpu", "1000m");
        if (!cJSON_GetObjectItem(limits, "memory"))
            cJSON_AddStringToObject(limits, "memory", "512Mi");
    }
}

static void touch(cJSON *job, const char *account)
{
    char etag[32];
    cJSON *condition = cJSON_CreateObject();
    cJSON_AddStringToObject(condition, "type", "Ready");
    cJSON_AddStringToObject(condition, "state", "CONDITION_SUCCEEDED");
    json_set_now(condition, "lastTransitionTime");
    json_set(job, "terminalCondition", condition);
    json_set_int64(job, "generation", json_int(job, "generation", 0) + 1);
    json_set_string(job, "observedGeneration", json_string(job, "generation"));
    json_set_now(job, "updateTime");
    json_set_string(job, "lastModifier", account);
    snprintf(etag, sizeof etag, "\"%lld\"", (long long)store_serial());
    json_set_string(job, "etag", etag);
}

static bool only_validate(const struct call *call)
{
    char *value = call_param(call, "validateOnly");
    bool only = (value && strcmp(value, "true") == 0) ||
                (strcmp(call->req->method, "POST") == 0 &&
                 cJSON_IsTrue(cJSON_GetObjectItem(call->body, "validateOnly")));
    free(value);
    return only;
}

static cJSON *put_job(struct call *call, const char *key, cJSON *job)
{
    if (template_fault(call, cJSON_GetObjectItem(job, "template")) || account_fault(call, job)) {
        cJSON_Delete(job);
        return NULL;
    }
    fill(job);
    touch(job, call->account);
    if (only_validate(call)) {
        cJSON *done = cJSON_CreateObject();
        cJSON_AddTrueToObject(done, "done");
        json_set_string(job, "@type", TYPE "Job");
        cJSON_AddItemToObject(done, "response", job);
        return done;
    }
    store_put(key, job);
    return operation_new(call, "Job", key, "");
}

static cJSON *job_new(struct call *call, const char *key)
{
    cJSON *job = cJSON_CreateObject();
    char uid[37];
    random_name(uid, 36);
    json_merge(job, call->body);
    json_set_string(job, "name", key + 4);
    json_set_string(job, "uid", uid);
    json_set_string(job, "creator", call->account);
    const char *made = json_string(cJSON_GetObjectItem(job, "annotations"), "standin/created");
    if (*made) /* a test that needs an old one */
        json_set_string(job, "createTime", made);
    else
        json_set_now(job, "createTime");
    json_set_string(job, "launchStage", "GA");
    return job;
}

static cJSON *create_job(struct call *call)
{
    char *id = call_param(call, "jobId"), *parent = call_key(call), *key = NULL;
    cJSON *answer = NULL;
    if (asprintf(&key, "%s/%s", parent, id ? id : "") < 0)
        abort();
    if (!id || !good_id(id))
        call_fail(call, "INVALID_ARGUMENT", "jobId: must be a lower-case name of at most 63.");
    else if (store_get(key))
        call_fail(call, "ALREADY_EXISTS", "Resource '%s' already exists.", id);
    else if (*json_string(call->body, "startExecutionToken") ||
             *json_string(call->body, "runExecutionToken"))
        call_fail(call, "INVALID_ARGUMENT", "Execution tokens are not allowed here.");
    else
        answer = put_job(call, key, job_new(call, key));
    free(id);
    free(parent);
    free(key);
    return answer;
}

/* The job of the path; NULL after a refusal. */
static cJSON *find_job(struct call *call, char **ret_key)
{
    char name[600], *key = NULL;
    snprintf(name, sizeof name, "projects/%s/locations/%s/jobs/%s", call->args[0], call->args[1],
             call->args[2]);
    cJSON *job = store_getf("run:%s", name);
    if (!job) {
        call_missing(call, name);
        return NULL;
    }
    if (asprintf(&key, "run:%s", name) < 0)
        abort();
    *ret_key = key;
    return job;
}

static bool etag_fault(struct call *call, const cJSON *job, const char *etag)
{
    return *etag && strcmp(etag, json_string(job, "etag")) != 0 &&
           !call_fail(call, "ABORTED", "The etag does not match the one of the resource.");
}

static cJSON *patch_job(struct call *call)
{
    char *key = NULL, *missing = call_param(call, "allowMissing");
    bool may_make = missing && strcmp(missing, "true") == 0;
    cJSON *answer = NULL, *job;
    free(missing);
    if (may_make && !store_getf("run:projects/%s/locations/%s/jobs/%s", call->args[0],
                                call->args[1], call->args[2])) {
        key = call_key(call);
        answer = put_job(call, key, job_new(call, key));
    } else if ((job = find_job(call, &key)) &&
               !etag_fault(call, job, json_string(call->body, "etag"))) {
        cJSON *changed = cJSON_Duplicate(job, 1);
        static const char *const parts[] = {"labels", "annotations", "template"};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            json_set(changed, parts[i],
                     cJSON_Duplicate(cJSON_GetObjectItem(call->body, parts[i]), 1));
        answer = put_job(call, key, changed);
    }
    free(key);
    return answer;
}

static cJSON *get_job(struct call *call)
{
    char *key = NULL;
    cJSON *job = find_job(call, &key);
    free(key);
    return cJSON_Duplicate(job, 1);
}

static cJSON *delete_job(struct call *call)
{
    char *key = NULL, below[700];
    const char *name;
    cJSON *job = find_job(call, &key);
    if (!job)
        return NULL;
    snprintf(below, sizeof below, "%s/", key);
    for (size_t i = store_seek(below); store_at_prefix(i, below, &name); i++)
        execution_kill(name, true);
    cJSON *operation = operation_new(call, "Job", key, "");
    store_delete_all(below);
    snprintf(below, sizeof below, "policy:%s", key);
    store_delete(below);
    store_delete(key);
    free(key);
    return operation;
}

static cJSON *list_jobs(struct call *call)
{
    return call_list_below(call, "jobs");
}

static cJSON *show_operation(const char *name, cJSON *document)
{
    (void)name;
    return operation_show(document);
}

static cJSON *list_operations(struct call *call)
{
    char *key = call_key(call), *prefix = NULL;
    if (asprintf(&prefix, "%s/", key) < 0)
        abort();
    cJSON *json = call_list(call, prefix, "operations", show_operation);
    free(key);
    free(prefix);
    return json;
}

/* ---- starting one ---- */

static void note_execution(const char *key, cJSON *job, const cJSON *execution)
{
    cJSON *reference = cJSON_CreateObject();
    cJSON_AddStringToObject(reference, "name", strrchr(json_string(execution, "name"), '/') + 1);
    cJSON_AddStringToObject(reference, "createTime", json_string(execution, "createTime"));
    json_set(job, "latestCreatedExecution", reference);
    json_set_number(job, "executionCount", (double)json_int(job, "executionCount", 0) + 1);
    store_put(key, job);
}

static cJSON *run_job(struct call *call)
{
    char *key = NULL;
    const cJSON *overrides = cJSON_GetObjectItem(call->body, "overrides");
    cJSON *job = find_job(call, &key), *answer = NULL;
    if (!job || etag_fault(call, job, json_string(call->body, "etag"))) {
        free(key);
        return NULL;
    }
    if (cJSON_GetArraySize(overrides) && !auth_permit(call, "run.jobs.runWithOverrides")) {
        free(key);
        return NULL;
    }
    if ((int64_t)execution_count_running() >= world_setting("maxExecutions")) {
        call_fail(call, "RESOURCE_EXHAUSTED",
                  "Quota exceeded for total allowable count of running executions per project per "
                  "region.");
    } else if (json_int(overrides, "taskCount", 1) > TASKS_MAX ||
               json_int(overrides, "taskCount", 1) < 0) {
        call_fail(call, "INVALID_ARGUMENT", "overrides.task_count: out of range.");
    } else if (only_validate(call)) {
        answer = cJSON_CreateObject();
        cJSON_AddTrueToObject(answer, "done");
    } else {
        cJSON *execution = execution_start(call, key, job, overrides);
        char *target = NULL;
        if (execution && asprintf(&target, "run:%s", json_string(execution, "name")) < 0)
            abort();
        if (execution)
            note_execution(key, job, execution);
        answer = execution ? operation_new(call, "Execution", target, "") : NULL;
        free(target);
    }
    free(key);
    return answer;
}

#define LOCATION "run.projects.locations."
#define JOBS LOCATION "jobs."

const struct call_row google_run_rows[] = {
    {JOBS "create", "run.jobs.create", create_job, false},
    {JOBS "get", "run.jobs.get", get_job, false},
    {JOBS "list", "run.jobs.list", list_jobs, false},
    {JOBS "patch", "run.jobs.update", patch_job, false},
    {JOBS "delete", "run.jobs.delete", delete_job, false},
    {JOBS "run", "run.jobs.run", run_job, false},
    {JOBS "getIamPolicy", "run.jobs.getIamPolicy", policy_answer_get, false},
    {JOBS "setIamPolicy", "run.jobs.setIamPolicy", policy_answer_set, false},
    {LOCATION "operations.get", "run.operations.get", operation_get, false},
    {LOCATION "operations.list", "run.operations.list", list_operations, false},
    {LOCATION "operations.wait", "run.operations.get", operation_wait, true},
    {LOCATION "operations.delete", "run.operations.delete", operation_delete, false},
    {0},
};
