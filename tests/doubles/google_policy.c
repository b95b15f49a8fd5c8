#include "google_policy.h"

#include "google_auth.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *policy_key(const char *key)
{
    char *name = NULL;
    if (asprintf(&name, "policy:%s", key) < 0)
        abort();
    return name;
}

cJSON *policy_get(const char *key)
{
    cJSON *policy = store_getf("policy:%s", key);
    if (policy)
        return cJSON_Duplicate(policy, 1);
    policy = cJSON_CreateObject();
    cJSON_AddNumberToObject(policy, "version", 1);
    cJSON_AddStringToObject(policy, "etag", "ACAB");
    return policy;
}

/* ---- what is refused ---- */

static bool good_member(const char *member)
{
    static const char *const kinds[] = {
        "serviceAccount:", "user:",         "group:",         "domain:",
        "deleted:",        "projectOwner:", "projectEditor:", "projectViewer:"};
    if (strcmp(member, "allUsers") == 0 || strcmp(member, "allAuthenticatedUsers") == 0)
        return true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(member, kinds[i], strlen(kinds[i])) == 0)
            return member[strlen(kinds[i])] != '\0';
    return false;
}

/* Google refuses a service account that it does not know, or not yet. */
static bool member_exists(const char *member)
{
    if (strncmp(member, "serviceAccount:", 15) != 0 || !strstr(member, ".iam.gserviceaccount.com"))
        return true;
    char *key = auth_account_key(member + 15);
    const cJSON *account = key ? store_get(key) : NULL;
    bool exists = account &&
                  store_now_ms() >= json_int(account, "_born", 0) + world_setting("accountDelayMs");
    free(key);
    return exists;
}

static bool binding_fault(struct call *call, const cJSON *binding)
{
    const char *role = json_string(binding, "role");
    const cJSON *member, *members = cJSON_GetObjectItemCaseSensitive(binding, "members");
    if (strncmp(role, "roles/", 6) != 0 && strncmp(role, "projects/", 9) != 0 &&
        strncmp(role, "organizations/", 14) != 0)
        return !call_fail(call, "INVALID_ARGUMENT", "Role %.200s is not supported.", role);
    if (strncmp(role, "projects/", 9) == 0 && !store_getf("iam:%s", role))
        return !call_fail(call, "INVALID_ARGUMENT", "Role %.200s does not exist.", role);
    cJSON_ArrayForEach(member, members)
    {
        const char *text = cJSON_GetStringValue(member);
        if (!text || !good_member(text))
            return !call_fail(call, "INVALID_ARGUMENT",
                              "The member %.200s is of an unknown type. Please set a valid type "
                              "prefix for the member.",
                              text ? text : "");
        if (!member_exists(text))
            return !call_fail(call, "INVALID_ARGUMENT", "Service account %.200s does not exist.",
                              text + 15);
    }
    return false;
}

cJSON *policy_set(struct call *call, const char *key, const cJSON *policy)
{
    const cJSON *binding;
    cJSON *old = policy_get(key);
    const char *etag = json_string(policy, "etag");
    bool stale = *etag && strcmp(etag, json_string(old, "etag")) != 0;
    cJSON_Delete(old);
    if (!policy)
        return call_fail(call, "INVALID_ARGUMENT", "The policy is missing.");
    if (stale)
        return call_fail(call, "ABORTED",
                         "There were concurrent policy changes. Please retry the whole "
                         "read-modify-write with exponential backoff.");
    cJSON_ArrayForEach(binding, cJSON_GetObjectItemCaseSensitive(policy, "bindings"))
    {
        if (binding_fault(call, binding))
            return NULL;
    }
    char text[24], *name = policy_key(key);
    cJSON *kept = cJSON_Duplicate(policy, 1);
    snprintf(text, sizeof text, "%lld", (long long)store_serial());
    char *fresh = base64_text(text, strlen(text));
    json_set_string(kept, "etag", fresh);
    json_set_number(kept, "version", (double)json_int(policy, "version", 1));
    store_put(name, kept);
    free(fresh);
    free(name);
    return cJSON_Duplicate(kept, 1);
}

/* The resource's key; NULL after a refusal. */
static char *existing(struct call *call)
{
    char *key = call_key(call);
    if (store_get(key))
        return key;
    call_missing(call, strchr(key, ':') + 1);
    free(key);
    return NULL;
}

cJSON *policy_answer_get(struct call *call)
{
    char *key = existing(call);
    cJSON *policy = key ? policy_get(key) : NULL;
    free(key);
    return policy;
}

cJSON *policy_answer_set(struct call *call)
{
    char *key = existing(call);
    cJSON *policy =
        key ? policy_set(call, key, cJSON_GetObjectItemCaseSensitive(call->body, "policy")) : NULL;
    free(key);
    return policy;
}

/* ---- what they allow ---- */

