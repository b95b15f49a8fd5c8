/*
 * `claude-runner cloud`: a project furnished from nothing, tried, and cleared again. The stand-in
 * for Google's APIs enforces policies and services, and really runs what is set up.
 */
#include "cloud_scene.h"

#include <signal.h>

#define BUILDER "claude-runner-build@" CLOUD_PROJECT ".iam.gserviceaccount.com"
#define WORKER "claude-runner-job@" CLOUD_PROJECT ".iam.gserviceaccount.com"

/* ---- set-up ---- */

static void assert_bucket(void)
{
    struct reply *reply = look("/storage/v1/b/" BUCKET);
    const cJSON *json = reply->json;
    assert_json_bool(json, "iamConfiguration.uniformBucketLevelAccess.enabled", true);
    assert_json_text(json, "iamConfiguration.publicAccessPrevention", "enforced");
    assert_json_text(json, "softDeletePolicy.retentionDurationSeconds", "0");
    assert_json_text(json, "location", "US-CENTRAL1");
    assert_json_number(json, "lifecycle.rule.0.condition.age", 7);
    assert_json_text(json, "lifecycle.rule.0.condition.matchesPrefix.0", "inputs/");
    assert_json_text(json, "lifecycle.rule.0.action.type", "Delete");
    assert_json_text(json, "lifecycle.rule.2.condition.matchesPrefix.0", "builds/");
    assert_json_number(json, "lifecycle.rule.1.condition.age", 30);
    assert_json_text(json, "lifecycle.rule.1.condition.matchesPrefix.0", "sessions/");
    reply_free(reply);
}

static void assert_access(void)
{
    assert_members("GET", "/storage/v1/b/" BUCKET "/iam", "roles/storage.objectUser",
                   "serviceAccount:" WORKER ",serviceAccount:" HOME);
    assert_members("GET", KEY_RING "/cryptoKeys/payload" POLICY,
                   "roles/cloudkms.cryptoKeyDecrypter", "serviceAccount:" WORKER);
    assert_members("GET", KEY_RING "/cryptoKeys/payload" POLICY,
                   "roles/cloudkms.cryptoKeyEncrypter", "serviceAccount:" HOME);
    assert_members("GET", "/v1/projects/" CLOUD_PROJECT "/secrets/claude-runner-api-key" POLICY,
                   "roles/secretmanager.secretAccessor", "serviceAccount:" WORKER);
    assert_members("POST", ALL_POLICY, "roles/logging.logWriter",
                   "serviceAccount:" WORKER ",serviceAccount:" BUILDER);
    assert_members("GET", "/v1/" CLOUD_LOCATION "/repositories/claude-runner" POLICY,
                   "roles/artifactregistry.writer", "serviceAccount:" BUILDER);
    assert_members("GET", "/v2/" JOB POLICY, "projects/" CLOUD_PROJECT "/roles/claudeRunnerHome",
                   "serviceAccount:" HOME);
}

static void assert_job(void)
{
    struct reply *reply = look("/v2/" JOB);
    const cJSON *json = reply->json;
    assert_json_number(json, "template.taskCount", 1);
    assert_json_number(json, "template.template.maxRetries", 0);
    assert_json_text(json, "template.template.timeout", "3600s");
    assert_json_text(json, "template.template.serviceAccount", WORKER);
    assert_json_text(json, "template.template.containers.0.resources.limits.cpu", "1");
    assert_json_text(json, "template.template.containers.0.resources.limits.memory", "2Gi");
    assert_non_null(strstr(json_text(json, "template.template.containers.0.image"),
                           CLOUD_REGION "-docker.pkg.dev/" CLOUD_PROJECT
                                        "/claude-runner/claude-runner@sha256:"));
    reply_free(reply);
}

