/* Calls: tries, errors, waiting. */
#include "google/google.h"

#include "base/clock.h"
#include "google_peer.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CALLERS 100

struct world {
    struct google_peer *peer;
    struct google *google;
    _Atomic int answered;
};

static bool send_much(struct loopback_call *call, int status)
{
    static char zeros[1 << 20];
    char head[128];
    snprintf(head, sizeof(head), "HTTP/1.1 %d Test\r\nContent-Length: 104857600\r\n\r\n", status);
    bool sent = loopback_text(call, head);
    for (int i = 0; i < 100 && sent; i++)
        sent = loopback_send(call, zeros, sizeof(zeros));
    return sent;
}

/* Answers by the path that was requested. */
static bool other(struct loopback_call *call, const char *body, void *arg)
{
    struct world *w = arg;
    char token[256];
    w->answered++;
    if (strstr(call->path, "/echo"))
        return loopback_answer(call, 200, "", body);
    if (strstr(call->path, "/huge-error"))
        return send_much(call, 403);
    if (strstr(call->path, "/huge"))
        return send_much(call, 200);
    if (strstr(call->path, "/cut"))
        return loopback_text(call, "HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\n{\"err"), false;
    if (strstr(call->path, "/tell")) {
        char text[600];
        loopback_header(call, "Authorization", token, sizeof(token));
        snprintf(text, sizeof(text), "{\"error\":{\"message\":\"bad token %s\"}}", token + 7);
        return loopback_answer(call, 403, "", text);
    }
    return loopback_answer(call, 200, "", "{\"ok\":true}");
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

static struct google_call get(const char *path)
{
    return (struct google_call){
        .api = GOOGLE_RUN, .method = "GET", .path = path, .total_ms = 20000};
}

static void faulty(struct world *w, enum peer_fault_kind kind, int times, int status,
                   const char *headers, const char *body)
{
    google_peer_fault(w->peer, &(struct peer_fault){.kind = kind,
                                                    .match = "/v",
                                                    .times = times,
                                                    .status = status,
                                                    .headers = headers,
                                                    .body = body});
}

/* --- tries ---------------------------------------------------------------------------------- */

static void only_what_may_pass_is_tried_again_and_once_only_where_nothing_was_done(void **state)
{
    struct world *w = *state;
    static const struct {
        int status; /* 0: the answer is lost */
        enum google_retry retry;
        bool again, unsure;
        enum err_code code;
    } cases[] = {
        {400, GOOGLE_SAFE, false, false, ERR_INVALID},
        {401, GOOGLE_SAFE, true, false, ERR_NONE},
        {403, GOOGLE_SAFE, false, false, ERR_FORBIDDEN},
        {404, GOOGLE_SAFE, false, false, ERR_NOT_FOUND},
        {408, GOOGLE_SAFE, true, false, ERR_NONE},
        {409, GOOGLE_SAFE, false, false, ERR_CONFLICT},
        {412, GOOGLE_SAFE, false, false, ERR_MISMATCH},
        {418, GOOGLE_SAFE, false, false, ERR_INVALID},
        {429, GOOGLE_SAFE, true, false, ERR_NONE},
        {500, GOOGLE_SAFE, true, false, ERR_NONE},
        {501, GOOGLE_SAFE, false, true, ERR_UPSTREAM},
        {502, GOOGLE_SAFE, true, false, ERR_NONE},
        {503, GOOGLE_SAFE, true, false, ERR_NONE},
        {504, GOOGLE_SAFE, true, false, ERR_NONE},
        {302, GOOGLE_SAFE, false, false, ERR_UPSTREAM},
        {0, GOOGLE_SAFE, true, false, ERR_NONE},
        {400, GOOGLE_ONCE, false, false, ERR_INVALID},
        {401, GOOGLE_ONCE, true, false, ERR_NONE},
        {409, GOOGLE_ONCE, false, false, ERR_CONFLICT},
        {408, GOOGLE_ONCE, false, true, ERR_TIMEOUT},
        {429, GOOGLE_ONCE, true, false, ERR_NONE},
        {500, GOOGLE_ONCE, false, true, ERR_UPSTREAM},
        {503, GOOGLE_ONCE, false, true, ERR_UPSTREAM},
        {504, GOOGLE_ONCE, false, true, ERR_UPSTREAM},
        {0, GOOGLE_ONCE, false, true, ERR_UPSTREAM},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct google_answer answer;
        struct google_call call = get("/v2/x");
        int before = google_peer_count(w->peer, "/v2/x");
        call.retry = cases[i].retry;
        call.method = "POST";
        faulty(w, cases[i].status ? PEER_ANSWER : PEER_LOSE, 1, cases[i].status, NULL, NULL);
        int rc = google_call(w->google, &call, NULL, &answer, &err);
        int asked = google_peer_count(w->peer, "/v2/x") - before;
        if ((rc == 0) != (cases[i].code == ERR_NONE) || (rc && err.code != cases[i].code) ||
            answer.unsure != cases[i].unsure || asked != (cases[i].again ? 2 : 1))
            fail_msg("%d, %d: %d, %d times, %s, %s", cases[i].status, cases[i].retry, rc, asked,
                     answer.unsure ? "unsure" : "sure", rc ? err.msg : "done");
    }
}

/* libcurl retries by itself when a kept connection turns out to be dead. A call that must not be
 * made twice would then be made once too often. */
static void
a_call_that_may_be_made_once_is_sent_once_whatever_becomes_of_its_connection(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 5; i++) {
        struct err err = ERR_INIT;
        struct google_answer answer;
        struct google_call call = get("/v2/once");
        assert_int_equal(google_call(w->google,
                                     &(struct google_call){
                                         .api = GOOGLE_RUN, .method = "GET", .path = "/w/warm"},
                                     NULL, NULL, &err),
                         0);
        call.method = "POST";
        call.retry = GOOGLE_ONCE;
        faulty(w, PEER_LOSE, 1, 0, NULL, NULL);
        assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
        assert_true(answer.unsure);
        assert_int_equal(google_peer_count(w->peer, "/v2/once"), i + 1);
    }
}

