#include "google_objects_scene.h"

#include <string.h>

/* ---- keys ---- */

static struct reply *open_sealed(const char *key, const char *sealed, const char *aad)
{
    char *path = textf("/v1/%s:decrypt", key);
    char *body =
        textf("{\"ciphertext\":\"%s\",\"additionalAuthenticatedData\":\"%s\"}", sealed, aad);
    struct reply *reply = cloud_call(cloud, "POST", path, body);
    free(body);
    free(path);
    return reply;
}

static void only_the_same_key_and_data_open_what_was_sealed(void **state)
{
    (void)state;
    struct reply *reply =
        cloud_call(cloud, "POST",
                   "/v1/projects/" CLOUD_PROJECT "/locations/global/keyRings/" CLOUD_KEY_RING
                   "/cryptoKeys?cryptoKeyId=other",
                   "{\"purpose\":\"ENCRYPT_DECRYPT\"}");
    assert_status(reply, 200);
    reply_free(reply);
    reply = cloud_call(cloud, "POST", "/v1/" CLOUD_KEY_NAME ":encrypt",
                       "{\"plaintext\":\"YWJj\",\"plaintextCrc32c\":\"910901175\","
                       "\"additionalAuthenticatedData\":\"dGFzaz0x\"}");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "verifiedPlaintextCrc32c", true);
    char *sealed = strdup(json_text(reply->json, "ciphertext"));
    reply_free(reply);
    cloud_restart(cloud);
    const struct {
        const char *key, *aad;
        int status;
    } cases[] = {
        {CLOUD_KEY_NAME, "dGFzaz0x", 200},
        {CLOUD_KEY_NAME, "dGFzaz0y", 400},
        {CLOUD_KEY_NAME, "", 400},
        {"projects/" CLOUD_PROJECT "/locations/global/keyRings/" CLOUD_KEY_RING "/cryptoKeys/other",
         "dGFzaz0x", 400},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        reply = open_sealed(cases[i].key, sealed, cases[i].aad);
        assert_status(reply, cases[i].status);
        if (cases[i].status == 200)
            assert_json_text(reply->json, "plaintextCrc32c", "910901175");
        reply_free(reply);
    }
    free(sealed);
}

/* ---- what a set-up makes ---- */

static bool is_done(const char *operation)
{
    char *path = textf("/v1/%s", operation);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    bool done = cJSON_IsTrue(json_at(reply->json, "done"));
    reply_free(reply);
    free(path);
    return done;
}

