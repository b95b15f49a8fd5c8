/* The table of everything that set-up makes, in order; down goes through it from its end. */
#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "runner/cli/cloud.h"

#include <stdio.h>
#include <string.h>

/* --- bucket --------------------------------------------------------------------------------- */

static void bucket_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/storage/v1/b/%s", site->bucket);
}

static void bucket_create_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/storage/v1/b?project=%s", site->project);
}

static const struct {
    const char *prefix;
    int days;
} lifecycle[] = {{CLOUD_INPUTS, 7}, {CLOUD_SESSIONS, 30}, {CLOUD_BUILDS, 7}};

/* Which of our rules it is, recognized by its purpose; -1: it is not ours. */
static int rule_of(const struct json *rule)
{
    const char *type = json_text(json_get(json_get(rule, "action"), "type"));
    const struct json *prefixes = json_get(json_get(rule, "condition"), "matchesPrefix");
    const char *prefix = json_text(json_first(prefixes));
    if (!type || strcmp(type, "Delete") != 0 || json_count(prefixes) != 1 || !prefix)
        return -1;
    for (size_t i = 0; i < COUNT_OF(lifecycle); i++)
        if (strcmp(prefix, lifecycle[i].prefix) == 0)
            return (int)i;
    return -1;
}

static void write_rule(size_t i, struct json_writer *w)
{
    json_open_object(w, NULL);
    json_open_object(w, "action");
    json_add_text(w, "type", "Delete");
    json_close(w);
    json_open_object(w, "condition");
    json_add_int(w, "age", lifecycle[i].days);
    json_open_array(w, "matchesPrefix");
    json_add_text(w, NULL, lifecycle[i].prefix);
    json_close(w);
    json_close(w);
    json_close(w);
}

/* Rules of others are kept. */
static void write_lifecycle(const struct json *found, struct json_writer *w)
{
    const struct json *rules = json_get(json_get(found, "lifecycle"), "rule");
    json_open_object(w, "lifecycle");
    json_open_array(w, "rule");
    for (const struct json *rule = json_first(rules); rule; rule = json_next(rule))
        if (rule_of(rule) < 0)
            match_merge(w, NULL, rule, NULL);
    for (size_t i = 0; i < COUNT_OF(lifecycle); i++)
        write_rule(i, w);
    json_close(w);
    json_close(w);
}

/* The bucket must delete for good: a payload must not be kept for a week by soft delete, or for
 * ever as an old version. */
static void bucket_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    (void)site;
    json_open_object(w, "iamConfiguration");
    json_open_object(w, "uniformBucketLevelAccess");
    json_add_bool(w, "enabled", true);
    json_close(w);
    json_add_text(w, "publicAccessPrevention", "enforced");
    json_close(w);
    json_open_object(w, "softDeletePolicy");
    json_add_text(w, "retentionDurationSeconds", "0");
    json_close(w);
    json_open_object(w, "versioning");
    json_add_bool(w, "enabled", false);
    json_close(w);
    write_lifecycle(found, w);
}

static void bucket_create(const struct site *site, struct json_writer *w)
{
    json_add_text(w, "name", site->bucket);
    json_add_text(w, "location", site->region);
    thing_add_mark(w);
    bucket_wish(site, NULL, w);
}

static void bucket_query(const struct json *found, struct buf *out)
{
    const char *version = json_text(json_get(found, "metageneration"));
    if (version) {
        buf_adds(out, "?ifMetagenerationMatch=");
        google_add_escaped(out, version);
    }
}

/* --- key ------------------------------------------------------------------------------------ */

static void rings_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/locations/%s/keyRings", site->project, site->kms_location);
}

static void ring_path(const struct site *site, struct buf *out)
{
    rings_path(site, out);
    buf_addf(out, "/%s", site->ring);
}

static void ring_create_path(const struct site *site, struct buf *out)
{
    rings_path(site, out);
    buf_addf(out, "?keyRingId=%s", site->ring);
}

static void key_path(const struct site *site, struct buf *out)
{
    buf_adds(out, "/v1/");
    site_add_key(site, out);
}

