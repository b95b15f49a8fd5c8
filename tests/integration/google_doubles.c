/*
 * The stand-in for Google's APIs: which requests it refuses, and whether Google's own clients
 * accept it.
 */
#include "cloud.h"
#include "jwt.h"
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BEARER "Authorization: Bearer " CLOUD_TOKEN "\r\n"
#define JSON "Content-Type: application/json\r\n"
#define OBJECTS "/storage/v1/b/" CLOUD_BUCKET "/o"
#define UPLOAD "/upload/storage/v1/b/" CLOUD_BUCKET "/o"

static struct cloud *cloud;

/* The script that takes the place of `claude-runner job`. */
static int start(void **state)
{
    (void)state;
    cloud = cloud_new_script("#!/bin/sh\n"
                             "[ -z \"$SLEEP\" ] || exec sleep \"$SLEEP\"\n"
                             "exit ${EXIT:-0}\n",
                             NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    cloud_free(cloud);
    return 0;
}

/* ---- what is refused ---- */

static void assert_refused(const struct reply *reply, int status, const char *word)
{
    const char *told = json_text(reply->json, "error.status");
    if (!*told)
        told = json_text(reply->json, "error.errors.0.reason");
    assert_status(reply, status);
    assert_json_number(reply->json, "error.code", status);
    if (strcmp(told, word) != 0)
        fail_msg("%s, not %s: %s", told, word, reply->body);
    assert_json_has(reply->json, "error.message");
}

struct refusal {
    const char *method, *path, *headers, *body;
    int status;
    const char *word;
};

static const struct refusal refusals[] = {
    /* authentication */
    {"GET", OBJECTS, "", NULL, 401, "authError"},
    {"GET", OBJECTS, "Authorization: Bearer ya29.no\r\n", NULL, 401, "authError"},
    {"GET", "/v2/" CLOUD_JOB_NAME, "Authorization: Basic eDp5\r\n", NULL, 401, "UNAUTHENTICATED"},
    {"POST", UPLOAD "?uploadType=media&name=x", "", "x", 401, "authError"},
    /* unknown paths */
    {"GET", "/v9/nothing", BEARER, NULL, 404, "NOT_FOUND"},
    {"PUT", "/v2/" CLOUD_JOB_NAME, BEARER, NULL, 404, "NOT_FOUND"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":walk", BEARER JSON, "{}", 404, "NOT_FOUND"},
    {"GET", "/storage/v1/b/none/o", BEARER, NULL, 404, "notFound"},
    {"GET", OBJECTS "/none", BEARER, NULL, 404, "notFound"},
    {"GET", "/v2/" CLOUD_LOCATION "/jobs/none", BEARER, NULL, 404, "NOT_FOUND"},
    {"GET", "/v1/projects/" CLOUD_PROJECT "/secrets/none/versions/latest:access", BEARER, NULL, 404,
     "NOT_FOUND"},
    /* malformed requests */
    {"GET", OBJECTS "?bogus=1", BEARER, NULL, 400, "invalid"},
    {"GET", OBJECTS "?maxResults=many", BEARER, NULL, 400, "invalid"},
    {"GET", OBJECTS "?prefix=a&prefix=b", BEARER, NULL, 400, "invalid"},
    {"GET", OBJECTS "?pageToken=AAAA", BEARER, NULL, 400, "invalid"},
    {"GET", "/v2/" CLOUD_LOCATION "/jobs?pageToken=x", BEARER, NULL, 400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"overrides\":", 400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER, "{}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "[]", 400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"request_id\":\"1\"}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"overrides\":{\"timeout\":60}}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"overrides\":{\"timeout\":\"1m\"}}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"overrides\":{\"taskCount\":\"1\"}}",
     400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"overrides\":{},\"overrides\":{}}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON,
     "{\"overrides\":{\"containerOverrides\":[{\"env\":[{\"name\":\"A\",\"values\":\"1\"}]}]}}",
     400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":run", BEARER JSON, "{\"etag\":\"\\\"old\\\"\"}", 409,
     "ABORTED"},
    {"PATCH", "/v2/" CLOUD_JOB_NAME, BEARER JSON, "{\"uid\":\"1\"}", 400, "INVALID_ARGUMENT"},
    {"PATCH", "/v2/" CLOUD_JOB_NAME, BEARER JSON, "{\"launchStage\":\"SOON\"}", 400,
     "INVALID_ARGUMENT"},
    {"PATCH", "/v2/" CLOUD_JOB_NAME, BEARER JSON, "{\"template\":{}}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_LOCATION "/jobs?jobId=" CLOUD_JOB, BEARER JSON,
     "{\"template\":{\"template\":{\"containers\":[{\"image\":\"i\"}]}}}", 409, "ALREADY_EXISTS"},
    {"POST", "/v2/" CLOUD_LOCATION "/jobs?jobId=Upper", BEARER JSON,
     "{\"template\":{\"template\":{\"containers\":[{\"image\":\"i\"}]}}}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v2/" CLOUD_LOCATION "/jobs?jobId=j2", BEARER JSON,
     "{\"template\":{\"template\":{\"containers\":[{\"image\":\"i\"}],\"serviceAccount\":"
     "\"nobody@x.iam.gserviceaccount.com\"}}}",
     403, "PERMISSION_DENIED"},
    /* storage */
    {"POST", "/storage/v1/b?project=p", BEARER JSON, "{\"name\":\"No Good\"}", 400, "invalid"},
    {"POST", "/storage/v1/b", BEARER JSON, "{\"name\":\"another\"}", 400, "invalid"},
    {"POST", "/storage/v1/b?project=p", BEARER JSON, "{\"name\":\"" CLOUD_BUCKET "\"}", 409,
     "conflict"},
    {"POST", "/storage/v1/b?project=p", BEARER JSON, "{\"name\":\"b22\",\"size\":1}", 400,
     "invalid"},
    {"POST", UPLOAD "?uploadType=media", BEARER, "x", 400, "invalid"},
    {"POST", UPLOAD "?name=x", BEARER, "x", 400, "invalid"},
    {"POST", OBJECTS "?uploadType=media&name=x", BEARER JSON, "{}", 400, "invalid"},
    {"POST", UPLOAD "?uploadType=multipart", BEARER "Content-Type: text/plain\r\n", "x", 400,
     "invalid"},
    {"POST", UPLOAD "?uploadType=media&name=x&ifGenerationMatch=1", BEARER, "x", 412,
     "conditionNotMet"},
    {"POST", UPLOAD "?uploadType=media&name=x", BEARER "x-goog-hash: crc32c=AAAAAA==\r\n", "x", 400,
     "invalid"},
    {"POST", OBJECTS "/to/compose", BEARER JSON, "{\"sourceObjects\":[]}", 400, "invalid"},
    {"POST", OBJECTS "/to/compose", BEARER JSON, "{\"sourceObjects\":[{\"name\":\"no\"}]}", 404,
     "notFound"},
    {"DELETE", OBJECTS "/none", BEARER, NULL, 404, "notFound"},
    /* keys */
    {"POST", "/v1/" CLOUD_KEY_NAME ":encrypt", BEARER JSON, "{\"plaintext\":\"a\"}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v1/" CLOUD_KEY_NAME ":encrypt", BEARER JSON,
     "{\"plaintext\":\"YWJj\",\"plaintextCrc32c\":\"1\"}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v1/" CLOUD_KEY_NAME ":encrypt", BEARER JSON,
     "{\"plaintext\":\"YWJj\",\"plaintextCrc32c\":910901175}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v1/" CLOUD_KEY_NAME ":decrypt", BEARER JSON, "{\"ciphertext\":\"YWJj\"}", 400,
     "INVALID_ARGUMENT"},
    /* the rest */
    {"POST", "/v1/projects/" CLOUD_PROJECT "/secrets?secretId=s2", BEARER JSON, "{}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/secrets/" CLOUD_SECRET ":addVersion", BEARER JSON,
     "{\"payload\":{\"data\":\"YWJj\",\"dataCrc32c\":\"2\"}}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts", BEARER JSON,
     "{\"accountId\":\"job\"}", 409, "ALREADY_EXISTS"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts", BEARER JSON,
     "{\"accountId\":\"J!\"}", 400, "INVALID_ARGUMENT"},
    {"POST", "/v3/projects/another:getIamPolicy", BEARER JSON, "{}", 403, "PERMISSION_DENIED"},
    {"POST", "/v3/projects/" CLOUD_PROJECT ":setIamPolicy", BEARER JSON,
     "{\"policy\":{\"etag\":\"b2xk\",\"bindings\":[]}}", 409, "ABORTED"},
    {"POST", "/v3/projects/" CLOUD_PROJECT ":setIamPolicy", BEARER JSON,
     "{\"policy\":{\"bindings\":[{\"role\":\"roles/owner\",\"members\":[\"somebody\"]}]}}", 400,
     "INVALID_ARGUMENT"},
    {"POST", "/v3/projects/" CLOUD_PROJECT ":setIamPolicy", BEARER JSON,
     "{\"policy\":{\"bindings\":[{\"role\":\"roles/owner\",\"members\":"
     "[\"serviceAccount:none@stand-in.iam.gserviceaccount.com\"]}]}}",
     400, "INVALID_ARGUMENT"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/services/run.example.com:enable", BEARER JSON, "{}",
     404, "NOT_FOUND"},
    {"POST", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls", BEARER JSON,
     "{\"name\":\"f\",\"network\":\"global/networks/default\",\"direction\":\"OUT\"}", 400,
     "invalid"},
    {"POST", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls", BEARER JSON,
     "{\"name\":\"f\",\"network\":\"global/networks/default\"}", 400, "invalid"},
};

static void what_google_refuses_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refusals); i++) {
        const struct refusal *r = &refusals[i];
        struct reply *reply = http_call(cloud->base, r->method, r->path, r->headers, r->body);
        print_message("  %s %s %.60s\n", r->method, r->path, r->body ? r->body : "");
        assert_refused(reply, r->status, r->word);
        reply_free(reply);
    }
}