/* A request, and what the answer must say at one place. */
static const struct {
    const char *method, *path, *body, *at, *expected;
} set_up[] = {
    {"POST", "/v1/projects/" CLOUD_PROJECT "/services/run.googleapis.com:enable", "{}", NULL, NULL},
    {"GET", "/v1/projects/" CLOUD_PROJECT "/services/run.googleapis.com", NULL, "state", "ENABLED"},
    {"GET", "/v1/projects/" CLOUD_PROJECT "/services/logging.googleapis.com", NULL, "state",
     "DISABLED"},
    {"POST", "/v1/" CLOUD_LOCATION "/repositories?repositoryId=runner", "{\"format\":\"DOCKER\"}",
     NULL, NULL},
    {"GET", "/v1/" CLOUD_LOCATION "/repositories/runner", NULL, "format", "DOCKER"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts", "{\"accountId\":\"home-runner\"}",
     "email", "home-runner@" CLOUD_PROJECT ".iam.gserviceaccount.com"},
    {"POST",
     "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/home-runner@" CLOUD_PROJECT
     ".iam.gserviceaccount.com/keys",
     "{}", "keyAlgorithm", "KEY_ALG_RSA_2048"},
    {"POST", "/v1/projects/" CLOUD_PROJECT "/roles",
     "{\"roleId\":\"runner\",\"role\":{\"includedPermissions\":[\"run.jobs.run\"]}}", "name",
     "projects/" CLOUD_PROJECT "/roles/runner"},
    {"POST", "/v2/" CLOUD_JOB_NAME ":setIamPolicy",
     "{\"policy\":{\"bindings\":[{\"role\":\"projects/" CLOUD_PROJECT
     "/roles/runner\",\"members\":[\"serviceAccount:home-runner@" CLOUD_PROJECT
     ".iam.gserviceaccount.com\"]}]}}",
     NULL, NULL},
    {"GET", "/v2/" CLOUD_JOB_NAME ":getIamPolicy", NULL, "bindings.0.role",
     "projects/" CLOUD_PROJECT "/roles/runner"},
    {"GET", "/v3/projects/" CLOUD_PROJECT, NULL, "projectId", CLOUD_PROJECT},
    {"PATCH", "/storage/v1/b/" CLOUD_BUCKET,
     "{\"lifecycle\":{\"rule\":[{\"action\":{\"type\":\"Delete\"},\"condition\":{\"age\":7,"
     "\"matchesPrefix\":[\"inputs/\"]}}]}}",
     "lifecycle.rule.0.action.type", "Delete"},
    {"GET", "/compute/v1/projects/" CLOUD_PROJECT "/regions/" CLOUD_REGION "/subnetworks/default",
     NULL, "ipCidrRange", "10.128.0.0/20"},
    {"POST", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls",
     "{\"name\":\"out-443\",\"network\":\"global/networks/default\",\"direction\":\"EGRESS\","
     "\"priority\":900,\"allowed\":[{\"IPProtocol\":\"tcp\",\"ports\":[\"443\"]}],"
     "\"destinationRanges\":[\"0.0.0.0/0\"],\"targetTags\":[\"runner\"]}",
     "operationType", "insert"},
    {"GET", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/out-443", NULL, "direction",
     "EGRESS"},
    {"DELETE", "/compute/v1/projects/" CLOUD_PROJECT "/global/firewalls/out-443", NULL,
     "operationType", "delete"},
    {"DELETE",
     "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/home-runner@" CLOUD_PROJECT
     ".iam.gserviceaccount.com",
     NULL, NULL, NULL},
};

static void what_a_set_up_makes_is_there_afterwards(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(set_up); i++) {
        struct reply *reply = cloud_call(cloud, set_up[i].method, set_up[i].path, set_up[i].body);
        print_message("  %s %s\n", set_up[i].method, set_up[i].path);
        assert_status(reply, 200);
        if (set_up[i].at)
            assert_json_text(reply->json, set_up[i].at, set_up[i].expected);
        const char *name = json_text(reply->json, "name");
        if (strncmp(name, "operations/", 11) == 0)
            EVENTUALLY(20000, is_done(name));
        reply_free(reply);
    }
}

static void a_policy_changes_only_from_what_was_read(void **state)
{
    (void)state;
    const char *path = "/v3/projects/" CLOUD_PROJECT ":setIamPolicy";
    struct reply *reply =
        cloud_call(cloud, "POST", "/v3/projects/" CLOUD_PROJECT ":getIamPolicy", "{}");
    assert_status(reply, 200);
    char *change = textf("{\"policy\":{\"etag\":\"%s\",\"bindings\":[{\"role\":\"roles/viewer\","
                         "\"members\":[\"user:owner@example.com\"]}]}}",
                         json_text(reply->json, "etag"));
    reply_free(reply);
    reply = cloud_call(cloud, "POST", path, change);
    assert_status(reply, 200);
    reply_free(reply);
    reply = cloud_call(cloud, "POST", path, change);
    assert_status(reply, 409);
    assert_json_text(reply->json, "error.status", "ABORTED");
    reply_free(reply);
    free(change);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_same_key_and_data_open_what_was_sealed),
        cmocka_unit_test(what_a_set_up_makes_is_there_afterwards),
        cmocka_unit_test(a_policy_changes_only_from_what_was_read),
    };
    return cmocka_run_group_tests_name("google_keys", tests, start, stop);
}