static void a_try_that_was_lost_leaves_doubt_though_the_next_is_refused(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_answer answer;
    struct google_call call = get("/v2/x");
    faulty(w, PEER_LOSE, 1, 0, NULL, NULL);
    faulty(w, PEER_ANSWER, 1, 409, NULL, NULL);
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_true(answer.unsure);
    assert_int_equal(answer.status, 409);
}

/* A port that is bound, so that nobody else gets it, and where nothing listens. */
static int closed_port(int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    getsockname(fd, (struct sockaddr *)&address, &size);
    *ret_fd = fd;
    return ntohs(address.sin_port);
}

static void a_refused_connection_is_tried_again_and_leaves_no_doubt(void **state)
{
    struct world *w = *state;
    char url[64], path[256];
    int bound;
    struct google_config config = {.credentials = path};
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", closed_port(&bound));
    snprintf(path, sizeof(path), "%s/key.json", google_peer_dir(w->peer));
    config.endpoints[GOOGLE_RUN] = url;
    for (int retry = GOOGLE_SAFE; retry <= GOOGLE_ONCE; retry++) {
        struct err err = ERR_INIT;
        struct google_answer answer;
        AUTO(google) struct google *google = google_new(&config, &err);
        struct google_call call = get("/v2/x");
        call.total_ms = 2000;
        call.retry = (enum google_retry)retry;
        assert_int_equal(google_login(google, &err), 0); /* which is not the call's time */
        int64_t began = clock_mono_ms();
        assert_int_equal(google_call(google, &call, NULL, &answer, &err), -1);
        int64_t took = clock_mono_ms() - began;
        assert_int_equal(err.code, ERR_UPSTREAM);
        assert_false(answer.unsure);
        assert_int_equal(answer.status, 0);
        assert_true(took >= 200 && took < 15000);
    }
    close(bound);
}

static void a_silent_server_takes_no_longer_than_allowed(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_answer answer;
    struct google_call call = get("/v2/x");
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), 0); /* has the token */
    call.total_ms = 1500;
    faulty(w, PEER_SILENT, 1, 0, NULL, NULL);
    int64_t began = clock_mono_ms();
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(answer.unsure);
    assert_true(clock_mono_ms() - began < 20000);
}

