/*
 * `claude-runner cloud`: a project furnished from nothing, tried, and cleared again. The stand-in
 * for Google's APIs enforces policies and services, and really runs what is set up.
 */
#include "cloud.h"
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY "sk-ant-api03-canary-6f1d2b"
#define BUCKET CLOUD_PROJECT "-claude-runner"
#define JOB CLOUD_LOCATION "/jobs/claude-runner"
#define HOME "claude-runner-home@" CLOUD_PROJECT ".iam.gserviceaccount.com"
#define WORKER "claude-runner-job@" CLOUD_PROJECT ".iam.gserviceaccount.com"
#define ACCOUNTS "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/"
#define KEY_RING "/v1/projects/" CLOUD_PROJECT "/locations/global/keyRings/claude-runner"
#define POLICY ":getIamPolicy"
#define ALL_POLICY "/v3/projects/" CLOUD_PROJECT POLICY

enum { RUN_MS = 120000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *admin; /* never started: the environment of who sets up */
static struct runner *home;  /* started by one test */
static char *dir;            /* where it is run, and leaves its key */
static char *said;           /* what the last run said: stdout and stderr */

static const char *binary(void)
{
    const char *path = getenv("CR_BINARY");
    return path ? path : TEST_RUNNER;
}

static int set_up(void **state)
{
    static const char *const named[] = {
        "GCP_PROJECT_ID", "GCP_REGION",   "CLOUDRUN_JOB_NAME", "KMS_LOCATION",
        "KMS_KEY_RING",   "KMS_KEY_NAME", "GCS_LOGS_BUCKET",   "CLOUD_API_KEY_SECRET"};
    (void)state;
    api = api_new();
    api_control(api, "{\"apiKeys\":[\"" KEY "\",\"" API_KEY "\"]}");
    admin = runner_new();
    home = runner_new();
    cloud = cloud_new(binary(), NULL);
    cloud_use(cloud, admin);
    for (size_t i = 0; i < COUNT(named); i++)
        runner_set(admin, named[i], NULL);
    assert_int_equal(mkdir(admin->state, 0711), 0);
    dir = tmp_dir_new();
    cloud_control(cloud, "{\"iam\":1,\"enforceServices\":1}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    runner_free(home);
    cloud_free(cloud);
    runner_free(admin);
    api_free(api);
    tmp_dir_free(dir);
    free(said);
    said = NULL;
    return 0;
}

/* ---- running it ---- */

static char *output_file(void)
{
    return textf("%s/said", dir);
}

static pid_t begin(struct runner *who, const char *options, const char *input)
{
    char *out = output_file(), *in = textf("%s/input", dir);
    write_file(in, input, 0600);
    char *command =
        textf("cd '%s' && exec '%s' cloud %s <'%s' >'%s' 2>&1", dir, binary(), options, in, out);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    pid_t pid = proc_start(argv, who->env, NULL, NULL);
    free(command);
    free(out);
    free(in);
    return pid;
}

static int end(pid_t pid)
{
    int status = -1;
    char *out = output_file();
    if (!proc_wait(pid, RUN_MS, &status))
        fail_msg("it does not end");
    free(said);
    said = read_file(out, NULL);
    assert_non_null(said);
    assert_null(strstr(said, KEY));
    assert_null(strstr(said, "Sanitizer"));
    free(out);
    return status;
}

static int run(const char *options, const char *input)
{
    return end(begin(admin, options, input));
}

static void assert_said(const char *text)
{
    if (!strstr(said, text))
        fail_msg("no '%s' in: %.6000s", text, said);
}

static void assert_run(const char *options, const char *input, int status)
{
    int got = run(options, input);
    if (got != status)
        fail_msg("cloud %s: exit status %d instead of %d: %.6000s", options, got, status, said);
}

/* Requests that write. */
static int writes(void)
{
    cJSON *log = cloud_log(cloud, NULL, NULL), *one;
    int count = 0;
    cJSON_ArrayForEach(one, log)
    {
        const char *id = json_text(one, "id");
        count += strcmp(json_text(one, "method"), "GET") != 0 && *id && strcmp(id, "token") != 0 &&
                 !strstr(id, "etIamPolicy");
        count += strstr(id, "setIamPolicy") != NULL;
    }
    cJSON_Delete(log);
    return count;
}

static void forget_log(void)
{
    struct reply *reply = http_call(cloud->base, "DELETE", "/_log", NULL, NULL);
    assert_status(reply, 200);
    reply_free(reply);
}

/* Run once more it changes nothing, and asks for no change. */
static void assert_complete(void)
{
    forget_log();
    assert_run("setup", KEY "\n", 0);
    assert_int_equal(writes(), 0);
    assert_null(strstr(said, ": created"));
    assert_null(strstr(said, ": changed"));
}

/* ---- looking ---- */

static struct reply *ask(const char *method, const char *path, const char *body)
{
    return cloud_call(cloud, method, path, body);
}

static void send(const char *method, const char *path, const char *body)
{
    struct reply *reply = ask(method, path, body);
    assert_status(reply, 200);
    reply_free(reply);
}

static struct reply *look(const char *path)
{
    struct reply *reply = ask("GET", path, NULL);
    assert_status(reply, 200);
    return reply;
}

static bool exists(const char *path)
{
    struct reply *reply = ask("GET", path, NULL);
    bool is = reply->status == 200;
    reply_free(reply);
    return is;
}

/* Who has the role: "a,b" in the policy's order; "" for nobody. The caller frees it. */
static char *members(const char *method, const char *path, const char *role)
{
    struct reply *reply = ask(method, path, strcmp(method, "POST") == 0 ? "{}" : NULL);
    assert_status(reply, 200);
    char *text = strdup("");
    const cJSON *binding, *member;
    cJSON_ArrayForEach(binding, cJSON_GetObjectItem(reply->json, "bindings"))
    {
        if (strcmp(json_text(binding, "role"), role) != 0)
            continue;
        cJSON_ArrayForEach(member, cJSON_GetObjectItem(binding, "members"))
        {
            char *more = textf("%s%s%s", text, *text ? "," : "", member->valuestring);
            free(text);
            text = more;
        }
    }
    reply_free(reply);
    return text;
}

static void assert_members(const char *method, const char *path, const char *role,
                           const char *expected)
{
    char *text = members(method, path, role);
    assert_string_equal(text, expected);
    free(text);
}

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
    assert_members("POST", ALL_POLICY, "roles/logging.logWriter", "serviceAccount:" WORKER);
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
    assert_json_text(json, "template.template.containers.0.image",
                     CLOUD_REGION "-docker.pkg.dev/" CLOUD_PROJECT
                                  "/claude-runner/claude-runner:latest");
    reply_free(reply);
}

static void furnishes_a_fresh_project_and_changes_nothing_when_run_again(void **state)
{
    (void)state;
    struct stat st;
    assert_run("setup", KEY "\n", 0);
    assert_said("bucket " BUCKET ": created");
    assert_said("GCS_LOGS_BUCKET=" BUCKET);
    assert_said("docker build --target job");
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
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "lifecycle.rule")), 3);
    reply_free(reply);
    reply = look("/v2/" JOB);
    assert_json_text(reply->json, "template.template.timeout", "7200s");
    assert_json_text(reply->json, "template.template.containers.0.resources.limits.memory", "2Gi");
    reply_free(reply);
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
        char *fault = textf("{\"faults\":[{\"method\":\"%s\",\"delayMs\":3000%s}]}", writing[i],
                            i % 2 ? ",\"cut\":\"before\"" : "");
        cloud_control(cloud, fault);
        pid_t pid = begin(admin, "setup --vpc default/default", KEY);
        EVENTUALLY(20000, fault_is_taken());
        kill(pid, SIGKILL);
        assert_true(proc_wait(pid, 10000, &status));
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

