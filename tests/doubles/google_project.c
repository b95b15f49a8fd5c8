/* Resource Manager (the one project), Service Usage, Artifact Registry. */
#include "google_auth.h"
#include "google_later.h"
#include "google_policy.h"
#include "google_world.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 20 };

/* ---- operations ---- */

static cJSON *later_show(const cJSON *operation)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", json_string(operation, "name"));
    if (json_int(operation, "ready", 0) > store_now_ms())
        return json;
    cJSON_AddTrueToObject(json, "done");
    cJSON_AddItemToObject(json, "response",
                          cJSON_Duplicate(cJSON_GetObjectItem(operation, "response"), 1));
    return json;
}

cJSON *later_new(const char *parent, const char *type, cJSON *response)
{
    char id[37], key[400], url[160];
    random_name(id, 36);
    snprintf(key, sizeof key, "op:%soperations/%s", parent, id);
    snprintf(url, sizeof url, "type.googleapis.com/%s", type);
    json_set_string(response, "@type", url);
    cJSON *operation = cJSON_CreateObject();
    cJSON_AddStringToObject(operation, "name", key + 3);
    cJSON_AddNumberToObject(operation, "ready",
                            (double)(store_now_ms() + world_setting("operationDelayMs")));
    cJSON_AddItemToObject(operation, "response", response);
    store_put(key, operation);
    return later_show(operation);
}

cJSON *later_get(struct call *call)
{
    char *name = call_name(call);
    const cJSON *operation = store_getf("op:%s", name);
    cJSON *json = operation ? later_show(operation) : call_missing(call, name);
    free(name);
    return json;
}

/* ---- Resource Manager ---- */

/* The project's key, whether it was named or numbered; NULL after a refusal: Google does not say
 * whether a project exists that one may not see. */
static const char *project_key(struct call *call, const char *project)
{
    static char key[160];
    char number[32];
    snprintf(number, sizeof number, "%lld", world.project_number);
    snprintf(key, sizeof key, "crm:projects/%s", world.project);
    if (strcmp(project, world.project) == 0 || strcmp(project, number) == 0)
        return key;
    call_fail(call, "PERMISSION_DENIED", "The caller does not have permission");
    return NULL;
}

static bool project_exists(void)
{
    return !world_setting("noProject") || store_getf("made-project:%s", world.project);
}

static cJSON *project_json(void)
{
    char name[64];
    cJSON *json = cJSON_CreateObject();
    snprintf(name, sizeof name, "projects/%lld", world.project_number);
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddStringToObject(json, "projectId", world.project);
    cJSON_AddStringToObject(json, "state", "ACTIVE");
    cJSON_AddStringToObject(json, "displayName", world.project);
    cJSON_AddStringToObject(json, "createTime", "2024-01-01T00:00:00Z");
    return json;
}

static cJSON *get_project(struct call *call)
{
    if (!project_key(call, call->args[0]))
        return NULL;
    return project_exists()
               ? project_json()
               : call_fail(call, "PERMISSION_DENIED", "The caller does not have permission");
}

static cJSON *search_projects(struct call *call)
{
    char id[64], *query = call_param(call, "query");
    cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "projects");
    bool any = !query || (strncmp(query, "id:", 3) == 0 && strcmp(query + 3, world.project) == 0);
    if (project_exists() && any)
        cJSON_AddItemToArray(list, project_json());
    for (int i = 0; !query && i < world_setting("moreProjects"); i++) {
        cJSON *one = project_json();
        snprintf(id, sizeof id, "another-%d", i);
        json_set_string(one, "projectId", id);
        cJSON_AddItemToArray(list, one);
    }
    free(query);
    return json;
}

static cJSON *create_project(struct call *call)
{
    char key[160];
    const char *id = json_string(call->body, "projectId");
    size_t len = strlen(id);
    if (len < 6 || len > 30 || !islower((unsigned char)*id) || id[len - 1] == '-' ||
        strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return call_fail(call, "INVALID_ARGUMENT", "project_id contains invalid characters");
    if (strcmp(id, world.project) != 0 || project_exists())
        return call_fail(call, "ALREADY_EXISTS", "Requested entity already exists");
    snprintf(key, sizeof key, "made-project:%s", id);
    store_put(key, cJSON_CreateTrue());
    return later_new("", "google.cloud.resourcemanager.v3.Project", project_json());
}

static cJSON *get_policy(struct call *call)
{
    const char *key = project_key(call, call->args[0]);
    return key ? policy_get(key) : NULL;
}

static cJSON *set_policy(struct call *call)
{
    const char *key = project_key(call, call->args[0]);
    return key ? policy_set(call, key, cJSON_GetObjectItem(call->body, "policy")) : NULL;
}

static cJSON *test_permissions(struct call *call)
{
    const char *key = project_key(call, call->args[0]);
    const cJSON *item;
    if (!key)
        return NULL;
    cJSON *json = cJSON_CreateObject(), *list = cJSON_CreateArray();
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(call->body, "permissions"))
    {
        if (auth_may(call->account, item->valuestring, key))
            cJSON_AddItemToArray(list, cJSON_Duplicate(item, 1));
    }
    json_set(json, "permissions", list);
    return json;
}

