/* What the runner and a cloud task leave for each other: names, the sealed payload, result.json.
 * The test provides the key service and the credentials. */
#include "testbase.h"

#include "crypto/crypto.h"
#include "google/kms.h"
#include "runner/overflow/payload.h"
#include "runner/overflow/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the parts of Google that are used ----------------------------------------------------- */

struct google {
    char *project;
};

static const unsigned char master[CRYPTO_KEY_SIZE] = "only this key service has this.";
static enum err_code kms_fails; /* ERR_NONE: it works */

struct google *google_new(const struct google_config *config, struct err *err)
{
    struct google *google = calloc(1, sizeof(*google));
    if (!google)
        err_sys(err, "google");
    else if (config->credentials)
        google->project = strdup("named-by-credentials");
    return google;
}

void google_free(struct google *google)
{
    if (google)
        free(google->project);
    free(google);
}

const char *google_project(const struct google *google)
{
    return google->project;
}

int kms_encrypt(struct google *google, const char *key, const void *plain, size_t plain_len,
                const char *aad, struct buf *out, struct err *err)
{
    (void)google;
    (void)key;
    if (kms_fails != ERR_NONE)
        return err_set(err, kms_fails, "Cloud KMS: PERMISSION_DENIED");
    return crypto_seal(master, aad, plain, plain_len, out, err);
}

int kms_decrypt(struct google *google, const char *key, const void *sealed, size_t sealed_len,
                const char *aad, struct buf *out, struct err *err)
{
    (void)google;
    (void)key;
    if (kms_fails != ERR_NONE)
        return err_set(err, kms_fails, "Cloud KMS: PERMISSION_DENIED");
    if (crypto_open(master, aad, sealed, sealed_len, out, err))
        return err_set(err, ERR_INVALID, "Cloud KMS: INVALID_ARGUMENT: decryption failed");
    return 0;
}

/* --- the payload ---------------------------------------------------------------------------- */

#define ID "01J-some.task_id~"

static struct payload sample(void)
{
    return (struct payload){.task_id = (char *)(uintptr_t)ID,
                            .kind = (char *)(uintptr_t) "claude",
                            .request = (char *)(uintptr_t) "{\"prompt\":\"h\xc3\xa4llo\\n\"}",
                            .secrets = (char *)(uintptr_t) "{\"gitToken\":\"ghp_canary\"}",
                            .request_id = (char *)(uintptr_t) "req-1",
                            .attempt = 3};
}

static void seal(const struct payload *payload, struct buf *out)
{
    struct err err = ERR_INIT;
    const struct cloud cloud = {0};
    OK(payload_seal(&cloud, payload, out, &err) == 0, &err);
}

static enum err_code opened_code(const char *id, const void *sealed, size_t len)
{
    struct err err = ERR_INIT;
    const struct cloud cloud = {0};
    AUTO(payload) struct payload payload = {0};
    if (payload_open(&cloud, id, sealed, len, &payload, &err) == 0)
        return ERR_NONE;
    assert_null(payload.secrets);
    return err.code;
}

static void what_was_sealed_is_what_is_opened(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct cloud cloud = {0};
    struct payload in = sample();
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    AUTO(payload) struct payload out = {0};
    seal(&in, &sealed);
    assert_null(memmem(sealed.data, sealed.len, "ghp_canary", 10));
    assert_memory_equal(sealed.data, "CRP1", 4);
    OK(payload_open(&cloud, ID, sealed.data, sealed.len, &out, &err) == 0, &err);
    assert_string_equal(out.task_id, in.task_id);
    assert_string_equal(out.kind, in.kind);
    assert_string_equal(out.request, in.request);
    assert_string_equal(out.secrets, in.secrets);
    assert_string_equal(out.request_id, in.request_id);
    assert_int_equal(out.attempt, 3);
}

static void a_large_request_without_secrets_comes_through(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct cloud cloud = {0};
    struct payload in = sample();
    const size_t size = 10u << 20;
    char *request = malloc(size + 1);
    memset(request, 'x', size);
    request[size] = '\0';
    in.request = request;
    in.secrets = in.request_id = NULL;
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    AUTO(payload) struct payload out = {0};
    seal(&in, &sealed);
    OK(payload_open(&cloud, ID, sealed.data, sealed.len, &out, &err) == 0, &err);
    assert_string_equal(out.request, request);
    assert_string_equal(out.secrets, "");
    assert_string_equal(out.request_id, "");
    free(request);
}