/* ---- check ---- */

/* The lines for .env, as they were printed, where check and the runner find them. */
static void write_env_file(void)
{
    const char *from = strstr(said, "OVERFLOW=full"), *to = from ? strstr(from, "\n\n") : NULL;
    assert_non_null(to);
    char *text = strndup(from, (size_t)(to - from)), *path = textf("%s/.env", dir);
    char *line = strstr(text, "GOOGLE_APPLICATION_CREDENTIALS=");
    assert_non_null(line);
    write_file(path, text, 0600);
    free(text);
    free(path);
}

/* A complete project, whose job finds the stand-in. */
static void furnish(void)
{
    static const char *const passed[] = {"GOOGLE_", "CLAUDE_BIN=", "RUNNER_STATE_DIR="};
    char *options = textf("setup --env ANTHROPIC_UPSTREAM=%s", api->base);
    for (size_t i = 0; admin->env[i]; i++)
        for (size_t k = 0; k < COUNT(passed); k++) {
            bool is = strncmp(admin->env[i], passed[k], strlen(passed[k])) == 0 &&
                      !strstr(admin->env[i], "CREDENTIALS=");
            char *more = is ? textf("%s --env '%s'", options, admin->env[i]) : NULL;
            if (more) {
                free(options);
                options = more;
            }
        }
    assert_run(options, KEY, 0);
    write_env_file();
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    free(options);
}

