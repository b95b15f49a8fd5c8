#include "cloud.h"

#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STOP_MS = 60000 };

static const char *const sanitizers[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                                         "LSAN_OPTIONS"};

/* ---- starting ---- */

static void add(struct cloud *cloud, const char *option, const char *value)
{
    size_t n = 0;
    while (cloud->args[n])
        n++;
    assert_true(n + 2 < COUNT(cloud->args));
    cloud->args[n] = strdup(option);
    cloud->args[n + 1] = strdup(value);
}

static void add_job(struct cloud *cloud, const char *program, const char *const *env)
{
    if (!program)
        return;
    add(cloud, "--job-program", program);
    add(cloud, "--job-arg", "job");
    for (; env && *env; env++)
        add(cloud, "--job-env", *env);
    for (size_t i = 0; i < COUNT(sanitizers); i++) {
        const char *value = getenv(sanitizers[i]);
        char *text = value ? textf("%s=%s", sanitizers[i], value) : NULL;
        if (text)
            add(cloud, "--job-env", text);
        free(text);
    }
}

static struct cloud *start(char *dir, const char *job_program, const char *const *job_env)
{
    struct cloud *cloud = calloc(1, sizeof *cloud);
    assert_non_null(cloud);
    cloud->dir = dir;
    cloud->state = textf("%s/state", cloud->dir);
    cloud->key_file = textf("%s/key.json", cloud->dir);
    cloud->user_file = textf("%s/user.json", cloud->dir);
    char *owner = textf("%d", (int)getpid()), *port = textf("%d", port_reserve());
    cloud->args[0] = strdup(TEST_GOOGLE_API);
    add(cloud, "--state", cloud->state);
    add(cloud, "--key-file", cloud->key_file);
    add(cloud, "--user-file", cloud->user_file);
    add(cloud, "--accept-token", CLOUD_TOKEN);
    add(cloud, "--owner", owner);
    add(cloud, "--port", port);
    add_job(cloud, job_program, job_env);
    cloud->api = double_new(cloud->args);
    cloud->base = strdup(cloud->api->base);
    free(owner);
    free(port);
    return cloud;
}

struct cloud *cloud_new(const char *job_program, const char *const *job_env)
{
    return start(tmp_dir_new(), job_program, job_env);
}

struct cloud *cloud_new_script(const char *script, const char *const *job_env)
{
    char *dir = tmp_dir_new(), *job = textf("%s/job", dir);
    write_file(job, script, 0755);
    struct cloud *cloud = start(dir, job, job_env);
    cloud_furnish(cloud, "a secret key");
    free(job);
    return cloud;
}

void cloud_kill(struct cloud *cloud)
{
    api_free(cloud->api);
    cloud->api = NULL;
}

void cloud_restart(struct cloud *cloud)
{
    if (cloud->api)
        cloud_kill(cloud);
    cloud->api = double_new(cloud->args);
    assert_string_equal(cloud->api->base, cloud->base);
}

static bool none_runs(const struct cloud *cloud)
{
    cJSON *state = cloud_state(cloud);
    bool none = json_number(state, "running") == 0;
    cJSON_Delete(state);
    return none;
}

void cloud_free(struct cloud *cloud)
{
    if (!cloud)
        return;
    if (!cloud->api)
        cloud_restart(cloud);
    cloud_control(cloud, "{\"faults\":[],\"killExecutions\":true}");
    EVENTUALLY(STOP_MS, none_runs(cloud));
    cloud_kill(cloud);
    tmp_dir_free(cloud->dir);
    for (size_t i = 0; cloud->args[i]; i++)
        free(cloud->args[i]);
    free(cloud->state);
    free(cloud->key_file);
    free(cloud->user_file);
    free(cloud->base);
    free(cloud);
}

/* ---- calls ---- */

