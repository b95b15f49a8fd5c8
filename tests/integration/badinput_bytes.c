#include "badinput_scene.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the corpus, in bytes ---- */

#define BYTES(text) (text), sizeof(text) - 1
#define AUTHED "Host: x\r\n" RUNNER_AUTH
#define CHUNKED "POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\n"

#define TYPED(type) \
    "POST /execute HTTP/1.1\r\n" AUTHED "Content-Type: " type "\r\nContent-Length: 26\r\n\r\n"

#define GOOD "{\"prompt\":\"standin: ok x\"}"

enum { ANY_REFUSAL = 0 }; /* some 4xx or 5xx, or a closed connection */

static const struct raw_request {
    const char *bytes;
    size_t size;
    int status;
} corpus[] = {
    /* request lines */
    {BYTES("\r\n\r\n"), ANY_REFUSAL},
    {BYTES("\n\n"), ANY_REFUSAL},
    {BYTES("GET\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET  HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1 more\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/0.9\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/2.0\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/9.9\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTX/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health http/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ANY_REFUSAL},
    {BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), ANY_REFUSAL},
    {BYTES("\0\0\0\0\0\0\0\0"), ANY_REFUSAL},
    {BYTES("G\0T /health HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /hea\0lth HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health%00 HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks/%2e%2e%2fx HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks%2fstatus HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks/%zz HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks/% HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks/\xff HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks/a\tb HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET health HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET http://elsewhere:1/execute HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health?%00 HTTP/1.1\r\n\r\n"), ANY_REFUSAL},
    {BYTES("G@T /health HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES(" GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    /* headers */
    {BYTES("GET /health HTTP/1.1\r\n\r\n"), 400},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\n: empty name\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nName : x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nX: a\x01\x62\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\r\n Host: x\r\n\r\n"), ANY_REFUSAL},
    {BYTES("GET /health HTTP/1.1\rHost: x\r\r"), ANY_REFUSAL},
    /* bodies and their lengths */
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 0\r\n\r\n"), 400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: -1\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: +27\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 0x1b\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 27abc\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 2 7\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length:\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Content-Length: 99999999999999999999999\r\n\r\n" GOOD),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 18446744073709551616\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 9223372036854775807\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Content-Length: 26\r\nContent-Length: 5\r\n\r\n" GOOD),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 26, 26\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Content-Length: 26\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 500\r\n\r\n" GOOD), ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 10\r\n\r\n" GOOD), 400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: gzip\r\n\r\n" GOOD),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n"
           "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\nx"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"pro\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"prompt\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\n1a\r\n" GOOD
           "0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\n\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.0\r\n" AUTHED "Transfer-Encoding: chunked\r\n\r\n1a\r\n" GOOD
           "\r\n0\r\n\r\n"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Content-Encoding: gzip\r\nContent-Length: 26\r\n\r\n" GOOD),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Expect: 200-maybe\r\nContent-Length: 26\r\n\r\n" GOOD),
     ANY_REFUSAL},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 4\r\n\r\n\0\0\0\0"), 400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 2\r\n\r\n\xff\xfe"), 400},
    /* chunks that one server would read so and another so */
    {BYTES(CHUNKED "0x1a\r\n" GOOD "\r\n0\r\n\r\n"), 400},
    {BYTES(CHUNKED "1a \r\n" GOOD "\r\n0\r\n\r\n"), 400},
    {BYTES(CHUNKED " 1a\r\n" GOOD "\r\n0\r\n\r\n"), 400},
    {BYTES(CHUNKED "1a\n" GOOD "\n0\n\n"), 400},
    {BYTES(CHUNKED "1a\r\n" GOOD "0\r\n\r\n"), 400},
    {BYTES(CHUNKED "0000000000000001a\r\n" GOOD "\r\n0\r\n\r\n"), 400},
    {BYTES(CHUNKED ";x=y\r\n" GOOD "\r\n0\r\n\r\n"), 400},
    {BYTES(CHUNKED "1a;x=\0y\r\n" GOOD "\r\n0\r\n\r\n"), 400},
    {BYTES(CHUNKED "1a\r\n" GOOD "\r\n"), 400},
    {BYTES(CHUNKED "1a\r\n" GOOD "\r\n0\r\n"), 400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding: \x0b"
           "chunked\r\n\r\n0\r\n\r\n"),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Content-Length: 26\r\nContent-Length: 26\r\n\r\n" GOOD),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length : 26\r\n\r\n" GOOD), 400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "Content-Length: 5000000000\r\n\r\n{}"), 413},
    /* lines that do not end as they should */
    {BYTES("GET /health HTTP/1.1\nHost: x\n\n"), 400},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"), 400},
    {BYTES("GET /health HTTP/1.1\r\nHost: x\rX: y\r\n\r\n"), 400},
    {BYTES("GET\t/health\tHTTP/1.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("GET /health HTTP/01.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("GET /health HTTP/1.2\r\nHost: x\r\n\r\n"), 505},
    {BYTES("get /health HTTP/1.1\r\nHost: x\r\n\r\n"), 501},
    {BYTES("\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("\xef\xbb\xbfGET /health HTTP/1.1\r\nHost: x\r\n\r\n"), ANY_REFUSAL},
    /* paths in other clothes */
    {BYTES("GET /./health HTTP/1.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("GET /x/%2e%2e/health HTTP/1.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("GET /tasks\\status HTTP/1.1\r\n" AUTHED "\r\n"), 400},
    {BYTES("GET /health#x HTTP/1.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("GET /health?x=%z1 HTTP/1.1\r\nHost: x\r\n\r\n"), 400},
    {BYTES("GET /tasks/%c0%ae HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
    {BYTES("GET /tasks/%0d%0aX:y HTTP/1.1\r\n" AUTHED "\r\n"), 400},
    {BYTES("GET /health HTTP/1.1\r\nHost:\r\n\r\n"), 400},
    {BYTES("GET /health HTTP/1.1\r\nHost: a b\r\n\r\n"), 400},
    {BYTES("GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n"), 400},
    /* bodies that say they are something else */
    {BYTES(TYPED("text/html") GOOD), 415},
    {BYTES(TYPED("application/xml") GOOD), 415},
    {BYTES(TYPED("multipart/form-data; boundary=x") GOOD), 415},
    {BYTES(TYPED("application/jsonp") GOOD), 415},
    {BYTES(TYPED("application/json, text/plain") GOOD), 415},
    {BYTES(TYPED("application/json; charset=latin1") GOOD), 415},
    {BYTES(TYPED("application/json\r\nContent-Type: text/plain") GOOD), 400},
    /* headers that mean something */
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED "X-Runner-Secret: another-secret-0123456789\r\n"
           "Content-Length: 26\r\n\r\n" GOOD),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Prefer: wait=-1\r\nContent-Length: 26\r\n\r\n" GOOD),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Prefer: wait=1e9\r\nContent-Length: 26\r\n\r\n" GOOD),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Idempotency-Key: a\tb\r\nContent-Length: 26\r\n\r\n" GOOD),
     400},
    {BYTES("POST /execute HTTP/1.1\r\n" AUTHED
           "Idempotency-Key: \r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
     400},
    {BYTES("GET /tasks?limit=-1 HTTP/1.1\r\n" AUTHED "\r\n"), 400},
    {BYTES("GET /tasks?limit=99999999999999999999 HTTP/1.1\r\n" AUTHED "\r\n"), 400},
    {BYTES("GET /tasks?lmit=1 HTTP/1.1\r\n" AUTHED "\r\n"), 400},
    {BYTES("GET /tasks?status=%ff HTTP/1.1\r\n" AUTHED "\r\n"), 400},
    {BYTES("GET /tasks?cursor=%00 HTTP/1.1\r\n" AUTHED "\r\n"), ANY_REFUSAL},
};

/* Sends the bytes, says that no more come, and takes what the server makes of it. */
static struct reply *exchange(const void *bytes, size_t size)
{
    int fd = http_connect(shared()->base);
    http_send(fd, bytes, size);
    shutdown(fd, SHUT_WR);
    struct reply *reply = http_read(fd, 8000);
    close(fd);
    return reply;
}

/* An answer that refuses, or a closed connection; never silence. Shows what isn't. */
static bool is_refused(const struct reply *reply, int status, const void *bytes, size_t size)
{
    bool closed = reply->status == 0 && reply->closed && reply->body_size == 0;
    bool refused = (reply->status >= 400 && reply->status <= 599) || closed;
    if (refused && (status == ANY_REFUSAL || reply->status == status))
        return true;
    print_error("request: %.*s\n", (int)(size < 300 ? size : 300), (const char *)bytes);
    print_error("answer: %s%.300s\n", reply->head ? reply->head : "(none)", reply->body);
    return false;
}

static void the_corpus_is_refused(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < COUNT(corpus); i++) {
        struct reply *reply = exchange(corpus[i].bytes, corpus[i].size);
        wrong += !is_refused(reply, corpus[i].status, corpus[i].bytes, corpus[i].size);
        reply_free(reply);
    }
    assert_int_equal(wrong, 0);
}

static const char whole[] = "POST /execute HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
                            "Content-Type: application/json\r\nContent-Length: 26\r\n\r\n" GOOD;

static void a_request_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof whole - 1; size++) {
        struct reply *reply = exchange(whole, size);
        assert_true(is_refused(reply, ANY_REFUSAL, whole, size));
        reply_free(reply);
    }
}

/* Every byte of the head in turn becomes something else. The answer may be good or bad; it must be
 * an answer or a closed connection. */
static void a_request_with_any_byte_changed_is_survived(void **state)
{
    (void)state;
    static const char changes[] = {'\0', '\n', '\xff', ':', ' ', '%'};
    size_t head = sizeof whole - sizeof GOOD;
    for (size_t at = 0; at < head; at++) {
        char request[sizeof whole];
        memcpy(request, whole, sizeof whole);
        request[at] = changes[at % sizeof changes];
        struct reply *reply = exchange(request, sizeof whole - 1);
        if (reply->status == 0 && !reply->closed)
            fail_msg("silence after byte %zu became %d", at, request[at]);
        reply_free(reply);
    }
}

/* Each of these names a type that clients give to JSON, or none. */
static void json_may_be_called_by_its_names(void **state)
{
    (void)state;
    static const char *const types[] = {
        "application/json",
        "APPLICATION/JSON; Charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/ld+json",
        "application/x-www-form-urlencoded",
        "text/plain;charset=UTF-8",
        "",
    };
    for (size_t i = 0; i < COUNT(types); i++) {
        char *headers = textf(RUNNER_AUTH "Content-Type: %s\r\n", types[i]);
        print_message("  '%s'\n", types[i]);
        struct reply *reply = http_call(shared()->base, "POST", "/execute", headers, GOOD);
        assert_status(reply, 200);
        reply_free(reply);
        free(headers);
    }
}

/* Noise from a fixed seed, so that a failure can be repeated. */
static void noise_is_survived(void **state)
{
    (void)state;
    unsigned seed = 20260102;
    for (int i = 0; i < 100; i++) {
        char noise[512];
        size_t size = 1 + (size_t)rand_r(&seed) % sizeof noise;
        for (size_t j = 0; j < size; j++)
            noise[j] = (char)rand_r(&seed);
        struct reply *reply = exchange(noise, size);
        assert_true(is_refused(reply, ANY_REFUSAL, noise, size));
        reply_free(reply);
    }
}

static void pipelined_requests_are_each_answered_or_refused(void **state)
{
    (void)state;
    int fd = http_connect(shared()->base);
    assert_true(http_send_text(fd,
                               "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                               "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    struct reply *reply = http_read(fd, 20000);
    assert_status(reply, 200);
    reply_free(reply);
    close(fd);
}

/* What the first request's body length says must hold: its tail is not a second request. */
static void a_smuggled_request_is_not_served(void **state)
{
    (void)state;
    static const char bytes[] = "POST /execute HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
                                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "0\r\n\r\nPOST /execute HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
                                "Content-Type: application/json\r\nContent-Length: 53\r\n\r\n"
                                "{\"prompt\":\"standin: ok smuggled\",\"taskId\":\"smuggled\"}";
    struct reply *reply = exchange(bytes, sizeof bytes - 1);
    assert_true(is_refused(reply, ANY_REFUSAL, bytes, sizeof bytes - 1));
    reply_free(reply);
    reply = runner_get(runner, "/tasks/smuggled");
    assert_status(reply, 404);
    reply_free(reply);
}

_Static_assert(COUNT(corpus) + COUNT(bad_bodies) >= 200, "a corpus of at least 200");

/* Runs the corpus again and counts what the process holds. */
static void nothing_of_it_leaks(void **state)
{
    struct reply *reply = runner_execute(shared(), "standin: ok before", "");
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    int fds = proc_fds(runner->pid), threads = proc_threads(runner->pid);
    for (size_t i = 0; i < COUNT(corpus); i++)
        reply_free(exchange(corpus[i].bytes, corpus[i].size));
    for (size_t i = 0; i < COUNT(bad_bodies); i++)
        reply_free(runner_post(runner, "/execute", bad_bodies[i].body));
    a_request_with_any_byte_changed_is_survived(state);
    noise_is_survived(state);
    EVENTUALLY(30000, proc_fds(runner->pid) <= fds + 2);
    EVENTUALLY(30000, proc_threads(runner->pid) <= threads);
    reply = http_call(runner->base, "GET", "/health", NULL, NULL);
    assert_json_text(reply->json, "status", "healthy");
    reply_free(reply);
    reply = runner_execute(runner, "standin: ok after", "");
    assert_json_text(reply->json, "output", "after");
    reply_free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_corpus_is_refused),
        cmocka_unit_test(a_request_cut_at_any_byte_is_refused),
        cmocka_unit_test(a_request_with_any_byte_changed_is_survived),
        cmocka_unit_test(json_may_be_called_by_its_names),
        cmocka_unit_test(noise_is_survived),
        cmocka_unit_test(pipelined_requests_are_each_answered_or_refused),
        cmocka_unit_test(a_smuggled_request_is_not_served),
        cmocka_unit_test(nothing_of_it_leaks),
    };
    return cmocka_run_group_tests_name("badinput_bytes", tests, NULL, shared_stop);
}
