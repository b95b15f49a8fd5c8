/*
 * Cloud Build (a build that is over after `buildMs` and pushes what it was asked for), the log
 * entries that it writes, and Cloud Billing's word on the project. Their descriptions are written
 * after the messages of Google's own Node clients.
 */
#include "google_auth.h"
#include "google_policy.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const google_build_methods[] = {
    "cloudbuild.projects.builds.create POST /v1/projects/*/builds cloudbuild.Build parent=s",
    "cloudbuild.projects.builds.get GET /v1/projects/*/builds/* - name=s",
    "cloudbuild.projects.builds.list GET /v1/projects/*/builds - filter=s pageSize=i pageToken=s "
    "parent=s",
    "cloudbuild.operations.get GET /v1/operations/build/*/* -",
    "cloudbilling.projects.getBillingInfo GET /v1/projects/*/billingInfo -",
    NULL,
};

#define STATUS \
    "(STATUS_UNKNOWN|PENDING|QUEUED|WORKING|SUCCESS|FAILURE|INTERNAL_ERROR|TIMEOUT|CANCELLED)"
const char *const google_build_schemas[] = {
    "cloudbuild.Build artifacts=* availableSecrets=* id=!s images=[s] logUrl=!s logsBucket=s "
    "name=!s options=BuildOptions projectId=!s queueTtl=d results=!* secrets=[*] serviceAccount=s "
    "source=Source status=!" STATUS " steps=[BuildStep] substitutions={s} tags=[s] timeout=d "
    "approval=!* buildTriggerId=!s createTime=!t dependencies=[*] failureInfo=!* finishTime=!t "
    "gitConfig=* sourceProvenance=!* startTime=!t statusDetail=!s timing={*} warnings=!*",
    "cloudbuild.Source gitSource=* repoSource=* storageSource=StorageSource "
    "storageSourceManifest=*",
    "cloudbuild.StorageSource bucket=s generation=l object=s sourceFetcher=(GSUTIL|GCS_FETCHER)",
    "cloudbuild.BuildStep allowExitCodes=[i] allowFailure=b args=[s] automapSubstitutions=b dir=s "
    "entrypoint=s env=[s] id=s name=s script=s secretEnv=[s] timeout=d volumes=[*] waitFor=[s]",
    "cloudbuild.BuildOptions diskSizeGb=l dynamicSubstitutions=b env=[s] "
    "logStreamingOption=(STREAM_DEFAULT|STREAM_ON|STREAM_OFF) "
    "logging=(LOGGING_UNSPECIFIED|LEGACY|GCS_ONLY|STACKDRIVER_ONLY|CLOUD_LOGGING_ONLY|NONE) "
    "machineType=(UNSPECIFIED|N1_HIGHCPU_8|N1_HIGHCPU_32|E2_HIGHCPU_8|E2_HIGHCPU_32|E2_MEDIUM) "
    "defaultLogsBucketBehavior=(REGIONAL_USER_OWNED_BUCKET|LEGACY_BUCKET) "
    "substitutionOption=(MUST_MATCH|ALLOW_LOOSE) requestedVerifyOption=(NOT_VERIFIED|VERIFIED)",
    NULL,
};

/* ---- what becomes of a build ---- */

/* Its account, as a key of policies; NULL: it has none of its own. */
static char *builder_key(const cJSON *build)
{
    const char *name = json_string(build, "serviceAccount");
    const char *slash = strrchr(name, '/');
    return slash ? auth_account_key(slash + 1) : NULL;
}

static const char *builder(const cJSON *build)
{
    const char *slash = strrchr(json_string(build, "serviceAccount"), '/');
    return slash ? slash + 1 : "";
}

/* REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG in pieces; false: it is none such. */
struct image {
    char region[64], project[64], repository[64], name[64], tag[128];
};

static bool parse_image(const char *text, struct image *image)
{
    return sscanf(text, "%63[a-z0-9-].pkg.dev/%63[^/]/%63[^/]/%63[^:/]:%127[^/]", image->region,
                  image->project, image->repository, image->name, image->tag) == 5 &&
           strstr(image->region, "-docker");
}

static void repository_key(const struct image *image, char key[400])
{
    snprintf(key, 400, "artifact:projects/%s/locations/%.*s/repositories/%s", image->project,
             (int)(strlen(image->region) - strlen("-docker")), image->region, image->repository);
}