struct reply *cloud_call(const struct cloud *cloud, const char *method, const char *path,
                         const char *body)
{
    return http_call(cloud->base, method, path,
                     body ? "Authorization: Bearer " CLOUD_TOKEN
                            "\r\nContent-Type: application/json\r\n"
                          : "Authorization: Bearer " CLOUD_TOKEN "\r\n",
                     body);
}

void cloud_control(const struct cloud *cloud, const char *json)
{
    struct reply *reply = http_call(cloud->base, "POST", "/_control", NULL, json);
    assert_status(reply, 200);
    reply_free(reply);
}

static cJSON *get_json(const struct cloud *cloud, const char *path)
{
    struct reply *reply = http_call(cloud->base, "GET", path, NULL, NULL);
    assert_status(reply, 200);
    cJSON *json = reply->json;
    reply->json = NULL;
    reply_free(reply);
    return json;
}

cJSON *cloud_state(const struct cloud *cloud)
{
    return get_json(cloud, "/_state");
}

cJSON *cloud_log(const struct cloud *cloud, const char *id, const char *contains)
{
    char *path = textf("/_log?%s%s%s%s", id ? "&id=" : "", id ? id : "",
                       contains ? "&contains=" : "", contains ? contains : "");
    cJSON *json = get_json(cloud, path);
    cJSON *requests = cJSON_DetachItemFromObject(json, "requests");
    cJSON_Delete(json);
    free(path);
    return requests;
}

size_t cloud_count(const struct cloud *cloud, const char *id, const char *contains)
{
    cJSON *log = cloud_log(cloud, id, contains);
    size_t n = (size_t)cJSON_GetArraySize(log);
    cJSON_Delete(log);
    return n;
}

/* ---- a furnished project ---- */

static void make(const struct cloud *cloud, const char *method, const char *path, const char *body)
{
    struct reply *reply = cloud_call(cloud, method, path, body);
    assert_status(reply, 200);
    reply_free(reply);
}