static void a_request_past_the_limit_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct cloud cloud = {0};
    struct payload in = sample();
    char *request = malloc(PAYLOAD_BYTES_MAX + 1);
    memset(request, 'x', PAYLOAD_BYTES_MAX);
    request[PAYLOAD_BYTES_MAX] = '\0';
    in.request = request;
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    assert_int_equal(payload_seal(&cloud, &in, &sealed, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    free(request);
}

static void no_two_payloads_are_alike(void **state)
{
    (void)state;
    struct payload in = sample();
    AUTO(buf) struct buf a = BUF_INIT(PAYLOAD_BYTES_MAX);
    AUTO(buf) struct buf b = BUF_INIT(PAYLOAD_BYTES_MAX);
    seal(&in, &a);
    seal(&in, &b);
    assert_int_equal(a.len, b.len);
    size_t same = 0;
    for (size_t i = 8; i < a.len; i++)
        same += a.data[i] == b.data[i];
    assert_true(same < a.len / 8); /* each payload has its own key and nonce */
}

static void a_change_of_any_bit_is_noticed(void **state)
{
    (void)state;
    struct payload in = sample();
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    seal(&in, &sealed);
    for (size_t i = 0; i < sealed.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            sealed.data[i] ^= (char)(1 << bit);
            if (opened_code(ID, sealed.data, sealed.len) != ERR_MISMATCH)
                fail_msg("byte %zu, bit %d", i, bit);
            sealed.data[i] ^= (char)(1 << bit);
        }
    }
    assert_int_equal(opened_code(ID, sealed.data, sealed.len), ERR_NONE);
}

static void what_is_cut_or_too_long_is_noticed(void **state)
{
    (void)state;
    struct payload in = sample();
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    seal(&in, &sealed);
    for (size_t len = 0; len < sealed.len; len++)
        assert_int_equal(opened_code(ID, sealed.data, len), ERR_MISMATCH);
    buf_addc(&sealed, '\0');
    assert_int_equal(opened_code(ID, sealed.data, sealed.len), ERR_MISMATCH);
}

static void a_payload_is_one_tasks_only(void **state)
{
    (void)state;
    struct payload in = sample();
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    seal(&in, &sealed);
    assert_int_equal(opened_code("another", sealed.data, sealed.len), ERR_MISMATCH);
    assert_int_equal(opened_code("", sealed.data, sealed.len), ERR_MISMATCH);
}

