/* Executions: how they begin. */
#include "google_auth.h"
#include "google_run.h"
#include "google_world.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VALUE_MAX = 32768 };

const char *execution_id(const char *key)
{
    return strrchr(key, '/') + 1;
}

/* ---- what it runs ---- */

static void set_env(cJSON *list, const char *name, const char *value)
{
    char *text = NULL;
    size_t len = strlen(name);
    cJSON *item;
    if (asprintf(&text, "%s=%s", name, value) < 0)
        abort();
    cJSON_ArrayForEach(item, list)
    {
        if (strncmp(item->valuestring, text, len + 1) == 0) {
            cJSON_SetValuestring(item, text);
            free(text);
            return;
        }
    }
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
    free(text);
}

/* A secret's payload as text, in fresh memory; NULL: not there, or not this account's to read. */
static char *secret_value(const char *account, const cJSON *ref, const char *project)
{
    const char *secret = json_string(ref, "secret"), *version = json_string(ref, "version");
    char resource[600];
    size_t size;
    if (strncmp(secret, "projects/", 9) == 0)
        snprintf(resource, sizeof resource, "secret:%s", secret);
    else
        snprintf(resource, sizeof resource, "secret:projects/%s/secrets/%s", project, secret);
    const cJSON *doc = store_get(resource);
    if (!doc || !auth_may(account, "secretmanager.versions.access", resource))
        return NULL;
    if (!*version || strcmp(version, "latest") == 0)
        version = json_string(doc, "_latest");
    const cJSON *payload = store_getf("%s/versions/%s", resource, version);
    return payload ? (char *)base64_bytes(json_string(payload, "_data"), &size) : NULL;
}

/* The container's variables; false, and which secret was missing, when one cannot be had. */
static bool add_container_env(cJSON *list, const cJSON *container, const char *account,
                              const char *project, const char **ret_missing)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(container, "env"))
    {
        const cJSON *source = cJSON_GetObjectItem(item, "valueSource");
        if (!source) {
            set_env(list, json_string(item, "name"), json_string(item, "value"));
            continue;
        }
        const cJSON *ref = cJSON_GetObjectItem(source, "secretKeyRef");
        char *value = secret_value(account, ref, project);
        if (!value) {
            *ret_missing = json_string(ref, "secret");
            return false;
        }
        set_env(list, json_string(item, "name"), value);
        free(value);
    }
    return true;
}

static cJSON *base_env(const char *job, const char *id, int64_t tasks, int port)
{
    char text[64];
    cJSON *list = cJSON_CreateArray();
    set_env(list, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (const char *const *p = world.job_env; *p; p++) {
        char *name = strndup(*p, strcspn(*p, "="));
        set_env(list, name, strchr(*p, '=') ? strchr(*p, '=') + 1 : "");
        free(name);
    }
    set_env(list, "CLOUD_RUN_JOB", job);
    set_env(list, "CLOUD_RUN_EXECUTION", id);
    snprintf(text, sizeof text, "%lld", (long long)tasks);
    set_env(list, "CLOUD_RUN_TASK_COUNT", text);
    snprintf(text, sizeof text, "127.0.0.1:%d", port);
    set_env(list, "GCE_METADATA_HOST", text);
    return list;
}

/* True when the container's shell runs a script out of a mounted volume: in any image it is the job
 * program that such a script starts. */
static bool runs_from_volume(const cJSON *container)
{
    const cJSON *mount, *script = cJSON_GetArrayItem(cJSON_GetObjectItem(container, "command"), 1);
    cJSON_ArrayForEach(mount, cJSON_GetObjectItem(container, "volumeMounts"))
    {
        const char *path = json_string(mount, "mountPath");
        if (*path && cJSON_IsString(script) &&
            strncmp(script->valuestring, path, strlen(path)) == 0)
            return true;
    }
    return false;
}

/* The command of the container, the program standing for its image; its entry point is what a
 * `command` would replace. */
static cJSON *arguments(const cJSON *container)
{
    const cJSON *command =
        runs_from_volume(container) ? NULL : cJSON_GetObjectItem(container, "command");
    const cJSON *args = cJSON_GetObjectItem(container, "args"), *item;
    bool own = cJSON_GetArraySize(command) > 0 || cJSON_GetArraySize(args) > 0;
    cJSON *list = cJSON_CreateArray();
    int skip = 1;
    cJSON_AddItemToArray(list, cJSON_CreateString(world.job_program));
    cJSON_ArrayForEach(item, command)
    {
        if (skip-- <= 0) /* the first is the program itself */
            cJSON_AddItemToArray(list, cJSON_Duplicate(item, 1));
    }
    cJSON_ArrayForEach(item, args) cJSON_AddItemToArray(list, cJSON_Duplicate(item, 1));
    for (const char *const *p = world.job_args; *p && !own; p++)
        cJSON_AddItemToArray(list, cJSON_CreateString(*p));
    return list;
}

static int64_t seconds(const char *duration, int64_t otherwise)
{
    return *duration ? (int64_t)(strtod(duration, NULL) * 1000) : otherwise;
}

/* ---- overrides ---- */

static void merge_env(cJSON *container, const cJSON *more)
{
    cJSON *list = cJSON_GetObjectItem(container, "env");
    const cJSON *item;
    if (!list)
        list = cJSON_AddArrayToObject(container, "env");
    cJSON_ArrayForEach(item, more)
    {
        const cJSON *have;
        int i = 0;
        cJSON_ArrayForEach(have, list)
        {
            if (strcmp(json_string(have, "name"), json_string(item, "name")) == 0)
                break;
            i++;
        }
        if (have)
            cJSON_ReplaceItemInArray(list, i, cJSON_Duplicate(item, 1));
        else
            cJSON_AddItemToArray(list, cJSON_Duplicate(item, 1));
    }
}

static bool override_fault(struct call *call, const cJSON *override)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(override, "env"))
    {
        if (!*json_string(item, "name"))
            return !call_fail(call, "INVALID_ARGUMENT", "env: a name is required.");
        if (strlen(json_string(item, "value")) > VALUE_MAX)
            return !call_fail(call, "INVALID_ARGUMENT",
                              "env: the value of %.100s is longer than 32768 bytes.",
                              json_string(item, "name"));
    }
    return false;
}