static void retry_after_is_waited_for_when_the_time_suffices(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_answer answer;
    struct google_call call = get("/v2/x");
    char date[64];
    time_t at = time(NULL) + 2;
    struct tm tm;
    int64_t began = clock_mono_ms();
    faulty(w, PEER_ANSWER, 1, 429, "Retry-After: 1\r\n", NULL);
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), 0);
    assert_true(clock_mono_ms() - began >= 1000);
    strftime(date, sizeof(date), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime_r(&at, &tm));
    faulty(w, PEER_ANSWER, 1, 503, date, NULL);
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), 0);
    assert_true(clock_real_ms() + 20 >= (int64_t)at * 1000);
    began = clock_mono_ms();
    faulty(w, PEER_ANSWER, 1, 429, "Retry-After: 100\r\n", NULL);
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
    assert_int_equal(err.code, ERR_RATE);
    assert_int_equal(answer.retry_after_ms, 100000);
    assert_int_equal(answer.status, 429);
    assert_true(clock_mono_ms() - began < 20000);
}

static void the_number_of_tries_can_be_bounded(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_call call = get("/v2/x");
    call.tries = 3;
    faulty(w, PEER_ANSWER, 3, 429, NULL, NULL);
    assert_int_equal(google_call(w->google, &call, NULL, NULL, &err), -1);
    assert_int_equal(err.code, ERR_RATE);
    assert_int_equal(google_peer_count(w->peer, "/v2/x"), 3);
}

static bool stop_at_second(void *arg)
{
    return google_peer_count(arg, "/v2/x") >= 2;
}

static void a_call_stops_when_it_is_asked_to(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_call call = get("/v2/x");
    call.stop = stop_at_second;
    call.arg = w->peer;
    faulty(w, PEER_ANSWER, 1, 503, NULL, NULL);
    faulty(w, PEER_SILENT, 1, 0, NULL, NULL);
    int64_t began = clock_mono_ms();
    assert_int_equal(google_call(w->google, &call, NULL, NULL, &err), -1);
    assert_true(clock_mono_ms() - began < 20000);
}

/* --- answers -------------------------------------------------------------------------------- */