static int check(void)
{
    return run("check --timeout 1 --wait 0", "");
}

static void tries_both_ends(void **state)
{
    (void)state;
    furnish();
    int status = check();
    if (status != 0)
        fail_msg("%s", said);
    assert_said("home: credentials: ok");
    assert_said("service account " HOME);
    assert_said("home: bucket: write, read, delete: ok");
    assert_said("job: a payload, to its result: ok");
    assert_said("read the API key");
    assert_said("Both ends work.");
    struct reply *reply = look("/storage/v1/b/" BUCKET "/o");
    assert_json_lacks(reply->json, "items");
    reply_free(reply);
}

/* Takes a binding away, for as long as one check. */
static void check_without(const char *get, const char *path, const char *set, const char *role,
                          const char *end_of, const char *what)
{
    bool bare = strcmp(set, "PUT") == 0;
    char *get_path = textf("%s%s", path, bare ? "/iam" : POLICY);
    char *set_path = textf("%s%s", path, bare ? "/iam" : ":setIamPolicy");
    struct reply *before = ask(get, get_path, NULL);
    cJSON *policy = cJSON_Duplicate(before->json, 1), *bindings, *one, *next;
    bindings = cJSON_GetObjectItem(policy, "bindings");
    for (one = bindings->child; one; one = next) {
        next = one->next;
        if (strstr(json_text(one, "role"), role))
            cJSON_Delete(cJSON_DetachItemViaPointer(bindings, one));
    }
    cJSON_DeleteItemFromObject(policy, "etag");
    cJSON_DeleteItemFromObject(before->json, "etag");
    for (int i = 0; i < 2; i++) {
        char *text = cJSON_PrintUnformatted(i ? before->json : policy);
        char *body = bare ? strdup(text) : textf("{\"policy\":%s}", text);
        send(set, set_path, body);
        free(text);
        free(body);
        if (i == 0) {
            assert_int_equal(check(), 1);
            assert_said(end_of);
            assert_said(what);
            assert_said("It does not work yet.");
        }
    }
    cJSON_Delete(policy);
    reply_free(before);
    free(get_path);
    free(set_path);
}

/* What was bound or made a moment ago does not hold everywhere at once. */
static void waits_until_what_was_granted_holds(void **state)
{
    (void)state;
    furnish();
    cloud_control(cloud,
                  "{\"faults\":[{\"method\":\"storage.objects.insert\",\"status\":403,\"times\":2},"
                  "{\"method\":\"cloudkms.*.decrypt\",\"status\":403,\"times\":1}]}");
    int status = run("check --timeout 1 --wait 120", "");
    if (status != 0)
        fail_msg("%s", said);
    assert_said("waiting up to");
    assert_said("within minutes");
    assert_said("and Anthropic takes it");
    assert_said("Both ends work.");
    api_control(api, "{\"apiKeys\":[]}");
    assert_int_equal(check(), 1);
    assert_said("Anthropic refuses the API key");
}

static void says_which_end_is_broken_and_how(void **state)
{
    (void)state;
    furnish();
    check_without("GET", "/storage/v1/b/" BUCKET, "PUT", "objectUser",
                  "home: bucket: write, read, delete: FAILED", "storage.objects.create");
    check_without("GET", KEY_RING "/cryptoKeys/payload", "POST", "Encrypter",
                  "home: key: encrypt, and store a payload: FAILED", "useToEncrypt");
    check_without("GET", KEY_RING "/cryptoKeys/payload", "POST", "Decrypter",
                  "job: a payload, to its result: FAILED", "useToDecrypt");
    check_without("GET", "/v1/projects/" CLOUD_PROJECT "/secrets/claude-runner-api-key", "POST",
                  "secretAccessor", "job: a payload, to its result: FAILED",
                  "secretmanager.versions.access");
    check_without("GET", "/v2/" JOB, "POST", "claudeRunnerHome", "home: job: look at it: FAILED",
                  "run.jobs.get");
    assert_int_equal(check(), 0);
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", cloud->key_file);
    assert_run("setup --env CLAUDE_BIN=nothing-there", "", 0);
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    assert_int_equal(check(), 1);
    assert_said("job: a payload, to its result: FAILED");
    assert_said("nothing-there");
}

