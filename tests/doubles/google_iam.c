/* IAM: service accounts, their keys, a project's own roles; and tokens in another account's name.
 */
#include "google_auth.h"
#include "google_policy.h"
#include "google_world.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- service accounts ---- */

/* The account's document of the path, where a project "-" stands for the account's own; NULL after
 * a refusal. */
static cJSON *find(struct call *call, char **ret_key)
{
    char *key = auth_account_key(call->args[1]), *wanted = NULL;
    if (asprintf(&wanted, "iam:projects/%s/serviceAccounts/", call->args[0]) < 0)
        abort();
    bool here =
        key && (strcmp(call->args[0], "-") == 0 || strncmp(key, wanted, strlen(wanted)) == 0);
    free(wanted);
    if (!here) {
        free(key);
        key = NULL;
        call_fail(call, "NOT_FOUND", "Unknown service account");
    }
    *ret_key = key;
    return here ? store_get(key) : NULL;
}

static bool good_id(const char *id)
{
    size_t len = strlen(id);
    return len >= 3 && len <= 30 && islower((unsigned char)id[0]) && id[len - 1] != '-' &&
           strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static cJSON *create(struct call *call)
{
    const char *id = json_string(call->body, "accountId");
    const cJSON *wish = cJSON_GetObjectItem(call->body, "serviceAccount");
    if (!good_id(id))
        return call_fail(call, "INVALID_ARGUMENT", "The account ID \"%.100s\" is not valid.", id);
    if (store_getf("iam:projects/%s/serviceAccounts/%s@%s.iam.gserviceaccount.com", call->args[0],
                   id, call->args[0]))
        return call_fail(call, "ALREADY_EXISTS",
                         "Service account %s already exists within project projects/%s.", id,
                         call->args[0]);
    cJSON *account = auth_account_new(call->args[0], id, json_string(wish, "displayName"));
    if (*json_string(wish, "description")) {
        char key[600];
        json_set_string(account, "description", json_string(wish, "description"));
        snprintf(key, sizeof key, "iam:%s", json_string(account, "name"));
        store_put(key, account);
    }
    return call_shown(account);
}

static cJSON *get(struct call *call)
{
    char *key;
    cJSON *account = find(call, &key);
    free(key);
    return call_shown(account);
}

static cJSON *delete (struct call *call)
{
    char *key, *below = NULL;
    if (!find(call, &key))
        return NULL;
    if (asprintf(&below, "policy:%s", key) < 0)
        abort();
    store_delete(below);
    free(below);
    if (asprintf(&below, "%s/", key) < 0)
        abort();
    store_delete_all(below);
    store_delete(key);
    free(below);
    free(key);
    return cJSON_CreateObject();
}

static cJSON *list(struct call *call)
{
    char prefix[300];
    snprintf(prefix, sizeof prefix, "iam:projects/%s/serviceAccounts/", call->args[0]);
    return call_list(call, prefix, "accounts", call_show_document);
}

static cJSON *get_policy(struct call *call)
{
    char *key;
    cJSON *policy = find(call, &key) ? policy_get(key) : NULL;
    free(key);
    return policy;
}

static cJSON *set_policy(struct call *call)
{
    char *key;
    cJSON *policy =
        find(call, &key) ? policy_set(call, key, cJSON_GetObjectItem(call->body, "policy")) : NULL;
    free(key);
    return policy;
}

/* ---- keys ---- */

static cJSON *create_key(struct call *call)
{
    char *key, id[41];
    const char *kind = json_string(call->body, "privateKeyType");
    cJSON *account = find(call, &key);
    if (!account)
        return NULL;
    if (*kind && strcmp(kind, "TYPE_GOOGLE_CREDENTIALS_FILE") != 0) {
        free(key);
        return call_fail(call, "INVALID_ARGUMENT", "Only credentials files are made here.");
    }
    if (world_setting("noKeys")) {
        free(key);
        return call_fail(call, "FAILED_PRECONDITION",
                         "Key creation is not allowed on this service account "
                         "(constraints/iam.disableServiceAccountKeyCreation).");
    }
    char *text = auth_key_new(json_string(account, "email"), id);
    char *data = base64_text(text, strlen(text));
    cJSON *json = call_shown(store_getf("%s/keys/%s", key, id));
    cJSON_AddStringToObject(json, "privateKeyType", "TYPE_GOOGLE_CREDENTIALS_FILE");
    cJSON_AddStringToObject(json, "privateKeyData", data);
    free(data);
    free(text);
    free(key);
    return json;
}

static cJSON *list_keys(struct call *call)
{
    char *key, *prefix = NULL;
    const char *name;
    cJSON *document;
    if (!find(call, &key))
        return NULL;
    cJSON *json = cJSON_CreateObject(), *keys = cJSON_AddArrayToObject(json, "keys");
    if (asprintf(&prefix, "%s/keys/", key) < 0)
        abort();
    for (size_t i = store_seek(prefix); (document = store_at_prefix(i, prefix, &name)); i++)
        cJSON_AddItemToArray(keys, call_shown(document));
    free(prefix);
    free(key);
    return json;
}

static cJSON *one_key(struct call *call, bool remove)
{
    char *key, *name = NULL;
    if (!find(call, &key))
        return NULL;
    if (asprintf(&name, "%s/keys/%s", key, call->args[2]) < 0)
        abort();
    cJSON *json = store_get(name) ? call_shown(store_get(name))
                                  : call_fail(call, "NOT_FOUND",
                                              "Service account key %s does not "
                                              "exist.",
                                              call->args[2]);
    if (json && remove) {
        store_delete(name);
        cJSON_Delete(json);
        json = cJSON_CreateObject();
    }
    free(name);
    free(key);
    return json;
}

static cJSON *get_key(struct call *call)
{
    char since[40];
    cJSON *json = one_key(call, false);
    if (json && world_setting("keyAgeDays")) {
        store_time(store_now_ms() - world_setting("keyAgeDays") * 86400000, since);
        json_set_string(json, "validAfterTime", since);
    }
    return json;
}

static cJSON *delete_key(struct call *call)
{
    return one_key(call, true);
}

/* ---- tokens in another's name ---- */

static cJSON *generate(struct call *call)
{
    char *key, end[40];
    const char *lifetime = json_string(call->body, "lifetime");
    int64_t seconds = *lifetime ? (int64_t)strtod(lifetime, NULL) : 3600;
    cJSON *account = find(call, &key);
    bool may = account && auth_may(call->account, "iam.serviceAccounts.getAccessToken", key);
    free(key);
    if (!account)
        return NULL;
    if (!may)
        return call_fail(call, "PERMISSION_DENIED",
                         "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or "
                         "it may not exist).");
    if (cJSON_GetArraySize(cJSON_GetObjectItem(call->body, "scope")) == 0)
        return call_fail(call, "INVALID_ARGUMENT", "scope: at least one is required.");
    if (seconds < 1 || seconds > 3600)
        return call_fail(call, "INVALID_ARGUMENT", "lifetime: at most 3600s.");
    if (seconds > world_setting("tokenLifetime"))
        seconds = world_setting("tokenLifetime");
    cJSON *json = cJSON_CreateObject();
    char *token = auth_token_new(json_string(account, "email"), seconds);
    cJSON_AddStringToObject(json, "accessToken", token);
    store_time(store_now_ms() + seconds * 1000, end);
    cJSON_AddStringToObject(json, "expireTime", end);
    free(token);
    return json;
}

/* ---- roles ---- */

static cJSON *find_role(struct call *call, char **ret_key)
{
    char *key = call_key(call);
    cJSON *role = store_get(key);
    if (!role) {
        call_fail(call, "NOT_FOUND", "The role named %s was not found.", key + 4);
        free(key);
        key = NULL;
    }
    *ret_key = key;
    return role;
}

static bool permissions_fault(struct call *call, const cJSON *role)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(role, "includedPermissions"))
    {
        const char *text = cJSON_GetStringValue(item);
        const char *dot = text ? strchr(text, '.') : NULL;
        if (!dot || !strchr(dot + 1, '.'))
            return !call_fail(call, "INVALID_ARGUMENT", "Permission %.100s is not valid.",
                              text ? text : "");
    }
    return false;
}