static void make_secret(const struct cloud *cloud, const char *secret)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = strlen(secret), n = 0;
    char *text = calloc(1, len / 3 * 4 + 8);
    for (size_t i = 0; i < len; i += 3) {
        unsigned word = 0;
        for (size_t k = 0; k < 3; k++)
            word = word << 8 | (i + k < len ? (unsigned char)secret[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            text[n++] = i + k > len ? '=' : letters[word >> (18 - 6 * k) & 63];
    }
    char *body = textf("{\"payload\":{\"data\":\"%s\"}}", text);
    make(cloud, "POST", "/v1/projects/" CLOUD_PROJECT "/secrets?secretId=" CLOUD_SECRET,
         "{\"replication\":{\"automatic\":{}}}");
    make(cloud, "POST", "/v1/projects/" CLOUD_PROJECT "/secrets/" CLOUD_SECRET ":addVersion", body);
    free(body);
    free(text);
}

void cloud_furnish(struct cloud *cloud, const char *secret)
{
    make(cloud, "POST", "/storage/v1/b?project=" CLOUD_PROJECT,
         "{\"name\":\"" CLOUD_BUCKET "\",\"location\":\"" CLOUD_REGION
         "\",\"iamConfiguration\":{\"uniformBucketLevelAccess\":{\"enabled\":true}}}");
    make(cloud, "POST",
         "/v1/projects/" CLOUD_PROJECT "/locations/global/keyRings?keyRingId=" CLOUD_KEY_RING,
         "{}");
    make(cloud, "POST",
         "/v1/projects/" CLOUD_PROJECT "/locations/global/keyRings/" CLOUD_KEY_RING
         "/cryptoKeys?cryptoKeyId=" CLOUD_KEY,
         "{\"purpose\":\"ENCRYPT_DECRYPT\"}");
    make(cloud, "POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts",
         "{\"accountId\":\"job\",\"serviceAccount\":{\"displayName\":\"the job\"}}");
    make_secret(cloud, secret);
    make(cloud, "POST", "/v2/" CLOUD_LOCATION "/jobs?jobId=" CLOUD_JOB,
         "{\"template\":{\"taskCount\":1,\"template\":{\"containers\":[{\"image\":"
         "\"" CLOUD_REGION "-docker.pkg.dev/" CLOUD_PROJECT "/runner/runner:latest\","
         "\"resources\":{\"limits\":{\"cpu\":\"1\",\"memory\":\"2Gi\"}}}],\"maxRetries\":0,"
         "\"timeout\":\"3600s\",\"serviceAccount\":\"" CLOUD_JOB_ACCOUNT "\"}}}");
}

void cloud_define_job(const struct cloud *cloud, const struct runner *runner)
{
    static const char *const not_there[] = {
        "RUNNER_SECRET=",
        "PORT=",
        "MAX_CONCURRENT_TASKS=",
        "ANTHROPIC_API_KEY=",
        "CLAUDE_CONFIG_DIR=",
        "LOG_FORMAT=",
        "CLOUDRUN_JOB_NAME=",
        "GOOGLE_APPLICATION_CREDENTIALS=",
        "OVERFLOW",
        "CLOUD_RESOLVE_SECONDS=",
    };
    cJSON *env = cJSON_CreateArray();
    for (size_t i = 0; runner->env[i]; i++) {
        bool left_out = false;
        for (size_t k = 0; k < COUNT(not_there); k++)
            left_out |= strncmp(runner->env[i], not_there[k], strlen(not_there[k])) == 0;
        if (left_out)
            continue;
        const char *equals = strchr(runner->env[i], '=');
        char *name = strndup(runner->env[i], (size_t)(equals - runner->env[i]));
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", name);
        cJSON_AddStringToObject(item, "value", equals + 1);
        cJSON_AddItemToArray(env, item);
        free(name);
    }
    char *list_text = cJSON_PrintUnformatted(env);
    char *body = textf("{\"template\":{\"taskCount\":1,\"template\":{\"containers\":[{\"image\":"
                       "\"" CLOUD_REGION "-docker.pkg.dev/" CLOUD_PROJECT "/runner/runner:latest\","
                       "\"env\":%s}],\"maxRetries\":0,\"timeout\":\"600s\","
                       "\"serviceAccount\":\"" CLOUD_JOB_ACCOUNT "\"}}}",
                       list_text);
    struct reply *reply = cloud_call(cloud, "PATCH", "/v2/" CLOUD_JOB_NAME, body);
    assert_status(reply, 200);
    reply_free(reply);
    free(list_text);
    free(body);
    cJSON_Delete(env);
}

void cloud_use(const struct cloud *cloud, struct runner *runner)
{
    static const char *const services[] = {"RUN",
                                           "STORAGE",
                                           "KMS",
                                           "SECRETMANAGER",
                                           "IAM",
                                           "SERVICEUSAGE",
                                           "RESOURCEMANAGER",
                                           "ARTIFACTREGISTRY",
                                           "IAMCREDENTIALS",
                                           "COMPUTE",
                                           "CLOUDBUILD",
                                           "CLOUDBILLING",
                                           "LOGGING"};
    for (size_t i = 0; i < COUNT(services); i++) {
        char *name = textf("GOOGLE_%s_ENDPOINT", services[i]);
        runner_set(runner, name, cloud->base);
        free(name);
    }
    runner_set(runner, "GOOGLE_APPLICATION_CREDENTIALS", cloud->key_file);
    runner_set(runner, "GCP_PROJECT_ID", CLOUD_PROJECT);
    runner_set(runner, "GCP_REGION", CLOUD_REGION);
    runner_set(runner, "CLOUDRUN_JOB_NAME", CLOUD_JOB);
    runner_set(runner, "GCS_LOGS_BUCKET", CLOUD_BUCKET);
    runner_set(runner, "KMS_LOCATION", "global");
    runner_set(runner, "KMS_KEY_RING", CLOUD_KEY_RING);
    runner_set(runner, "KMS_KEY_NAME", CLOUD_KEY);
    runner_set(runner, "CLOUD_API_KEY_SECRET", CLOUD_SECRET);
}
