/* Secret Manager. A secret's document remembers its newest version; a version's holds the bytes. */
#include "google_policy.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAYLOAD_MAX = 65536 };

static bool good_id(const char *id)
{
    size_t len = strlen(id);
    return len >= 1 && len <= 255 &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

static void set_etag(cJSON *json)
{
    char text[40];
    snprintf(text, sizeof text, "\"%llx\"", (long long)store_serial());
    json_set_string(json, "etag", text);
}

static cJSON *create(struct call *call)
{
    char *id = call_param(call, "secretId"), *parent = call_key(call), *key = NULL;
    const cJSON *replication = cJSON_GetObjectItem(call->body, "replication");
    cJSON *secret = NULL;
    if (asprintf(&key, "%s/%s", parent, id ? id : "") < 0)
        abort();
    if (!id || !good_id(id))
        call_fail(call, "INVALID_ARGUMENT", "Secret ID is missing or not valid.");
    else if (!cJSON_GetObjectItem(replication, "automatic") &&
             !cJSON_GetObjectItem(replication, "userManaged"))
        call_fail(call, "INVALID_ARGUMENT", "The replication policy is required.");
    else if (store_get(key))
        call_fail(call, "ALREADY_EXISTS", "Secret [%s] already exists.", key + 7);
    if (!call->sent) {
        secret = cJSON_CreateObject();
        cJSON_AddStringToObject(secret, "name", key + 7);
        json_merge(secret, call->body);
        json_set_string(secret, "name", key + 7);
        json_set_now(secret, "createTime");
        set_etag(secret);
        store_put(key, secret);
        secret = call_shown(secret);
    }
    free(id);
    free(parent);
    free(key);
    return secret;
}

/* The document of the path, its key in fresh memory; NULL after a refusal. */
static cJSON *find(struct call *call, char **ret_key)
{
    char *key = call_key(call);
    cJSON *json = store_get(key);
    if (!json) {
        call_fail(call, "NOT_FOUND", "%s [%s] not found.",
                  strstr(key, "/versions/") ? "Secret Version" : "Secret", key + 7);
        free(key);
        key = NULL;
    }
    *ret_key = key;
    return json;
}

static cJSON *get(struct call *call)
{
    char *key;
    cJSON *json = find(call, &key);
    free(key);
    return call_shown(json);
}

static cJSON *list_secrets(struct call *call)
{
    return call_list_below(call, "secrets");
}

static cJSON *list_versions(struct call *call)
{
    return call_list_below(call, "versions");
}

static cJSON *delete (struct call *call)
{
    char *key, name[700];
    cJSON *secret = find(call, &key), *answer = NULL;
    char *etag = call_param(call, "etag");
    if (secret && etag && strcmp(etag, json_string(secret, "etag")) != 0) {
        call_fail(call, "ABORTED", "The etag does not match.");
    } else if (secret) {
        snprintf(name, sizeof name, "%s/", key);
        store_delete_all(name);
        snprintf(name, sizeof name, "policy:%s", key);
        store_delete(name);
        store_delete(key);
        answer = cJSON_CreateObject();
    }
    free(etag);
    free(key);
    return answer;
}

/* ---- versions ---- */

static bool payload_fault(struct call *call, const cJSON *payload)
{
    size_t size = 0;
    unsigned char *bytes = base64_bytes(json_string(payload, "data"), &size);
    const char *crc = json_string(payload, "dataCrc32c");
    bool bad = !bytes || size == 0 || size > PAYLOAD_MAX;
    if (bad)
        call_fail(call, "INVALID_ARGUMENT",
                  "The payload must be between 1 and 65536 bytes of base64.");
    else if (*crc && strtoull(crc, NULL, 10) != crc32c(0, bytes, size))
        bad = !call_fail(call, "INVALID_ARGUMENT",
                         "The checksum in payload.data_crc32c does not match the data.");
    free(bytes);
    return bad;
}

static cJSON *add_version(struct call *call)
{
    char *key, name[700], number[24];
    cJSON *secret = find(call, &key);
    const cJSON *payload = cJSON_GetObjectItem(call->body, "payload");
    if (!secret || payload_fault(call, payload)) {
        free(key);
        return NULL;
    }
    snprintf(number, sizeof number, "%ld", strtol(json_string(secret, "_latest"), NULL, 10) + 1);
    snprintf(name, sizeof name, "%s/versions/%s", key, number);
    cJSON *version = cJSON_CreateObject();
    cJSON_AddStringToObject(version, "name", name + 7);
    cJSON_AddStringToObject(version, "state", "ENABLED");
    cJSON_AddStringToObject(version, "_data", json_string(payload, "data"));
    if (*json_string(payload, "dataCrc32c"))
        cJSON_AddTrueToObject(version, "clientSpecifiedPayloadChecksum");
    json_set_now(version, "createTime");
    set_etag(version);
    store_put(name, version);
    json_set_string(secret, "_latest", number);
    store_put(key, secret);
    free(key);
    return call_shown(version);
}

/* The version of the path, "latest" being the newest; NULL after a refusal. */
static cJSON *find_version(struct call *call, char **ret_key)
{
    char *key = NULL;
    const char *version = call->args[2];
    const cJSON *secret = store_getf("secret:projects/%s/secrets/%s", call->args[0], call->args[1]);
    if (secret && strcmp(version, "latest") == 0)
        version = json_string(secret, "_latest");
    if (asprintf(&key, "secret:projects/%s/secrets/%s/versions/%s", call->args[0], call->args[1],
                 version) < 0)
        abort();
    cJSON *json = *version ? store_get(key) : NULL;
    if (!json) {
        call_fail(call, "NOT_FOUND",
                  "Secret [projects/%s/secrets/%s] not found or has no versions.", call->args[0],
                  call->args[1]);
        free(key);
        key = NULL;
    }
    *ret_key = key;
    return json;
}

static cJSON *access_version(struct call *call)
{
    char *key;
    size_t size = 0;
    cJSON *version = find_version(call, &key), *answer = NULL;
    if (version && strcmp(json_string(version, "state"), "ENABLED") != 0) {
        call_fail(call, "FAILED_PRECONDITION", "Secret Version [%s] is in %s state.", key + 7,
                  json_string(version, "state"));
    } else if (version) {
        answer = cJSON_CreateObject();
        cJSON_AddStringToObject(answer, "name", key + 7);
        cJSON *payload = cJSON_AddObjectToObject(answer, "payload");
        unsigned char *bytes = base64_bytes(json_string(version, "_data"), &size);
        cJSON_AddStringToObject(payload, "data", json_string(version, "_data"));
        json_set_int64(payload, "dataCrc32c", crc32c(0, bytes, size));
        free(bytes);
    }
    free(key);
    return answer;
}

static cJSON *get_version(struct call *call)
{
    char *key;
    cJSON *version = find_version(call, &key);
    free(key);
    return call_shown(version);
}

static cJSON *set_state(struct call *call, const char *state)
{
    char *key;
    cJSON *version = find_version(call, &key);
    if (version && strcmp(json_string(version, "state"), "DESTROYED") == 0) {
        version =
            call_fail(call, "FAILED_PRECONDITION", "Secret Version [%s] is destroyed.", key + 7);
    } else if (version) {
        json_set_string(version, "state", state);
        if (strcmp(state, "DESTROYED") == 0)
            json_set(version, "_data", NULL);
        set_etag(version);
        store_put(key, version);
    }
    free(key);
    return call_shown(version);
}

static cJSON *enable(struct call *call)
{
    return set_state(call, "ENABLED");
}

static cJSON *disable(struct call *call)
{
    return set_state(call, "DISABLED");
}

static cJSON *destroy(struct call *call)
{
    return set_state(call, "DESTROYED");
}

#define SECRETS "secretmanager.projects.secrets."
#define MAY "secretmanager."

const struct call_row google_secret_rows[] = {
    {SECRETS "create", MAY "secrets.create", create, false},
    {SECRETS "get", MAY "secrets.get", get, false},
    {SECRETS "list", MAY "secrets.list", list_secrets, false},
    {SECRETS "delete", MAY "secrets.delete", delete, false},
    {SECRETS "addVersion", MAY "versions.add", add_version, false},
    {SECRETS "getIamPolicy", MAY "secrets.getIamPolicy", policy_answer_get, false},
    {SECRETS "setIamPolicy", MAY "secrets.setIamPolicy", policy_answer_set, false},
    {SECRETS "versions.access", MAY "versions.access", access_version, false},
    {SECRETS "versions.get", MAY "versions.get", get_version, false},
    {SECRETS "versions.list", MAY "versions.list", list_versions, false},
    {SECRETS "versions.enable", MAY "versions.enable", enable, false},
    {SECRETS "versions.disable", MAY "versions.disable", disable, false},
    {SECRETS "versions.destroy", MAY "versions.destroy", destroy, false},
    {0},
};