/* ---- tokens ---- */

struct key_file {
    EVP_PKEY *key;
    char *id, *token_uri;
};

static struct key_file read_key_file(void)
{
    char *text = read_file(cloud->key_file, NULL);
    cJSON *json = cJSON_Parse(text);
    struct key_file file = {.key = jwt_key(json_text(json, "private_key")),
                            .id = strdup(json_text(json, "private_key_id")),
                            .token_uri = strdup(json_text(json, "token_uri"))};
    assert_json_text(json, "type", "service_account");
    assert_json_text(json, "client_email", CLOUD_ACCOUNT);
    assert_json_text(json, "project_id", CLOUD_PROJECT);
    cJSON_Delete(json);
    free(text);
    return file;
}

static void key_file_done(struct key_file *file)
{
    EVP_PKEY_free(file->key);
    free(file->id);
    free(file->token_uri);
}

static struct reply *post_form(const char *form)
{
    return http_call(cloud->base, "POST", "/token",
                     "Content-Type: application/x-www-form-urlencoded\r\n", form);
}

/* Asks for a token with these parts of an assertion. */
static struct reply *ask(EVP_PKEY *key, const char *header, const char *iss, const char *aud,
                         const char *scope, long from, long to)
{
    long now = (long)time(NULL);
    char *claims = textf("{\"iss\":\"%s\",\"aud\":\"%s\",\"scope\":\"%s\",\"iat\":%ld,"
                         "\"exp\":%ld}",
                         iss, aud, scope, now + from, now + to);
    char *jwt = jwt_sign(key, header, claims);
    char *form = textf("grant_type=urn%%3Aietf%%3Aparams%%3Aoauth%%3Agrant-type%%3Ajwt-bearer&"
                       "assertion=%s",
                       jwt);
    struct reply *reply = post_form(form);
    free(form);
    free(jwt);
    free(claims);
    return reply;
}