static void key_create_path(const struct site *site, struct buf *out)
{
    ring_path(site, out);
    buf_addf(out, "/cryptoKeys?cryptoKeyId=%s", site->key);
}

static void key_create(const struct site *site, struct json_writer *w)
{
    char next[CLOCK_TEXT_SIZE];
    (void)site;
    json_add_text(w, "purpose", "ENCRYPT_DECRYPT");
    json_add_text(w, "rotationPeriod",
                  "7776000s"); /* 90 days; earlier versions still open what they sealed */
    json_add_text(w, "nextRotationTime",
                  clock_format(clock_real_ms() + INT64_C(7776000) * 1000, next));
    thing_add_mark(w);
}

static void key_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    (void)site;
    (void)found;
    json_add_text(w, "purpose", "ENCRYPT_DECRYPT");
    json_open_object(w, "primary");
    json_add_text(w, "state", "ENABLED");
    json_close(w);
}

/* --- secret and repository ------------------------------------------------------------------ */

static void secret_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets/%s", site->project, site->secret);
}

static void secret_create_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/secrets?secretId=%s", site->project, site->secret);
}

static void secret_create(const struct site *site, struct json_writer *w)
{
    (void)site;
    json_open_object(w, "replication");
    json_open_object(w, "automatic");
    json_close(w);
    json_close(w);
    thing_add_mark(w);
}

static void repositories_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/locations/%s/repositories", site->project, site->region);
}

static void repository_path(const struct site *site, struct buf *out)
{
    repositories_path(site, out);
    buf_addf(out, "/%s", site->repository);
}

static void repository_create_path(const struct site *site, struct buf *out)
{
    repositories_path(site, out);
    buf_addf(out, "?repositoryId=%s", site->repository);
}

static void repository_wish(const struct site *site, const struct json *found,
                            struct json_writer *w)
{
    (void)site;
    (void)found;
    json_add_text(w, "format", "DOCKER");
}

/* Deletes images older than 30 days, except for the last five: each build adds one. */
static void write_cleanup(struct json_writer *w)
{
    json_open_object(w, "cleanupPolicies");
    json_open_object(w, "keep-the-last");
    json_add_text(w, "id", "keep-the-last");
    json_add_text(w, "action", "KEEP");
    json_open_object(w, "mostRecentVersions");
    json_add_int(w, "keepCount", 5);
    json_close(w);
    json_close(w);
    json_open_object(w, "delete-the-old");
    json_add_text(w, "id", "delete-the-old");
    json_add_text(w, "action", "DELETE");
    json_open_object(w, "condition");
    json_add_text(w, "olderThan", "2592000s");
    json_close(w);
    json_close(w);
    json_close(w);
}

static void repository_create(const struct site *site, struct json_writer *w)
{
    repository_wish(site, NULL, w);
    write_cleanup(w);
    thing_add_mark(w);
}

/* --- accounts and role ---------------------------------------------------------------------- */

static void accounts_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/serviceAccounts", site->project);
}

static void job_account_path(const struct site *site, struct buf *out)
{
    accounts_path(site, out);
    buf_addf(out, "/%s", site->job_account);
}

static void home_account_path(const struct site *site, struct buf *out)
{
    accounts_path(site, out);
    buf_addf(out, "/%s", site->home_account);
}

static void create_account(const char *email, const char *title, struct json_writer *w)
{
    json_open_object(w, "serviceAccount");
    json_add_text(w, "displayName", title);
    json_add_text(w, "description", CLOUD_MARK_WORDS);
    json_close(w);
    json_add_textn(w, "accountId", email, strcspn(email, "@"));
}

static void job_account_create(const struct site *site, struct json_writer *w)
{
    create_account(site->job_account, "Claude Runner: the job", w);
}

static void home_account_create(const struct site *site, struct json_writer *w)
{
    create_account(site->home_account, "Claude Runner: the runner at home", w);
}

static void build_account_path(const struct site *site, struct buf *out)
{
    accounts_path(site, out);
    buf_addf(out, "/%s", site->build_account);
}