static void the_runner_works_with_what_was_set_up(void **state)
{
    (void)state;
    furnish();
    char *path = textf("%s/.env", dir), *text = read_file(path, NULL), *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *equals = strchr(line, '=');
        if (!equals)
            continue;
        *equals = '\0';
        runner_set(home, line, equals + 1);
    }
    for (size_t i = 0; admin->env[i]; i++)
        if (strncmp(admin->env[i], "GOOGLE_", 7) == 0) {
            char *copy = strdup(admin->env[i]), *equals = strchr(copy, '=');
            *equals = '\0';
            runner_set(home, copy, equals + 1);
            free(copy);
        }
    runner_start(home);
    struct reply *reply = runner_ran(home, "hello", "\"executor\":\"cloud\"");
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    free(text);
    free(path);
}

/* ---- down ---- */

static void put_object(const char *name)
{
    char *path = textf("/upload/storage/v1/b/" BUCKET "/o?uploadType=media&name=%s", name);
    size_t before = cloud_count(cloud, "storage.objects.insert", NULL);
    send("POST", path, "{}");
    EVENTUALLY(5000, cloud_count(cloud, "storage.objects.insert", NULL) > before); /* is logged */
    free(path);
}

static void down_asks_and_removes_what_is_its_own(void **state)
{
    (void)state;
    assert_run("setup --vpc default/default", KEY, 0);
    send("POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts", "{\"accountId\":\"somebody\"}");
    put_object("sessions%2Fa%2Fresult.json");
    forget_log();
    assert_run("down", "", 2);
    assert_said("--yes");
    assert_run("down --dry-run", "", 0);
    assert_said("job claude-runner: would be deleted");
    assert_int_equal(writes(), 0);
    put_object("mine.txt");
    forget_log();
    assert_run("down --yes", "", 1);
    assert_said("mine.txt");
    assert_int_equal(writes(), 0);
    assert_run("down --yes --force", "", 0);
    assert_said("--destroy-key");
    assert_false(exists("/storage/v1/b/" BUCKET));
    assert_false(exists("/v2/" JOB));
    assert_false(exists(ACCOUNTS HOME));
    assert_false(
        exists("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-deny"));
    assert_true(exists(ACCOUNTS "somebody@" CLOUD_PROJECT ".iam.gserviceaccount.com"));
    assert_true(exists(ACCOUNTS CLOUD_ACCOUNT));
    assert_members("POST", ALL_POLICY, "roles/logging.logWriter", "");
    char *path = textf("%s/claude-runner-key.json", dir);
    assert_int_equal(file_size(path), -1);
    free(path);
    assert_run("down --yes", "", 0);
    assert_said("There is nothing to remove.");
    assert_run("setup", KEY, 0);
    assert_complete();
    assert_run("down --yes --destroy-key", "", 0);
    assert_run("setup", KEY, 1);
    assert_said("restore or enable its primary version");
}

/* At a terminal, where somebody types this: the exit status. */
static int run_at_terminal(const char *options, const char *typed)
{
    char *out = output_file();
    char *command = textf("cd '%s' && echo %s | script -qec '%s cloud %s' "
                          "/dev/null >'%s' 2>&1",
                          dir, typed, binary(), options, out);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    pid_t pid = proc_start(argv, admin->env, NULL, NULL);
    free(command);
    free(out);
    return end(pid);
}

static void down_takes_nothing_but_yes_for_a_yes(void **state)
{
    (void)state;
    static const char *const typed[] = {"", "y", "no", "YES"};
    assert_run("setup", KEY, 0);
    forget_log();
    for (size_t i = 0; i < COUNT(typed); i++) {
        assert_int_equal(run_at_terminal("down", typed[i]), 1);
        assert_said("Remove that from project " CLOUD_PROJECT "?");
        assert_said("nothing has been removed");
    }
    assert_int_equal(writes(), 0);
    assert_int_equal(run_at_terminal("down", "yes"), 0);
    assert_false(exists("/v2/" JOB));
    assert_false(exists("/storage/v1/b/" BUCKET));
}