/* Why it comes to nothing, or NULL. */
static const char *fate(const cJSON *build)
{
    char key[400];
    struct image image;
    const char *account = builder(build);
    const cJSON *source =
        cJSON_GetObjectItem(cJSON_GetObjectItem(build, "source"), "storageSource");
    const cJSON *item;
    char *own = builder_key(build);
    bool known = own && !auth_is_new(own);
    free(own);
    snprintf(key, sizeof key, "gcs:b/%s", json_string(source, "bucket"));
    if (!known || !auth_may(account, "storage.objects.get", key))
        return "could not fetch source: does not have storage.objects.get access to the Google "
               "Cloud Storage object. Permission 'storage.objects.get' denied on resource";
    snprintf(key, sizeof key, "crm:projects/%s", world.project);
    if (!auth_may(account, "logging.logEntries.create", key))
        return "The service account running this build does not have permission to write logs to "
               "Cloud Logging (roles/logging.logWriter).";
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(build, "images"))
    {
        if (!parse_image(item->valuestring, &image))
            return "invalid image name";
        repository_key(&image, key);
        if (!store_get(key))
            return "name unknown: Repository not found";
        if (!auth_may(account, "artifactregistry.repositories.uploadArtifacts", key))
            return "denied: Permission \"artifactregistry.repositories.uploadArtifacts\" denied on "
                   "resource";
    }
    return world_setting("failBuild") ? "The command '/bin/sh -c cmake' returned a non-zero code: 2"
                                      : NULL;
}

static void push(const cJSON *build, cJSON *results)
{
    char key[800], digest[80];
    struct image image;
    const cJSON *item;
    cJSON *images = cJSON_AddArrayToObject(results, "images");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(build, "images"))
    {
        parse_image(item->valuestring, &image);
        snprintf(digest, sizeof digest, "sha256:%064llx", (unsigned long long)store_serial());
        cJSON *built = cJSON_CreateObject(), *tag = cJSON_CreateObject();
        cJSON_AddStringToObject(built, "name", item->valuestring);
        cJSON_AddStringToObject(built, "digest", digest);
        cJSON_AddItemToArray(images, built);
        repository_key(&image, key);
        size_t len = strlen(key);
        snprintf(key + len, sizeof key - len, "/packages/%s/versions/%s", image.name, digest);
        cJSON_AddStringToObject(tag, "version", strchr(key, ':') + 1);
        snprintf(key + len, sizeof key - len, "/packages/%s/tags/%s", image.name, image.tag);
        cJSON_AddStringToObject(tag, "name", strchr(key, ':') + 1);
        store_put(key, tag);
    }
}

static const char *log_key(const cJSON *build, char key[200])
{
    snprintf(key, 200, "buildlog:%s", json_string(build, "id"));
    return key;
}

static void write_log(const cJSON *build, const char *why)
{
    char key[200];
    cJSON *lines = cJSON_CreateArray();
    cJSON_AddItemToArray(lines, cJSON_CreateString("FETCHSOURCE"));
    cJSON_AddItemToArray(lines,
                         cJSON_CreateString("Step 1/9 : FROM debian:bookworm-slim AS build"));
    cJSON_AddItemToArray(lines, cJSON_CreateString(why ? why : "DONE"));
    store_put(log_key(build, key), lines);
}

/* What time has made of it: nothing does it but looking. */
static void settle(const char *key, cJSON *build)
{
    if (strcmp(json_string(build, "status"), "WORKING") != 0 ||
        json_int(build, "_born", 0) + world_setting("buildMs") > store_now_ms())
        return;
    cJSON *results = cJSON_CreateObject(), *info;
    const char *why = fate(build);
    json_set_string(build, "status", why ? "FAILURE" : "SUCCESS");
    if (why) {
        info = cJSON_AddObjectToObject(build, "failureInfo");
        cJSON_AddStringToObject(info, "type", "USER_BUILD_STEP");
        cJSON_AddStringToObject(info, "detail", why);
    } else {
        push(build, results);
    }
    write_log(build, why);
    json_set(build, "results", results);
    json_set_now(build, "finishTime");
    store_put(key, cJSON_Duplicate(build, 1));
}

/* ---- methods ---- */

