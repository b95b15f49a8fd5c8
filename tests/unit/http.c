/* Requests and answers: what is taken, what is refused, and what goes over the wire. */
#include "http_peer.h"

#include "base/auto.h"
#include "base/id.h"
#include "http/chunk.h"
#include "http/head.h"
#include "http/interpose.h"
#include "http/request.h"
#include "http/route.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/un.h>

#define BODY_MAX 100000
#define GET "GET /hello HTTP/1.1\r\n" HOST "\r\n"

static struct http_server *server;
static int quiet_fds; /* open while nobody is connected */
static _Atomic int done_count, gate_count, last_status, last_gate_had_route, trouble_count;
static _Atomic size_t stack_seen;

static void hello(struct http_request *req, void *arg)
{
    pthread_attr_t attr;
    size_t size = 0;
    (void)arg;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstacksize(&attr, &size);
    pthread_attr_destroy(&attr);
    atomic_store(&stack_seen, size);
    http_send(req, 200, "text/plain", "hello", 5);
}

static void echo(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf body = BUF_INIT(BODY_MAX);
    struct err err;
    (void)arg;
    if (http_body(req, BODY_MAX, &body, &err) < 0)
        http_send_error(req, &err, NULL);
    else
        http_send(req, 200, "text/plain", buf_str(&body), body.len);
}

/* Says what the accessors say. */
static void tell(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf text = BUF_INIT(BODY_MAX);
    const char *id = http_param(req, "id"), *rest = http_param(req, "rest");
    (void)arg;
    buf_addf(&text, "%s %s id=%s rest=%s peer=%s a=%s", http_method(req), http_path(req),
             id ? id : "-", rest ? rest : "-", http_peer(req),
             http_query(req, "a") ? http_query(req, "a") : "-");
    for (size_t i = 0; http_query_name(req, i); i++)
        buf_addf(&text, " q%zu=%s", i, http_query_name(req, i));
    buf_addf(&text, " header=%s", http_header(req, "x-some") ? http_header(req, "X-SOME") : "-");
    http_add_header(req, "X-Added", "one\r\nX-Forged: two");
    http_send(req, 200, "text/plain", buf_str(&text), text.len);
}

static void negotiate(struct http_request *req, void *arg)
{
    char text[3] = {http_accepts(req, "application/json") ? 'y' : 'n',
                    http_prefers(req, "application/json") ? 'y' : 'n'};
    (void)arg;
    http_send(req, 200, "text/plain", text, 2);
}

static void nothing(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 204, "text/plain", "ignored", 7);
}

static void mute(struct http_request *req, void *arg)
{
    (void)req;
    (void)arg;
}

static void early(struct http_request *req, void *arg)
{
    struct err err;
    (void)arg;
    err_set(&err, ERR_FORBIDDEN, "no \"body\" wanted");
    http_send_error(req, &err, ",\"more\":[1]");
}

static _Atomic int seen_leaving; /* 1: while the client was there, 2: once it had gone */

/* As when the guard cuts a connection off whose worker has just got its request. */
static void cut_off(struct http_request *req, void *arg)
{
    (void)arg;
    atomic_store(&req->conn->cut, true);
    shutdown(req->conn->fd, SHUT_RD);
    atomic_store(&seen_leaving, http_client_left(req) ? 1 : 0);
    http_begin(req, 200, "text/plain");
    http_write(req, "there", 5);
    int64_t end_ms = clock_mono_ms() + PEER_MS;
    while (!http_client_left(req) && clock_mono_ms() < end_ms)
        usleep(1000);
    if (http_client_left(req))
        atomic_fetch_add(&seen_leaving, 2);
    http_end(req, true);
}

static const struct http_route routes[] = {
    {"GET", "/cut-off", cut_off, 0},
    {"GET", "/hello", hello, 0},
    {"GET", "/health", hello, 0},
    {"POST", "/echo", echo, 0},
    {"GET", "/things/{id}", tell, 0},
    {"DELETE", "/things/{id}", tell, 0},
    {"GET", "/things/special", hello, 0},
    {"GET", "/files/{id}/{rest...}", tell, 0},
    {"GET", "/negotiate", negotiate, 0},
    {"GET", "/nothing", nothing, 0},
    {"GET", "/mute", mute, 0},
    {"POST", "/early", early, 0},
};

static bool gate(struct http_request *req, const struct http_route *route, void *arg)
{
    (void)arg;
    atomic_fetch_add(&gate_count, 1);
    atomic_store(&last_gate_had_route, route != NULL);
    if (!http_header(req, "X-Refuse"))
        return true;
    http_send(req, 429, "text/plain", "slower", 6);
    return false;
}

static void count_done(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    (void)arg;
    assert_non_null(http_method(req));
    assert_non_null(http_path(req));
    assert_true(duration_us >= 0);
    atomic_store(&last_status, status);
    atomic_fetch_add(&done_count, 1);
}

