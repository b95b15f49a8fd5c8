/* Cloud Run, Cloud KMS and Secret Manager. */
#include "google/jobs.h"
#include "google/limits.h"

#include "base/str.h"
#include "google/execution.h"
#include "google/kms.h"
#include "google/secret.h"
#include "google_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define JOB "projects/p/locations/us-central1/jobs/j"
#define EXECUTION JOB "/executions/j-x1"
#define KEY "projects/p/locations/global/keyRings/r/cryptoKeys/k"

struct world {
    struct google_peer *peer;
    struct google *google;
};

/* --- KMS, as far as it concerns us ---------------------------------------------------------- */

static struct json *parse(const char *text)
{
    struct err err = ERR_INIT;
    struct json *json = json_parse(text, strlen(text), &err);
    if (!json)
        fail_msg("%s", err.msg);
    return json;
}

/* The bytes of a member; its checksum must be in the member beside it. */
static bool take_checked(const struct json *body, const char *name, struct buf *out)
{
    char crc_name[64], want[16];
    snprintf(crc_name, sizeof(crc_name), "%sCrc32c", name);
    const char *text = json_text(json_get(body, name));
    const char *crc = json_text(json_get(body, crc_name));
    if (!text || !crc || str_read_base64(text, strlen(text), out))
        return false;
    snprintf(want, sizeof(want), "%u", google_crc32c_portable(0, buf_str(out), out->len));
    return strcmp(crc, want) == 0;
}

/* Wraps a key as "AAD|plain", reversed. */
static bool serve_kms(struct loopback_call *call, const char *text)
{
    bool sealing = strstr(call->path, ":encrypt") != NULL;
    const char *in = sealing ? "plaintext" : "ciphertext";
    AUTO(buf) struct buf data = BUF_INIT(1 << 20), aad = BUF_INIT(1 << 20);
    AUTO(buf) struct buf result = BUF_INIT(1 << 20), base64 = BUF_INIT(1 << 20);
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    AUTO(json) struct json *body = parse(text);
    bool has_aad = json_get(body, "additionalAuthenticatedData") != NULL;
    if (strncmp(call->path, "/v1/" KEY ":", strlen("/v1/" KEY ":")) != 0 ||
        !take_checked(body, in, &data) ||
        (has_aad && !take_checked(body, "additionalAuthenticatedData", &aad)))
        return loopback_answer(call, 400, "", "{\"error\":{\"status\":\"INVALID_ARGUMENT\"}}");
    buf_addc(&aad, '|');
    if (sealing)
        buf_add(&result, buf_str(&aad), aad.len);
    else if (data.len < aad.len || memcmp(data.data, aad.data, aad.len) != 0)
        return loopback_answer(call, 400, "",
                               "{\"error\":{\"status\":\"INVALID_ARGUMENT\",\"message\":"
                               "\"Decryption failed\"}}");
    buf_add(&result, buf_str(&data) + (sealing ? 0 : aad.len), data.len - (sealing ? 0 : aad.len));
    str_add_base64(&base64, BASE64_STD, buf_str(&result), result.len);
    buf_addf(&answer, "{\"%s\":\"%s\",\"%sCrc32c\":\"%u\"", sealing ? "ciphertext" : "plaintext",
             buf_str(&base64), sealing ? "ciphertext" : "plaintext",
             google_crc32c_portable(0, buf_str(&result), result.len));
    if (sealing)
        buf_addf(&answer, ",\"verifiedPlaintextCrc32c\":true%s",
                 has_aad ? ",\"verifiedAdditionalAuthenticatedDataCrc32c\":true" : "");
    buf_adds(&answer, "}");
    return loopback_answer(call, 200, "", buf_str(&answer));
}

static bool other(struct loopback_call *call, const char *body, void *arg)
{
    (void)arg;
    if (strstr(call->path, "crypt"))
        return serve_kms(call, body);
    return loopback_answer(call, 404, "", "{\"error\":{\"status\":\"NOT_FOUND\"}}");
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->peer = google_peer_start(other, w);
    w->google = google_peer_client(w->peer);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    int left = google_peer_faults_left(w->peer);
    google_free(w->google);
    google_peer_stop(w->peer);
    free(w);
    return left;
}