static void build_account_create(const struct site *site, struct json_writer *w)
{
    create_account(site->build_account, "Claude Runner: makes the image", w);
}

static void account_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    (void)site;
    (void)found;
    json_add_bool(w, "disabled", false);
}

static void role_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/roles/%s", site->project, site->role);
}

static void roles_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/roles", site->project);
}

/* The role starts an execution with a task's id in its environment, finds and follows it, and ends
 * it. No role of Google's has exactly these permissions. */
static void role_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    static const char *const permissions[] = {
        "run.jobs.get",       "run.jobs.run",        "run.jobs.runWithOverrides",
        "run.executions.get", "run.executions.list", "run.executions.cancel",
        "run.tasks.list",
    };
    (void)site;
    (void)found;
    json_open_array(w, "includedPermissions");
    for (size_t i = 0; i < COUNT_OF(permissions); i++)
        json_add_text(w, NULL, permissions[i]);
    json_close(w);
}

static void images_role_path(const struct site *site, struct buf *out)
{
    buf_addf(out, "/v1/projects/%s/roles/%sImages", site->project, site->role);
}

/* A job of each image and size is made, run, followed and deleted: in the project, since a job that
 * is not there yet has no policy. Who has this and may act as the job's account can run any program
 * as it. */
static void images_role_wish(const struct site *site, const struct json *found,
                             struct json_writer *w)
{
    static const char *const permissions[] = {
        "run.jobs.create",       "run.jobs.get",       "run.jobs.list",
        "run.jobs.delete",       "run.jobs.run",       "run.jobs.runWithOverrides",
        "run.operations.get",    "run.executions.get", "run.executions.list",
        "run.executions.cancel", "run.tasks.list",
    };
    (void)site;
    (void)found;
    json_open_array(w, "includedPermissions");
    for (size_t i = 0; i < COUNT_OF(permissions); i++)
        json_add_text(w, NULL, permissions[i]);
    json_close(w);
}

static void images_role_look_wish(const struct site *site, const struct json *found,
                                  struct json_writer *w)
{
    json_add_bool(w, "deleted", false);
    images_role_wish(site, found, w);
}

static void images_role_create(const struct site *site, struct json_writer *w)
{
    char id[160];
    snprintf(id, sizeof(id), "%sImages", site->role);
    json_add_text(w, "roleId", id);
    json_open_object(w, "role");
    json_add_text(w, "title", "Claude Runner: makes jobs for images and sizes");
    json_add_text(w, "description", CLOUD_MARK_WORDS);
    json_add_text(w, "stage", "GA");
    images_role_wish(site, NULL, w);
    json_close(w);
}

static void images_role_patch(const struct site *site, const struct json *found,
                              const struct json *wish, struct json_writer *w)
{
    (void)wish;
    images_role_wish(site, found, w);
}

static void role_look_wish(const struct site *site, const struct json *found, struct json_writer *w)
{
    json_add_bool(w, "deleted", false);
    role_wish(site, found, w);
}

static void role_create(const struct site *site, struct json_writer *w)
{
    json_add_text(w, "roleId", site->role);
    json_open_object(w, "role");
    json_add_text(w, "title", "Claude Runner: runs its job");
    json_add_text(w, "description", CLOUD_MARK_WORDS);
    json_add_text(w, "stage", "GA");
    role_wish(site, NULL, w);
    json_close(w);
}

static void role_query(const struct json *found, struct buf *out)
{
    (void)found;
    buf_adds(out, "?updateMask=includedPermissions");
}

static void role_patch(const struct site *site, const struct json *found, const struct json *wish,
                       struct json_writer *w)
{
    (void)wish;
    role_wish(site, found, w);
}

/* --- things --------------------------------------------------------------------------------- */

static const struct thing bucket = {.permissions = "storage.buckets",
                                    .path = bucket_path,
                                    .create_path = bucket_create_path,
                                    .create = bucket_create,
                                    .wish = bucket_wish,
                                    .patch_query = bucket_query};
static const struct thing ring = {
    .permissions = "cloudkms.keyRings", .path = ring_path, .create_path = ring_create_path};