static void down_leaves_what_was_there_before(void **state)
{
    (void)state;
    send("POST", "/v1/projects/" CLOUD_PROJECT "/services/storage.googleapis.com:enable", "{}");
    send("POST", "/storage/v1/b?project=" CLOUD_PROJECT,
         "{\"name\":\"" BUCKET "\",\"location\":\"" CLOUD_REGION "\"}");
    assert_run("setup", KEY, 0);
    assert_said("bucket " BUCKET ": changed: iamConfiguration, lifecycle");
    assert_run("down --yes", "", 0);
    assert_said("bucket " BUCKET ": was not made by set-up: it stays");
    assert_true(exists("/storage/v1/b/" BUCKET));
    assert_members("GET", "/storage/v1/b/" BUCKET "/iam", "roles/storage.objectUser", "");
}

/* ---- the network ---- */

static void lets_out_what_is_named_and_nothing_else(void **state)
{
    (void)state;
    assert_run("setup --vpc default/default --allow tcp:22 --allow udp:53@10.0.0.2/32", KEY, 0);
    struct reply *reply =
        look("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-deny");
    assert_json_text(reply->json, "direction", "EGRESS");
    assert_json_text(reply->json, "denied.0.IPProtocol", "all");
    assert_json_text(reply->json, "destinationRanges.0", "0.0.0.0/0");
    assert_json_text(reply->json, "targetTags.0", "claude-runner");
    reply_free(reply);
    reply = look("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-allow");
    assert_json_text(reply->json, "allowed.0.ports.0", "443");
    assert_json_text(reply->json, "allowed.1.ports.0", "22");
    reply_free(reply);
    reply = look("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-allow-1");
    assert_json_text(reply->json, "destinationRanges.0", "10.0.0.2/32");
    reply_free(reply);
    reply = look("/v2/" JOB);
    assert_json_text(reply->json, "template.template.vpcAccess.egress", "ALL_TRAFFIC");
    assert_json_text(reply->json, "template.template.vpcAccess.networkInterfaces.0.tags.0",
                     "claude-runner");
    reply_free(reply);
    forget_log();
    assert_run("setup --vpc default/default --allow tcp:22 --allow udp:53@10.0.0.2/32", "", 0);
    assert_int_equal(writes(), 0);
    assert_run("setup --vpc default/default", "", 0);
    assert_said("firewall of default: changed: claude-runner-allow, without claude-runner-allow-1");
    assert_false(
        exists("/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/claude-runner-allow-1"));
    assert_run("setup --vpc default/nowhere", "", 1);
    assert_said("nowhere");
}

static void whoever_may_act_as_home_needs_no_key(void **state)
{
    (void)state;
    assert_run("setup --impersonate serviceAccount:" CLOUD_ACCOUNT, KEY, 0);
    assert_said("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT=" HOME);
    char *path = textf("%s/claude-runner-key.json", dir);
    assert_int_equal(file_size(path), -1);
    free(path);
    char *env = textf("%s/.env", dir);
    const char *from = strstr(said, "OVERFLOW=full"), *to = strstr(from, "\n\n");
    char *text = strndup(from, (size_t)(to - from));
    write_file(env, text, 0600);
    assert_run("check --home-only", "", 0);
    assert_said(HOME);
    free(text);
    free(env);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(furnishes_a_fresh_project_and_changes_nothing_when_run_again),
        TEST(changes_what_a_flag_says_and_nothing_else),
        TEST(keeps_what_others_have_added_to_the_job),
        TEST(names_each_permission_that_is_missing),
        TEST(a_plan_writes_nothing),
        TEST(goes_on_after_being_killed_at_any_step),
        TEST(a_lost_answer_does_no_harm),
        TEST(a_key_whose_answer_was_lost_is_spoken_of),
        TEST(a_file_that_is_no_key_is_not_written_over),
        TEST(waits_for_accounts_that_are_not_known_yet),
        TEST(keeps_the_bindings_of_others),
        TEST(refuses_a_wrong_call),
        TEST(tries_both_ends),
        TEST(waits_until_what_was_granted_holds),
        TEST(says_which_end_is_broken_and_how),
        TEST(the_runner_works_with_what_was_set_up),
        TEST(down_asks_and_removes_what_is_its_own),
        TEST(down_takes_nothing_but_yes_for_a_yes),
        TEST(down_leaves_what_was_there_before),
        TEST(lets_out_what_is_named_and_nothing_else),
        TEST(whoever_may_act_as_home_needs_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
