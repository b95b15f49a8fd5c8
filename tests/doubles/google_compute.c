/*
 * Compute Engine, as much of it as a set-up with Direct VPC egress wants: networks and subnetworks
 * to look at, and firewall rules. Its description is written by hand, since only this much is
 * taken.
 */
#include "google_call.h"
#include "google_world.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const google_compute_methods[] = {
    "compute.networks.get GET /compute/v1/projects/*/global/networks/* -",
    "compute.subnetworks.get GET /compute/v1/projects/*/regions/*/subnetworks/* -",
    "compute.firewalls.get GET /compute/v1/projects/*/global/firewalls/* -",
    "compute.firewalls.list GET /compute/v1/projects/*/global/firewalls - filter=s maxResults=i "
    "orderBy=s pageToken=s returnPartialSuccess=b",
    "compute.firewalls.insert POST /compute/v1/projects/*/global/firewalls compute.Firewall "
    "requestId=s",
    "compute.firewalls.patch PATCH /compute/v1/projects/*/global/firewalls/* compute.Firewall "
    "requestId=s",
    "compute.firewalls.delete DELETE /compute/v1/projects/*/global/firewalls/* - requestId=s",
    "compute.globalOperations.get GET /compute/v1/projects/*/global/operations/* -",
    "compute.globalOperations.wait POST /compute/v1/projects/*/global/operations/*/wait -",
    NULL,
};

const char *const google_compute_schemas[] = {
    "compute.Firewall allowed=[Traffic] creationTimestamp=!s denied=[Traffic] description=s "
    "destinationRanges=[s] direction=(EGRESS|INGRESS) disabled=b id=!l kind=s logConfig=LogConfig "
    "name=s network=s priority=i selfLink=!s sourceRanges=[s] sourceServiceAccounts=[s] "
    "sourceTags=[s] targetServiceAccounts=[s] targetTags=[s]",
    "compute.Traffic IPProtocol=s ports=[s]",
    "compute.LogConfig enable=b metadata=(EXCLUDE_ALL_METADATA|INCLUDE_ALL_METADATA)",
    NULL,
};

static cJSON *missing(struct call *call)
{
    char *name = call_name(call);
    call_fail(call, "NOT_FOUND", "The resource '%.400s' was not found",
              strchr(name, '/') ? strchr(name, '/') + 1 : name);
    free(name);
    return NULL;
}

/* ---- networks: one, with a subnetwork in every region ---- */

static cJSON *network_json(const struct call *call, const char *kind)
{
    char link[400];
    cJSON *json = cJSON_CreateObject();
    snprintf(link, sizeof link, "%s%s", world.base, call->req->path);
    cJSON_AddStringToObject(json, "kind", kind);
    cJSON_AddStringToObject(json, "id", "4242");
    cJSON_AddStringToObject(json, "name", "default");
    cJSON_AddStringToObject(json, "selfLink", link);
    return json;
}

static cJSON *get_network(struct call *call)
{
    if (strcmp(call->args[1], "default") != 0)
        return missing(call);
    cJSON *json = network_json(call, "compute#network");
    cJSON_AddTrueToObject(json, "autoCreateSubnetworks");
    return json;
}

static cJSON *get_subnetwork(struct call *call)
{
    char network[300];
    if (strcmp(call->args[2], "default") != 0)
        return missing(call);
    cJSON *json = network_json(call, "compute#subnetwork");
    snprintf(network, sizeof network, "%s/compute/v1/projects/%s/global/networks/default",
             world.base, call->args[0]);
    cJSON_AddStringToObject(json, "network", network);
    cJSON_AddStringToObject(json, "region", call->args[1]);
    cJSON_AddStringToObject(json, "ipCidrRange", "10.128.0.0/20");
    cJSON_AddTrueToObject(json, "privateIpGoogleAccess");
    return json;
}

/* ---- operations ---- */

static cJSON *operation_show(const cJSON *operation)
{
    cJSON *json = call_shown(operation);
    bool done = json_int(operation, "_ready", 0) <= store_now_ms();
    json_set_string(json, "status", done ? "DONE" : "RUNNING");
    json_set_number(json, "progress", done ? 100 : 0);
    return json;
}

static cJSON *operation_new(const struct call *call, const char *type, const char *target)
{
    char id[25], name[64], key[300];
    random_name(id, 24);
    snprintf(name, sizeof name, "operation-%s", id);
    snprintf(key, sizeof key, "compute:v1/projects/%s/global/operations/%s", call->args[0], name);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "kind", "compute#operation");
    json_set_int64(json, "id", store_serial());
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddStringToObject(json, "operationType", type);
    cJSON_AddStringToObject(json, "targetLink", target);
    json_set_now(json, "insertTime");
    cJSON_AddNumberToObject(json, "_ready",
                            (double)(store_now_ms() + world_setting("operationDelayMs")));
    store_put(key, json);
    return operation_show(json);
}

static cJSON *get_operation(struct call *call)
{
    const cJSON *operation =
        store_getf("compute:v1/projects/%s/global/operations/%s", call->args[0], call->args[1]);
    return operation ? operation_show(operation) : missing(call);
}