static void count_trouble(const char *message, void *arg)
{
    (void)arg;
    assert_non_null(message);
    atomic_fetch_add(&trouble_count, 1);
}

static struct http_config config_for(int workers)
{
    return (struct http_config){.bind = "127.0.0.1",
                                .workers = workers,
                                .routes = routes,
                                .route_count = COUNT_OF(routes),
                                .gate = gate,
                                .done = count_done,
                                .trouble = count_trouble,
                                .head_ms = 5000,
                                .body_idle_ms = 300,
                                .body_total_ms = 1500,
                                .idle_ms = 5000,
                                .parked_max = 10};
}

static int start(void **state)
{
    struct http_config config = config_for(16);
    struct err err;
    (void)state;
    server = http_start(&config, &err);
    if (!server)
        print_error("%s\n", err.msg);
    quiet_fds = peer_count("/proc/self/fd");
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    int64_t began_ms = clock_mono_ms();
    http_stop(server, 0);
    return clock_mono_ms() - began_ms < 2500 ? 0 : -1;
}

/* Sends bytes, says that no more come, and returns the status of the answer. */
static int ask_bytes(const void *data, size_t len, struct buf *out)
{
    int fd = peer_connect(http_port(server));
    peer_send_bytes(fd, data, len);
    shutdown(fd, SHUT_WR);
    assert_true(peer_read_end(fd, out));
    close(fd);
    return peer_status(out);
}

static int ask(const char *request, struct buf *out)
{
    return ask_bytes(request, strlen(request), out);
}

static const char *body_of(const struct buf *answer)
{
    const char *end = strstr(buf_str(answer), "\r\n\r\n");
    return end ? end + 4 : "";
}

#define G(target) "GET " target " HTTP/1.1\r\n" HOST "\r\n"
#define H(lines) "GET /hello HTTP/1.1\r\n" HOST lines "\r\n"
#define P(lines, body) "POST /echo HTTP/1.1\r\n" HOST lines "\r\n" body
#define CHUNKED(body) P("Transfer-Encoding: chunked\r\n", body)