static cJSON *create_role(struct call *call)
{
    const char *id = json_string(call->body, "roleId");
    const cJSON *wish = cJSON_GetObjectItem(call->body, "role");
    char key[400];
    size_t len = strlen(id);
    snprintf(key, sizeof key, "iam:projects/%s/roles/%s", call->args[0], id);
    if (len < 3 || len > 64 ||
        strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != len)
        return call_fail(call, "INVALID_ARGUMENT", "The role_id %.100s is not valid.", id);
    if (store_get(key))
        return call_fail(call, "ALREADY_EXISTS", "A role named %s in projects/%s already exists.",
                         id, call->args[0]);
    if (permissions_fault(call, wish))
        return NULL;
    cJSON *role = cJSON_CreateObject();
    json_merge(role, wish);
    json_set_string(role, "name", key + 4);
    json_set_string(role, "etag", "BwYAAAAAAAA=");
    store_put(key, role);
    return cJSON_Duplicate(role, 1);
}

static cJSON *get_role(struct call *call)
{
    char *key;
    cJSON *role = find_role(call, &key);
    free(key);
    return cJSON_Duplicate(role, 1);
}

static cJSON *change_role(struct call *call, const cJSON *change)
{
    char *key;
    cJSON *role = find_role(call, &key);
    if (role && !permissions_fault(call, change)) {
        char *name = strdup(json_string(role, "name"));
        json_merge(role, change);
        json_set_string(role, "name", name);
        store_put(key, role);
        free(name);
    }
    free(key);
    return call->sent ? NULL : cJSON_Duplicate(role, 1);
}