#define SCOPE "https://www.googleapis.com/auth/cloud-platform"

static void assertions_are_checked(void **state)
{
    (void)state;
    struct key_file file = read_key_file();
    EVP_PKEY *stranger = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    const char *rs256 = "{\"alg\":\"RS256\",\"typ\":\"JWT\"}";
    char *wrong_kid = textf("{\"alg\":\"RS256\",\"kid\":\"%.39s0\"}", "0000");
    char *kid = textf("{\"alg\":\"RS256\",\"kid\":\"%s\"}", file.id);
    const struct {
        EVP_PKEY *key;
        const char *header, *iss, *aud, *scope;
        long from, to;
        const char *error;
    } cases[] = {
        {file.key, kid, CLOUD_ACCOUNT, file.token_uri, SCOPE, 0, 3600, NULL},
        {file.key, rs256, CLOUD_ACCOUNT, file.token_uri, SCOPE, -10, 60, NULL},
        {stranger, rs256, CLOUD_ACCOUNT, file.token_uri, SCOPE, 0, 3600, "invalid_grant"},
        {file.key, wrong_kid, CLOUD_ACCOUNT, file.token_uri, SCOPE, 0, 3600, "invalid_grant"},
        {file.key, "{\"alg\":\"none\"}", CLOUD_ACCOUNT, file.token_uri, SCOPE, 0, 3600,
         "invalid_grant"},
        {file.key, rs256, "who@stand-in.iam.gserviceaccount.com", file.token_uri, SCOPE, 0, 3600,
         "invalid_grant"},
        {file.key, rs256, CLOUD_ACCOUNT, "https://example.com/token", SCOPE, 0, 3600,
         "invalid_grant"},
        {file.key, rs256, CLOUD_ACCOUNT, file.token_uri, SCOPE, 0, 7200, "invalid_grant"},
        {file.key, rs256, CLOUD_ACCOUNT, file.token_uri, SCOPE, -3000, -1, "invalid_grant"},
        {file.key, rs256, CLOUD_ACCOUNT, file.token_uri, "", 0, 3600, "invalid_scope"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = ask(cases[i].key, cases[i].header, cases[i].iss, cases[i].aud,
                                  cases[i].scope, cases[i].from, cases[i].to);
        assert_status(reply, cases[i].error ? 400 : 200);
        if (cases[i].error)
            assert_json_text(reply->json, "error", cases[i].error);
        else
            assert_json_has(reply->json, "access_token");
        reply_free(reply);
    }
    free(kid);
    free(wrong_kid);
    EVP_PKEY_free(stranger);
    key_file_done(&file);
}

static char *take_token(void)
{
    struct key_file file = read_key_file();
    struct reply *reply =
        ask(file.key, "{\"alg\":\"RS256\"}", CLOUD_ACCOUNT, file.token_uri, SCOPE, 0, 3600);
    assert_status(reply, 200);
    char *token = strdup(json_text(reply->json, "access_token"));
    reply_free(reply);
    key_file_done(&file);
    return token;
}

/* The status of a simple call with this token. */
static int status_with(const char *token)
{
    char *headers = textf("Authorization: Bearer %s\r\n", token);
    struct reply *reply = http_call(cloud->base, "GET", OBJECTS, headers, NULL);
    int status = reply->status;
    reply_free(reply);
    free(headers);
    return status;
}

static void tokens_end_by_time_and_by_command_and_outlive_a_restart(void **state)
{
    (void)state;
    char *token = take_token();
    assert_int_equal(status_with(token), 200);
    cloud_restart(cloud);
    assert_int_equal(status_with(token), 200);
    cloud_control(cloud, "{\"expireTokens\":true}");
    assert_int_equal(status_with(token), 401);
    free(token);
    cloud_control(cloud, "{\"tokenLifetime\":10}");
    token = take_token();
    assert_int_equal(status_with(token), 200);
    EVENTUALLY(30000, status_with(token) == 401);
    cloud_control(cloud, "{\"tokenLifetime\":3600}");
    free(token);
}

static void the_refresh_token_and_the_metadata_server_give_tokens(void **state)
{
    (void)state;
    char *text = read_file(cloud->user_file, NULL);
    cJSON *user = cJSON_Parse(text);
    char *form = textf("grant_type=refresh_token&client_id=%s&client_secret=%s&refresh_token=%s",
                       json_text(user, "client_id"), json_text(user, "client_secret"),
                       "1%2F%2Fstand-in-refresh-token");
    struct reply *reply = post_form(form);
    assert_status(reply, 200);
    assert_int_equal(status_with(json_text(reply->json, "access_token")), 200);
    reply_free(reply);
    reply = post_form("grant_type=refresh_token&client_id=x&client_secret=y&refresh_token=z");
    assert_status(reply, 401);
    reply_free(reply);
    const char *path = "/computeMetadata/v1/instance/service-accounts/default/token";
    reply = http_call(cloud->base, "GET", path, NULL, NULL);
    assert_status(reply, 403);
    reply_free(reply);
    reply = http_call(cloud->base, "GET", path, "Metadata-Flavor: Google\r\n", NULL);
    assert_status(reply, 200);
    assert_int_equal(status_with(json_text(reply->json, "access_token")), 200);
    reply_free(reply);
    free(form);
    cJSON_Delete(user);
    free(text);
}

static void an_account_acts_in_the_name_of_another(void **state)
{
    (void)state;
    const char *path = "/v1/projects/-/serviceAccounts/" CLOUD_JOB_ACCOUNT ":generateAccessToken";
    struct reply *reply = cloud_call(cloud, "POST", path, "{\"scope\":[\"" SCOPE "\"]}");
    assert_status(reply, 200);
    assert_int_equal(status_with(json_text(reply->json, "accessToken")), 200);
    reply_free(reply);
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"iam.serviceAccounts.getAccessToken\"]}}");
    reply = cloud_call(cloud, "POST", path, "{\"scope\":[\"" SCOPE "\"]}");
    assert_refused(reply, 403, "PERMISSION_DENIED");
    reply_free(reply);
    cloud_control(cloud, "{\"allow\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"iam.serviceAccounts.getAccessToken\"]}}");
}