/* Puts the overrides into the template of tasks; false after a refusal. */
static bool apply_overrides(struct call *call, cJSON *template, const cJSON *overrides)
{
    const cJSON *override, *containers = cJSON_GetObjectItem(template, "containers");
    cJSON_ArrayForEach(override, cJSON_GetObjectItem(overrides, "containerOverrides"))
    {
        const char *name = json_string(override, "name");
        cJSON *container = cJSON_GetArrayItem(containers, 0), *candidate;
        cJSON_ArrayForEach(candidate, containers)
        {
            if (*name && strcmp(json_string(candidate, "name"), name) == 0)
                container = candidate;
        }
        if (*name && strcmp(json_string(container, "name"), name) != 0)
            return call_fail(call, "INVALID_ARGUMENT",
                             "overrides.container_overrides[0].name: there is no container %.60s.",
                             name) != NULL;
        if (override_fault(call, override))
            return false;
        const cJSON *args = cJSON_GetObjectItem(override, "args");
        if (cJSON_GetArraySize(args) || cJSON_IsTrue(cJSON_GetObjectItem(override, "clearArgs")))
            json_set(container, "args", cJSON_GetArraySize(args) ? cJSON_Duplicate(args, 1) : NULL);
        merge_env(container, cJSON_GetObjectItem(override, "env"));
    }
    if (*json_string(overrides, "timeout"))
        json_set_string(template, "timeout", json_string(overrides, "timeout"));
    return true;
}

/* ---- the start ---- */

static bool write_spec(const char *folder, const cJSON *spec)
{
    char path[1024];
    char *text = cJSON_PrintUnformatted(spec);
    snprintf(path, sizeof path, "%s/work", folder);
    bool good = mkdir(folder, 0755) == 0 && mkdir(path, 0777) == 0;
    snprintf(path, sizeof path, "%s/spec.json", folder);
    int fd = good ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    free(text);
    return good;
}

static bool spawn_supervisor(const char *folder)
{
    char self[] = "/proc/self/exe", option[] = "--supervise", *copy = strdup(folder);
    char *argv[] = {self, option, copy, NULL}, *env[] = {NULL};
    posix_spawnattr_t attr;
    sigset_t all;
    pid_t pid;
    sigfillset(&all);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    bool good = posix_spawn(&pid, self, NULL, &attr, argv, env) == 0;
    posix_spawnattr_destroy(&attr);
    free(copy);
    return good;
}