/* ---- Service Usage ---- */

static bool good_service(const char *name)
{
    const char *end = strstr(name, ".googleapis.com");
    return end && end > name && strcmp(end, ".googleapis.com") == 0;
}

static cJSON *service_show(const char *service)
{
    char text[200];
    cJSON *json = cJSON_CreateObject(), *config = cJSON_CreateObject();
    snprintf(text, sizeof text, "projects/%lld/services/%.120s", world.project_number, service);
    cJSON_AddStringToObject(json, "name", text);
    snprintf(text, sizeof text, "projects/%lld", world.project_number);
    cJSON_AddStringToObject(json, "parent", text);
    cJSON_AddStringToObject(config, "name", service);
    cJSON_AddItemToObject(json, "config", config);
    cJSON_AddStringToObject(json, "state",
                            store_getf("service:%s", service) ? "ENABLED" : "DISABLED");
    return json;
}

/* False after a refusal. */
static bool check_service(struct call *call, const char *service)
{
    if (strcmp(call->args[0], "projects") != 0 || !project_key(call, call->args[1])) {
        if (!call->sent)
            call_fail(call, "INVALID_ARGUMENT", "Only projects are served here.");
        return false;
    }
    if (!good_service(service))
        call_fail(call, "NOT_FOUND", "Not found or permission denied for service(s): %.120s.",
                  service);
    return !call->sent;
}

static void switch_service(const char *service, bool on)
{
    char key[200];
    snprintf(key, sizeof key, "service:%.150s", service);
    if (on)
        store_put(key, cJSON_CreateTrue());
    else
        store_delete(key);
}

static cJSON *get_service(struct call *call)
{
    return check_service(call, call->args[2]) ? service_show(call->args[2]) : NULL;
}

static cJSON *turn(struct call *call, bool on)
{
    if (!check_service(call, call->args[2]))
        return NULL;
    switch_service(call->args[2], on);
    cJSON *response = cJSON_CreateObject();
    cJSON_AddItemToObject(response, "service", service_show(call->args[2]));
    return later_new("",
                     on ? "google.api.serviceusage.v1.EnableServiceResponse"
                        : "google.api.serviceusage.v1.DisableServiceResponse",
                     response);
}

static cJSON *enable_service(struct call *call)
{
    return turn(call, true);
}

static cJSON *disable_service(struct call *call)
{
    return turn(call, false);
}

static cJSON *batch_enable(struct call *call)
{
    const cJSON *item, *ids = cJSON_GetObjectItem(call->body, "serviceIds");
    if (cJSON_GetArraySize(ids) < 1 || cJSON_GetArraySize(ids) > BATCH_MAX)
        return call_fail(call, "INVALID_ARGUMENT", "service_ids: between 1 and 20 are taken.");
    cJSON_ArrayForEach(item, ids)
    {
        if (!check_service(call, item->valuestring))
            return NULL;
    }
    cJSON *response = cJSON_CreateObject();
    cJSON *services = cJSON_AddArrayToObject(response, "services");
    cJSON_ArrayForEach(item, ids)
    {
        switch_service(item->valuestring, true);
        cJSON_AddItemToArray(services, service_show(item->valuestring));
    }
    return later_new("", "google.api.serviceusage.v1.BatchEnableServicesResponse", response);
}

/* ?names=projects/P/services/S&names=… */
static cJSON *batch_get(struct call *call)
{
    cJSON *json = cJSON_CreateObject(), *services = cJSON_AddArrayToObject(json, "services");
    const char *at = call->req->query;
    for (; at && *at && !call->sent; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL) {
        char *name = strncmp(at, "names=", 6) == 0 ? google_param(at, "names") : NULL;
        const char *service = name && strrchr(name, '/') ? strrchr(name, '/') + 1 : "";
        if (name && check_service(call, service))
            cJSON_AddItemToArray(services, service_show(service));
        free(name);
    }
    if (!call->sent)
        return json;
    cJSON_Delete(json);
    return NULL;
}

static cJSON *show_service(const char *name, cJSON *document)
{
    (void)document;
    return service_show(name + strlen("service:"));
}

static cJSON *list_services(struct call *call)
{
    return call_list(call, "service:", "services", show_service);
}

/* ---- Artifact Registry ---- */