static bool step_fault(struct call *call)
{
    const cJSON *item, *steps = cJSON_GetObjectItem(call->body, "steps");
    if (cJSON_GetArraySize(steps) < 1)
        return !call_fail(call, "INVALID_ARGUMENT", "invalid build: no build steps");
    cJSON_ArrayForEach(item, steps)
    {
        if (!*json_string(item, "name"))
            return !call_fail(call, "INVALID_ARGUMENT", "build step 0 must have a name");
    }
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(call->body, "tags"))
    {
        const char *tag = item->valuestring;
        if (!*tag || strlen(tag) > 128 ||
            tag[strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")])
            return !call_fail(call, "INVALID_ARGUMENT", "invalid build tag %.130s", tag);
    }
    return false;
}

/* An account of one's own wants logs of one's own, and leave to act as it. */
static bool builder_fault(struct call *call)
{
    char *key = builder_key(call->body);
    const cJSON *mode = cJSON_GetObjectItem(cJSON_GetObjectItem(call->body, "options"), "logging");
    const char *logging = cJSON_IsString(mode) ? mode->valuestring : "";
    /* Google's own client sends the number: NONE is 4, CLOUD_LOGGING_ONLY 5. */
    bool plain = strcmp(logging, "CLOUD_LOGGING_ONLY") == 0 || strcmp(logging, "NONE") == 0 ||
                 (cJSON_IsNumber(mode) && (mode->valueint == 4 || mode->valueint == 5));
    if (!*json_string(call->body, "serviceAccount")) {
        call_fail(call, "INVALID_ARGUMENT",
                  "The default service account of this project does not exist.");
    } else if (!plain && !*json_string(call->body, "logsBucket")) {
        call_fail(call, "INVALID_ARGUMENT",
                  "if 'build.service_account' is specified, the build must either (a) specify "
                  "'build.logs_bucket', (b) use the REGIONAL_USER_OWNED_BUCKET "
                  "build.options.default_logs_bucket_behavior option, or (c) use either "
                  "CLOUD_LOGGING_ONLY / NONE logging options");
    } else if (!key || !store_get(key)) {
        call_fail(call, "NOT_FOUND", "Requested entity was not found.");
    } else if (!auth_may(call->account, "iam.serviceAccounts.actAs", key)) {
        call_fail(call, "PERMISSION_DENIED",
                  "caller does not have permission to act as service account %.200s",
                  builder(call->body));
    }
    free(key);
    return call->sent || call->status;
}

static bool source_fault(struct call *call)
{
    const cJSON *source =
        cJSON_GetObjectItem(cJSON_GetObjectItem(call->body, "source"), "storageSource");
    const char *object = json_string(source, "object");
    if (source && *json_string(source, "bucket") && *object &&
        (strstr(object, ".tgz") || strstr(object, ".tar.gz") || strstr(object, ".zip")))
        return false;
    return !call_fail(call, "INVALID_ARGUMENT",
                      "invalid source: object must be a .tar.gz, .tgz or .zip");
}

static cJSON *operation_of(const cJSON *build)
{
    char name[200];
    cJSON *operation = cJSON_CreateObject(), *metadata = cJSON_CreateObject();
    snprintf(name, sizeof name, "operations/build/%s/%s", world.project, json_string(build, "id"));
    cJSON_AddStringToObject(operation, "name", name);
    cJSON_AddStringToObject(
        metadata, "@type",
        "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata");
    cJSON_AddItemToObject(metadata, "build", call_shown(build));
    cJSON_AddItemToObject(operation, "metadata", metadata);
    if (strcmp(json_string(build, "status"), "WORKING") != 0) {
        cJSON *response = call_shown(build);
        cJSON_AddStringToObject(response, "@type",
                                "type.googleapis.com/google.devtools.cloudbuild.v1.Build");
        cJSON_AddTrueToObject(operation, "done");
        cJSON_AddItemToObject(operation, "response", response);
    }
    return operation;
}

static cJSON *create_build(struct call *call)
{
    char id[37], text[300], key[300];
    if (step_fault(call) || source_fault(call) || builder_fault(call))
        return NULL;
    random_name(id, 36);
    cJSON *build = cJSON_CreateObject();
    json_merge(build, call->body);
    json_set_string(build, "id", id);
    json_set_string(build, "projectId", world.project);
    snprintf(text, sizeof text, "projects/%lld/locations/global/builds/%s", world.project_number,
             id);
    json_set_string(build, "name", text);
    json_set_string(build, "status", "WORKING");
    json_set_now(build, "createTime");
    json_set_string(build, "logUrl", "https://console.cloud.google.com/cloud-build/builds");
    json_set_number(build, "_born", (double)store_now_ms());
    snprintf(key, sizeof key, "build:projects/%s/builds/%s", world.project, id);
    store_put(key, build);
    return operation_of(build);
}

static cJSON *find(struct call *call, const char *id)
{
    char key[300];
    snprintf(key, sizeof key, "build:projects/%s/builds/%.100s", world.project, id);
    cJSON *build = store_get(key);
    if (!build)
        return call_missing(call, strchr(key, ':') + 1);
    settle(key, build);
    return store_get(key);
}

static cJSON *get_build(struct call *call)
{
    return call_shown(find(call, call->args[1]));
}

static cJSON *get_operation(struct call *call)
{
    const cJSON *build = find(call, call->args[1]);
    return build ? operation_of(build) : NULL;
}

/* tags="T": of the filters the one that is used here. */
static cJSON *list_builds(struct call *call)
{
    char *filter = call_param(call, "filter"), tag[130] = "", below[200];
    snprintf(below, sizeof below, "build:projects/%s/builds/", world.project);
    cJSON *all = call_list(call, below, "builds", call_show_document);
    cJSON *json = cJSON_CreateObject(), *kept = cJSON_CreateArray(), *build, *one;
    if (filter && sscanf(filter, "tags=\"%128[^\"]\"", tag) != 1)
        call_fail(call, "INVALID_ARGUMENT", "invalid filter: %.100s", filter);
    free(filter);
    cJSON_ArrayForEach(build, cJSON_GetObjectItem(all, "builds"))
    {
        bool has = !*tag;
        cJSON_ArrayForEach(one, cJSON_GetObjectItem(build, "tags")) has |=
            strcmp(one->valuestring, tag) == 0;
        if (has)
            cJSON_AddItemToArray(kept, call_shown(find(call, json_string(build, "id"))));
    }
    cJSON_AddItemToObject(json, "builds", kept);
    if (*json_string(all, "nextPageToken"))
        json_set_string(json, "nextPageToken", json_string(all, "nextPageToken"));
    cJSON_Delete(all);
    return json;
}

static cJSON *get_billing(struct call *call)
{
    char name[200];
    cJSON *json = cJSON_CreateObject();
    bool on = !world_setting("noBilling");
    snprintf(name, sizeof name, "projects/%.100s/billingInfo", call->args[0]);
    cJSON_AddStringToObject(json, "name", name);
    cJSON_AddStringToObject(json, "projectId", call->args[0]);
    if (on) {
        cJSON_AddStringToObject(json, "billingAccountName", "billingAccounts/000000-111111-222222");
        cJSON_AddTrueToObject(json, "billingEnabled");
    }
    return json;
}

/* Lines of a build's log, the last first. */
static cJSON *list_entries(struct call *call)
{
    const char *filter = json_string(call->body, "filter");
    const char *at = strstr(filter, "resource.labels.build_id=\"");
    const char *first = cJSON_GetStringValue(
        cJSON_GetArrayItem(cJSON_GetObjectItem(call->body, "resourceNames"), 0));
    char id[64] = "", project[100];
    snprintf(project, sizeof project, "projects/%s", world.project);
    if (!first || strcmp(first, project) != 0 || !at ||
        sscanf(at, "resource.labels.build_id=\"%63[a-z0-9-]\"", id) != 1)
        return call_fail(call, "INVALID_ARGUMENT", "Unparseable filter: %.200s", filter);
    cJSON *json = cJSON_CreateObject(), *entries = cJSON_CreateArray();
    const cJSON *line, *lines = store_getf("buildlog:%s", id);
    cJSON_ArrayForEach(line, lines)
    {
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "textPayload", line->valuestring);
        cJSON_InsertItemInArray(entries, 0, entry);
    }
    cJSON_AddItemToObject(json, "entries", entries);
    return json;
}

static cJSON *get_tag(struct call *call)
{
    char *key = call_key(call);
    const cJSON *tag = store_get(key);
    cJSON *json = tag ? call_shown(tag) : call_missing(call, strchr(key, ':') + 1);
    free(key);
    return json;
}

#define BUILDS "cloudbuild.projects.builds."
const struct call_row google_build_rows[] = {
    {BUILDS "create", "cloudbuild.builds.create", create_build, false},
    {BUILDS "get", "cloudbuild.builds.get", get_build, false},
    {BUILDS "list", "cloudbuild.builds.list", list_builds, false},
    {"cloudbuild.operations.get", "cloudbuild.builds.get", get_operation, false},
    {"cloudbilling.projects.getBillingInfo", "resourcemanager.projects.get", get_billing, false},
    {"logging.entries.list", "logging.logEntries.list", list_entries, false},
    {"artifactregistry.projects.locations.repositories.packages.tags.get",
     "artifactregistry.tags.get", get_tag, false},
    {0},
};
