/* Cloud Run v2: services, as far as one is made, looked at, changed and deleted. None runs. */
#include "google_auth.h"
#include "google_policy.h"
#include "google_run.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is refused ---- */

static bool env_fault(struct call *call, const cJSON *container)
{
    char key[300];
    const cJSON *one, *env = cJSON_GetObjectItem(container, "env");
    cJSON_ArrayForEach(one, env)
    {
        const char *name = json_string(one, "name");
        const cJSON *ref =
            cJSON_GetObjectItem(cJSON_GetObjectItem(one, "valueSource"), "secretKeyRef");
        if (!*name || strcmp(name, "PORT") == 0 || strcmp(name, "K_SERVICE") == 0)
            return !call_fail(call, "INVALID_ARGUMENT",
                              "spec.template.spec.containers[0].env: The following reserved env "
                              "names were provided: %.60s.",
                              name);
        if (!ref)
            continue;
        snprintf(key, sizeof key, "secret:projects/%s/secrets/%s", call->args[0],
                 json_string(ref, "secret"));
        if (!store_get(key))
            return !call_fail(call, "INVALID_ARGUMENT", "Secret %.200s was not found", key + 7);
    }
    return false;
}

static bool service_fault(struct call *call, const cJSON *service)
{
    const cJSON *template = cJSON_GetObjectItem(service, "template"), *container;
    const cJSON *containers = cJSON_GetObjectItem(template, "containers");
    const char *account = json_string(template, "serviceAccount");
    char *key = *account ? auth_account_key(account) : NULL;
    bool bad = *account && (!key || !auth_may(call->account, "iam.serviceAccounts.actAs", key));
    free(key);
    if (bad)
        return !call_fail(call, "PERMISSION_DENIED",
                          "Permission 'iam.serviceaccounts.actAs' denied on service account %.200s "
                          "(or it may not exist).",
                          account);
    if (cJSON_GetArraySize(containers) < 1)
        return !call_fail(call, "INVALID_ARGUMENT",
                          "template.containers: must have at least one container.");
    cJSON_ArrayForEach(container, containers)
    {
        if (!*json_string(container, "image"))
            return !call_fail(call, "INVALID_ARGUMENT",
                              "template.containers[0].image: is required.");
        if (env_fault(call, container))
            return true;
    }
    return false;
}

/* ---- methods ---- */

static cJSON *put_service(struct call *call, const char *key, cJSON *service)
{
    char uri[200], etag[32];
    if (service_fault(call, service)) {
        cJSON_Delete(service);
        return NULL;
    }
    snprintf(uri, sizeof uri, "https://%s-%lld.%s.run.app", strrchr(key, '/') + 1,
             world.project_number, call->args[1]);
    snprintf(etag, sizeof etag, "\"%lld\"", (long long)store_serial());
    json_set_string(service, "uri", uri);
    json_set_string(service, "etag", etag);
    json_set_now(service, "updateTime");
    store_put(key, service);
    return operation_new(call, "Service", key, "");
}

static cJSON *create_service(struct call *call)
{
    char *id = call_param(call, "serviceId"), *parent = call_key(call), *key = NULL;
    cJSON *answer = NULL;
    if (asprintf(&key, "%s/%s", parent, id ? id : "") < 0)
        abort();
    if (!id || !*id || strlen(id) > 49)
        call_fail(call, "INVALID_ARGUMENT", "service_id: must be a lower-case name.");
    else if (store_get(key))
        call_fail(call, "ALREADY_EXISTS", "Resource '%s' already exists.", id);
    else {
        cJSON *service = cJSON_CreateObject();
        json_merge(service, call->body);
        json_set_string(service, "name", key + 4);
        json_set_now(service, "createTime");
        answer = put_service(call, key, service);
    }
    free(id);
    free(parent);
    free(key);
    return answer;
}

/* NULL after a refusal. */
static cJSON *find(struct call *call, char **ret_key)
{
    *ret_key = call_key(call);
    cJSON *service = store_get(*ret_key);
    return service ? service : call_missing(call, *ret_key + 4);
}

static cJSON *get_service(struct call *call)
{
    char *key;
    cJSON *service = cJSON_Duplicate(find(call, &key), 1);
    free(key);
    return service;
}

static cJSON *patch_service(struct call *call)
{
    static const char *const parts[] = {"labels", "annotations", "template", "ingress"};
    char *key;
    cJSON *service = find(call, &key), *answer = NULL;
    if (service) {
        cJSON *changed = cJSON_Duplicate(service, 1);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (cJSON_GetObjectItem(call->body, parts[i]))
                json_set(changed, parts[i],
                         cJSON_Duplicate(cJSON_GetObjectItem(call->body, parts[i]), 1));
        answer = put_service(call, key, changed);
    }
    free(key);
    return answer;
}

static cJSON *delete_service(struct call *call)
{
    char *key, policy[600];
    cJSON *answer = NULL;
    if (find(call, &key)) {
        answer = operation_new(call, "Service", key, "");
        snprintf(policy, sizeof policy, "policy:%s", key);
        store_delete(key);
        store_delete(policy);
    }
    free(key);
    return answer;
}

#define SERVICES "run.projects.locations.services."
const struct call_row google_service_rows[] = {
    {SERVICES "create", "run.services.create", create_service, false},
    {SERVICES "get", "run.services.get", get_service, false},
    {SERVICES "patch", "run.services.update", patch_service, false},
    {SERVICES "delete", "run.services.delete", delete_service, false},
    {SERVICES "getIamPolicy", "run.services.getIamPolicy", policy_answer_get, false},
    {SERVICES "setIamPolicy", "run.services.setIamPolicy", policy_answer_set, false},
    {0},
};