static cJSON *wait_operation(struct call *call)
{
    store_lock();
    cJSON *json = get_operation(call);
    store_unlock();
    for (int i = 0; i < 4000 && json && strcmp(json_string(json, "status"), "DONE") != 0; i++) {
        cJSON_Delete(json);
        if (!server_wait(call->conn, 25))
            return NULL;
        store_lock();
        json = get_operation(call);
        store_unlock();
    }
    return json;
}

/* ---- firewall rules ---- */

/* What the whole rule lacks, or NULL. */
static const char *rule_fault(const cJSON *rule)
{
    bool allows = cJSON_GetArraySize(cJSON_GetObjectItem(rule, "allowed")) > 0;
    bool denies = cJSON_GetArraySize(cJSON_GetObjectItem(rule, "denied")) > 0;
    bool out = strcmp(json_string(rule, "direction"), "EGRESS") == 0;
    int64_t priority = json_int(rule, "priority", 1000);
    const char *name = json_string(rule, "name");
    if (!islower((unsigned char)*name) || strlen(name) > 63 ||
        name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
        return "name";
    if (allows == denies)
        return "allowed";
    if (priority < 0 || priority > 65535)
        return "priority";
    if (out &&
        (cJSON_GetObjectItem(rule, "sourceRanges") || cJSON_GetObjectItem(rule, "sourceTags")))
        return "sourceRanges";
    if (!out && cJSON_GetObjectItem(rule, "destinationRanges"))
        return "destinationRanges";
    if (!strstr(json_string(rule, "network"), "networks/"))
        return "network";
    return NULL;
}

static cJSON *put_rule(struct call *call, const char *type, cJSON *rule)
{
    char key[400], link[500];
    const char *fault = rule_fault(rule), *name = json_string(rule, "name");
    if (fault) {
        call_fail(call, "INVALID_ARGUMENT", "Invalid value for field 'resource.%s'.", fault);
        cJSON_Delete(rule);
        return NULL;
    }
    snprintf(key, sizeof key, "compute:v1/projects/%s/global/firewalls/%s", call->args[0], name);
    snprintf(link, sizeof link, "%s/compute/%s", world.base, key + strlen("compute:"));
    if (!cJSON_GetObjectItem(rule, "direction"))
        json_set_string(rule, "direction", "INGRESS");
    if (!cJSON_GetObjectItem(rule, "priority"))
        json_set_number(rule, "priority", 1000);
    json_set_string(rule, "selfLink", link);
    store_put(key, rule);
    return operation_new(call, type, link);
}

static cJSON *insert_rule(struct call *call)
{
    const char *name = json_string(call->body, "name");
    if (store_getf("compute:v1/projects/%s/global/firewalls/%s", call->args[0], name))
        return call_fail(call, "ALREADY_EXISTS",
                         "The resource 'projects/%s/global/firewalls/%s' already exists",
                         call->args[0], name);
    cJSON *rule = cJSON_CreateObject();
    json_set_string(rule, "kind", "compute#firewall");
    json_set_int64(rule, "id", store_serial());
    json_set_now(rule, "creationTimestamp");
    json_merge(rule, call->body);
    return put_rule(call, "insert", rule);
}

static cJSON *get_rule(struct call *call)
{
    const cJSON *rule =
        store_getf("compute:v1/projects/%s/global/firewalls/%s", call->args[0], call->args[1]);
    return rule ? cJSON_Duplicate(rule, 1) : missing(call);
}

static cJSON *patch_rule(struct call *call)
{
    cJSON *rule = get_rule(call);
    if (!rule)
        return NULL;
    json_merge(rule, call->body);
    json_set_string(rule, "name", call->args[1]);
    return put_rule(call, "patch", rule);
}

static cJSON *delete_rule(struct call *call)
{
    char *key = call_key(call), link[500];
    snprintf(link, sizeof link, "%s%s", world.base, call->req->path);
    cJSON *json = store_delete(key) ? operation_new(call, "delete", link) : missing(call);
    free(key);
    return json;
}

static cJSON *list_rules(struct call *call)
{
    cJSON *json = call_list_below(call, "items");
    if (json)
        cJSON_AddStringToObject(json, "kind", "compute#firewallList");
    return json;
}

const struct call_row google_compute_rows[] = {
    {"compute.networks.get", "compute.networks.get", get_network, false},
    {"compute.subnetworks.get", "compute.subnetworks.get", get_subnetwork, false},
    {"compute.firewalls.get", "compute.firewalls.get", get_rule, false},
    {"compute.firewalls.list", "compute.firewalls.list", list_rules, false},
    {"compute.firewalls.insert", "compute.firewalls.create", insert_rule, false},
    {"compute.firewalls.patch", "compute.firewalls.update", patch_rule, false},
    {"compute.firewalls.delete", "compute.firewalls.delete", delete_rule, false},
    {"compute.globalOperations.get", "compute.globalOperations.get", get_operation, false},
    {"compute.globalOperations.wait", "compute.globalOperations.get", wait_operation, true},
    {0},
};
