#include "http_scene.h"

#include "http/interpose.h"

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
    {G("/paths/a%2Fb%5Cc"), 200, "rest=a/b\\c"},
    {G("/paths/%2Fa%2fb"), 200, "rest=/a/b"},
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
    {G("/files/x/a%2fb"), 400, "encoded slash"},
    {G("/paths/a%2f..%2fb"), 400, "'..'"},
    {G("/paths/a%2fb%0a"), 400, "control character"},
    {G("/things%2Fx"), 400, "encoded slash"},
    {G("/things/%5cx"), 400, "encoded backslash"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_each_request_as_it_should),
        cmocka_unit_test(reports_a_handler_that_does_not_answer),
        cmocka_unit_test(refuses_bytes_that_are_no_text),
        cmocka_unit_test(bounds_heads),
        cmocka_unit_test(gives_its_workers_room),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