/* ---- permissions ---- */

static void a_permission_that_was_taken_away_is_named(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"run.jobs.run\",\"storage.objects.list\"]}}");
    struct reply *reply = cloud_call(cloud, "POST", "/v2/" CLOUD_JOB_NAME ":run", "{}");
    assert_refused(reply, 403, "PERMISSION_DENIED");
    assert_json_contains(reply->json, "error.message", "'run.jobs.run'");
    reply_free(reply);
    reply = cloud_call(cloud, "GET", OBJECTS, NULL);
    assert_refused(reply, 403, "forbidden");
    assert_json_contains(reply->json, "error.message", "storage.objects.list");
    reply_free(reply);
    cloud_control(cloud, "{\"allow\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"run.jobs.run\",\"storage.objects.list\"]}}");
    reply = cloud_call(cloud, "GET", OBJECTS, NULL);
    assert_status(reply, 200);
    reply_free(reply);
}

/* A token of the job's account. */
static char *job_token(void)
{
    struct reply *reply = cloud_call(
        cloud, "POST", "/v1/projects/-/serviceAccounts/" CLOUD_JOB_ACCOUNT ":generateAccessToken",
        "{\"scope\":[\"" SCOPE "\"]}");
    assert_status(reply, 200);
    char *token = strdup(json_text(reply->json, "accessToken"));
    reply_free(reply);
    return token;
}