static bool good_repository(const char *id)
{
    size_t len = strlen(id);
    return len >= 1 && len <= 63 && islower((unsigned char)id[0]) && id[len - 1] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static cJSON *make_repository(struct call *call, const char *key)
{
    char parent[300];
    cJSON *repository = cJSON_CreateObject();
    json_merge(repository, call->body);
    json_set_string(repository, "name", strchr(key, ':') + 1);
    if (cJSON_IsNumber(cJSON_GetObjectItem(repository, "format")))
        json_set_string(repository, "format", "DOCKER");
    json_set_string(repository, "mode", "STANDARD_REPOSITORY");
    json_set_now(repository, "createTime");
    json_set_now(repository, "updateTime");
    store_put(key, repository);
    snprintf(parent, sizeof parent, "projects/%s/locations/%s/", call->args[0], call->args[1]);
    return later_new(parent, "google.devtools.artifactregistry.v1.Repository",
                     cJSON_Duplicate(repository, 1));
}

static cJSON *create_repository(struct call *call)
{
    char *id = call_param(call, "repositoryId"), *parent = call_key(call), *key = NULL;
    const cJSON *format = cJSON_GetObjectItem(call->body, "format");
    cJSON *answer = NULL;
    if (asprintf(&key, "%s/%s", parent, id ? id : "") < 0)
        abort();
    if (!id || !good_repository(id))
        call_fail(call, "INVALID_ARGUMENT", "The repository id is missing or not valid.");
    else if (!format || strcmp(json_string(call->body, "format"), "FORMAT_UNSPECIFIED") == 0)
        call_fail(call, "INVALID_ARGUMENT", "The repository's format is required.");
    else if (store_get(key))
        call_fail(call, "ALREADY_EXISTS", "the repository already exists");
    else
        answer = make_repository(call, key);
    free(id);
    free(parent);
    free(key);
    return answer;
}

static cJSON *get_repository(struct call *call)
{
    char *key = call_key(call);
    cJSON *repository = store_get(key);
    cJSON *json =
        repository ? cJSON_Duplicate(repository, 1) : call_missing(call, strchr(key, ':') + 1);
    free(key);
    return json;
}

static cJSON *delete_repository(struct call *call)
{
    char *key = call_key(call), *policy = NULL, parent[300];
    if (asprintf(&policy, "policy:%s", key) < 0)
        abort();
    snprintf(parent, sizeof parent, "projects/%s/locations/%s/", call->args[0], call->args[1]);
    cJSON *json = store_delete(key)
                      ? later_new(parent, "google.protobuf.Empty", cJSON_CreateObject())
                      : call_missing(call, strchr(key, ':') + 1);
    store_delete(policy);
    free(policy);
    free(key);
    return json;
}

static cJSON *list_repositories(struct call *call)
{
    return call_list_below(call, "repositories");
}

#define PROJECTS "cloudresourcemanager.projects."
#define SERVICES "serviceusage.services."
#define LOCATION "artifactregistry.projects.locations."
#define REPOSITORIES LOCATION "repositories."
#define MAY "artifactregistry.repositories."

const struct call_row google_project_rows[] = {
    {PROJECTS "get", "resourcemanager.projects.get", get_project, false},
    {PROJECTS "search", NULL, search_projects, false},
    {PROJECTS "create", NULL, create_project, false},
    {"cloudresourcemanager.operations.get", NULL, later_get, false},
    {PROJECTS "getIamPolicy", "resourcemanager.projects.getIamPolicy", get_policy, false},
    {PROJECTS "setIamPolicy", "resourcemanager.projects.setIamPolicy", set_policy, false},
    {PROJECTS "testIamPermissions", NULL, test_permissions, false},
    {SERVICES "get", "serviceusage.services.get", get_service, false},
    {SERVICES "list", "serviceusage.services.list", list_services, false},
    {SERVICES "batchGet", "serviceusage.services.get", batch_get, false},
    {SERVICES "enable", "serviceusage.services.enable", enable_service, false},
    {SERVICES "disable", "serviceusage.services.disable", disable_service, false},
    {SERVICES "batchEnable", "serviceusage.services.enable", batch_enable, false},
    {"serviceusage.operations.get", NULL, later_get, false},
    {REPOSITORIES "create", MAY "create", create_repository, false},
    {REPOSITORIES "get", MAY "get", get_repository, false},
    {REPOSITORIES "list", MAY "list", list_repositories, false},
    {REPOSITORIES "delete", MAY "delete", delete_repository, false},
    {REPOSITORIES "getIamPolicy", MAY "getIamPolicy", policy_answer_get, false},
    {REPOSITORIES "setIamPolicy", MAY "setIamPolicy", policy_answer_set, false},
    {LOCATION "operations.get", NULL, later_get, false},
    {0},
};