static void furnishes_a_fresh_project_and_changes_nothing_when_run_again(void **state)
{
    (void)state;
    struct stat st;
    assert_run("setup", KEY "\n", 0);
    assert_said("bucket " BUCKET ": created");
    assert_said("GCS_LOGS_BUCKET=" BUCKET);
    assert_said("image claude-runner:src-");
    assert_bucket();
    assert_access();
    assert_job();
    char *path = textf("%s/claude-runner-key.json", dir), *text = read_file(path, NULL);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    cJSON *key = cJSON_Parse(text);
    assert_json_text(key, "client_email", HOME);
    assert_null(strstr(said, json_text(key, "private_key_id")));
    cJSON_Delete(key);
    free(text);
    free(path);
    struct reply *reply =
        look("/v1/projects/" CLOUD_PROJECT "/secrets/claude-runner-api-key/versions/latest:access");
    assert_json_has(reply->json, "payload.data");
    reply_free(reply);
    reply = look("/v1/" CLOUD_LOCATION "/repositories/claude-runner");
    const cJSON *policies = json_at(reply->json, "cleanupPolicies");
    assert_json_number(policies, "keep-the-last.mostRecentVersions.keepCount", 5);
    assert_json_text(policies, "delete-the-old.condition.olderThan", "2592000s");
    reply_free(reply);
    assert_complete();
}

static void changes_what_a_flag_says_and_nothing_else(void **state)
{
    (void)state;
    assert_run("setup", KEY, 0);
    forget_log();
    assert_run("setup --cpu 2 --timeout 120", "", 0);
    assert_said("job claude-runner: changed: cpu, timeout");
    assert_int_equal(writes(), 1);
    forget_log();
    assert_run("setup --cpu 2000m", "", 0); /* the same, said otherwise */
    assert_int_equal(writes(), 0);
    assert_run("setup", "another-key", 0);
    assert_said("value of secret claude-runner-api-key: changed");
    send("PATCH", "/storage/v1/b/" BUCKET,
         "{\"iamConfiguration\":{\"publicAccessPrevention\":\"inherited\","
         "\"uniformBucketLevelAccess\":{\"enabled\":true}},"
         "\"lifecycle\":{\"rule\":[{\"action\":{\"type\":\"Delete\"},\"condition\":{\"age\":1,"
         "\"matchesPrefix\":[\"mine/\"]}}]}}");
    assert_run("setup", "", 0);
    assert_said("bucket " BUCKET ": changed: iamConfiguration, lifecycle");
    struct reply *reply = look("/storage/v1/b/" BUCKET);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "lifecycle.rule")), 4);
    reply_free(reply);
    reply = look("/v2/" JOB);
    assert_json_text(reply->json, "template.template.timeout", "7200s");
    assert_json_text(reply->json, "template.template.containers.0.resources.limits.memory", "2Gi");
    reply_free(reply);
}

/* The runner at home may read the secret of its system prompt, which is the owner's own. */
static void home_may_read_the_secret_of_its_system_prompt(void **state)
{
    (void)state;
    static const char secret[] = "/v1/projects/" CLOUD_PROJECT "/secrets/house-rules";
    assert_run("setup", KEY, 0);
    send("POST", "/v1/projects/" CLOUD_PROJECT "/secrets?secretId=house-rules",
         "{\"replication\":{\"automatic\":{}}}");
    runner_set(admin, "SYSTEM_PROMPT_SECRET", "house-rules");
    assert_run("setup", "", 0);
    assert_said("house-rules");
    char *path = textf("%s" POLICY, secret);
    struct reply *reply = look(path);
    char *text = cJSON_PrintUnformatted(json_at(reply->json, "bindings"));
    if (!text || !strstr(text, "secretmanager.secretAccessor") || !strstr(text, HOME))
        fail_msg("%s", reply->body);
    reply_free(reply);
    free(path);
    free(text);
    assert_complete();
}