static const struct thing key = {
    .permissions = "cloudkms.cryptoKeys",
    .path = key_path,
    .create_path = key_create_path,
    .create = key_create,
    .wish = key_wish,
    .cannot_change = "restore or enable its primary version, or take another --key"};
static const struct thing secret = {.permissions = "secretmanager.secrets",
                                    .path = secret_path,
                                    .create_path = secret_create_path,
                                    .create = secret_create};
static const struct thing repository = {.permissions = "artifactregistry.repositories",
                                        .path = repository_path,
                                        .create_path = repository_create_path,
                                        .create = repository_create,
                                        .wish = repository_wish,
                                        .cannot_change = "take another --repository"};
static const struct thing job_account = {.permissions = "iam.serviceAccounts",
                                         .path = job_account_path,
                                         .create_path = accounts_path,
                                         .create = job_account_create,
                                         .wish = account_wish,
                                         .cannot_change = "enable it, or take another"};
static const struct thing home_account = {.permissions = "iam.serviceAccounts",
                                          .path = home_account_path,
                                          .create_path = accounts_path,
                                          .create = home_account_create,
                                          .wish = account_wish,
                                          .cannot_change = "enable it, or take another"};
static const struct thing build_account = {.permissions = "iam.serviceAccounts",
                                           .path = build_account_path,
                                           .create_path = accounts_path,
                                           .create = build_account_create,
                                           .wish = account_wish,
                                           .cannot_change = "enable it, or take another"};
static const struct thing role = {.permissions = "iam.roles",
                                  .path = role_path,
                                  .create_path = roles_path,
                                  .create = role_create,
                                  .wish = role_look_wish,
                                  .patch_query = role_query,
                                  .patch = role_patch};
static const struct thing images_role = {.permissions = "iam.roles",
                                         .path = images_role_path,
                                         .create_path = roles_path,
                                         .create = images_role_create,
                                         .wish = images_role_look_wish,
                                         .patch_query = role_query,
                                         .patch = images_role_patch};

/* --- the table ------------------------------------------------------------------------------ */

#define NAMED(member)                                                   \
    static void name_##member(const struct site *site, struct buf *out) \
    {                                                                   \
        buf_adds(out, site->member);                                    \
    }
NAMED(project)
NAMED(bucket)
NAMED(ring)
NAMED(key)
NAMED(secret)
NAMED(prompt_secret)
NAMED(repository)
NAMED(job_account)
NAMED(home_account)
NAMED(build_account)
NAMED(role)
NAMED(job)
NAMED(key_file)
#undef NAMED

static void name_network(const struct site *site, struct buf *out)
{
    buf_adds(out, site->network ? site->network : site->project);
}

static bool wants_firewall(const struct site *site)
{
    return site->network || site->down;
}

static bool wants_network(const struct site *site)
{
    return site->network != NULL;
}

static bool wants_impersonation(const struct site *site)
{
    return site->impersonator != NULL;
}

static bool wants_prompt(const struct site *site)
{
    return site->prompt_secret != NULL;
}

static void name_images_role(const struct site *site, struct buf *out)
{
    buf_addf(out, "%sImages", site->role);
}

static bool wants_door_value(const struct site *site)
{
    return site->service;
}

static bool wants_images(const struct site *site)
{
    return site->images || site->down;
}

static bool makes_image(const struct site *site)
{
    return site_builds(site) && !site->down;
}

static bool wants_key_file(const struct site *site)
{
    return site->key_file != NULL;
}

#define THING(what, api, name, thing)                                                    \
    {                                                                                    \
        what, api, NULL, name, thing_look, thing_act, thing_survey, thing_undo, thing, 0 \
    }
#define ACCESS(what, api, wanted, name, place)                                             \
    {                                                                                      \
        what, api, wanted, name, setup_access_look, setup_access_act, setup_access_survey, \
            setup_access_undo, NULL, place                                                 \
    }