/* False, with the reason in the document, when it cannot begin. */
static bool begin(const char *key, cJSON *execution, const char *project)
{
    const cJSON *template = cJSON_GetObjectItem(execution, "template");
    const cJSON *container = cJSON_GetArrayItem(cJSON_GetObjectItem(template, "containers"), 0);
    const char *account = json_string(template, "serviceAccount"), *missing = NULL;
    int port = auth_metadata_port(*account ? account : world.metadata_account);
    cJSON *env = base_env(json_string(execution, "_job"), execution_id(key),
                          json_int(execution, "taskCount", 1), port);
    bool foreign = world_setting("foreignImage") != 0;
    bool good = world.job_program != NULL && !foreign &&
                add_container_env(env, container, *account ? account : world.metadata_account,
                                  project, &missing);
    if (!good) {
        char text[300];
        snprintf(text, sizeof text,
                 missing ? "Secret %.200s was not found or cannot be accessed."
                 : foreign
                     ? "Application failed to start: failed to load /app%.0s: exec format error"
                     : "The image%.0s cannot be started.",
                 missing ? missing : "");
        json_set_string(execution, "_failed", text);
        cJSON_Delete(env);
        return false;
    }
    cJSON *spec = cJSON_CreateObject();
    cJSON_AddItemToObject(spec, "argv", arguments(container));
    cJSON_AddItemToObject(spec, "env", env);
    cJSON_AddNumberToObject(spec, "taskCount", (double)json_int(execution, "taskCount", 1));
    cJSON_AddNumberToObject(spec, "maxRetries", (double)json_int(template, "maxRetries", 3));
    cJSON_AddNumberToObject(spec, "timeoutMs",
                            (double)seconds(json_string(template, "timeout"), 600000));
    cJSON_AddNumberToObject(spec, "graceMs", (double)world_setting("stopGraceMs"));
    cJSON_AddNumberToObject(spec, "delayMs", (double)world_setting("startDelayMs"));
    cJSON_AddNumberToObject(spec, "owner", world.owner);
    char *folder = store_path("executions/%s", execution_id(key));
    good = write_spec(folder, spec) && spawn_supervisor(folder);
    if (!good)
        json_set_string(execution, "_failed", strerror(errno));
    cJSON_Delete(spec);
    free(folder);
    return good;
}

static cJSON *execution_new(const char *name, const cJSON *job, const char *account,
                            cJSON *template)
{
    const cJSON *outer = cJSON_GetObjectItem(job, "template");
    char uid[37];
    random_name(uid, 36);
    for (int i = 8; i < 36; i += i == 8 || i == 13 || i == 18 ? 5 : 36)
        uid[i] = '-';
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddStringToObject(json, "uid", uid);
    cJSON_AddStringToObject(json, "creator", account);
    cJSON_AddStringToObject(json, "generation", "1");
    json_set_now(json, "createTime");
    json_set_now(json, "updateTime");
    cJSON_AddNumberToObject(json, "_serial", (double)store_serial());
    cJSON_AddStringToObject(json, "job", execution_id(json_string(job, "name")));
    cJSON_AddStringToObject(json, "_job", execution_id(json_string(job, "name")));
    cJSON_AddStringToObject(json, "launchStage", "GA");
    for (const char *const *p = (const char *const[]){"labels", "annotations", NULL}; *p; p++)
        if (cJSON_GetObjectItem(outer, *p))
            cJSON_AddItemToObject(json, *p, cJSON_Duplicate(cJSON_GetObjectItem(outer, *p), 1));
    cJSON_AddNumberToObject(json, "parallelism", (double)json_int(outer, "parallelism", 1));
    cJSON_AddNumberToObject(json, "taskCount", (double)json_int(outer, "taskCount", 1));
    cJSON_AddItemToObject(json, "template", template);
    cJSON_AddStringToObject(json, "observedGeneration", "1");
    cJSON_AddStringToObject(json, "etag", "\"e1\"");
    return json;
}

cJSON *execution_start(struct call *call, const char *job_key, const cJSON *job,
                       const cJSON *overrides)
{
    char id[7], key[700], project[128] = "";
    cJSON *template =
        cJSON_Duplicate(cJSON_GetObjectItem(cJSON_GetObjectItem(job, "template"), "template"), 1);
    if (!apply_overrides(call, template, overrides)) {
        cJSON_Delete(template);
        return NULL;
    }
    random_name(id, 5);
    snprintf(key, sizeof key, "%s/executions/%s-%s", job_key, execution_id(job_key), id);
    sscanf(job_key, "run:projects/%127[^/]", project);
    cJSON *execution = execution_new(key + 4, job, call->account, template);
    if (json_int(overrides, "taskCount", 0) > 0)
        json_set_number(execution, "taskCount", (double)json_int(overrides, "taskCount", 1));
    begin(key, execution, project);
    store_put(key, execution);
    return execution;
}
