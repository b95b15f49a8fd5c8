#include "net_scene.h"
#include "net_tls.h"

#include "base/fd.h"
#include "base/path.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- calls --------------------------------------------------------------------------------- */

static struct net_request get(const char *url, enum net_reach reach)
{
    return (struct net_request){
        .method = "GET", .url = url, .reach = reach, .total_ms = 60000, .answer_max = 65536};
}

static enum err_code call_code(const char *url, enum net_reach reach, struct err *err)
{
    AUTO(net_answer) struct net_answer answer = {0};
    const struct net_request request = get(url, reach);
    return net_call(&request, &answer, err) ? err->code : ERR_NONE;
}

static bool serve_never(struct loopback_call *call, void *arg)
{
    (void)call;
    (void)arg;
    return false;
}

/* However the host is spelled, the address that would be connected to decides. */
static void no_spelling_of_a_private_address_is_reached(void **state)
{
    (void)state;
    static const char *const hosts[] = {
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "10.0.0.1",
        "192.168.1.1",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "user:hunter2@127.0.0.1",
        "example.com@127.0.0.1",
        "%31%32%37.0.0.1",
    };
    struct loopback *server = loopback_start(serve_never, NULL);
    for (size_t i = 0; i < COUNT_OF(hosts); i++)
        for (int tls = 0; tls < 2; tls++) {
            struct err err = ERR_INIT;
            char url[256];
            bool named = strchr(hosts[i], ':') && hosts[i][0] == '[';
            snprintf(url, sizeof(url), "%s://%s:%d/", tls ? "https" : "http", hosts[i],
                     loopback_port(server));
            enum err_code code = call_code(url, NET_PUBLIC, &err);
            /* without IPv6, or with a resolver that filters, there is no address to connect to */
            bool nowhere = code == ERR_UPSTREAM && (named || strstr(err.msg, "resolve"));
            if (code != ERR_FORBIDDEN && code != ERR_INVALID && !nowhere)
                fail_msg("%s: %s", url, err.msg);
            assert_null(strstr(err.msg, "hunter2"));
        }
    assert_int_equal(loopback_connections(server), 0);
    loopback_stop(server);
}

static bool say_hello(struct loopback_call *call, void *arg)
{
    (void)arg;
    return loopback_answer(call, 200, "", "hello");
}

static void plain_http_goes_to_loopback_only(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(say_hello, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    assert_int_equal(call_code(url, NET_TRUSTED, &err), ERR_NONE);
    assert_int_equal(call_code(url, NET_PLAIN, &err), ERR_NONE);
    assert_int_equal(call_code(url, NET_PUBLIC, &err), ERR_FORBIDDEN);
    assert_int_equal(call_code("http://192.0.2.1/", NET_TRUSTED, &err), ERR_FORBIDDEN);
    assert_int_equal(call_code("http://0.0.0.0:1/", NET_TRUSTED, &err), ERR_FORBIDDEN);
    loopback_stop(server);
}

static void other_schemes_are_refused(void **state)
{
    (void)state;
    static const char *const urls[] = {"file:///etc/passwd",
                                       "ftp://127.0.0.1/",
                                       "gopher://x/",
                                       "",
                                       "//x",
                                       "x",
                                       "unix:/x",
                                       "httpx://x",
                                       " https://x/",
                                       "http://",
                                       "https:///x",
                                       "http://a b/",
                                       "http://x\r\nHost: y/"};
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        struct err err = ERR_INIT;
        if (call_code(urls[i], NET_TRUSTED, &err) != ERR_INVALID)
            fail_msg("%s: %s", urls[i], err.msg);
    }
}

static bool echo(struct loopback_call *call, void *arg)
{
    (void)arg;
    AUTO(str) char *body = loopback_body(call);
    char headers[512], type[64] = "none", length[64] = "none", expect[64] = "none";
    loopback_header(call, "Content-Type", type, sizeof(type));
    loopback_header(call, "Content-Length", length, sizeof(length));
    loopback_header(call, "Expect", expect, sizeof(expect));
    snprintf(headers, sizeof(headers),
             "X-Method: %s\r\nX-Path: %s\r\nX-Type: %s\r\nX-Length: %s\r\nX-Expect: %s\r\n"
             "x-twice:   a \r\nX-Twice: b\r\nX-Empty:\r\n",
             call->method, call->path, type, length, expect);
    return loopback_answer(call, 207, headers, body);
}

static void assert_header(const struct net_answer *answer, const char *name, const char *want)
{
    char value[256];
    const char *got = net_header(&answer->head, name, value, sizeof(value));
    assert_string_equal(got ? got : "(none)", want);
}