/* clang-format off */
const struct step cloud_steps[] = {
    {"services of", GOOGLE_SERVICES, NULL, name_project, services_look, services_act, NULL, NULL, NULL, 0},
    {"project", GOOGLE_PROJECTS, NULL, name_project, project_look, NULL, NULL, NULL, NULL, 0},
    {"billing of", GOOGLE_BILLING, NULL, name_project, billing_look, billing_act, NULL, NULL, NULL, 0},
    {"bucket", GOOGLE_STORAGE, NULL, name_bucket, bucket_look, thing_act, bucket_survey, bucket_undo, &bucket, 0},
    {"key ring", GOOGLE_KMS, NULL, name_ring, thing_look, thing_act, NULL, NULL, &ring, 0},
    {"key", GOOGLE_KMS, NULL, name_key, thing_look, thing_act, keys_survey, keys_undo, &key, 0},
    THING("secret", GOOGLE_SECRETS, name_secret, &secret),
    {"value of secret", GOOGLE_SECRETS, NULL, name_secret, value_look, value_act, NULL, NULL, NULL, 0},
    THING("repository", GOOGLE_ARTIFACTS, name_repository, &repository),
    THING("account", GOOGLE_IAM, name_job_account, &job_account),
    THING("account", GOOGLE_IAM, name_home_account, &home_account),
    {"account", GOOGLE_IAM, site_builds, name_build_account, thing_look, thing_act, thing_survey, thing_undo, &build_account, 0},
    {"role", GOOGLE_IAM, NULL, name_role, thing_look, role_act, role_survey, thing_undo, &role, 0},
    {"role", GOOGLE_IAM, wants_images, name_images_role, thing_look, role_act, role_survey, thing_undo, &images_role, 0},
    ACCESS("access to bucket", GOOGLE_STORAGE, NULL, name_bucket, ON_BUCKET),
    ACCESS("access to key", GOOGLE_KMS, NULL, name_key, ON_KEY),
    ACCESS("access to secret", GOOGLE_SECRETS, NULL, name_secret, ON_SECRET),
    ACCESS("access to secret", GOOGLE_SECRETS, wants_prompt, name_prompt_secret, ON_PROMPT),
    ACCESS("access to project", GOOGLE_PROJECTS, NULL, name_project, ON_PROJECT),
    ACCESS("access to account", GOOGLE_IAM, NULL, name_job_account, ON_JOB_ACCOUNT),
    ACCESS("access to account", GOOGLE_IAM, wants_impersonation, name_home_account, ON_HOME_ACCOUNT),
    ACCESS("access to repository", GOOGLE_ARTIFACTS, site_builds, name_repository, ON_REPOSITORY),
    {"image", GOOGLE_BUILD, makes_image, setup_build_name, setup_build_look, setup_build_act, NULL, NULL, NULL, 0},
    {"network", GOOGLE_COMPUTE, wants_network, name_network, network_look, NULL, NULL, NULL, NULL, 0},
    {"firewall of", GOOGLE_COMPUTE, wants_firewall, name_network, firewall_look, firewall_act, firewall_survey, firewall_undo, NULL, 0},
    {"job", GOOGLE_RUN, NULL, name_job, thing_look, setup_job_act, thing_survey, thing_undo, &cloud_job_thing, 0},
    ACCESS("access to job", GOOGLE_RUN, NULL, name_job, ON_JOB),
    {"secret", GOOGLE_SECRETS, setup_wants_service, setup_door_name, thing_look, thing_act, thing_survey, thing_undo, &cloud_door_thing, 0},
    {"value of secret", GOOGLE_SECRETS, wants_door_value, setup_door_name, setup_door_value_look, setup_door_value_act, NULL, NULL, NULL, 0},
    ACCESS("access to secret", GOOGLE_SECRETS, setup_wants_service, setup_door_name, ON_DOOR),
    {"service", GOOGLE_RUN, setup_wants_service, setup_service_name, thing_look, thing_act, thing_survey, thing_undo, &cloud_service_thing, 0},
    ACCESS("access to service", GOOGLE_RUN, setup_wants_service, setup_service_name, ON_SERVICE),
    {"key file", GOOGLE_IAM, wants_key_file, name_key_file, setup_key_look, setup_key_act, setup_key_survey, setup_key_undo, NULL, 0},
    {0},
};
/* clang-format on */