static void errors_keep_googles_words(void **state)
{
    struct world *w = *state;
    static const struct {
        int status;
        const char *body;
        enum err_code code;
        const char *msg, *reason, *detail;
    } cases[] = {
        {403,
         "{\"error\":{\"code\":403,\"message\":\"Cloud Run Admin API has not been used\","
         "\"status\":\"PERMISSION_DENIED\",\"details\":[{\"@type\":\"type.googleapis.com/"
         "google.rpc.Help\"},{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":"
         "\"SERVICE_DISABLED\",\"domain\":\"googleapis.com\"}]}}",
         ERR_FORBIDDEN,
         "Cloud Run: PERMISSION_DENIED (SERVICE_DISABLED): Cloud Run Admin API has not been used",
         "PERMISSION_DENIED", "SERVICE_DISABLED"},
        {400,
         "{\"error\":{\"code\":400,\"message\":\"a\\nb\\tc\",\"status\":\"FAILED_PRECONDITION\"}}",
         ERR_INVALID, "Cloud Run: FAILED_PRECONDITION: a b c", "FAILED_PRECONDITION", ""},
        {412,
         "{\"error\":{\"code\":412,\"message\":\"At least one\",\"errors\":[{\"reason\":"
         "\"conditionNotMet\"}]}}",
         ERR_MISMATCH, "Cloud Run: HTTP 412 (conditionNotMet): At least one", "conditionNotMet",
         "conditionNotMet"},
        {403, "{\"error\":{\"message\":\"slow\",\"errors\":[{\"reason\":\"rateLimitExceeded\"}]}}",
         ERR_RATE, "Cloud Run: HTTP 403 (rateLimitExceeded): slow", "rateLimitExceeded",
         "rateLimitExceeded"},
        {400, "{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\"}}", ERR_RATE,
         "Cloud Run: RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", ""},
        {404, "<html><body>404. That's an error.</body></html>", ERR_NOT_FOUND,
         "Cloud Run: HTTP 404", "", ""},
        {403, "", ERR_FORBIDDEN, "Cloud Run: HTTP 403", "", ""},
        {403, "null", ERR_FORBIDDEN, "Cloud Run: HTTP 403", "", ""},
        {403, "[{\"error\":{}}]", ERR_FORBIDDEN, "Cloud Run: HTTP 403", "", ""},
        {403, "{\"error\":\"words\"}", ERR_FORBIDDEN, "Cloud Run: words", "words", ""},
        {403, "{\"error\":\"invalid_token\",\"error_description\":\"it is over\"}", ERR_FORBIDDEN,
         "Cloud Run: invalid_token: it is over", "invalid_token", ""},
        {400, "[{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"quota\"}},{}]",
         ERR_RATE, "Cloud Run: RESOURCE_EXHAUSTED: quota", "RESOURCE_EXHAUSTED", ""},
        {403, "{\"error\":{\"status\":5,\"message\":[],\"details\":{},\"errors\":7}}",
         ERR_FORBIDDEN, "Cloud Run: HTTP 403", "", ""},
        {403, "{\"error\":{\"details\":[1,null,{\"@type\":2}],\"errors\":[[]]}}", ERR_FORBIDDEN,
         "Cloud Run: HTTP 403", "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct google_answer answer;
        struct google_call call = get("/v2/x");
        faulty(w, PEER_ANSWER, 1, cases[i].status, NULL, cases[i].body);
        assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
        assert_string_equal(err.msg, cases[i].msg);
        assert_int_equal(err.code, cases[i].code);
        assert_string_equal(answer.reason, cases[i].reason);
        assert_string_equal(answer.detail, cases[i].detail);
        assert_int_equal(answer.retry_after_ms, -1);
    }
}

static void a_token_that_is_told_back_is_in_no_message(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_call call = get("/v2/tell");
    assert_int_equal(google_call(w->google, &call, NULL, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "bad token ***"));
    assert_null(strstr(err.msg, "ya29"));
}

static void hostile_answers_are_bounded_errors(void **state)
{
    struct world *w = *state;
    char deep[2200];
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    deep[2000] = '\0';
    const char *const nonsense[] = {
        "x", "[1]", "\"x\"", "{\"a\":1}}", "{\"a\":1,\"a\":2}", "\xff", deep, "{\"a\":1e999}"};
    for (size_t i = 0; i < COUNT_OF(nonsense); i++) {
        struct err err = ERR_INIT;
        struct google_answer answer;
        struct json *json = NULL;
        struct google_call call = get("/v2/x");
        faulty(w, PEER_ANSWER, 1, 200, NULL, nonsense[i]);
        if (google_call(w->google, &call, &json, &answer, &err) == 0 || err.code != ERR_UPSTREAM ||
            !answer.unsure || json)
            fail_msg("%.20s: %s", nonsense[i], err.msg);
    }
    struct err err = ERR_INIT;
    struct google_answer answer;
    struct google_call call = get("/v2/huge");
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_true(answer.unsure);
    call.path = "/v2/huge-error";
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_false(answer.unsure);
    call.path = "/v2/cut";
    assert_int_equal(google_call(w->google, &call, NULL, &answer, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_int_equal(google_peer_count(w->peer, "/v2/huge"), 2);
}

static void an_empty_answer_is_none_and_a_body_arrives_as_it_is(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct json *json = (struct json *)w; /* any pointer that is not NULL */
    struct google_call call = get("/v2/x");
    faulty(w, PEER_ANSWER, 1, 204, NULL, NULL);
    assert_int_equal(google_call(w->google, &call, &json, NULL, &err), 0);
    assert_null(json);
    call = (struct google_call){.api = GOOGLE_KMS,
                                .method = "POST",
                                .path = "/v1/echo",
                                .body = "{\"a\":\"b\"} trailing",
                                .body_len = 9};
    assert_int_equal(google_call(w->google, &call, &json, NULL, &err), 0);
    assert_string_equal(json_text(json_get(json, "a")), "b");
    json_free(json);
    AUTO(str) char *last = google_peer_last(w->peer);
    assert_non_null(strstr(last, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(last, "Authorization: Bearer ya29."));
    assert_null(strstr(last, "Expect:"));
}

/* --- operations ----------------------------------------------------------------------------- */

static void an_operation_is_waited_for(void **state)
{
    struct world *w = *state;
    static const struct {
        enum google_api api;
        const char *body;
        enum err_code code;
        const char *words;
    } cases[] = {
        {GOOGLE_RUN, "{\"done\":true,\"response\":{\"name\":\"n\"}}", ERR_NONE, NULL},
        {GOOGLE_RUN, "{\"done\":true}", ERR_NONE, NULL},
        {GOOGLE_RUN, "{\"done\":true,\"error\":{\"code\":7,\"message\":\"not you\"}}",
         ERR_FORBIDDEN, "Cloud Run: PERMISSION_DENIED: not you"},
        {GOOGLE_RUN, "{\"done\":true,\"error\":{\"code\":8}}", ERR_RATE,
         "Cloud Run: RESOURCE_EXHAUSTED"},
        {GOOGLE_RUN, "{\"done\":true,\"error\":{\"code\":6}}", ERR_CONFLICT, "ALREADY_EXISTS"},
        {GOOGLE_RUN, "{\"done\":true,\"error\":{\"code\":99,\"message\":5}}", ERR_UPSTREAM,
         "UNKNOWN"},
        {GOOGLE_COMPUTE, "{\"status\":\"DONE\",\"name\":\"n\"}", ERR_NONE, NULL},
        {GOOGLE_COMPUTE,
         "{\"status\":\"DONE\",\"error\":{\"errors\":[{\"code\":\"X\",\"message\":\"no\"}]}}",
         ERR_UPSTREAM, "Compute Engine: no"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(json) struct json *json = NULL;
        faulty(w, PEER_ANSWER, 2, 200, NULL, "{\"name\":\"o\",\"done\":false}");
        faulty(w, PEER_ANSWER, 1, 503, NULL, NULL);
        faulty(w, PEER_ANSWER, 1, 200, NULL, cases[i].body);
        int rc =
            google_await(w->google, cases[i].api, NULL, "/v2/operations/o", 30000, &json, &err);
        if ((rc == 0) != (cases[i].code == ERR_NONE) || (rc && err.code != cases[i].code) ||
            (rc && !strstr(err.msg, cases[i].words)))
            fail_msg("%s: %s", cases[i].body, err.msg);
        if (json)
            assert_string_equal(json_text(json_get(json, "name")), "n");
    }
    struct err err = ERR_INIT;
    static const char over[] = "{\"done\":true,\"error\":null,\"response\":{\"name\":\"n\"}}";
    AUTO(json) struct json *first = json_parse(over, strlen(over), &err);
    struct json *json = NULL;
    int asked = google_peer_count(w->peer, "");
    assert_int_equal(google_await(w->google, GOOGLE_RUN, first, "/v2/x", 1500, &json, &err), 0);
    assert_string_equal(json_text(json_get(json, "name")), "n");
    assert_int_equal(google_peer_count(w->peer, ""), asked);
    json_free(json);
    int64_t began = clock_mono_ms();
    assert_int_equal(google_await(w->google, GOOGLE_RUN, NULL, "/v2/never", 1500, NULL, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(clock_mono_ms() - began < 20000);
}

/* --- many at once --------------------------------------------------------------------------- */

static void *call_ten_times(void *arg)
{
    struct google_call call = get("/v2/x");
    struct err err = ERR_INIT;
    for (int i = 0; i < 10; i++)
        if (google_call(arg, &call, NULL, NULL, &err))
            return "failed";
    return NULL;
}

static void a_hundred_callers_share_as_many_connections(void **state)
{
    struct world *w = *state;
    pthread_t threads[CALLERS];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < CALLERS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, call_ten_times, w->google), 0);
        for (int i = 0; i < CALLERS; i++) {
            void *failure;
            pthread_join(threads[i], &failure);
            assert_null(failure);
        }
    }
    assert_int_equal(w->answered, 2 * CALLERS * 10);
    assert_true(google_peer_connections(w->peer) <= CALLERS + 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_may_pass_is_tried_again_and_once_only_where_nothing_was_done),
        TEST(a_call_that_may_be_made_once_is_sent_once_whatever_becomes_of_its_connection),
        TEST(a_try_that_was_lost_leaves_doubt_though_the_next_is_refused),
        TEST(a_refused_connection_is_tried_again_and_leaves_no_doubt),
        TEST(a_silent_server_takes_no_longer_than_allowed),
        TEST(retry_after_is_waited_for_when_the_time_suffices),
        TEST(the_number_of_tries_can_be_bounded),
        TEST(a_call_stops_when_it_is_asked_to),
        TEST(errors_keep_googles_words),
        TEST(a_token_that_is_told_back_is_in_no_message),
        TEST(hostile_answers_are_bounded_errors),
        TEST(an_empty_answer_is_none_and_a_body_arrives_as_it_is),
        TEST(an_operation_is_waited_for),
        TEST(a_hundred_callers_share_as_many_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
