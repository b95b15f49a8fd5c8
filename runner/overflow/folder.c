#include "runner/overflow/folder.h"

#include "base/check.h"
#include "base/str.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 512

void folder_name(const char *id, const char *what, char ret_name[FOLDER_NAME_SIZE])
{
    REQUIRE(id && what && !strchr(id, '/'));
    snprintf(ret_name, FOLDER_NAME_SIZE, "sessions/%s/%s", id, what);
}

void folder_claim_name(const char *id, int attempt, char ret_name[FOLDER_NAME_SIZE])
{
    REQUIRE(attempt >= 0);
    snprintf(ret_name, FOLDER_NAME_SIZE, "sessions/%s/claim-%d.json", id, attempt);
}

void folder_events_name(const char *id, int64_t offset, char ret_name[FOLDER_NAME_SIZE])
{
    snprintf(ret_name, FOLDER_NAME_SIZE, "sessions/%s/events/%020" PRId64, id, offset);
}

void folder_output_name(const char *id, const char *path, struct buf *out)
{
    buf_addf(out, "sessions/%s/outputs/%s", id, path);
}

/* --- names ------------------------------------------------------------------------------------ */

/* True for text that may be part of a path of Google's APIs without changing its meaning. */
static bool is_plain(const char *text, const char *also)
{
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.:", *p) && !strchr(also, *p))
            return false;
    return *text && !strstr(text, "..");
}

/* A variable that a name needs; added to `missing` when it is not set. */
static const char *need(const char *value, const char *variable, struct strlist *missing)
{
    if (!value)
        strlist_add(missing, variable);
    return value;
}

static int check_plain(const char *value, const char *variable, const char *also, struct err *err)
{
    if (!value || is_plain(value, also))
        return 0;
    return err_set(err, ERR_CONFIG, "%s cannot be '%.80s': letters, digits and -_.: only", variable,
                   value);
}

/* A full name stays as it is; a short one is completed. */
static char *full_name(const char *name, const char *prefix)
{
    char *full = NULL;
    if (str_starts(name, "projects/"))
        return strdup(name);
    return asprintf(&full, "%s/%s", prefix, name) < 0 ? NULL : full;
}

char *cloud_full_name(const char *name, const char *project, const char *kind)
{
    REQUIRE(name && kind);
    char prefix[NAME_MAX_BYTES];
    snprintf(prefix, sizeof(prefix), "projects/%s/%s", project, kind);
    return full_name(name, prefix);
}

static int check_names(const struct config *config, const char *project, struct err *err)
{
    return check_plain(project, "GCP_PROJECT_ID", "", err) ||
                   check_plain(config->gcp_region, "GCP_REGION", "", err) ||
                   check_plain(config->cloudrun_job_name, "CLOUDRUN_JOB_NAME", "/", err) ||
                   check_plain(config->gcs_logs_bucket, "GCS_LOGS_BUCKET", "", err) ||
                   check_plain(config->kms_location, "KMS_LOCATION", "", err) ||
                   check_plain(config->kms_key_ring, "KMS_KEY_RING", "", err) ||
                   check_plain(config->kms_key_name, "KMS_KEY_NAME", "/", err) ||
                   check_plain(config->cloud_api_key_secret, "CLOUD_API_KEY_SECRET", "/", err)
               ? -1
               : 0;
}

static int make_names(const struct config *config, const char *project, struct cloud *cloud,
                      struct err *err)
{
    char job[NAME_MAX_BYTES], key[NAME_MAX_BYTES];
    snprintf(job, sizeof(job), "projects/%s/locations/%s/jobs", project, config->gcp_region);
    snprintf(key, sizeof(key), "projects/%s/locations/%s/keyRings/%s/cryptoKeys", project,
             config->kms_location, config->kms_key_ring ? config->kms_key_ring : "");
    cloud->bucket = strdup(config->gcs_logs_bucket);
    cloud->job = full_name(config->cloudrun_job_name, job);
    cloud->key = full_name(config->kms_key_name, key);
    if (config->cloud_api_key_secret && !(cloud->api_key_secret = cloud_full_name(
                                              config->cloud_api_key_secret, project, "secrets")))
        return err_sys(err, "cloud");
    return cloud->bucket && cloud->job && cloud->key ? 0 : err_sys(err, "cloud");
}

/* --- all of it -------------------------------------------------------------------------------- */

struct google *cloud_google(const struct config *config, struct err *err)
{
    const struct google_config google = {
        .credentials = config->google_application_credentials,
        .home = getenv("HOME"),
        .metadata_host = config->gce_metadata_host,
        .at_google = getenv("CLOUD_RUN_JOB") != NULL || getenv("K_SERVICE") != NULL,
        .impersonate = config->google_impersonate_service_account,
        .endpoints = {[GOOGLE_RUN] = config->google_run_endpoint,
                      [GOOGLE_STORAGE] = config->google_storage_endpoint,
                      [GOOGLE_KMS] = config->google_kms_endpoint,
                      [GOOGLE_SECRETS] = config->google_secretmanager_endpoint,
                      [GOOGLE_IAM] = config->google_iam_endpoint,
                      [GOOGLE_SERVICES] = config->google_serviceusage_endpoint,
                      [GOOGLE_PROJECTS] = config->google_resourcemanager_endpoint,
                      [GOOGLE_ARTIFACTS] = config->google_artifactregistry_endpoint,
                      [GOOGLE_IAM_CREDENTIALS] = config->google_iamcredentials_endpoint,
                      [GOOGLE_COMPUTE] = config->google_compute_endpoint,
                      [GOOGLE_BUILD] = config->google_cloudbuild_endpoint,
                      [GOOGLE_BILLING] = config->google_cloudbilling_endpoint,
                      [GOOGLE_LOGGING] = config->google_logging_endpoint}};
    return google_new(&google, err);
}

/* Checks that the required variables are set; a key's full name includes its ring. */
static int check_missing(const struct config *config, const char *project, struct err *err)
{
    AUTO(strlist) struct strlist missing = STRLIST_INIT;
    AUTO(buf) struct buf names = BUF_INIT(1024);
    need(project, "GCP_PROJECT_ID", &missing);
    need(config->cloudrun_job_name, "CLOUDRUN_JOB_NAME", &missing);
    need(config->gcs_logs_bucket, "GCS_LOGS_BUCKET", &missing);
    const char *key = need(config->kms_key_name, "KMS_KEY_NAME", &missing);
    if (!key || !str_starts(key, "projects/"))
        need(config->kms_key_ring, "KMS_KEY_RING", &missing);
    if (missing.count == 0)
        return 0;
    strlist_join(&missing, ", ", &names);
    return err_set(err, ERR_CONFIG, "Google Cloud: %s %s not set", buf_str(&names),
                   missing.count == 1 ? "is" : "are");
}

int cloud_open(const struct config *config, struct cloud *ret_cloud, struct err *err)
{
    AUTO(cloud) struct cloud cloud = {.google = cloud_google(config, err)};
    if (!cloud.google)
        return -1;
    const char *project =
        config->gcp_project_id ? config->gcp_project_id : google_project(cloud.google);
    if (check_missing(config, project, err) || check_names(config, project, err) ||
        make_names(config, project, &cloud, err))
        return -1;
    *ret_cloud = cloud;
    cloud = (struct cloud){0};
    return 0;
}

void cloud_close(struct cloud *cloud)
{
    google_free(cloud->google);
    free(cloud->bucket);
    free(cloud->key);
    free(cloud->job);
    free(cloud->api_key_secret);
    *cloud = (struct cloud){0};
}