static void method_headers_and_body_arrive_and_so_does_the_answer(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(echo, NULL);
    AUTO(str) char *url = loopback_url(server, "/a/b?c=d%20e");
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    strlist_add(&headers, "Content-Type: application/json");
    struct net_request request = get(url, NET_TRUSTED);
    request.method = "PATCH";
    request.headers = &headers;
    request.body = "a\0b";
    request.body_len = 3;
    if (net_call(&request, &answer, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(answer.status, 207);
    assert_header(&answer, "X-Method", "PATCH");
    assert_header(&answer, "x-path", "/a/b?c=d%20e");
    assert_header(&answer, "X-Type", "application/json");
    assert_header(&answer, "X-Length", "3");
    assert_header(&answer, "X-Expect", "none");
    assert_header(&answer, "X-TWICE", "a");
    assert_header(&answer, "X-Empty", "");
    assert_header(&answer, "X", "(none)");
    assert_header(&answer, "X-Metho", "(none)");
    assert_string_equal(buf_str(&answer.body), "a");
    loopback_stop(server);
}

static bool allow_port(const struct sockaddr *address, void *arg)
{
    struct sockaddr_in in;
    memcpy(&in, address, sizeof(in));
    return address->sa_family == AF_INET && ntohs(in.sin_port) == *(int *)arg;
}

static void an_exception_opens_one_address(void **state)
{
    (void)state;
    struct loopback *server = loopback_start(say_hello, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    for (int right = 0; right < 2; right++) {
        struct err err = ERR_INIT;
        AUTO(net_answer) struct net_answer answer = {0};
        int port = right ? loopback_port(server) : 1;
        struct net_request request = get(url, NET_PUBLIC);
        request.allow = allow_port;
        request.arg = &port;
        assert_int_equal(net_call(&request, &answer, &err), right ? 0 : -1);
        if (!right)
            assert_int_equal(err.code, ERR_FORBIDDEN);
    }
    assert_int_equal(loopback_connections(server), 1);
    loopback_stop(server);
}

/* Sends what it is told to, and then nothing more. */
static bool say_and_hang(struct loopback_call *call, void *arg)
{
    loopback_text(call, arg);
    loopback_await_close(call, 60000);
    return false;
}

/* Posts to a server that may say nothing more, within that time. */
static int post_for_head(const char *url, int ms, struct net_answer *answer, struct err *err)
{
    struct net_request request = get(url, NET_TRUSTED);
    request.method = "POST";
    request.body = "x";
    request.body_len = 1;
    request.head_enough = true;
    request.answer_max = 16;
    request.total_ms = ms;
    return net_call(&request, answer, err);
}

/* A machine that stood still for the short time is given a longer one. */
static void a_head_is_enough_where_the_caller_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        int status; /* 0: no answer */
    } cases[] = {
        {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", 200},                   /* it never
                                                                                     * ends */
        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n0123456789abcdefghij", 200}, /* it is
                                                                                     * truncated */
        {"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 500},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 5\r\n\r\n", 201},
        {"HTTP/1.1 100 Continue\r\n\r\n", 0},
        {"HTTP/1.1 200 OK\r\nContent-Le", 0},
        {"HTTP/1.1 200 OK\r\n", 0},
        {"", 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(str) char *says = strdup(cases[i].says);
        struct loopback *server = loopback_start(say_and_hang, says);
        AUTO(str) char *url = loopback_url(server, "/");
        bool right = false;
        for (int ms = 1500; !right; ms *= 4) {
            struct err err = ERR_INIT;
            AUTO(net_answer) struct net_answer answer = {0};
            int rc = post_for_head(url, ms, &answer, &err);
            right = (rc == 0) == (cases[i].status > 0) && answer.status == cases[i].status;
            if (!right && ms > 20000)
                fail_msg("'%s': %d %s", says, answer.status, err.msg);
            assert_true(answer.body.len <= 16);
            if (right && i == 2)
                assert_string_equal(buf_str(&answer.body), "0123456789abcdef");
        }
        loopback_stop(server);
    }
}

static bool true_at_the_second_time(void *arg)
{
    return ++*(int *)arg > 1;
}

static void a_call_can_be_given_up(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    int asked = 0;
    struct loopback *server = loopback_start(say_and_hang, (char[]){""});
    AUTO(str) char *url = loopback_url(server, "/");
    AUTO(net_answer) struct net_answer answer = {0};
    struct net_request request = get(url, NET_TRUSTED);
    request.total_ms = 60000;
    request.stop = true_at_the_second_time;
    request.arg = &asked;
    int64_t begun = clock_mono_ms();
    assert_int_equal(net_call(&request, &answer, &err), -1);
    assert_string_equal(err.msg, "given up");
    assert_true(clock_mono_ms() - begun < 20000);
    loopback_stop(server);
}

static void a_post_without_a_body_has_a_length(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(echo, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    static const char *const methods[] = {"POST", "PUT", "GET", "DELETE"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        AUTO(net_answer) struct net_answer answer = {0};
        struct net_request request = get(url, NET_TRUSTED);
        request.method = methods[i];
        assert_int_equal(net_call(&request, &answer, &err), 0);
        assert_header(&answer, "X-Method", methods[i]);
        assert_header(&answer, "X-Length", i < 2 ? "0" : "none");
    }
    loopback_stop(server);
}

static void a_header_with_a_line_end_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(echo, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    struct net_request request = get(url, NET_TRUSTED);
    strlist_add(&headers, "X-A: b\r\nX-C: d");
    request.headers = &headers;
    assert_int_equal(net_call(&request, &answer, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(loopback_requests(server), 0);
    loopback_stop(server);
}

static bool answer_of_1000(struct loopback_call *call, void *arg)
{
    (void)arg;
    char body[1001];
    memset(body, 'x', 1000);
    body[1000] = '\0';
    return loopback_answer(call, 200, "", body);
}

static void an_answer_is_taken_up_to_its_maximum(void **state)
{
    (void)state;
    struct loopback *server = loopback_start(answer_of_1000, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    for (size_t max = 999; max <= 1001; max++) {
        struct err err = ERR_INIT;
        AUTO(net_answer) struct net_answer answer = {0};
        struct net_request request = get(url, NET_TRUSTED);
        request.answer_max = max;
        int rc = net_call(&request, &answer, &err);
        size_t room = answer.body.len;
        assert_int_equal(rc, max < 1000 ? -1 : 0);
        assert_int_equal(room, max < 1000 ? 0 : 1000);
        assert_int_equal(err.code, max < 1000 ? ERR_TOO_LARGE : ERR_NONE);
    }
    loopback_stop(server);
}

static void a_bad_server_is_an_error_and_takes_no_longer_than_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum err_code code;
    } cases[] = {
        {"/silent", ERR_TIMEOUT},     {"/trickle", ERR_TIMEOUT},   {"/cut-body", ERR_UPSTREAM},
        {"/cut-chunk", ERR_UPSTREAM}, {"/cut-head", ERR_UPSTREAM}, {"/nothing", ERR_UPSTREAM},
        {"/garbage", ERR_UPSTREAM},   {"/old", ERR_UPSTREAM},      {"/huge-head", ERR_TOO_LARGE},
    };
    struct loopback *server = loopback_start(misbehave, NULL);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(str) char *url = loopback_url(server, cases[i].path);
        AUTO(net_answer) struct net_answer answer = {0};
        struct net_request request = get(url, NET_TRUSTED);
        request.total_ms = cases[i].code == ERR_TIMEOUT ? 400 : 14000;
        int64_t began = clock_mono_ms();
        net_call(&request, &answer, &err);
        if (err.code != cases[i].code)
            fail_msg("%s: %s", cases[i].path, err.msg);
        assert_true(clock_mono_ms() - began < 15000);
        assert_null(answer.body.data);
    }
    loopback_stop(server);
}

/* A listener whose queue is full does not answer a SYN. */
static void a_connection_that_is_not_taken_ends_in_time(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fillers[16], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 0), 0);
    getsockname(listener, (struct sockaddr *)&address, &size);
    for (size_t i = 0; i < COUNT_OF(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, sizeof(address));
    }
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(address.sin_port));
    AUTO(net_answer) struct net_answer answer = {0};
    struct net_request request = get(url, NET_TRUSTED);
    request.connect_ms = 300;
    request.total_ms = 20000;
    int64_t began = clock_mono_ms();
    assert_int_equal(net_call(&request, &answer, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(clock_mono_ms() - began < 15000);
    for (size_t i = 0; i < COUNT_OF(fillers); i++)
        close(fillers[i]);
    close(listener);
}

static bool send_elsewhere(struct loopback_call *call, void *arg)
{
    (void)arg;
    return loopback_answer(call, 302, "Location: /other\r\n", "moved");
}

static void redirects_are_answers(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(send_elsewhere, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    AUTO(net_answer) struct net_answer answer = {0};
    const struct net_request request = get(url, NET_TRUSTED);
    assert_int_equal(net_call(&request, &answer, &err), 0);
    assert_int_equal(answer.status, 302);
    assert_header(&answer, "Location", "/other");
    assert_int_equal(loopback_requests(server), 1);
    loopback_stop(server);
}

static bool continue_first(struct loopback_call *call, void *arg)
{
    (void)arg;
    loopback_text(call, "HTTP/1.1 100 Continue\r\nX-A: early\r\n\r\n"
                        "HTTP/1.1 103 Early Hints\r\nX-A: hint\r\n\r\n");
    return loopback_answer(call, 200, "X-A: last\r\n", "x");
}

static void only_the_last_answers_head_is_kept(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(continue_first, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    AUTO(net_answer) struct net_answer answer = {0};
    const struct net_request request = get(url, NET_TRUSTED);
    assert_int_equal(net_call(&request, &answer, &err), 0);
    assert_int_equal(answer.status, 200);
    assert_header(&answer, "X-A", "last");
    loopback_stop(server);
}

static bool note_tunnel(struct loopback_call *call, void *where)
{
    return snprintf(where, 80, "%.60s", call->head) > 0 && loopback_answer(call, 403, "", "");
}
static void the_owners_proxy_is_asked_for_a_tunnel(void **state)
{
    (void)state;
    struct err err;
    char where[80] = "";
    struct loopback *proxy = loopback_start(note_tunnel, where);
    AUTO(str) char *url = loopback_url(proxy, "");
    setenv("HTTPS_PROXY", url, 1); /* not for what a caller has named */
    (void)call_code("https://google.invalid/", NET_PUBLIC, &err);
    assert_int_equal(loopback_connections(proxy), 0);
    (void)call_code("https://google.invalid/", NET_TRUSTED, &err);
    unsetenv("HTTPS_PROXY");
    assert_non_null(strstr(where, "CONNECT google.invalid:443 "));
    loopback_stop(proxy);
}

static void the_environments_proxies_are_not_used(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(say_hello, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(call_code(url, NET_TRUSTED, &err), ERR_NONE);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    loopback_stop(server);
}

/* --- TLS ------------------------------------------------------------------------------------ */

static void a_certificate_is_checked(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char dir[] = "/tmp/unit-net-XXXXXX", url[64], path[128];
    pid_t pid = -1;
    assert_non_null(mkdtemp(dir));
    int port = tls_serve(dir, &pid);
    if (port == 0) {
        print_message("SKIPPED: no openssl program here\n");
        skip();
    }
    snprintf(url, sizeof(url), "https://127.0.0.1:%d/", port);
    assert_int_equal(call_code(url, NET_TRUSTED, &err), ERR_UPSTREAM); /* an unknown issuer */
    snprintf(path, sizeof(path), "%s/cert.pem", dir);
    setenv("SSL_CERT_FILE", path, 1);
    if (call_code(url, NET_TRUSTED, &err) != ERR_NONE)
        fail_msg("%s", err.msg);
    assert_int_equal(call_code(url, NET_PUBLIC, &err), ERR_FORBIDDEN);
    snprintf(url, sizeof(url), "https://localhost:%d/", port);
    assert_int_equal(call_code(url, NET_TRUSTED, &err), ERR_UPSTREAM); /* another name */
    unsetenv("SSL_CERT_FILE");
    snprintf(url, sizeof(url), "https://127.0.0.1:%d/", port);
    tls_rehash(dir);
    setenv("SSL_CERT_DIR", dir, 1);
    if (call_code(url, NET_TRUSTED, &err) != ERR_NONE)
        fail_msg("%s", err.msg);
    unsetenv("SSL_CERT_DIR");
    assert_int_equal(call_code(url, NET_TRUSTED, &err), ERR_UPSTREAM);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(path_remove_tree(dir, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_spelling_of_a_private_address_is_reached),
        cmocka_unit_test(plain_http_goes_to_loopback_only),
        cmocka_unit_test(other_schemes_are_refused),
        cmocka_unit_test(method_headers_and_body_arrive_and_so_does_the_answer),
        cmocka_unit_test(an_exception_opens_one_address),
        cmocka_unit_test(a_head_is_enough_where_the_caller_says_so),
        cmocka_unit_test(a_call_can_be_given_up),
        cmocka_unit_test(a_post_without_a_body_has_a_length),
        cmocka_unit_test(a_header_with_a_line_end_is_refused),
        cmocka_unit_test(an_answer_is_taken_up_to_its_maximum),
        cmocka_unit_test(a_bad_server_is_an_error_and_takes_no_longer_than_allowed),
        cmocka_unit_test(a_connection_that_is_not_taken_ends_in_time),
        cmocka_unit_test(redirects_are_answers),
        cmocka_unit_test(only_the_last_answers_head_is_kept),
        cmocka_unit_test(the_owners_proxy_is_asked_for_a_tunnel),
        cmocka_unit_test(the_environments_proxies_are_not_used),
        cmocka_unit_test(a_certificate_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