static void what_the_key_service_says_is_passed_on(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct cloud cloud = {0};
    struct payload in = sample();
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    AUTO(buf) struct buf none = BUF_INIT(PAYLOAD_BYTES_MAX);
    seal(&in, &sealed);
    kms_fails = ERR_FORBIDDEN;
    assert_int_equal(opened_code(ID, sealed.data, sealed.len), ERR_FORBIDDEN);
    assert_int_equal(payload_seal(&cloud, &in, &none, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_int_equal(none.len, 0);
    assert_non_null(strstr(err.msg, "PERMISSION_DENIED"));
    kms_fails = ERR_NONE;
}

/* Valid frames around invalid contents. */
static void what_is_sealed_must_be_whole_too(void **state)
{
    (void)state;
    static const struct {
        const char *plain;
        size_t len;
    } cases[] = {
        {"", 0},
        {ID, sizeof(ID)},
        {ID "\0claude\0r\0001\0{}\0x", sizeof(ID "\0claude\0r\0001\0{}\0x") - 1},
        {ID "\0claude\0r\0001\0{}\0\0more", sizeof(ID "\0claude\0r\0001\0{}\0\0more")},
        {ID "\0claude\0r\0-1\0{}\0", sizeof(ID "\0claude\0r\0-1\0{}\0")},
        {ID "\0claude\0r\0x\0{}\0", sizeof(ID "\0claude\0r\0x\0{}\0")},
        {"other\0claude\0r\0001\0{}\0", sizeof("other\0claude\0r\0001\0{}\0")},
    };
    static const char aad[] = "claude-runner payload 1 " ID;
    unsigned char key[CRYPTO_KEY_SIZE] = "a data key";
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
        AUTO(buf) struct buf wrapped = BUF_INIT(4096);
        OK(crypto_seal(master, aad, key, sizeof(key), &wrapped, &err) == 0, &err);
        buf_add(&sealed, "CRP1\0\0\0", 7);
        buf_addc(&sealed, (char)wrapped.len);
        buf_add(&sealed, wrapped.data, wrapped.len);
        OK(crypto_seal(key, aad, cases[i].plain, cases[i].len, &sealed, &err) == 0, &err);
        if (opened_code(ID, sealed.data, sealed.len) != ERR_MISMATCH)
            fail_msg("case %zu", i);
    }
}

/* --- names ---------------------------------------------------------------------------------- */

static void names_are_those_of_the_meeting_place(void **state)
{
    (void)state;
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf out = BUF_INIT(1024);
    folder_name("t1", FOLDER_PAYLOAD, name);
    assert_string_equal(name, "sessions/t1/payload.enc");
    folder_claim_name("t1", 2, name);
    assert_string_equal(name, "sessions/t1/claim-2.json");
    folder_events_name("t1", 0, name);
    assert_string_equal(name, "sessions/t1/events/00000000000000000000");
    folder_events_name("t1", INT64_MAX, name);
    assert_string_equal(name, "sessions/t1/events/09223372036854775807");
    folder_output_name("t1", "a/b.txt", &out);
    assert_string_equal(buf_str(&out), "sessions/t1/outputs/a/b.txt");
}

static struct config some_config(void)
{
    return (struct config){.gcp_project_id = (char *)(uintptr_t) "p-1",
                           .gcp_region = (char *)(uintptr_t) "us-central1",
                           .cloudrun_job_name = (char *)(uintptr_t) "runner",
                           .gcs_logs_bucket = (char *)(uintptr_t) "logs.example.com",
                           .kms_location = (char *)(uintptr_t) "global",
                           .kms_key_ring = (char *)(uintptr_t) "ring",
                           .kms_key_name = (char *)(uintptr_t) "key",
                           .cloud_api_key_secret = (char *)(uintptr_t) "anthropic"};
}

static void full_names_come_from_the_configuration(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(cloud) struct cloud cloud = {0};
    struct config config = some_config();
    OK(cloud_open(&config, &cloud, &err) == 0, &err);
    assert_string_equal(cloud.bucket, "logs.example.com");
    assert_string_equal(cloud.job, "projects/p-1/locations/us-central1/jobs/runner");
    assert_string_equal(cloud.key, "projects/p-1/locations/global/keyRings/ring/cryptoKeys/key");
    assert_string_equal(cloud.api_key_secret, "projects/p-1/secrets/anthropic");
}

static void a_full_name_stays_and_the_credentials_may_name_the_project(void **state)
{
    (void)state;
    static const char full[] = "projects/q/locations/eu/keyRings/r/cryptoKeys/k";
    struct err err = ERR_INIT;
    AUTO(cloud) struct cloud cloud = {0};
    struct config config = some_config();
    config.gcp_project_id = config.kms_key_ring = NULL;
    config.google_application_credentials = (char *)(uintptr_t) "/k.json";
    config.kms_key_name = (char *)(uintptr_t)full;
    config.cloud_api_key_secret = (char *)(uintptr_t) "projects/q/secrets/s/versions/3";
    OK(cloud_open(&config, &cloud, &err) == 0, &err);
    assert_string_equal(cloud.key, full);
    assert_string_equal(cloud.api_key_secret, "projects/q/secrets/s/versions/3");
    assert_string_equal(cloud.job,
                        "projects/named-by-credentials/locations/us-central1/jobs/runner");
}

static void everything_that_is_missing_is_named(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cloud cloud = {0};
    struct config config = {.gcp_region = (char *)(uintptr_t) "r",
                            .kms_location = (char *)(uintptr_t) "l"};
    assert_int_equal(cloud_open(&config, &cloud, &err), -1);
    assert_int_equal(err.code, ERR_CONFIG);
    assert_string_equal(err.msg, "Google Cloud: GCP_PROJECT_ID, CLOUDRUN_JOB_NAME, "
                                 "GCS_LOGS_BUCKET, KMS_KEY_NAME, KMS_KEY_RING are not set");
    assert_null(cloud.google);
    config = some_config();
    config.gcs_logs_bucket = NULL;
    assert_int_equal(cloud_open(&config, &cloud, &err), -1);
    assert_string_equal(err.msg, "Google Cloud: GCS_LOGS_BUCKET is not set");
}

static void a_name_cannot_lead_elsewhere(void **state)
{
    (void)state;
    static const char *const bad[] = {"a/b", "..", "a b", "a?x=y", "a%2f", "a#"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct err err = ERR_INIT;
        struct cloud cloud = {0};
        struct config config = some_config();
        config.gcs_logs_bucket = (char *)(uintptr_t)bad[i];
        assert_int_equal(cloud_open(&config, &cloud, &err), -1);
        assert_int_equal(err.code, ERR_CONFIG);
        assert_non_null(strstr(err.msg, "GCS_LOGS_BUCKET"));
    }
}

/* --- the result ----------------------------------------------------------------------------- */

static void print(const struct folder_result *result, struct buf *out)
{
    folder_result_print(result, out);
    assert_true(buf_ok(out));
}

static void a_result_that_is_printed_can_be_read(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(folder_result) struct folder_result in = {0}, out = {0};
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    folder_result_init(&in);
    in.outcome.state = TASK_COMPLETED;
    in.outcome.exit_code = 0;
    in.outcome.truncated = true;
    buf_adds(&in.outcome.output, "line \"one\"\n\xe2\x82\xac");
    buf_adds(&in.outcome.members, ",\"usage\":{\"input_tokens\":3},\"num_turns\":2");
    in.attempt = 2;
    in.events_bytes = INT64_C(1) << 40;
    in.started_ms = 1700000000000;
    in.ended_ms = 1700000001000;
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *path = textf("dir/file \"%d\".txt", i);
        OK(folder_result_add_output(&in, path, i * 1000, &err) == 0, &err);
    }
    print(&in, &text);
    OK(folder_result_parse(text.data, text.len, &out, &err) == 0, &err);
    assert_int_equal(out.outcome.state, TASK_COMPLETED);
    assert_int_equal(out.outcome.exit_code, 0);
    assert_true(out.outcome.truncated);
    assert_string_equal(out.outcome.reason, "");
    assert_string_equal(buf_str(&out.outcome.output), buf_str(&in.outcome.output));
    assert_string_equal(buf_str(&out.outcome.members), buf_str(&in.outcome.members));
    assert_int_equal(out.attempt, 2);
    assert_int_equal(out.events_bytes, in.events_bytes);
    assert_int_equal(out.started_ms, in.started_ms);
    assert_int_equal(out.ended_ms, in.ended_ms);
    assert_int_equal(out.output_count, 5);
    assert_string_equal(out.outputs[4].path, "dir/file \"4\".txt");
    assert_int_equal(out.outputs[4].size, 4000);
}