static void keeps_what_others_have_added_to_the_job(void **state)
{
    (void)state;
    assert_run("setup --env MINE=1", KEY, 0);
    assert_run("setup --memory 4Gi --env YOURS=2", "", 0);
    struct reply *reply = look("/v2/" JOB);
    char *text = cJSON_PrintUnformatted(reply->json);
    assert_non_null(strstr(text, "MINE"));
    assert_non_null(strstr(text, "YOURS"));
    assert_non_null(strstr(text, "4Gi"));
    free(text);
    reply_free(reply);
}

/* In the order in which they are needed. */
static const char *const permissions[] = {
    "serviceusage.services.list",
    "serviceusage.services.enable",
    "resourcemanager.projects.get",
    "storage.buckets.get",
    "storage.buckets.create",
    "cloudkms.keyRings.get",
    "cloudkms.keyRings.create",
    "cloudkms.cryptoKeys.get",
    "cloudkms.cryptoKeys.create",
    "secretmanager.secrets.get",
    "secretmanager.secrets.create",
    "secretmanager.versions.get",
    "secretmanager.versions.add",
    "artifactregistry.repositories.get",
    "artifactregistry.repositories.create",
    "iam.serviceAccounts.get",
    "iam.serviceAccounts.create",
    "iam.roles.get",
    "iam.roles.create",
    "storage.buckets.getIamPolicy",
    "storage.buckets.setIamPolicy",
    "cloudkms.cryptoKeys.getIamPolicy",
    "cloudkms.cryptoKeys.setIamPolicy",
    "secretmanager.secrets.getIamPolicy",
    "secretmanager.secrets.setIamPolicy",
    "resourcemanager.projects.getIamPolicy",
    "resourcemanager.projects.setIamPolicy",
    "iam.serviceAccounts.getIamPolicy",
    "iam.serviceAccounts.setIamPolicy",
    "artifactregistry.repositories.getIamPolicy",
    "artifactregistry.repositories.setIamPolicy",
    "artifactregistry.tags.get",
    "cloudbuild.builds.list",
    "storage.objects.create",
    "cloudbuild.builds.create",
    "cloudbuild.builds.get",
    "compute.subnetworks.get",
    "compute.firewalls.list",
    "compute.firewalls.create",
    "run.jobs.get",
    "run.jobs.create",
    "iam.serviceAccounts.actAs",
    "run.operations.get",
    "run.jobs.getIamPolicy",
    "run.jobs.setIamPolicy",
    "iam.serviceAccountKeys.create",
};

static void permit(const char *verb, const char *permission)
{
    char *json = textf("{\"%s\":{\"account\":\"" CLOUD_ACCOUNT "\",\"permissions\":[\"%s\"]}}",
                       verb, permission);
    cloud_control(cloud, json);
    free(json);
}

static void names_each_permission_that_is_missing(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(permissions); i++) {
        permit("deny", permissions[i]);
        int status = run("setup --vpc default/default", KEY);
        permit("allow", permissions[i]);
        char *named = textf("the permission %s is missing", permissions[i]);
        if (strcmp(permissions[i], "iam.serviceAccounts.actAs") == 0)
            named[strlen("the permission iam.service")] = 'a'; /* as Google writes it */
        if (status != 1 || !strstr(said, named))
            fail_msg("%s: status %d, %.4000s", permissions[i], status, said);
        free(named);
    }
    assert_run("setup --vpc default/default", KEY, 0);
    assert_complete();
}

static void a_plan_writes_nothing(void **state)
{
    (void)state;
    assert_run("setup --dry-run", KEY, 0);
    assert_said("bucket " BUCKET ": would be created");
    assert_said("billing of");
    assert_said("unchanged (not seen before its service is on)");
    assert_int_equal(writes(), 0);
    permit("deny", "iam.roles.create");
    assert_run("setup", KEY, 1);
    permit("allow", "iam.roles.create");
    forget_log();
    assert_run("setup --dry-run", KEY, 0);
    assert_said("bucket " BUCKET ": unchanged");
    assert_said("role claudeRunnerHome: would be created");
    assert_int_equal(writes(), 0);
    assert_run("setup", KEY, 0);
    forget_log();
    assert_run("setup --dry-run --memory 8Gi", KEY, 0);
    assert_said("job claude-runner: would be changed: memory");
    assert_said("0 would be created, 1 would be changed");
    assert_int_equal(writes(), 0);
    permit("deny", "run.jobs.get");
    assert_run("setup --dry-run", KEY, 1);
    assert_said("the permission run.jobs.get is missing");
    assert_said("access to job claude-runner: unchanged");
}