/* Each request alone on its connection; the answer's status and a text within it. */
static const struct {
    const char *request;
    int status;
    const char *text;
} rows[] = {
    /* taken */
    {GET, 200, "\r\n\r\nhello"},
    {"GET /hello HTTP/1.0\r\n\r\n", 200, "Connection: close"},
    {"GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, "Connection: keep-alive"},
    {"\r\n" GET, 200, "hello"},
    {H("Connection: close\r\n"), 200, "Connection: close"},
    {H("Connection: foo, Close\r\n"), 200, "Connection: close"},
    {H("Connection: Upgrade\r\nUpgrade: h2c\r\n"), 200, "Connection: close"},
    {H("Connection: Upgrade\r\nUpgrade: websocket\r\n"), 200, "Connection: close"},
    {H("X-Tab:\tvalue\there\r\n"), 200, "hello"},
    {H("X-Obs: \xe9\r\n"), 200, "hello"},
    {H("X-Empty:\r\n"), 200, "hello"},
    {G("http://test/hello"), 200, "hello"},
    {G("http://other:8080/hello?a=1"), 200, "hello"},
    {G("HTTPS://test/hello"), 200, "hello"},
    {G("http://test?a"), 404, "'/'"},
    {G("/things/a%20b%C3%A9?a=x+y%26z&c&=&d=1"), 200,
     "GET /things/a b\xc3\xa9 id=a b\xc3\xa9 rest=- peer=127.0.0.1 a=x y&z q0=a q1=c q2= q3=d"},
    {G("/things/special"), 200, "hello"},
    {G("/files/x/a/b.txt"), 200, "id=x rest=a/b.txt"},
    {H("Expect: 100-continue\r\n"), 200, "hello"},
    {P("Content-Length: 3\r\n", "abc"), 200, "\r\n\r\nabc"},
    {P("Content-Length: 0\r\n", ""), 200, "Content-Length: 0"},
    {P("", ""), 200, "Content-Length: 0"},
    {P("Content-Length: 00000003\r\n", "abc"), 200, "\r\n\r\nabc"},
    {CHUNKED("3\r\nabc\r\n0\r\n\r\n"), 200, "\r\n\r\nabc"},
    {CHUNKED("1;x=\"y\"\r\na\r\nA\r\n0123456789\r\n000\r\nT: 1\r\nU: 2\r\n\r\n"), 200,
     "\r\n\r\na0123456789"},
    {P("Transfer-Encoding: Chunked\r\n", "0\r\n\r\n"), 200, "Content-Length: 0"},
    /* the request line */
    {"GET /hello HTTP/2.0\r\n" HOST "\r\n", 505, "http_version"},
    {"GET /hello HTTP/1.2\r\n" HOST "\r\n", 505, "http_version"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"},
    {"GET /hello\r\n\r\n", 505, "0.9"},
    {"GET /hello http/1.1\r\n" HOST "\r\n", 400, "version"},
    {"GET /hello HTTP/1.1 \r\n" HOST "\r\n", 400, "version"},
    {"GET /hello HTTP/11\r\n" HOST "\r\n", 400, "version"},
    {"GET  /hello HTTP/1.1\r\n" HOST "\r\n", 400, "target"},
    {" GET /hello HTTP/1.1\r\n" HOST "\r\n", 400, "method"},
    {"\r\n\r\n" GET, 400, "invalid_request"},
    {"G@T /hello HTTP/1.1\r\n" HOST "\r\n", 400, "method"},
    {"nonsense\r\n\r\n", 400, "method"},
    {"TRACE /hello HTTP/1.1\r\n" HOST "\r\n", 501, "TRACE"},
    {"CONNECT test:80 HTTP/1.1\r\n" HOST "\r\n", 501, "CONNECT"},
    {"BREW /hello HTTP/1.1\r\n" HOST "\r\n", 501, "BREW"},
    {"get /hello HTTP/1.1\r\n" HOST "\r\n", 501, "get"},
    {"POST /hello HTTP/1.1\r\n" HOST "\r\n", 405, "Allow: GET, HEAD, OPTIONS\r\n"},
    {"PATCH /things/1 HTTP/1.1\r\n" HOST "\r\n", 405, "Allow: GET, HEAD, DELETE, OPTIONS\r\n"},
    {"OPTIONS /echo HTTP/1.1\r\n" HOST "\r\n", 204, "Allow: POST, OPTIONS\r\n"},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 204, "Allow: GET, HEAD, POST, DELETE, OPTIONS\r\n"},
    {"OPTIONS /hello HTTP/1.1\r\n" HOST
     "Origin: http://x\r\nAccess-Control-Request-Method: GET\r\n\r\n",
     204, "Allow: GET"},
    {G("*"), 400, "target"},
    {G("hello"), 400, "target"},
    {G("ftp://test/hello"), 400, "target"},
    {G("http:///hello"), 400, "target"},
    {G("http://user@test/hello"), 400, "target"},
    /* paths */
    {G("/"), 404, "not_found"},
    {G("/healthzzz"), 404, "not_found"},
    {G("/health/extra"), 404, "not_found"},
    {G("/health/"), 404, "not_found"},
    {G("//hello"), 404, "not_found"},
    {G("/things/"), 404, "not_found"},
    {G("/files/x/"), 404, "not_found"},
    {G("/Hello"), 404, "not_found"},
    {G("/hello%00"), 400, "control character"},
    {G("/hello%0a"), 400, "control character"},
    {G("/hello%7f"), 400, "control character"},
    {G("/things%2fx"), 400, "encoded slash"},
    {G("/things%2Fx"), 400, "encoded slash"},
    {G("/things/%5cx"), 400, "encoded slash"},
    {G("/things\\x"), 400, "backslash"},
    {G("/hello#part"), 400, "'#'"},
    {G("/hello%"), 400, "hex digits"},
    {G("/hello%2"), 400, "hex digits"},
    {G("/hello%zz"), 400, "hex digits"},
    {G("/things/%ff"), 400, "UTF-8"},
    {G("/things/%c0%af"), 400, "UTF-8"},
    {G("/things/%ed%a0%80"), 400, "UTF-8"},
    {G("/things/\xc3\xa9"), 400, "no character"},
    {G("/../hello"), 400, "'..'"},
    {G("/things/.."), 400, "'..'"},
    {G("/things/%2e%2E/hello"), 400, "'..'"},
    {G("/./hello"), 400, "'..'"},
    {G("/hello?a=%zz"), 400, "hex digits"},
    {G("/hello?a=%ff"), 400, "UTF-8"},
    {G("/hello?a=%00"), 400, "control character"},
    /* header lines */
    {"GET /hello HTTP/1.1\r\n\r\n", 400, "no Host"},
    {H(HOST), 400, "more than once"},
    {"GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "Host"},
    {"GET /hello HTTP/1.1\r\nHost:\r\n\r\n", 400, "Host"},
    {"GET /hello HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, "Host"},
    {"GET /hello HTTP/1.1\r\nHost : test\r\n\r\n", 400, "colon"},
    {H("X-A : b\r\n"), 400, "colon"},
    {H("X-A\r\n"), 400, "colon"},
    {H(": b\r\n"), 400, "colon"},
    {H("X-A: b\r\n folded\r\n"), 400, "folded"},
    {H("X-A: b\r\n\tfolded\r\n"), 400, "folded"},
    {"GET /hello HTTP/1.1\r\n folded: x\r\n" HOST "\r\n", 400, "folded"},
    {"GET /hello HTTP/1.1\n" HOST "\r\n", 400, "CR LF"},
    {"GET /hello HTTP/1.1\nHost: test\n\n", 400, "CR LF"},
    {H("X-A: b\nX-C: d\r\n"), 400, "CR LF"},
    {H("X-A: b\rX-C: d\r\n"), 400, "CR LF"},
    {H("X-A: b\x01\r\n"), 400, "control character"},
    {H("X-A: b\x7f\r\n"), 400, "control character"},
    {H("X A: b\r\n"), 400, "colon"},
    {H("Authorization: a\r\nAuthorization: b\r\n"), 400, "more than once"},
    {H("Expect: something\r\n"), 417, "expectation_failed"},
    /* the body's length */
    {P("Content-Length: 5abc\r\n", "abcde"), 400, "Content-Length"},
    {P("Content-Length: +5\r\n", "abcde"), 400, "Content-Length"},
    {P("Content-Length: -1\r\n", ""), 400, "Content-Length"},
    {P("Content-Length:\r\n", ""), 400, "Content-Length"},
    {P("Content-Length: 0x5\r\n", "abcde"), 400, "Content-Length"},
    {P("Content-Length: 5 5\r\n", "abcde"), 400, "Content-Length"},
    {P("Content-Length: 5, 5\r\n", "abcde"), 400, "Content-Length"},
    {P("Content-Length: 9223372036854775808\r\n", ""), 400, "Content-Length"},
    {P("Content-Length: 99999999999999999999999\r\n", ""), 400, "Content-Length"},
    {P("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"), 400, "more than once"},
    {P("Content-Length: 5\r\nContent-Length: 6\r\n", "abcde"), 400, "more than once"},
    {P("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400, "both"},
    {P("Transfer-Encoding: gzip\r\n", ""), 501, "chunked"},
    {P("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, "chunked"},
    {P("Transfer-Encoding: identity\r\n", ""), 501, "chunked"},
    {P("Transfer-Encoding:\r\n", ""), 501, "chunked"},
    {P("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400,
     "more than once"},
    {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0"},
    /* the body */
    {P("Content-Length: 5\r\n", "abc"), 400, "2 bytes short"},
    {P("Content-Length: 100001\r\n", ""), 413, "too_large"},
    {P("Content-Length: 9223372036854775807\r\n", ""), 413, "too_large"},
    {CHUNKED(""), 400, "last chunk"},
    {CHUNKED("3\r\nab"), 400, "last chunk"},
    {CHUNKED("3\r\nabc\r\n"), 400, "last chunk"},
    {CHUNKED("3\r\nabc\r\n0\r\n"), 400, "last chunk"},
    {CHUNKED("3\r\nabcd\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED("3\nabc\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED("3\r6\r\nabc\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED("g\r\n"), 400, "malformed"},
    {CHUNKED("-1\r\n"), 400, "malformed"},
    {CHUNKED("+1\r\na\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED("0x1\r\na\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED(" 1\r\na\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED("\r\n"), 400, "malformed"},
    {CHUNKED(";x\r\n"), 400, "malformed"},
    {CHUNKED("ffffffffffffffff\r\n"), 400, "malformed"},
    {CHUNKED("0000000000000000000003\r\nabc\r\n0\r\n\r\n"), 400, "malformed"},
    {CHUNKED("0\r\nT: \x01\r\n\r\n"), 400, "malformed"},
    {CHUNKED("fffff\r\n"), 413, "too_large"},
    /* others */
    {"HEAD /hello HTTP/1.1\r\n" HOST "\r\n", 200, "Content-Length: 5\r\n"},
    {G("/nothing"), 204, "204 No Content\r\n"},
    {G("/mute"), 500, "not answered"},
    {H("X-Refuse: 1\r\n"), 429, "slower"},
};

static void answers_each_request_as_it_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX * 2);
        int status = ask(rows[i].request, &answer);
        if (status != rows[i].status || !strstr(buf_str(&answer), rows[i].text))
            fail_msg("row %zu: %s\n--> %s", i, rows[i].request, buf_str(&answer));
        if (status >= 400 && status != 429 && !strstr(buf_str(&answer), "application/problem+json"))
            fail_msg("row %zu is no problem: %s", i, buf_str(&answer));
        assert_null(strstr(buf_str(&answer), "Access-Control"));
    }
}

static void reports_a_handler_that_does_not_answer(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    int before = trouble_count;
    assert_int_equal(ask(G("/mute"), &answer), 500);
    assert_int_equal(trouble_count, before + 1);
}

static void refuses_bytes_that_are_no_text(void **state)
{
    static const char nul_in_path[] = "GET /hello\0x HTTP/1.1\r\n" HOST "\r\n";
    static const char nul_in_value[] = "GET /hello HTTP/1.1\r\n" HOST "X-A: \0\r\n\r\n";
    static const char tls[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 some random bytes";
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    assert_int_equal(ask_bytes(nul_in_path, sizeof(nul_in_path) - 1, &answer), 400);
    buf_clear(&answer);
    assert_int_equal(ask_bytes(nul_in_value, sizeof(nul_in_value) - 1, &answer), 400);
    buf_clear(&answer);
    assert_int_equal(ask_bytes(tls, sizeof(tls) - 1, &answer), 400);
    buf_clear(&answer);
    assert_int_equal(ask("", &answer), 0); /* a connection without a request: no answer */
}

/* Fills a text with `count` bytes. */
static void add_many(struct buf *out, char c, size_t count)
{
    memset(buf_room(out, count), c, count);
    buf_grew(out, count);
}

static int ask_sized(size_t target, size_t field, int fields, struct buf *answer)
{
    AUTO(buf) struct buf request = BUF_INIT(1 << 20);
    buf_adds(&request, "GET /");
    add_many(&request, 'a', target);
    buf_adds(&request, " HTTP/1.1\r\n" HOST "X-A: ");
    add_many(&request, 'b', field);
    buf_adds(&request, "\r\n");
    for (int i = 0; i < fields; i++)
        buf_adds(&request, "X-B: c\r\n");
    buf_adds(&request, "\r\n");
    buf_clear(answer);
    return ask_bytes(request.data, request.len, answer);
}

static void bounds_heads(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    assert_int_equal(ask_sized(100, 12000, 0, &answer), 404);
    assert_int_equal(ask_sized(8000, 100, 0, &answer), 404);
    assert_int_equal(ask_sized(8192, 100, 0, &answer), 414);
    assert_int_equal(ask_sized(100000, 100, 0, &answer), 414);
    assert_non_null(strstr(buf_str(&answer), "uri_too_long"));
    assert_int_equal(ask_sized(1, 17000, 0, &answer), 431);
    assert_int_equal(ask_sized(1, 300000, 0, &answer), 431);
    assert_non_null(strstr(buf_str(&answer), "headers_too_large"));
    assert_int_equal(ask_sized(1, 1, 62, &answer), 404);
    assert_int_equal(ask_sized(1, 1, 63, &answer), 431);
    assert_int_equal(ask_sized(1, 1, 1000, &answer), 431);
}

static void sends_the_headers_that_each_answer_has(void **state)
{
    static const char *const has[] = {
        "HTTP/1.1 200 OK\r\nDate: ",           " GMT\r\n",
        "Content-Type: text/plain\r\n",        "Content-Length: 5\r\n",
        "X-Request-ID: my.id~_-9\r\n",         "Cache-Control: no-store\r\n",
        "X-Content-Type-Options: nosniff\r\n", "Connection: keep-alive\r\n\r\nhello"};
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    assert_int_equal(ask(H("X-Request-Id: my.id~_-9\r\n"), &answer), 200);
    for (size_t i = 0; i < COUNT_OF(has); i++)
        assert_non_null(strstr(buf_str(&answer), has[i]));
    buf_clear(&answer);
    ask("HEAD /hello HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_string_equal(body_of(&answer), "");
    buf_clear(&answer);
    ask(G("/nothing"), &answer);
    assert_string_equal(body_of(&answer), "");
    assert_null(strstr(buf_str(&answer), "\r\nContent-"));
    buf_clear(&answer);
    ask(G("/things/1"), &answer);
    assert_non_null(strstr(buf_str(&answer), "\r\nX-Added: one  X-Forged: two\r\n"));
}

static void gives_an_id_where_the_clients_is_not_sane(void **state)
{
    static const char longer[] = "0123456789012345678901234567890123456789"
                                 "0123456789012345678901234"; /* by one */
    const char *const bad[] = {"", "a b", "a\"b", "\xc3\xa9", longer};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        AUTO(buf) struct buf request = BUF_INIT(1000), answer = BUF_INIT(BODY_MAX);
        buf_addf(&request, "GET /hello HTTP/1.1\r\n" HOST "X-Request-ID: %s\r\n\r\n", bad[i]);
        assert_int_equal(ask(buf_str(&request), &answer), 200);
        const char *id = strstr(buf_str(&answer), "X-Request-ID: ");
        assert_non_null(id);
        assert_int_equal(strcspn(id + 14, "\r"), 26);
    }
}

static void describes_problems(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    assert_int_equal(ask("POST /early HTTP/1.1\r\n" HOST "X-Request-ID: q\r\n\r\n", &answer), 403);
    assert_non_null(strstr(buf_str(&answer), "\r\nContent-Type: application/problem+json\r\n"));
    assert_non_null(strstr(body_of(&answer),
                           "{\"type\":\"about:blank\",\"title\":\"Forbidden\",\"status\":403,"
                           "\"detail\":\"no \\\"body\\\" wanted\",\"code\":\"forbidden\","
                           "\"request_id\":\"q\",\"success\":false,"
                           "\"error\":\"no \\\"body\\\" wanted\",\"duration_ms\":"));
    assert_non_null(strstr(body_of(&answer), ",\"more\":[1]}\n"));
}

static void keeps_connections(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    int fd = peer_connect(http_port(server));
    for (int i = 0; i < 50; i++) {
        peer_send(fd, P("Content-Length: 3\r\n", "abc"));
        assert_int_equal(peer_answer(fd, &answer), 200);
        assert_string_equal(body_of(&answer), "abc");
        peer_send(fd, GET);
        assert_int_equal(peer_answer(fd, &answer), 200);
        peer_send(fd, P("Content-Length: 6\r\n", "ab")); /* the body in three pieces */
        peer_send(fd, "cd");
        peer_send(fd, "ef");
        assert_int_equal(peer_answer(fd, &answer), 200);
        assert_string_equal(body_of(&answer), "abcdef");
        peer_send(fd, "POST /early HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nxy");
        assert_int_equal(peer_answer(fd, &answer), 403); /* its small body is skipped */
    }
    peer_send(fd, H("Connection: close\r\n"));
    assert_int_equal(peer_answer(fd, &answer), 200);
    assert_int_equal(peer_recv(fd, &answer, PEER_MS), 0);
    close(fd);
}

static void answers_pipelined_requests_in_order(void **state)
{
    AUTO(buf) struct buf request = BUF_INIT(BODY_MAX), answers = BUF_INIT(BODY_MAX * 4);
    (void)state;
    for (int i = 0; i < 100; i++)
        buf_addf(&request,
                 "GET /things/n%d HTTP/1.1\r\n" HOST "\r\n"
                 "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nb%03d",
                 i, i);
    buf_adds(&request, "nonsense\r\n\r\n");
    ask_bytes(request.data, request.len, &answers);
    const char *at = buf_str(&answers);
    for (int i = 0; i < 100; i++) {
        char text[32];
        snprintf(text, sizeof(text), " id=n%d ", i);
        at = strstr(at, text);
        assert_non_null(at);
        snprintf(text, sizeof(text), "\r\n\r\nb%03d", i);
        at = strstr(at, text);
        assert_non_null(at);
    }
    assert_non_null(strstr(at, "HTTP/1.1 400"));
}

static void answers_before_an_unread_body_and_closes(void **state)
{
    AUTO(buf) struct buf body = BUF_INIT(3 << 20), answer = BUF_INIT(BODY_MAX);
    (void)state;
    add_many(&body, 'x', 2 << 20);
    for (int i = 0; i < 20; i++) {
        int fd = peer_connect(http_port(server));
        peer_send(fd, "POST /early HTTP/1.1\r\n" HOST "Content-Length: 2097152\r\n\r\n");
        peer_send_bytes(fd, body.data, body.len); /* sends all before it reads */
        assert_int_equal(peer_answer(fd, &answer), 403);
        assert_non_null(strstr(buf_str(&answer), "Connection: close"));
        assert_int_equal(peer_recv(fd, &answer, PEER_MS), 0); /* an end, not a reset */
        close(fd);
    }
}

static void tells_a_waiting_client_to_continue(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    int fd = peer_connect(http_port(server));
    peer_send(fd, P("Expect: 100-continue\r\nContent-Length: 3\r\n", ""));
    assert_true(peer_read_until(fd, &answer, "HTTP/1.1 100 Continue\r\n\r\n"));
    peer_send(fd, "abc");
    assert_int_equal(peer_answer(fd, &answer), 200);
    assert_string_equal(body_of(&answer), "abc");
    close(fd);
    fd = peer_connect(http_port(server)); /* refused at once instead */
    peer_send(fd, P("Expect: 100-continue\r\nContent-Length: 300000\r\n", ""));
    assert_int_equal(peer_answer(fd, &answer), 413);
    close(fd);
}

/* What a chunk's size line says is enough: none of its bytes has to come. */
static void refuses_an_announced_chunk_at_once(void **state)
{
    static const char *const sizes[] = {"186a1", "fffffff", "fffffffffffffff", "186a1;x=y"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX), text = BUF_INIT(1000);
        int fd = peer_connect(http_port(server));
        buf_addf(&text, P("Transfer-Encoding: chunked\r\n", "%s\r\n"), sizes[i]);
        peer_send(fd, text.data);
        assert_int_equal(peer_answer(fd, &answer), 413);
        close(fd);
    }
}

static void ends_bodies_that_come_too_slowly(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    int fd = peer_connect(http_port(server));
    peer_send(fd, P("Content-Length: 5\r\n", "ab")); /* then nothing */
    assert_int_equal(peer_answer(fd, &answer), 408);
    assert_non_null(strstr(buf_str(&answer), "stood still"));
    close(fd);
    fd = peer_connect(http_port(server)); /* a byte often enough, but for too long */
    peer_send(fd, CHUNKED(""));
    buf_clear(&answer);
    int64_t end_ms = clock_mono_ms() + PEER_MS;
    while (clock_mono_ms() < end_ms && peer_recv(fd, &answer, 100) < 0)
        peer_send(fd, "1\r\na\r\n");
    assert_int_equal(peer_status(&answer), 408);
    assert_non_null(strstr(buf_str(&answer), "longer than"));
    close(fd);
}

static void chooses_by_accept(void **state)
{
    static const struct {
        const char *accept;
        const char *want; /* accepts, prefers */
    } cases[] = {
        {"*/*", "yn"},
        {"application/json", "yy"},
        {"text/html, Application/JSON;q=0.5", "yy"},
        {"application/*", "yn"},
        {"application/*;q=0, */*", "nn"},
        {"application/json;q=0, */*", "nn"},
        {"application/json; q=0.0", "nn"},
        {"text/html", "nn"},
        {"", "nn"},
        {"application/jsonx", "nn"},
        {"text/*;q=0.3,*/*;q=0.1", "yn"},
    };
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf request = BUF_INIT(1000);
        buf_addf(&request, "GET /negotiate HTTP/1.1\r\n" HOST "Accept: %s\r\n\r\n",
                 cases[i].accept);
        buf_clear(&answer);
        assert_int_equal(ask(buf_str(&request), &answer), 200);
        if (strcmp(body_of(&answer), cases[i].want) != 0)
            fail_msg("Accept: %s: %s", cases[i].accept, body_of(&answer));
    }
    buf_clear(&answer);
    ask(G("/negotiate"), &answer);
    assert_string_equal(body_of(&answer), "yn");
}

static void shows_each_request_to_gate_and_done(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    (void)state;
    int gates = gate_count, dones = done_count;
    ask(G("/nowhere"), &answer);
    peer_wait_for(done_count == dones + 1);
    assert_int_equal(gate_count, gates + 1);
    assert_false(last_gate_had_route);
    assert_int_equal(last_status, 404);
    buf_clear(&answer);
    ask("broken\r\n\r\n", &answer); /* not well-formed: no gate */
    peer_wait_for(done_count == dones + 2);
    assert_int_equal(gate_count, gates + 1);
    assert_int_equal(last_status, 400);
    buf_clear(&answer);
    ask(GET, &answer);
    peer_wait_for(done_count == dones + 3);
    assert_true(last_gate_had_route);
}

static void gives_its_workers_room(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
    struct http_stats stats;
    (void)state;
    assert_int_equal(ask(GET, &answer), 200);
    assert_true(stack_seen >= INTERPOSE_STACK_MIN);
    http_stats(server, &stats);
    assert_int_equal(stats.workers, 16);
    assert_true(stats.requests > COUNT_OF(rows));
    assert_true(stats.refused > 50);
    assert_int_equal(stats.parked, 0);
}

/* The flag must be there from accept() on: CivetWeb's own comes a moment later. */
static void lets_no_child_inherit_a_client(void **state)
{
    (void)state;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in peer;
    socklen_t len = sizeof(addr);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    int client = peer_connect(ntohs(addr.sin_port));
    len = sizeof(peer);
    int fd = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(len, sizeof(peer));
    assert_int_equal(peer.sin_family, AF_INET);
    close(fd);
    close(client);
    close(listener);
}

static void leaves_other_peoples_sockets_alone(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX}, peer;
    socklen_t len = sizeof(peer);
    char data[4];
    (void)state;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "test-http-%d", (int)getpid());
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(bind(client,
                          (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX,
                                                                   .sun_path = "\0test-http-peer"},
                          sizeof(addr)),
                     0);
    assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    int fd = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(fd >= 0);
    assert_int_equal(len, sizeof(peer));
    assert_string_equal(peer.sun_path + 1, "test-http-peer");
    peer_send(client, "abc");
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, PEER_MS), 1);
    assert_int_equal(recv(fd, data, sizeof(data), MSG_PEEK), 3);
    assert_int_equal(recv(fd, data, sizeof(data), 0), 3);
    assert_int_equal(poll(&pfd, 1, 0), 0);
    close(client);
    assert_int_equal(poll(&pfd, 1, -1), 1);
    assert_int_equal(recv(fd, data, sizeof(data), 0), 0);
    close(fd);
    close(listener);
}

static void says_why_it_cannot_start(void **state)
{
    struct http_config config = config_for(2);
    struct err err;
    (void)state;
    config.port = http_port(server);
    assert_null(http_start(&config, &err));
    assert_int_equal(err.code, ERR_INTERNAL); /* it may be free in a moment */
    assert_non_null(strstr(err.msg, "cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(err.msg, "in use"));
    config.bind = "localhost";
    assert_null(http_start(&config, &err));
    assert_non_null(strstr(err.msg, "neither an IPv4"));
}

static void a_connection_cut_off_too_late_has_not_been_left_by_its_client(void **state)
{
    AUTO(buf) struct buf got = BUF_INIT(BODY_MAX);
    (void)state;
    int fd = peer_connect(http_port(server));
    peer_send(fd, "GET /cut-off HTTP/1.1\r\n" HOST "\r\n");
    assert_true(peer_read_until(fd, &got, "there"));
    close(fd);
    peer_wait_for(atomic_load(&seen_leaving) == 2);
}

static void leaves_nothing_behind(void **state)
{
    (void)state;
    peer_wait_for(peer_count("/proc/self/fd") == quiet_fds); /* earlier tests' connections end */
    int threads = peer_count("/proc/self/task");
    for (int i = 0; i < 3; i++) {
        struct http_config config = config_for(4);
        struct err err;
        struct http_server *other = http_start(&config, &err);
        AUTO(buf) struct buf answer = BUF_INIT(BODY_MAX);
        assert_non_null(other);
        int idle = peer_connect(http_port(other)), half = peer_connect(http_port(other));
        peer_send(idle, GET);
        assert_int_equal(peer_answer(idle, &answer), 200);
        peer_send(half, "GET /he");
        int silent[8]; /* more than there are workers */
        for (size_t k = 0; k < COUNT_OF(silent); k++)
            silent[k] = peer_connect(http_port(other));
        int64_t began_ms = clock_mono_ms();
        http_stop(other, 100);
        assert_true(clock_mono_ms() - began_ms < 2500);
        close(idle);
        close(half);
        for (size_t k = 0; k < COUNT_OF(silent); k++)
            close(silent[k]);
    }
    peer_wait_for(peer_count("/proc/self/task") == threads);
    assert_int_equal(peer_count("/proc/self/fd"), quiet_fds);
}

static void prefers_the_plainer_route(void **state)
{
    static const struct http_route table[] = {
        {"GET", "/a/{rest...}", hello, 1},  {"GET", "/a/{id}", hello, 2}, {"GET", "/a/b", hello, 3},
        {"GET", "/a/{id}/c/{x}", hello, 4}, {"PUT", "/a/{id}", hello, 5},
    };
    static const struct {
        const char *method, *path;
        unsigned flags; /* 0: none */
    } cases[] = {
        {"GET", "/a/b", 3},     {"HEAD", "/a/b", 3},  {"GET", "/a/x", 2}, {"PUT", "/a/x", 5},
        {"GET", "/a/x/c/y", 4}, {"GET", "/a/x/c", 1}, {"GET", "/a", 0},   {"GET", "/a/", 0},
        {"PUT", "/a/b", 0},     {"GET", "", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct route_match match;
        route_find(table, COUNT_OF(table), cases[i].method, cases[i].path, &match);
        assert_int_equal(match.route ? match.route->flags : 0, cases[i].flags);
    }
}

static void decodes_chunks_at_any_split(void **state)
{
    static const char text[] =
        "5;ext\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\nT: x\r\n\r\nREST";
    const size_t len = sizeof(text) - 1;
    (void)state;
    for (size_t step = 1; step <= len; step++) {
        AUTO(buf) struct buf out = BUF_INIT(100);
        struct chunk chunk = {0};
        size_t at = 0;
        while (at < len && !chunk_ended(&chunk)) {
            size_t n = len - at < step ? len - at : step;
            ssize_t taken = chunk_feed(&chunk, text + at, n, &out);
            assert_true(taken > 0);
            at += (size_t)taken;
        }
        assert_true(chunk_ended(&chunk));
        assert_string_equal(buf_str(&out), "hello 0123456789");
        assert_string_equal(text + at, "REST");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_each_request_as_it_should),
        cmocka_unit_test(reports_a_handler_that_does_not_answer),
        cmocka_unit_test(refuses_bytes_that_are_no_text),
        cmocka_unit_test(bounds_heads),
        cmocka_unit_test(sends_the_headers_that_each_answer_has),
        cmocka_unit_test(gives_an_id_where_the_clients_is_not_sane),
        cmocka_unit_test(describes_problems),
        cmocka_unit_test(keeps_connections),
        cmocka_unit_test(answers_pipelined_requests_in_order),
        cmocka_unit_test(answers_before_an_unread_body_and_closes),
        cmocka_unit_test(tells_a_waiting_client_to_continue),
        cmocka_unit_test(refuses_an_announced_chunk_at_once),
        cmocka_unit_test(ends_bodies_that_come_too_slowly),
        cmocka_unit_test(chooses_by_accept),
        cmocka_unit_test(shows_each_request_to_gate_and_done),
        cmocka_unit_test(gives_its_workers_room),
        cmocka_unit_test(lets_no_child_inherit_a_client),
        cmocka_unit_test(leaves_other_peoples_sockets_alone),
        cmocka_unit_test(says_why_it_cannot_start),
        cmocka_unit_test(a_connection_cut_off_too_late_has_not_been_left_by_its_client),
        cmocka_unit_test(leaves_nothing_behind),
        cmocka_unit_test(prefers_the_plainer_route),
        cmocka_unit_test(decodes_chunks_at_any_split),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