static void a_failure_keeps_its_words(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(folder_result) struct folder_result in = {0}, out = {0};
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    folder_result_init(&in);
    in.outcome.exit_code = 143;
    snprintf(in.outcome.reason, sizeof(in.outcome.reason), "interrupted");
    snprintf(in.outcome.error, sizeof(in.outcome.error), "it was \xe2\x80\x9cstopped\xe2\x80\x9d");
    print(&in, &text);
    OK(folder_result_parse(text.data, text.len, &out, &err) == 0, &err);
    assert_int_equal(out.outcome.state, TASK_FAILED);
    assert_int_equal(out.outcome.exit_code, 143);
    assert_string_equal(out.outcome.reason, in.outcome.reason);
    assert_string_equal(out.outcome.error, in.outcome.error);
    assert_int_equal(out.outcome.output.len, 0);
    assert_int_equal(out.outcome.members.len, 0);
}

/* As deeply nested as a line of the CLI may be. */
static void members_may_be_as_deep_as_json_may(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(folder_result) struct folder_result in = {0}, out = {0};
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    folder_result_init(&in);
    buf_adds(&in.outcome.members, ",\"structured_output\":");
    for (int i = 1; i < JSON_DEPTH_MAX; i++)
        buf_addc(&in.outcome.members, '[');
    for (int i = 1; i < JSON_DEPTH_MAX; i++)
        buf_addc(&in.outcome.members, ']');
    print(&in, &text);
    OK(folder_result_parse(text.data, text.len, &out, &err) == 0, &err);
    assert_string_equal(buf_str(&out.outcome.members), buf_str(&in.outcome.members));
}