static void where_policies_are_enforced_a_role_gives_what_it_gives(void **state)
{
    (void)state;
    char *token = job_token();
    cloud_control(cloud, "{\"iam\":1}");
    assert_int_equal(status_with(token), 403);
    struct reply *reply = cloud_call(
        cloud, "PUT", "/storage/v1/b/" CLOUD_BUCKET "/iam",
        "{\"bindings\":[{\"role\":\"roles/"
        "storage.objectUser\",\"members\":[\"serviceAccount:" CLOUD_JOB_ACCOUNT "\"]}]}");
    assert_status(reply, 200);
    reply_free(reply);
    assert_int_equal(status_with(token), 200);
    char *headers = textf("Authorization: Bearer %s\r\n", token);
    reply = http_call(cloud->base, "GET", "/storage/v1/b/" CLOUD_BUCKET, headers, NULL);
    assert_refused(reply, 403, "forbidden");
    reply_free(reply);
    cloud_control(cloud, "{\"iam\":0}");
    free(headers);
    free(token);
}

static void a_service_that_is_not_switched_on_refuses(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"enforceServices\":1}");
    struct reply *reply = cloud_call(cloud, "GET", OBJECTS, NULL);
    assert_refused(reply, 403, "forbidden");
    reply_free(reply);
    reply = cloud_call(cloud, "POST", "/v1/projects/" CLOUD_PROJECT "/services:batchEnable",
                       "{\"serviceIds\":[\"storage.googleapis.com\",\"run.googleapis.com\"]}");
    assert_status(reply, 200);
    reply_free(reply);
    reply = cloud_call(cloud, "GET", OBJECTS, NULL);
    assert_status(reply, 200);
    reply_free(reply);
    cloud_control(cloud, "{\"enforceServices\":0}");
}