/* ---- cut off ---- */

static const char *const writing[] = {
    "serviceusage.services.batchEnable",
    "storage.buckets.insert",
    "cloudkms.projects.locations.keyRings.create",
    "cloudkms.projects.locations.keyRings.cryptoKeys.create",
    "secretmanager.projects.secrets.create",
    "secretmanager.projects.secrets.addVersion",
    "artifactregistry.projects.locations.repositories.create",
    "iam.projects.serviceAccounts.create",
    "iam.projects.roles.create",
    "storage.buckets.setIamPolicy",
    "cloudkms.projects.locations.keyRings.cryptoKeys.setIamPolicy",
    "secretmanager.projects.secrets.setIamPolicy",
    "cloudresourcemanager.projects.setIamPolicy",
    "iam.projects.serviceAccounts.setIamPolicy",
    "artifactregistry.projects.locations.repositories.setIamPolicy",
    "storage.objects.insert",
    "cloudbuild.projects.builds.create",
    "compute.firewalls.insert",
    "run.projects.locations.jobs.create",
    "run.projects.locations.jobs.setIamPolicy",
};

static bool fault_is_taken(void)
{
    cJSON *now = cloud_state(cloud);
    bool taken = cJSON_GetArraySize(cJSON_GetObjectItem(now, "faults")) == 0;
    cJSON_Delete(now);
    return taken;
}

static void goes_on_after_being_killed_at_any_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(writing); i++) {
        int status;
        char *fault = textf("{\"faults\":[{\"method\":\"%s\",\"delayMs\":30000%s}]}", writing[i],
                            i % 2 ? ",\"cut\":\"before\"" : "");
        cloud_control(cloud, fault);
        pid_t pid = begin(admin, "setup --vpc default/default", KEY);
        EVENTUALLY(60000, fault_is_taken());
        kill(pid, SIGKILL);
        assert_true(proc_wait(pid, 30000, &status));
        free(fault);
    }
    assert_run("setup --vpc default/default", KEY, 0);
    assert_access();
    assert_complete();
}

static void a_lost_answer_does_no_harm(void **state)
{
    (void)state;
    char *list = strdup("");
    for (size_t i = 0; i < COUNT(writing); i++) {
        char *more =
            textf("%s%s{\"method\":\"%s\",\"cut\":\"after\"}", list, *list ? "," : "", writing[i]);
        free(list);
        list = more;
    }
    char *faults = textf("{\"faults\":[%s]}", list);
    cloud_control(cloud, faults);
    assert_run("setup --vpc default/default", KEY, 0);
    assert_true(fault_is_taken());
    assert_access();
    assert_complete();
    free(faults);
    free(list);
}

static void a_key_whose_answer_was_lost_is_spoken_of(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"faults\":[{\"method\":\"iam.projects.serviceAccounts.keys.create\","
                         "\"cut\":\"after\"}]}");
    assert_run("setup", KEY, 1);
    assert_run("setup", KEY, 0);
    assert_said("the account has 1 older key");
    assert_complete();
}

static void a_file_that_is_no_key_is_not_written_over(void **state)
{
    (void)state;
    char *path = textf("%s/claude-runner-key.json", dir);
    write_file(path, "{\"mine\":true}", 0600);
    assert_run("setup", KEY, 1);
    assert_said("is no key of " HOME);
    char *text = read_file(path, NULL);
    assert_string_equal(text, "{\"mine\":true}");
    free(text);
    free(path);
}