static void what_is_no_result_is_refused(void **state)
{
    (void)state;
    static const char *const good[] = {
        "\"version\":1,",   "\"state\":\"failed\",", "\"reason\":\"x\",", "\"error\":\"\",",
        "\"exitCode\":1,",  "\"truncated\":false,",  "\"attempt\":1,",    "\"startedMs\":1,",
        "\"endedMs\":2,",   "\"eventsBytes\":3,",    "\"outputs\":[],",   "\"members\":\"\",",
        "\"output\":\"\",",
    };
    static const struct {
        size_t part;
        const char *instead;
    } cases[] = {
        {0, "\"version\":2,"},
        {0, ""},
        {1, "\"state\":\"running\","},
        {1, "\"state\":\"pending\","},
        {1, "\"state\":7,"},
        {1, "\"state\":\"\","},
        {2, ""},
        {3, "\"error\":null,"},
        {4, "\"exitCode\":1.5,"},
        {4, "\"exitCode\":99999999999,"},
        {5, "\"truncated\":\"no\","},
        {6, "\"attempt\":-1,"},
        {7, "\"startedMs\":\"1\","},
        {8, "\"endedMs\":-2,"},
        {9, "\"eventsBytes\":-3,"},
        {10, "\"outputs\":{},"},
        {10, "\"outputs\":[{}],"},
        {10, "\"outputs\":[{\"path\":\"../x\",\"sizeBytes\":1}],"},
        {10, "\"outputs\":[{\"path\":\"/etc/x\",\"sizeBytes\":1}],"},
        {10, "\"outputs\":[{\"path\":\"a\\nb\",\"sizeBytes\":1}],"},
        {10, "\"outputs\":[{\"path\":\"x\",\"sizeBytes\":-1}],"},
        {10, "\"outputs\":[7],"},
        {11, "\"members\":\"x\","},
        {11, "\"members\":\",\","},
        {11, "\"members\":\",\\n\\n\\\"a\\\":1\","},
        {11, "\"members\":\",\\\"a\\\":1}\","},
        {11, "\"members\":\",\\\"success\\\":true\","},
        {11, "\"members\":\",\\\"exit_code\\\":0\","},
        {11, "\"members\":\",\\\"a\\\":1,\\\"a\\\":2\","},
        {12, ""},
    };
    for (size_t i = 0; i <= COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(folder_result) struct folder_result out = {0};
        AUTO(buf) struct buf text = BUF_INIT(4096);
        buf_addc(&text, '{');
        for (size_t part = 0; part < COUNT_OF(good); part++)
            buf_adds(&text,
                     i < COUNT_OF(cases) && cases[i].part == part ? cases[i].instead : good[part]);
        buf_adds(&text, "\"later\":{}}");
        int rc = folder_result_parse(text.data, text.len, &out, &err);
        if (i == COUNT_OF(cases)) {
            OK(rc == 0, &err); /* a member of a later version does no harm */
            continue;
        }
        if (rc == 0 || err.code != ERR_UPSTREAM)
            fail_msg("case %zu: %s", i, buf_str(&text));
    }
}

static void text_that_is_no_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "[]", "null", "\"x\"", "{}", "\xff"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct err err = ERR_INIT;
        struct folder_result out;
        assert_int_equal(folder_result_parse(bad[i], strlen(bad[i]), &out, &err), -1);
        assert_int_equal(err.code, ERR_UPSTREAM);
    }
}

static void outputs_have_a_limit(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(folder_result) struct folder_result result = {0};
    folder_result_init(&result);
    for (int i = 0; i < RESULT_OUTPUTS_MAX; i++)
        OK(folder_result_add_output(&result, "x", 1, &err) == 0, &err);
    assert_int_equal(folder_result_add_output(&result, "x", 1, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sealed_is_what_is_opened),
        cmocka_unit_test(a_large_request_without_secrets_comes_through),
        cmocka_unit_test(a_request_past_the_limit_is_refused),
        cmocka_unit_test(no_two_payloads_are_alike),
        cmocka_unit_test(a_change_of_any_bit_is_noticed),
        cmocka_unit_test(what_is_cut_or_too_long_is_noticed),
        cmocka_unit_test(a_payload_is_one_tasks_only),
        cmocka_unit_test(what_the_key_service_says_is_passed_on),
        cmocka_unit_test(what_is_sealed_must_be_whole_too),
        cmocka_unit_test(names_are_those_of_the_meeting_place),
        cmocka_unit_test(full_names_come_from_the_configuration),
        cmocka_unit_test(a_full_name_stays_and_the_credentials_may_name_the_project),
        cmocka_unit_test(everything_that_is_missing_is_named),
        cmocka_unit_test(a_name_cannot_lead_elsewhere),
        cmocka_unit_test(a_result_that_is_printed_can_be_read),
        cmocka_unit_test(a_failure_keeps_its_words),
        cmocka_unit_test(members_may_be_as_deep_as_json_may),
        cmocka_unit_test(what_is_no_result_is_refused),
        cmocka_unit_test(text_that_is_no_json_is_refused),
        cmocka_unit_test(outputs_have_a_limit),
    };
    return cmocka_run_group_tests_name("overflow", tests, NULL, NULL);
}