/* ---- Google's clients ---- */

static void googles_own_clients_are_satisfied(void **state)
{
    (void)state;
    if (access(TEST_GOOGLE_CLIENTS "/node_modules/@google-cloud/compute", R_OK) != 0)
        SKIP_BECAUSE("Google's clients are not installed (npm ci in tests/google)");
    char *out = textf("%s/clients", cloud->dir);
    char *argv[] = {(char[]){"/usr/bin/env"},
                    (char[]){"node"},
                    (char[]){TEST_GOOGLE_CLIENTS "/clients.mjs"},
                    cloud->base,
                    cloud->key_file,
                    (char[]){CLOUD_PROJECT},
                    (char[]){CLOUD_JOB_NAME},
                    (char[]){CLOUD_KEY_NAME},
                    (char[]){CLOUD_SECRET},
                    (char[]){CLOUD_BUCKET},
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/local/bin:/usr/bin:/bin"}, textf("HOME=%s", cloud->dir),
                   NULL};
    int status = -1;
    pid_t pid = proc_start(argv, env, out, out);
    if (!proc_wait(pid, 240000, &status))
        kill(pid, SIGKILL);
    char *text = read_file(out, NULL);
    if (status != 0 || !strstr(text, "satisfied: firewalls"))
        fail_msg("%s", text);
    free(text);
    free(env[1]);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_google_refuses_is_refused),
        cmocka_unit_test(assertions_are_checked),
        cmocka_unit_test(tokens_end_by_time_and_by_command_and_outlive_a_restart),
        cmocka_unit_test(the_refresh_token_and_the_metadata_server_give_tokens),
        cmocka_unit_test(an_account_acts_in_the_name_of_another),
        cmocka_unit_test(a_permission_that_was_taken_away_is_named),
        cmocka_unit_test(where_policies_are_enforced_a_role_gives_what_it_gives),
        cmocka_unit_test(a_service_that_is_not_switched_on_refuses),
        cmocka_unit_test(googles_own_clients_are_satisfied),
    };
    return cmocka_run_group_tests_name("google_doubles", tests, start, stop);
}
