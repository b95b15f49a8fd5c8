/* Cloud Storage: buckets. */
#include "google_objects.h"
#include "google_policy.h"
#include "google_world.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool good_name(const char *name)
{
    size_t len = strlen(name);
    return len >= 3 && len <= 63 && isalnum((unsigned char)name[0]) &&
           isalnum((unsigned char)name[len - 1]) &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

static const char *const writable[] = {
    "lifecycle",
    "iamConfiguration",
    "labels",
    "location",
    "storageClass",
    "versioning",
    "softDeletePolicy",
    "retentionPolicy",
    "encryption",
    "cors",
    "defaultEventBasedHold",
    "autoclass",
    "logging",
    "website",
    "billing",
    "rpo",
};

/* What may be left open gets Google's default. */
static void fill(cJSON *bucket)
{
    cJSON *iam = cJSON_GetObjectItem(bucket, "iamConfiguration");
    if (!iam)
        iam = cJSON_AddObjectToObject(bucket, "iamConfiguration");
    if (!cJSON_GetObjectItem(iam, "uniformBucketLevelAccess"))
        cJSON_AddBoolToObject(cJSON_AddObjectToObject(iam, "uniformBucketLevelAccess"), "enabled",
                              false);
    if (!cJSON_GetObjectItem(iam, "publicAccessPrevention"))
        cJSON_AddStringToObject(iam, "publicAccessPrevention", "inherited");
    if (!cJSON_GetObjectItem(bucket, "location"))
        cJSON_AddStringToObject(bucket, "location", "US");
    for (char *p = cJSON_GetObjectItem(bucket, "location")->valuestring; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    if (!cJSON_GetObjectItem(bucket, "storageClass"))
        cJSON_AddStringToObject(bucket, "storageClass", "STANDARD");
}

static void take(cJSON *bucket, const cJSON *from)
{
    for (size_t i = 0; i < sizeof writable / sizeof *writable; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(from, writable[i]);
        if (value)
            json_set(bucket, writable[i], cJSON_IsNull(value) ? NULL : cJSON_Duplicate(value, 1));
    }
    fill(bucket);
}

static cJSON *insert(struct call *call)
{
    char *project = call_param(call, "project"), key[80], link[160], number[32];
    const char *name = json_string(call->body, "name");
    bool has_project = project && *project;
    free(project);
    if (!has_project)
        return call_fail(call, "INVALID_ARGUMENT", "Required parameter: project");
    if (!good_name(name))
        return call_fail(call, "INVALID_ARGUMENT", "Invalid bucket name: '%.100s'", name);
    if (store_getf("gcs:b/%s", name))
        return call_fail(call, "ALREADY_EXISTS",
                         "Your previous request to create the named bucket succeeded and you "
                         "already own it.");
    cJSON *bucket = cJSON_CreateObject();
    cJSON_AddStringToObject(bucket, "kind", "storage#bucket");
    cJSON_AddStringToObject(bucket, "id", name);
    cJSON_AddStringToObject(bucket, "name", name);
    snprintf(link, sizeof link, "%s/storage/v1/b/%s", world.base, name);
    cJSON_AddStringToObject(bucket, "selfLink", link);
    snprintf(number, sizeof number, "%lld", world.project_number);
    cJSON_AddStringToObject(bucket, "projectNumber", number);
    json_set_int64(bucket, "generation", store_serial());
    json_set_int64(bucket, "metageneration", 1);
    cJSON_AddStringToObject(bucket, "etag", "CAE=");
    json_set_now(bucket, "timeCreated");
    json_set_now(bucket, "updated");
    take(bucket, call->body);
    snprintf(key, sizeof key, "gcs:b/%s", name);
    store_put(key, bucket);
    return cJSON_Duplicate(bucket, 1);
}

static cJSON *get(struct call *call)
{
    cJSON *bucket = object_bucket(call, call->args[0]);
    return bucket && object_preconditions(call, bucket) ? cJSON_Duplicate(bucket, 1) : NULL;
}

static cJSON *patch(struct call *call)
{
    char key[300];
    cJSON *bucket = object_bucket(call, call->args[0]);
    if (!bucket || !object_preconditions(call, bucket))
        return NULL;
    take(bucket, call->body);
    const cJSON *label, *labels = cJSON_GetObjectItem(call->body, "labels");
    cJSON_ArrayForEach(label, labels)
    {
        if (cJSON_IsNull(label))
            cJSON_DeleteItemFromObject(cJSON_GetObjectItem(bucket, "labels"), label->string);
    }
    json_set_int64(bucket, "metageneration", json_int(bucket, "metageneration", 1) + 1);
    json_set_now(bucket, "updated");
    snprintf(key, sizeof key, "gcs:b/%s", call->args[0]);
    store_put(key, bucket);
    return cJSON_Duplicate(bucket, 1);
}

static cJSON *delete (struct call *call)
{
    char key[300], below[300];
    const char *name;
    cJSON *bucket = object_bucket(call, call->args[0]);
    if (!bucket || !object_preconditions(call, bucket))
        return NULL;
    snprintf(below, sizeof below, "gcs:o/%s/", call->args[0]);
    if (store_at_prefix(store_seek(below), below, &name))
        return call_fail(call, "ALREADY_EXISTS", "The bucket you tried to delete is not empty.");
    snprintf(key, sizeof key, "policy:gcs:b/%s", call->args[0]);
    store_delete(key);
    store_delete(key + strlen("policy:"));
    call->status = 204;
    call->sent = true;
    if (!call->lose_answer)
        server_reply(call->conn, 204, "", "", 0);
    return NULL;
}

static cJSON *list(struct call *call)
{
    cJSON *json = call_list(call, "gcs:b/", "items", call_show_document);
    if (json)
        cJSON_AddStringToObject(json, "kind", "storage#buckets");
    return json;
}

/* ---- policies ---- */

static cJSON *as_answered(struct call *call, cJSON *policy)
{
    char id[160];
    if (!policy)
        return NULL;
    snprintf(id, sizeof id, "projects/_/buckets/%.120s", call->args[0]);
    json_set_string(policy, "kind", "storage#policy");
    json_set_string(policy, "resourceId", id);
    return policy;
}

static cJSON *get_policy(struct call *call)
{
    char key[300];
    snprintf(key, sizeof key, "gcs:b/%s", call->args[0]);
    return object_bucket(call, call->args[0]) ? as_answered(call, policy_get(key)) : NULL;
}

static cJSON *set_policy(struct call *call)
{
    char key[300];
    snprintf(key, sizeof key, "gcs:b/%s", call->args[0]);
    if (!object_bucket(call, call->args[0]))
        return NULL;
    const char *etag = json_string(call->body, "etag");
    cJSON *old = policy_get(key);
    bool stale = *etag && strcmp(etag, json_string(old, "etag")) != 0;
    cJSON_Delete(old);
    if (stale)
        return call_fail(call, "CONDITION_NOT_MET",
                         "At least one of the pre-conditions you specified did not hold.");
    return as_answered(call, policy_set(call, key, call->body));
}

const struct call_row google_storage_rows[] = {
    {"storage.buckets.insert", "storage.buckets.create", insert, false},
    {"storage.buckets.get", "storage.buckets.get", get, false},
    {"storage.buckets.list", "storage.buckets.list", list, false},
    {"storage.buckets.patch", "storage.buckets.update", patch, false},
    {"storage.buckets.delete", "storage.buckets.delete", delete, false},
    {"storage.buckets.getIamPolicy", "storage.buckets.getIamPolicy", get_policy, false},
    {"storage.buckets.setIamPolicy", "storage.buckets.setIamPolicy", set_policy, false},
    {0},
};
