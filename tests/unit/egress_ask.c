/* What the gate takes from programs that use it as their HTTP proxy. */
#include "testbase.h"

#include "base/buf.h"
#include "runner/egress/ask.h"

#include <stdio.h>
#include <string.h>

/* Reads a whole head. Returns its size, or -1 with the fault. */
static ssize_t read_all(const char *text, size_t len, struct ask *ask, struct ask_fault *fault)
{
    size_t seen = 0;
    *fault = (struct ask_fault){0, ""};
    ssize_t size = ask_size(text, len, &seen, fault);
    return size > 0 && ask_read(text, (size_t)size, ask, fault) ? -1 : size;
}

#define END "\r\n\r\n"
#define LABEL "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg"

static void a_target_is_a_host_and_a_port(void **state)
{
    (void)state;
    static const struct {
        const char *head, *host;
        unsigned port;
        enum ask_host kind;
        bool tunnel;
    } cases[] = {
        {"CONNECT a.example:443 HTTP/1.1" END, "a.example", 443, ASK_NAME, true},
        {"CONNECT A.Example.:22 HTTP/1.0" END, "a.example", 22, ASK_NAME, true},
        {"CONNECT a_b-c:65535 HTTP/1.1" END, "a_b-c", 65535, ASK_NAME, true},
        {"CONNECT " LABEL ".example:1 HTTP/1.1" END, LABEL ".example", 1, ASK_NAME, true},
        {"CONNECT 8.8.8.8:53 HTTP/1.1" END, "8.8.8.8", 53, ASK_IPV4, true},
        {"CONNECT 134744072:53 HTTP/1.1" END, "8.8.8.8", 53, ASK_IPV4, true},
        {"CONNECT 0x8.0x8.010.010:53 HTTP/1.1" END, "8.8.8.8", 53, ASK_IPV4, true},
        {"CONNECT 127.1:80 HTTP/1.1" END, "127.0.0.1", 80, ASK_IPV4, true},
        {"CONNECT 0X7F000001.:80 HTTP/1.1" END, "127.0.0.1", 80, ASK_IPV4, true},
        {"CONNECT [2606:4700::1111]:443 HTTP/1.1" END, "2606:4700::1111", 443, ASK_IPV6, true},
        {"CONNECT [::FFFF:127.0.0.1]:80 HTTP/1.1" END, "::ffff:127.0.0.1", 80, ASK_IPV6, true},
        {"GET http://a.example/ HTTP/1.1" END, "a.example", 80, ASK_NAME, false},
        {"GET HTTP://a.example HTTP/1.1" END, "a.example", 80, ASK_NAME, false},
        {"GET http://a.example?q=@ HTTP/1.1" END, "a.example", 80, ASK_NAME, false},
        {"GET http://a.example:8080/x@b:9/ HTTP/1.1" END, "a.example", 8080, ASK_NAME, false},
        {"GET http://[::1]:81/ HTTP/1.1" END, "::1", 81, ASK_IPV6, false},
        {"GET http://a.example/ HTTP/1.1\r\nHost: b.example" END, "a.example", 80, ASK_NAME, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct ask ask;
        struct ask_fault fault;
        if (read_all(cases[i].head, strlen(cases[i].head), &ask, &fault) < 0)
            fail_msg("%s: %s", cases[i].head, fault.why);
        assert_string_equal(ask.host, cases[i].host);
        assert_int_equal(ask.port, cases[i].port);
        assert_int_equal(ask.kind, cases[i].kind);
        assert_int_equal(ask.tunnel, cases[i].tunnel);
    }
}

/* A head that is refused with that status; `len` 0: its strlen(). */
struct wrong {
    const char *head;
    size_t len;
    int status;
};

static const struct wrong wrong_tunnels[] = {
    {"CONNECT a.example HTTP/1.1" END, 0, 400},
    {"CONNECT a.example: HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:0 HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:65536 HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:99999999999 HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:+80 HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:080 HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:80:90 HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:80/ HTTP/1.1" END, 0, 400},
    {"CONNECT :80 HTTP/1.1" END, 0, 400},
    {"CONNECT .:80 HTTP/1.1" END, 0, 400},
    {"CONNECT a..b:80 HTTP/1.1" END, 0, 400},
    {"CONNECT a%2eb:80 HTTP/1.1" END, 0, 400},
    {"CONNECT a\xc3\xa4:80 HTTP/1.1" END, 0, 400},
    {"CONNECT " LABEL "g:80 HTTP/1.1" END, 0, 400},
    {"CONNECT 1.2.3.4.5:80 HTTP/1.1" END, 0, 400},
    {"CONNECT 256.256.256.256:80 HTTP/1.1" END, 0, 400},
    {"CONNECT a.0x:80 HTTP/1.1" END, 0, 400},
    {"CONNECT [::1:80 HTTP/1.1" END, 0, 400},
    {"CONNECT [::1]80 HTTP/1.1" END, 0, 400},
    {"CONNECT [fe80::1%lo]:80 HTTP/1.1" END, 0, 400},
    {"CONNECT [a.example]:80 HTTP/1.1" END, 0, 400},
    {"CONNECT []:80 HTTP/1.1" END, 0, 400},
    {"CONNECT ::1:80 HTTP/1.1" END, 0, 400},
    {"CONNECT u:p@a.example:80 HTTP/1.1" END, 0, 400},
    {"CONNECT http://a.example/ HTTP/1.1" END, 0, 400},
    {"CONNECT a.example:80 HTTP/1.1\r\nContent-Length: 3" END, 0, 400},
    {"CONNECT a.example:80 HTTP/1.1\r\nTransfer-Encoding: chunked" END, 0, 400},
    {"CONNECT a.example:80  HTTP/1.1" END, 0, 400},
    {"CONNECT\ta.example:80 HTTP/1.1" END, 0, 400},
};

static const struct wrong wrong_lines[] = {
    {"GET http://u@a.example/ HTTP/1.1" END, 0, 400},
    {"GET http://u:p@a.example/ HTTP/1.1" END, 0, 400},
    {"GET http:///x HTTP/1.1" END, 0, 400},
    {"GET http://a.example:/ HTTP/1.1" END, 0, 400},
    {"GET http://a.example/#x HTTP/1.1" END, 0, 400},
    {"GET http://a.example\\@b.example/ HTTP/1.1" END, 0, 400},
    {"GET https://a.example/ HTTP/1.1" END, 0, 400},
    {"GET ftp://a.example/ HTTP/1.1" END, 0, 400},
    {"GET / HTTP/1.1\r\nHost: a.example" END, 0, 400},
    {"G(T http://a.example/ HTTP/1.1" END, 0, 400},
    {" GET http://a.example/ HTTP/1.1" END, 0, 400},
    {"\r\nGET http://a.example/ HTTP/1.1" END, 0, 400},
    {"GET http://a.example/\r\n", 0, 400}, /* HTTP/0.9: at once */
    {"GET http://a.example/ HTTP/2.0\r\n", 0, 505},
    {"PRI * HTTP/2.0\r\n", 0, 505},
    {"GET http://a.example/ HTTP/1.1 \r\n", 0, 505},
    {"GET http://a.example/ http/1.1\r\n", 0, 400},
    {"GET http://a.example/ HTTP/1.1\n", 0, 400},
    {"GET http://a.example/ HTTP/1.1\r\r", 0, 400},
    {"GET http://a.example/\rX HTTP/1.1", 0, 400},
    {"GET http://a.example/ HTTP/1.1\r\nA: b\0c" END, 40, 400},
    {"CONNECT a.example\0.b:80 HTTP/1.1" END, 33, 400},
    {"GET http://a.example/ HTTP/1.1\r\nA: b\x7f" END, 0, 400},
    {"GET http://a.example/ HTTP/1.1\r\nA b" END, 0, 400},
    {"GET http://a.example/ HTTP/1.1\r\nA : b" END, 0, 400},
    {"GET http://a.example/ HTTP/1.1\r\n: b" END, 0, 400},
    {"GET http://a.example/ HTTP/1.1\r\nA: b\r\n c" END, 0, 400},
};

static const struct wrong wrong_lengths[] = {
    {"GET http://a.example/ HTTP/1.1\r\nHost: a\r\nhost: b" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length: 3, 3" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length: -1" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length: 0x3" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length:" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length: 9999999999999999999" END, 0, 400},
    {"PUT http://a.example/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked" END, 0,
     400},
    {"PUT http://a.example/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked" END, 0, 501},
    {"PUT http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: "
     "chunked" END,
     0, 501},
    {"PUT http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked" END, 0, 501},
    {"\x05\x01\x00", 3, 400},     /* SOCKS */
    {"\x16\x03\x01\x02", 4, 400}, /* TLS */
};

static void refuse_all(const struct wrong *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct ask ask;
        struct ask_fault fault;
        size_t len = cases[i].len ? cases[i].len : strlen(cases[i].head);
        if (read_all(cases[i].head, len, &ask, &fault) >= 0 || fault.status != cases[i].status)
            fail_msg("%zu, %s: %d %s", i, cases[i].head, fault.status, fault.why);
    }
}

static void what_the_grammar_does_not_have_is_refused(void **state)
{
    (void)state;
    refuse_all(wrong_tunnels, COUNT(wrong_tunnels));
    refuse_all(wrong_lines, COUNT(wrong_lines));
    refuse_all(wrong_lengths, COUNT(wrong_lengths));
}

static void a_head_ends_within_8_kib(void **state)
{
    (void)state;
    static char text[ASK_HEAD_MAX + 16];
    struct ask ask;
    struct ask_fault fault;
    int n = snprintf(text, sizeof(text), "GET http://a.example/ HTTP/1.1\r\nA: ");
    memset(text + n, 'a', sizeof(text) - (size_t)n);
    assert_int_equal(read_all(text, 4000, &ask, &fault), 0); /* there may be more */
    memcpy(text + ASK_HEAD_MAX - 4, END, 4);
    assert_int_equal(read_all(text, ASK_HEAD_MAX, &ask, &fault), ASK_HEAD_MAX);
    memset(text + ASK_HEAD_MAX - 4, 'a', 4);
    memcpy(text + ASK_HEAD_MAX - 3, END, 4);
    assert_int_equal(read_all(text, ASK_HEAD_MAX, &ask, &fault), -1);
    assert_int_equal(fault.status, 431);
    assert_int_equal(read_all(text, ASK_HEAD_MAX + 1, &ask, &fault), -1);
    assert_int_equal(fault.status, 431);
}

static void a_head_may_come_byte_by_byte(void **state)
{
    (void)state;
    static const char text[] = "CONNECT a.example:443 HTTP/1.1\r\nA: b" END "rest";
    const size_t size = sizeof(text) - 1 - 4;
    struct ask_fault fault;
    size_t seen = 0;
    for (size_t len = 0; len < size; len++)
        assert_int_equal(ask_size(text, len, &seen, &fault), 0);
    assert_int_equal(ask_size(text, size + 4, &seen, &fault), size);
}

static void a_server_gets_its_own_head_and_no_other(void **state)
{
    (void)state;
    static const struct {
        const char *asked, *sent;
    } cases[] = {
        {"GET http://A.example/x?y HTTP/1.1\r\nHost: evil.example\r\nAccept: */*" END,
         "GET /x?y HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nConnection: close" END},
        {"GET http://a.example:8080?y HTTP/1.0" END,
         "GET /?y HTTP/1.0\r\nHost: a.example:8080\r\nConnection: close" END},
        {"GET http://[::FFFF:8.8.8.8] HTTP/1.1" END,
         "GET / HTTP/1.1\r\nHost: [::ffff:8.8.8.8]\r\nConnection: close" END},
        {"GET http://0x8.8.8.8:80/ HTTP/1.1" END,
         "GET / HTTP/1.1\r\nHost: 8.8.8.8\r\nConnection: close" END},
        {"PUT http://a.example/ HTTP/1.1\r\nConnection: X-A , content-length\r\nX-A: 1\r\nx-b: "
         "2\r\n"
         "connection: X-B\r\nContent-Length: 3\r\nProxy-Authorization: secret\r\nKeep-Alive: 5\r\n"
         "Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nX-C: 3" END,
         "PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nX-C: 3\r\n"
         "Connection: close" END},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct ask ask;
        struct ask_fault fault;
        AUTO(buf) struct buf out = BUF_INIT(4096);
        ssize_t size = read_all(cases[i].asked, strlen(cases[i].asked), &ask, &fault);
        assert_true(size > 0);
        ask_print(&ask, cases[i].asked, (size_t)size, &out);
        assert_string_equal(buf_str(&out), cases[i].sent);
    }
}

static void what_follows_belongs_to_the_request_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *field, *rest;
        ssize_t taken;
    } cases[] = {
        {"A: b", "GET http://b.example/ HTTP/1.1" END, 0},
        {"Content-Length: 3", "abcGET", 3},
        {"Content-Length: 5", "abc", 3},
        {"Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\nGET", 13},
        {"Transfer-Encoding: Chunked", "3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n", 23},
        {"Transfer-Encoding: chunked", "3\r\nab", 5},
        {"Transfer-Encoding: chunked", "3\nabc\n0\n\n", -1},
        {"Transfer-Encoding: chunked", "-1\r\n", -1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct ask ask;
        struct ask_fault fault;
        AUTO(buf) struct buf head = BUF_INIT(4096);
        buf_addf(&head, "POST http://a.example/ HTTP/1.1\r\n%s" END, cases[i].field);
        assert_true(read_all(buf_str(&head), head.len, &ask, &fault) > 0);
        ssize_t taken = ask_take(&ask.body, cases[i].rest, strlen(cases[i].rest));
        if (taken != cases[i].taken)
            fail_msg("%s, %s: %zd", cases[i].field, cases[i].rest, taken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_a_host_and_a_port),
        cmocka_unit_test(what_the_grammar_does_not_have_is_refused),
        cmocka_unit_test(a_head_ends_within_8_kib),
        cmocka_unit_test(a_head_may_come_byte_by_byte),
        cmocka_unit_test(a_server_gets_its_own_head_and_no_other),
        cmocka_unit_test(what_follows_belongs_to_the_request_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