static void answer(struct world *w, const char *match, int status, const char *body)
{
    google_peer_fault(
        w->peer,
        &(struct peer_fault){.kind = PEER_ANSWER, .match = match, .status = status, .body = body});
}

static void answer_each_time(struct world *w, const char *match, const char *body)
{
    const struct peer_fault fault = {PEER_ANSWER, match, 0, GOOGLE_WHOLE_TRIES, 200, NULL, body, 0};
    google_peer_fault(w->peer, &fault);
}

/* The last request's body. */
static char *last_body(struct world *w)
{
    AUTO(str) char *last = google_peer_last(w->peer);
    return strdup(strstr(last, "\r\n\r\n") + 4);
}

/* --- starting ------------------------------------------------------------------------------- */

static void an_execution_is_started_with_its_environment_and_time(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    char name[RUN_NAME_SIZE];
    bool unsure = true;
    static const char *const env[] = {"TASK_ID=t1", "EMPTY=", "TWO==\"x\"", NULL};
    const struct jobs_start start = {.env = env, .timeout_s = 3300};
    answer(w, "POST /v2/" JOB ":run", 200,
           "{\"name\":\"projects/p/locations/l/operations/o\",\"metadata\":{\"@type\":"
           "\"type.googleapis.com/google.cloud.run.v2.Execution\",\"name\":\"" EXECUTION "\"}}");
    if (jobs_start(w->google, JOB, &start, name, &unsure, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(name, EXECUTION);
    assert_false(unsure);
    AUTO(str) char *body = last_body(w);
    assert_string_equal(
        body, "{\"overrides\":{\"containerOverrides\":[{\"env\":[{\"name\":\"TASK_ID\",\"value\":"
              "\"t1\"},{\"name\":\"EMPTY\",\"value\":\"\"},{\"name\":\"TWO\",\"value\":\"=\\\"x"
              "\\\"\"}]}],\"timeout\":\"3300s\"}}");
    answer(w, ":run", 200,
           "{\"name\":\"o\",\"done\":true,\"response\":{\"name\":\"" EXECUTION "\"}}");
    assert_int_equal(jobs_start(w->google, JOB, &(struct jobs_start){0}, name, &unsure, &err), 0);
    AUTO(str) char *plain = last_body(w);
    assert_string_equal(plain, "{\"overrides\":{}}");
}

static void a_start_that_fails_says_whether_it_may_have_happened(void **state)
{
    struct world *w = *state;
    static const struct {
        struct peer_fault fault;
        enum err_code code;
        bool unsure;
        int asked;
    } cases[] = {
        {{PEER_LOSE, .match = ":run"}, ERR_UPSTREAM, true, 1},
        {{PEER_ANSWER, .match = ":run", .status = 503}, ERR_UPSTREAM, true, 1},
        {{PEER_ANSWER, .match = ":run", .status = 403}, ERR_FORBIDDEN, false, 1},
        {{PEER_ANSWER, .match = ":run", .status = 404}, ERR_NOT_FOUND, false, 1},
        {{PEER_ANSWER, .match = ":run", .times = 3, .status = 429}, ERR_RATE, false, 3},
        {{PEER_ANSWER, .match = ":run", .status = 200}, ERR_UPSTREAM, true, 1},
        {{PEER_ANSWER, .match = ":run", .status = 200, .body = "{}"}, ERR_UPSTREAM, true, 1},
        {{PEER_ANSWER, .match = ":run", .status = 200,
          .body = "{\"metadata\":{\"name\":\"projects/other/locations/l/jobs/j/executions/e\"}}"},
         ERR_UPSTREAM,
         true,
         1},
        {{PEER_ANSWER, .match = ":run", .status = 200,
          .body = "{\"done\":true,\"error\":{\"code\":8,\"message\":\"quota\"}}"},
         ERR_RATE,
         false,
         1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        char name[RUN_NAME_SIZE] = "untouched";
        bool unsure = !cases[i].unsure;
        int before = google_peer_count(w->peer, ":run");
        google_peer_fault(w->peer, &cases[i].fault);
        int rc = jobs_start(w->google, JOB, &(struct jobs_start){0}, name, &unsure, &err);
        if (rc == 0 || err.code != cases[i].code || unsure != cases[i].unsure ||
            google_peer_count(w->peer, ":run") - before != cases[i].asked)
            fail_msg("%zu: %d %d %s", i, rc, unsure, err.msg);
        assert_string_equal(name, "untouched");
    }
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"", "a//b", "/a", "a/", "a/../b", ".", "a/."};
    char name[RUN_NAME_SIZE];
    bool unsure;
    AUTO(buf) struct buf out = BUF_INIT(100);
    struct jobs_execution execution;
    struct json *job;
    int code;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct err err = ERR_INIT;
        const char *n = names[i];
        assert_int_equal(jobs_start(w->google, n, &(struct jobs_start){0}, name, &unsure, &err),
                         -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_false(unsure);
        assert_int_equal(jobs_get(w->google, n, &execution, &err), -1);
        assert_int_equal(jobs_cancel(w->google, n, &err), -1);
        assert_int_equal(jobs_exit_code(w->google, n, &code, &err), -1);
        assert_int_equal(jobs_job_get(w->google, n, &job, &err), -1);
        assert_int_equal(kms_encrypt(w->google, n, "x", 1, NULL, &out, &err), -1);
        assert_int_equal(google_secret(w->google, n, &out, NULL, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_int_equal(google_peer_count(w->peer, "/"), 0);
}

/* --- executions ----------------------------------------------------------------------------- */

#define COMPLETED(state, more)                                                            \
    "\"conditions\":[{\"type\":\"Started\",\"state\":\"CONDITION_SUCCEEDED\"},{\"type\":" \
    "\"Completed\",\"state\":\"" state "\"" more "}]"

static void the_state_of_an_execution_is_told_by_its_condition_and_counts(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *json;
        enum jobs_state state;
        const char *reason;
    } cases[] = {
        {"\"reconciling\":true", RUN_PENDING, ""},
        {"\"startTime\":\"2026-01-02T03:04:05Z\"", RUN_PENDING, ""},
        {"\"runningCount\":1", RUN_RUNNING, ""},
        {COMPLETED("CONDITION_RECONCILING", ""), RUN_RUNNING, ""},
        {COMPLETED("CONDITION_RECONCILING", ",\"executionReason\":\"CANCELLING\""), RUN_RUNNING,
         "CANCELLING"},
        {COMPLETED("CONDITION_SUCCEEDED", ""), RUN_SUCCEEDED, ""},
        {COMPLETED("CONDITION_FAILED", ",\"executionReason\":\"NON_ZERO_EXIT_CODE\""), RUN_FAILED,
         "NON_ZERO_EXIT_CODE"},
        {COMPLETED("CONDITION_FAILED", ",\"reason\":\"CONTAINER_MISSING\""), RUN_FAILED,
         "CONTAINER_MISSING"},
        {COMPLETED("CONDITION_FAILED",
                   ",\"executionReason\":\"EXECUTION_REASON_UNDEFINED\",\"reason\":\"INTERNAL\""),
         RUN_FAILED, "INTERNAL"},
        {COMPLETED("CONDITION_FAILED", ",\"executionReason\":\"CANCELLED\""), RUN_CANCELLED,
         "CANCELLED"},
        {"\"cancelledCount\":1," COMPLETED("CONDITION_FAILED", ""), RUN_CANCELLED, ""},
        {"\"completionTime\":\"2026-01-02T03:04:05Z\",\"succeededCount\":1", RUN_SUCCEEDED, ""},
        {"\"completionTime\":\"2026-01-02T03:04:05Z\",\"taskCount\":2,\"succeededCount\":1",
         RUN_FAILED, ""},
        {"\"completionTime\":\"2026-01-02T03:04:05Z\",\"failedCount\":1", RUN_FAILED, ""},
        {"\"completionTime\":\"2026-01-02T03:04:05Z\",\"cancelledCount\":1", RUN_CANCELLED, ""},
        {"\"completionTime\":\"2026-01-02T03:04:05Z\"", RUN_FAILED, ""},
        {"\"conditions\":{},\"runningCount\":\"x\"", RUN_PENDING, ""},
        {"\"conditions\":[1,null,{\"type\":1}],\"runningCount\":-1", RUN_PENDING, ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct jobs_execution execution;
        char body[1024];
        snprintf(body, sizeof(body), "{\"name\":\"" EXECUTION "\",%s}", cases[i].json);
        answer(w, "GET /v2/" EXECUTION, 200, body);
        if (jobs_get(w->google, EXECUTION, &execution, &err))
            fail_msg("%s: %s", cases[i].json, err.msg);
        if (execution.state != cases[i].state || strcmp(execution.reason, cases[i].reason) != 0)
            fail_msg("%s: %d %s", cases[i].json, execution.state, execution.reason);
    }
}

static void an_execution_has_its_times_limits_and_words(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct jobs_execution execution;
    answer(w, "GET ", 200,
           "{\"name\":\"" EXECUTION "\",\"createTime\":\"1970-01-01T00:00:01.5Z\",\"startTime\":"
           "\"1970-01-01T00:00:02.000000001Z\",\"completionTime\":\"1970-01-01T01:00:03+01:00\","
           "\"template\":{\"containers\":[{\"resources\":{\"limits\":{\"cpu\":\"1500m\",\"memory\":"
           "\"2Gi\"}}}]}," COMPLETED("CONDITION_FAILED", ",\"message\":\"a\\nb\"") "}");
    if (jobs_get(w->google, EXECUTION, &execution, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(execution.name, EXECUTION);
    assert_int_equal(execution.created_ms, 1500);
    assert_int_equal(execution.started_ms, 2000);
    assert_int_equal(execution.ended_ms, 3000);
    assert_true(execution.cpu > 1.499 && execution.cpu < 1.501);
    assert_int_equal(execution.memory_bytes, INT64_C(2) << 30);
    assert_string_equal(execution.message, "a b");
    answer(w, "GET ", 200, "{\"name\":5}");
    assert_int_equal(jobs_get(w->google, EXECUTION, &execution, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_int_equal(jobs_get(w->google, EXECUTION, &execution, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void quantities_are_read_as_kubernetes_writes_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value; /* -1: none */
    } cases[] = {{"1", 1},
                 {"0.5", 0.5},
                 {"250m", 0.25},
                 {"2Gi", 2147483648.0},
                 {"512Mi", 536870912.0},
                 {"1k", 1000},
                 {"1e3", 1000},
                 {"3M", 3e6},
                 {"", -1},
                 {"Gi", -1},
                 {"1 Gi", -1},
                 {"-1", -1},
                 {"0x10", -1},
                 {"nan", -1},
                 {"1GiB", -1},
                 {"9999999999999999", -1}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        double value = -1;
        int rc = jobs_quantity(cases[i].text, &value);
        if ((rc == 0) != (cases[i].value >= 0) ||
            (rc == 0 && (value > cases[i].value + 1e-9 || value < cases[i].value - 1e-9)))
            fail_msg("%s: %d %f", cases[i].text, rc, value);
    }
}

static int add_name(const struct jobs_execution *execution, void *arg)
{
    buf_addf(arg, "%s,", strrchr(execution->name, '/') + 1);
    return strcmp(strrchr(execution->name, '/'), "/stop") == 0;
}

#define FOUND(name, created, env)                                                            \
    "{\"name\":\"" JOB "/executions/" name "\",\"createTime\":\"2026-01-02T03:04:" created   \
    "Z\",\"template\":{\"containers\":[{},{\"env\":[{\"name\":\"X\"},{\"name\":\"TASK_ID\"," \
    "\"value\":\"" env "\"}]}]}}"

static void executions_are_found_by_their_environment_newest_first(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    static const char page1[] = "{\"executions\":[" FOUND("a", "01", "t1") "," FOUND(
        "b", "09", "t2") "],\"nextPageToken\":\"n&1\"}";
    static const char page2[] =
        "{\"executions\":[" FOUND("c", "03", "t1") "," FOUND("d", "02", "t1") "]}";
    static const struct {
        const char *value;
        int64_t since_ms;
        const char *want;
    } cases[] = {
        {"t1", 0, "c,d,a,"},
        {"t2", 0, "b,"},
        {"t1", INT64_C(1767323042000), "c,d,"}, /* 03:04:02 */
        {"t3", 0, ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf got = BUF_INIT(100);
        answer(w, "GET /v2/" JOB "/executions?pageSize=100", 200, page1);
        answer(w, "&pageToken=n%261", 200, page2);
        if (jobs_find(w->google, JOB, "TASK_ID", cases[i].value, cases[i].since_ms, add_name, &got,
                      &err))
            fail_msg("%s", err.msg);
        assert_string_equal(buf_str(&got), cases[i].want);
    }
    AUTO(buf) struct buf got = BUF_INIT(100);
    answer(w, "GET ", 200,
           "{\"executions\":[" FOUND("old", "01", "t") "," FOUND("stop", "02", "t") "]}");
    assert_int_equal(jobs_find(w->google, JOB, "TASK_ID", "t", 0, add_name, &got, &err), 0);
    assert_string_equal(buf_str(&got), "stop,");
    /* an incomplete list is an error */
    answer(w, "GET ", 200, page1);
    answer(w, "GET ", 403, NULL);
    assert_int_equal(jobs_find(w->google, JOB, "TASK_ID", "t1", 0, add_name, &got, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_string_equal(buf_str(&got), "stop,");
}

static void a_cancel_of_what_has_ended_is_fine(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    answer(w, "POST /v2/" EXECUTION ":cancel", 200, "{\"name\":\"o\"}");
    assert_int_equal(jobs_cancel(w->google, EXECUTION, &err), 0);
    AUTO(str) char *body = last_body(w);
    assert_string_equal(body, "{}");
    answer(w, ":cancel", 400, "{\"error\":{\"status\":\"FAILED_PRECONDITION\"}}");
    answer(w, "GET ", 200, "{\"name\":\"" EXECUTION "\"," COMPLETED("CONDITION_SUCCEEDED", "") "}");
    assert_int_equal(jobs_cancel(w->google, EXECUTION, &err), 0);
    answer(w, ":cancel", 400, "{\"error\":{\"status\":\"FAILED_PRECONDITION\"}}");
    answer(w, "GET ", 200, "{\"name\":\"" EXECUTION "\",\"runningCount\":1}");
    assert_int_equal(jobs_cancel(w->google, EXECUTION, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(jobs_cancel(w->google, EXECUTION, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void the_exit_code_is_its_tasks(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *tasks;
        int code;
    } cases[] = {
        {"[{\"lastAttemptResult\":{\"exitCode\":3,\"status\":{\"code\":2}}}]", 3},
        {"[{\"lastAttemptResult\":{\"status\":{}}}]", 0},
        {"[{\"lastAttemptResult\":{}}]", 0},
        {"[{\"lastAttemptResult\":{\"status\":{\"code\":13}}}]", -1},
        {"[{\"lastAttemptResult\":{\"exitCode\":99999}}]", -1},
        {"[{}]", -1},
        {"[]", -1},
        {"5", -1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        char body[256];
        int code = 77;
        snprintf(body, sizeof(body), "{\"tasks\":%s}", cases[i].tasks);
        answer(w, "GET /v2/" EXECUTION "/tasks", 200, body);
        assert_int_equal(jobs_exit_code(w->google, EXECUTION, &code, &err), 0);
        if (code != cases[i].code)
            fail_msg("%s: %d", cases[i].tasks, code);
    }
}

/* --- jobs ----------------------------------------------------------------------------------- */

#define OPERATION "projects/p/locations/us-central1/operations/o1"
#define DEFINITION "{\"template\":{\"taskCount\":1}}"

static int put_job(struct world *w, bool exists, struct err *err)
{
    return jobs_job_put(w->google, JOB, DEFINITION, strlen(DEFINITION), exists, err);
}

static void a_job_is_created_or_changed_and_waited_for(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(json) struct json *job = NULL;
    assert_int_equal(jobs_job_get(w->google, JOB, &job, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    answer(w, "POST /v2/projects/p/locations/us-central1/jobs?jobId=j", 200,
           "{\"name\":\"" OPERATION "\"}");
    answer(w, "GET /v2/" OPERATION, 200, "{\"name\":\"" OPERATION "\",\"done\":false}");
    answer(w, "GET /v2/" OPERATION, 200, "{\"name\":\"" OPERATION "\",\"done\":true}");
    if (put_job(w, false, &err))
        fail_msg("%s", err.msg);
    answer(w, "PATCH /v2/" JOB, 200, "{\"name\":\"" OPERATION "\"}");
    answer(w, "GET /v2/" OPERATION, 200,
           "{\"done\":true,\"error\":{\"code\":3,\"message\":\"no such image\"}}");
    assert_int_equal(put_job(w, true, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "no such image"));
    answer(w, "POST ", 409, "{\"error\":{\"status\":\"ALREADY_EXISTS\"}}");
    assert_int_equal(put_job(w, false, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    /* created by an attempt whose answer was lost */
    google_peer_fault(w->peer, &(struct peer_fault){.kind = PEER_LOSE, .match = "POST "});
    answer(w, "POST ", 409, "{\"error\":{\"status\":\"ALREADY_EXISTS\"}}");
    answer(w, "PATCH ", 200, "{\"name\":\"" OPERATION "\"}");
    answer(w, "GET ", 200, "{\"done\":true}");
    if (put_job(w, false, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(jobs_job_put(w->google, "projects/p", "{}", 2, false, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* --- keys ----------------------------------------------------------------------------------- */

static void what_kms_wraps_it_unwraps_with_the_same_words(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *plain;
        size_t len;
        const char *aad;
    } cases[] = {{"k\0ey", 4, "task 1"}, {"key", 3, NULL}, {"key", 3, ""}, {"", 0, "x"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf sealed = BUF_INIT(1000), opened = BUF_INIT(1000);
        buf_adds(&opened, ">");
        if (kms_encrypt(w->google, KEY, cases[i].plain, cases[i].len, cases[i].aad, &sealed,
                        &err) ||
            kms_decrypt(w->google, KEY, sealed.data, sealed.len, cases[i].aad, &opened, &err))
            fail_msg("%zu: %s", i, err.msg);
        assert_int_equal(opened.len, cases[i].len + 1);
        assert_memory_equal(opened.data + 1, cases[i].plain, cases[i].len);
        assert_int_equal(
            kms_decrypt(w->google, KEY, sealed.data, sealed.len, "other", &opened, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, "Decryption failed"));
    }
}

static void an_answer_of_kms_that_is_not_whole_is_an_error(void **state)
{
    struct world *w = *state;
    static const char *const sealed[] = {
        "{}",
        "{\"ciphertext\":\"YWJj\",\"ciphertextCrc32c\":\"910901175\"}",
        "{\"ciphertext\":\"YWJj\",\"ciphertextCrc32c\":\"910901175\",\"verifiedPlaintextCrc32c\":"
        "true}",
        "{\"ciphertext\":\"YWJj\",\"ciphertextCrc32c\":\"1\",\"verifiedPlaintextCrc32c\":true,"
        "\"verifiedAdditionalAuthenticatedDataCrc32c\":true}",
        "{\"ciphertext\":\"YW*j\",\"ciphertextCrc32c\":\"910901175\",\"verifiedPlaintextCrc32c\":"
        "true,\"verifiedAdditionalAuthenticatedDataCrc32c\":true}",
        "{\"ciphertext\":\"YWJj\",\"verifiedPlaintextCrc32c\":true,"
        "\"verifiedAdditionalAuthenticatedDataCrc32c\":true}",
    };
    static const char *const opened[] = {"{}", "{\"plaintext\":\"YWJj\"}",
                                         "{\"plaintext\":\"YWJj\",\"plaintextCrc32c\":\"1\"}",
                                         "{\"plaintext\":\"YWJj\",\"plaintextCrc32c\":[]}"};
    AUTO(buf) struct buf out = BUF_INIT(1000);
    for (size_t i = 0; i < COUNT_OF(sealed); i++) {
        struct err err = ERR_INIT;
        answer_each_time(w, ":encrypt", sealed[i]);
        if (kms_encrypt(w->google, KEY, "x", 1, "aad", &out, &err) == 0 || err.code != ERR_UPSTREAM)
            fail_msg("%s", sealed[i]);
    }
    for (size_t i = 0; i < COUNT_OF(opened); i++) {
        struct err err = ERR_INIT;
        answer_each_time(w, ":decrypt", opened[i]);
        if (kms_decrypt(w->google, KEY, "x", 1, "aad", &out, &err) == 0 || err.code != ERR_UPSTREAM)
            fail_msg("%s", opened[i]);
    }
    assert_int_equal(out.len, 0);
    struct err err = ERR_INIT;
    static char large[65537];
    assert_int_equal(kms_encrypt(w->google, KEY, large, sizeof(large), NULL, &out, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

/* --- secrets -------------------------------------------------------------------------------- */

static void a_secret_is_read_with_its_version(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    char version[SECRET_VERSION_SIZE];
    AUTO(buf) struct buf out = BUF_INIT(100);
    answer(w, "GET /v1/projects/p/secrets/s/versions/latest:access", 200,
           "{\"name\":\"projects/1/secrets/s/versions/12\",\"payload\":{\"data\":\"YWJj\","
           "\"dataCrc32c\":\"910901175\"}}");
    if (google_secret(w->google, "projects/p/secrets/s", &out, version, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(buf_str(&out), "abc");
    assert_string_equal(version, "12");
    answer(w, "GET /v1/projects/p/secrets/s/versions/3:access", 200, "{\"payload\":{}}");
    assert_int_equal(google_secret(w->google, "projects/p/secrets/s/versions/3", &out, NULL, &err),
                     0);
    assert_string_equal(buf_str(&out), "abc");
    static const char *const bad[] = {"{}", "{\"payload\":5}", "{\"payload\":{\"data\":\"*\"}}",
                                      "{\"payload\":{\"data\":\"YWJj\",\"dataCrc32c\":\"1\"}}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        answer_each_time(w, ":access", bad[i]);
        if (google_secret(w->google, "projects/p/secrets/s", &out, NULL, &err) == 0)
            fail_msg("%s", bad[i]);
        assert_int_equal(err.code, ERR_UPSTREAM);
    }
    assert_int_equal(google_secret(w->google, "projects/p/secrets/none", &out, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(buf_str(&out), "abc");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_execution_is_started_with_its_environment_and_time),
        TEST(a_start_that_fails_says_whether_it_may_have_happened),
        TEST(names_that_lead_elsewhere_are_refused),
        TEST(the_state_of_an_execution_is_told_by_its_condition_and_counts),
        TEST(an_execution_has_its_times_limits_and_words),
        TEST(quantities_are_read_as_kubernetes_writes_them),
        TEST(executions_are_found_by_their_environment_newest_first),
        TEST(a_cancel_of_what_has_ended_is_fine),
        TEST(the_exit_code_is_its_tasks),
        TEST(a_job_is_created_or_changed_and_waited_for),
        TEST(what_kms_wraps_it_unwraps_with_the_same_words),
        TEST(an_answer_of_kms_that_is_not_whole_is_an_error),
        TEST(a_secret_is_read_with_its_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