/* Of Google's own roles, those that the runner has to do with; a last `*` stands for any rest. */
static const struct {
    const char *role, *permissions;
} roles[] = {
    {"roles/owner", "*"},
    {"roles/editor", "*"},
    {"roles/storage.objectUser",
     "storage.objects.create storage.objects.delete storage.objects.get storage.objects.list "
     "storage.objects.update storage.multipartUploads.* storage.folders.* "
     "orgpolicy.policy.get resourcemanager.projects.get resourcemanager.projects.list"},
    {"roles/storage.objectAdmin", "storage.objects.* storage.multipartUploads.*"},
    {"roles/storage.objectViewer", "storage.objects.get storage.objects.list"},
    {"roles/storage.objectCreator", "storage.objects.create"},
    {"roles/storage.admin", "storage.*"},
    {"roles/cloudkms.cryptoKeyEncrypter", "cloudkms.cryptoKeyVersions.useToEncrypt"},
    {"roles/cloudkms.cryptoKeyDecrypter", "cloudkms.cryptoKeyVersions.useToDecrypt"},
    {"roles/cloudkms.cryptoKeyEncrypterDecrypter",
     "cloudkms.cryptoKeyVersions.useToEncrypt cloudkms.cryptoKeyVersions.useToDecrypt"},
    {"roles/cloudkms.admin", "cloudkms.keyRings.* cloudkms.cryptoKeys.*"},
    {"roles/secretmanager.secretAccessor", "secretmanager.versions.access"},
    {"roles/secretmanager.viewer",
     "secretmanager.secrets.get secretmanager.secrets.list secretmanager.versions.get "
     "secretmanager.versions.list secretmanager.secrets.getIamPolicy"},
    {"roles/run.invoker", "run.jobs.run run.routes.invoke"},
    {"roles/run.jobsExecutor", "run.executions.get run.executions.list run.jobs.run"},
    {"roles/run.jobsExecutorWithOverrides",
     "run.executions.cancel run.executions.get run.executions.list run.jobs.run "
     "run.jobs.runWithOverrides"},
    {"roles/run.viewer",
     "run.jobs.get run.jobs.list run.executions.get run.executions.list run.operations.get "
     "run.operations.list run.tasks.get run.tasks.list run.jobs.getIamPolicy"},
    {"roles/run.developer",
     "run.jobs.create run.jobs.delete run.jobs.get run.jobs.getIamPolicy run.jobs.list "
     "run.jobs.run run.jobs.runWithOverrides run.jobs.update run.executions.* run.operations.* "
     "run.tasks.*"},
    {"roles/run.admin", "run.*"},
    {"roles/logging.logWriter", "logging.logEntries.create"},
    {"roles/iam.serviceAccountUser", "iam.serviceAccounts.actAs iam.serviceAccounts.get"},
    {"roles/iam.serviceAccountTokenCreator",
     "iam.serviceAccounts.getAccessToken iam.serviceAccounts.signBlob"},
    {"roles/artifactregistry.reader", "artifactregistry.repositories.get"},
    {"roles/artifactregistry.writer",
     "artifactregistry.repositories.get artifactregistry.repositories.uploadArtifacts "
     "artifactregistry.repositories.downloadArtifacts artifactregistry.tags.*"},
};

static bool in_list(const char *list, const char *permission)
{
    while (*list) {
        size_t len = strcspn(list, " ");
        bool any = list[len - 1] == '*';
        if (any ? strncmp(list, permission, len - 1) == 0
                : len == strlen(permission) && strncmp(list, permission, len) == 0)
            return true;
        list += len;
        list += *list == ' ';
    }
    return false;
}

static bool role_has(const char *role, const char *permission)
{
    const cJSON *own = store_getf("iam:%s", role), *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(own, "includedPermissions"))
    {
        if (strcmp(item->valuestring, permission) == 0)
            return !cJSON_IsTrue(cJSON_GetObjectItem(own, "deleted"));
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(roles[i].role, role) == 0)
            return in_list(roles[i].permissions, permission);
    return false;
}

static bool one_allows(const char *key, const char *member, const char *permission)
{
    const cJSON *policy = store_getf("policy:%s", key), *binding, *item;
    cJSON_ArrayForEach(binding, cJSON_GetObjectItem(policy, "bindings"))
    {
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(binding, "members"))
        {
            if (strcmp(item->valuestring, member) == 0 &&
                role_has(json_string(binding, "role"), permission))
                return true;
        }
    }
    return false;
}

bool policy_allows(const char *account, const char *permission, const char *key)
{
    char member[300], project[300], *above = strdup(key);
    bool user = !strstr(account, ".gserviceaccount.com");
    snprintf(member, sizeof member, "%s:%s", user ? "user" : "serviceAccount", account);
    snprintf(project, sizeof project, "crm:projects/%s", world.project);
    bool allowed = one_allows(project, member, permission);
    for (char *slash = above + strlen(above); slash && !allowed; slash = strrchr(above, '/')) {
        *slash = '\0';
        allowed = one_allows(above, member, permission);
    }
    free(above);
    return allowed;
}