/* ---- others ---- */

static void waits_for_accounts_that_are_not_known_yet(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"accountDelayMs\":2500}");
    assert_run("setup", KEY, 0);
    assert_access();
}

static void waits_until_it_may_act_as_a_new_account(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"grantDelayMs\":6000}");
    assert_run("setup --no-build", KEY, 0);
    assert_said("Waiting for Cloud Run");
    assert_said("job claude-runner: created");
    assert_true(cloud_count(cloud, "run.projects.locations.jobs.create", "\"status\":403") >= 1);
}

static void keeps_the_bindings_of_others(void **state)
{
    (void)state;
    send("POST",
         "/v1/projects/" CLOUD_PROJECT "/services/cloudresourcemanager.googleapis.com:enable",
         "{}");
    send("POST", "/v3/projects/" CLOUD_PROJECT ":setIamPolicy",
         "{\"policy\":{\"version\":3,\"auditConfigs\":[{\"service\":\"allServices\","
         "\"auditLogConfigs\":[{\"logType\":\"DATA_READ\"}]}],"
         "\"bindings\":[{\"role\":\"roles/viewer\",\"members\":[\"user:a@example.com\"]},"
         "{\"role\":\"roles/logging.logWriter\",\"members\":[\"user:b@example.com\"],"
         "\"condition\":{\"title\":\"t\",\"expression\":\"false\"}},"
         "{\"role\":\"roles/logging.logWriter\",\"members\":[\"user:c@example.com\"]}]}}");
    cloud_control(cloud,
                  "{\"faults\":[{\"method\":\"*.setIamPolicy\",\"status\":409,\"times\":3}]}");
    int status;
    pid_t one = begin(admin, "setup --key-file one.json", KEY);
    assert_run("setup --key-file two.json", KEY, 0);
    assert_true(proc_wait(one, RUN_MS, &status));
    assert_int_equal(status, 0);
    static const char *const kept[] = {
        "DATA_READ",
        "{\"role\":\"roles/viewer\",\"members\":[\"user:a@example.com\"]}",
        "\"members\":[\"user:c@example.com\",\"serviceAccount:" WORKER,
        "\"members\":[\"user:b@example.com\"],\"condition\"",
    };
    struct reply *reply = ask("POST", ALL_POLICY, "{}");
    char *text = cJSON_PrintUnformatted(reply->json);
    for (size_t i = 0; i < COUNT(kept); i++)
        if (!strstr(text, kept[i]))
            fail_msg("no '%s' in %s", kept[i], text);
    free(text);
    reply_free(reply);
}

static void refuses_a_wrong_call(void **state)
{
    (void)state;
    assert_run("setup --bucket no/name", "", 2);
    assert_run("setup --allow tcp:22", "", 2);
    assert_run("setup --cpu much", "", 2);
    assert_run("setup --env 1=2", "", 2);
    assert_run("setup --vpc one", "", 2);
    assert_run("setup", "two words", 2);
    assert_run("nonsense", "", 2);
    assert_run("--help", "", 0);
    assert_int_equal(writes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(furnishes_a_fresh_project_and_changes_nothing_when_run_again),
        TEST(changes_what_a_flag_says_and_nothing_else),
        TEST(home_may_read_the_secret_of_its_system_prompt),
        TEST(keeps_what_others_have_added_to_the_job),
        TEST(names_each_permission_that_is_missing),
        TEST(a_plan_writes_nothing),
        TEST(goes_on_after_being_killed_at_any_step),
        TEST(a_lost_answer_does_no_harm),
        TEST(a_key_whose_answer_was_lost_is_spoken_of),
        TEST(a_file_that_is_no_key_is_not_written_over),
        TEST(waits_for_accounts_that_are_not_known_yet),
        TEST(waits_until_it_may_act_as_a_new_account),
        TEST(keeps_the_bindings_of_others),
        TEST(refuses_a_wrong_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