static cJSON *patch_role(struct call *call)
{
    return change_role(call, call->body);
}

/* A deleted role keeps its name for a week. */
static cJSON *mark_role(struct call *call, bool deleted)
{
    cJSON *mark = cJSON_CreateObject();
    cJSON_AddItemToObject(mark, "deleted", deleted ? cJSON_CreateTrue() : cJSON_CreateNull());
    cJSON *role = change_role(call, mark);
    cJSON_Delete(mark);
    return role;
}

static cJSON *delete_role(struct call *call)
{
    return mark_role(call, true);
}

static cJSON *undelete_role(struct call *call)
{
    return mark_role(call, false);
}

#define ACCOUNTS "iam.projects.serviceAccounts."
#define ROLES "iam.projects.roles."

const struct call_row google_iam_rows[] = {
    {ACCOUNTS "create", "iam.serviceAccounts.create", create, false},
    {ACCOUNTS "get", "iam.serviceAccounts.get", get, false},
    {ACCOUNTS "list", "iam.serviceAccounts.list", list, false},
    {ACCOUNTS "delete", "iam.serviceAccounts.delete", delete, false},
    {ACCOUNTS "getIamPolicy", "iam.serviceAccounts.getIamPolicy", get_policy, false},
    {ACCOUNTS "setIamPolicy", "iam.serviceAccounts.setIamPolicy", set_policy, false},
    {ACCOUNTS "keys.create", "iam.serviceAccountKeys.create", create_key, false},
    {ACCOUNTS "keys.get", "iam.serviceAccountKeys.get", get_key, false},
    {ACCOUNTS "keys.list", "iam.serviceAccountKeys.list", list_keys, false},
    {ACCOUNTS "keys.delete", "iam.serviceAccountKeys.delete", delete_key, false},
    {"iamcredentials.projects.serviceAccounts.generateAccessToken", NULL, generate, false},
    {ROLES "create", "iam.roles.create", create_role, false},
    {ROLES "get", "iam.roles.get", get_role, false},
    {ROLES "patch", "iam.roles.update", patch_role, false},
    {ROLES "delete", "iam.roles.delete", delete_role, false},
    {ROLES "undelete", "iam.roles.undelete", undelete_role, false},
    {0},
};
