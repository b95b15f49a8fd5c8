#include "net/net.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "loopback.h"
#include "net/address.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* --- addresses ----------------------------------------------------------------------------- */

static bool is_public(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *info;
    if (getaddrinfo(text, NULL, &hints, &info))
        fail_msg("'%s' is no address", text);
    bool answer = address_is_public(info->ai_addr);
    freeaddrinfo(info);
    return answer;
}

/* The first and the last address of every range that is not public. */
static const char *const special[] = {
    "0.0.0.0",
    "0.255.255.255", /* this network */
    "10.0.0.0",
    "10.255.255.255", /* private */
    "100.64.0.0",
    "100.127.255.255", /* shared */
    "127.0.0.0",
    "127.255.255.255", /* loopback */
    "169.254.0.0",
    "169.254.169.254", /* link-local: metadata servers */
    "169.254.255.255",
    "172.16.0.0", /* private */
    "172.31.255.255",
    "192.0.0.0", /* protocol assignments */
    "192.0.0.255",
    "192.0.2.0", /* documentation */
    "192.0.2.255",
    "192.88.99.0", /* 6to4 relays */
    "192.88.99.255",
    "192.168.0.0", /* private */
    "192.168.255.255",
    "198.18.0.0", /* benchmarks */
    "198.19.255.255",
    "198.51.100.0", /* documentation */
    "198.51.100.255",
    "203.0.113.0", /* documentation */
    "203.0.113.255",
    "224.0.0.0", /* multicast */
    "239.255.255.255",
    "240.0.0.0", /* reserved */
    "255.255.255.255",
    "::", /* unspecified */
    "::1",
    "::7f00:1",
    "::8.8.8.8", /* loopback, IPv4-compatible */
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",        /* IPv4-mapped */
    "::ffff:169.254.169.254", /* … */
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",    /* NAT64 */
    "64:ff9b:1::8.8.8.8", /* local-use NAT64 */
    "100::1",
    "100:0:0:1::1", /* discard-only, dummy */
    "2001::1",
    "2001::ffff:ffff", /* Teredo */
    "2001:10::1",
    "2001:20::1", /* ORCHID */
    "2001:2::1",
    "2001:1ff:ffff::1", /* benchmarks, protocol assignments */
    "2001:db8::1",
    "2001:db8:ffff::1", /* documentation */
    "2002:7f00:1::",
    "2002:a00:1::1", /* 6to4 */
    "2002:a9fe:a9fe::",
    "2002:c0a8:101::1", /* … */
    "3fff::1",
    "3fff:fff:ffff::1", /* documentation */
    "5f00::1",
    "fc00::1",
    "fd12:3456::1", /* SRv6, unique local */
    "fdff:ffff::1",
    "fe80::1", /* link-local */
    "febf::1",
    "fec0::1", /* site-local */
    "ff00::1",
    "ff02::1",
    "ffff:ffff::ffff", /* multicast */
};

static void no_special_range_is_public(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(special); i++)
        if (is_public(special[i]))
            fail_msg("%s passes", special[i]);
}

/* Their neighbours are. */
static void what_is_beside_a_special_range_is_public(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "1.0.0.0",         "9.255.255.255",   "11.0.0.0",         "100.63.255.255",
        "100.128.0.0",     "126.255.255.255", "128.0.0.0",        "169.253.255.255",
        "169.255.0.0",     "172.15.255.255",  "172.32.0.0",       "191.255.255.255",
        "192.0.1.0",       "192.0.3.0",       "192.88.98.255",    "192.88.100.0",
        "192.167.255.255", "192.169.0.0",     "198.17.255.255",   "198.20.0.0",
        "198.51.99.255",   "198.51.101.0",    "203.0.112.255",    "203.0.114.0",
        "223.255.255.255", "8.8.8.8",         "::ffff:8.8.8.8",   "64:ff9b::8.8.8.8",
        "2000::1",         "2001:200::1",     "2001:db7:ffff::1", "2001:db9::1",
        "2002:808:808::1", "2606:4700::1111", "3ffe::1",          "3fff:1000::1",
    };
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (!is_public(plain[i]))
            fail_msg("%s does not pass", plain[i]);
}

static void other_families_are_not_public(void **state)
{
    (void)state;
    const struct sockaddr_storage local = {.ss_family = AF_UNIX};
    assert_false(address_is_public((const struct sockaddr *)&local));
    assert_false(address_is_loopback((const struct sockaddr *)&local));
}

/* --- calls --------------------------------------------------------------------------------- */

static struct net_request get(const char *url, enum net_reach reach)
{
    return (struct net_request){
        .method = "GET", .url = url, .reach = reach, .total_ms = 5000, .answer_max = 65536};
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

/* However the host is written, what counts is the address that would be connected to. */
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
            /* without IPv6, or with a resolver that knows better, there is nothing to connect to */
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

/* What a server may do wrong, by the path that is asked for. */
static bool misbehave(struct loopback_call *call, void *arg)
{
    (void)arg;
    const char *what = call->path + 1;
    if (strcmp(what, "silent") == 0)
        return !loopback_await_close(call, 20000);
    if (strcmp(what, "trickle") == 0) {
        loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while (loopback_text(call, "x") && !loopback_await_close(call, 50))
            continue;
        return false;
    }
    if (strcmp(what, "cut-body") == 0)
        return loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), false;
    if (strcmp(what, "cut-chunk") == 0)
        return loopback_text(call, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   "8\r\nhalf"),
               false;
    if (strcmp(what, "cut-head") == 0)
        return loopback_text(call, "HTTP/1.1 200 OK\r\nContent-"), false;
    if (strcmp(what, "nothing") == 0)
        return false;
    if (strcmp(what, "garbage") == 0)
        return loopback_text(call, "SSH-2.0-OpenSSH_9.2\r\n"), false;
    if (strcmp(what, "old") == 0)
        return loopback_text(call, "just text\n"), false;
    for (int i = 0; i < 4000; i++) /* huge-head */
        if (!loopback_text(call, i ? "X-Header: 0123456789012345678901234567890123456789\r\n"
                                   : "HTTP/1.1 200 OK\r\n"))
            break;
    return false;
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
        request.total_ms = 400;
        int64_t began = clock_mono_ms();
        net_call(&request, &answer, &err);
        if (err.code != cases[i].code)
            fail_msg("%s: %s", cases[i].path, err.msg);
        assert_true(clock_mono_ms() - began < 3000);
        assert_null(answer.body.data);
    }
    loopback_stop(server);
}

/* A listener whose queue is full answers no SYN. */
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
    assert_true(clock_mono_ms() - began < 5000);
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

/* --- TLS, served by somebody else's program ------------------------------------------------ */

static pid_t start(char *const argv[], const char *out)
{
    pid_t pid;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return rc == 0 ? pid : -1;
}

/* Makes a certificate for 127.0.0.1 and serves it; the port, or 0 without openssl. */
static int start_tls(const char *dir, pid_t *ret_pid)
{
    char key[128], cert[128], out[128];
    snprintf(key, sizeof(key), "%s/key.pem", dir);
    snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    char *make[] = {"openssl",  "req",    "-x509",   "-newkey",
                    "rsa:2048", "-nodes", "-keyout", key,
                    "-out",     cert,     "-days",   "2",
                    "-subj",    "/CN=t",  "-addext", "subjectAltName=IP:127.0.0.1",
                    NULL};
    char *serve[] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
                     cert,      "-key",     key,       "-www",        NULL};
    int status = -1, port = 0;
    pid_t pid = start(make, out);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return 0;
    *ret_pid = start(serve, out);
    for (int i = 0; i < 2000 && port == 0; i++) {
        struct err err;
        AUTO(buf) struct buf text = BUF_INIT(65536);
        usleep(5000);
        if (file_read(out, &text, &err) == 0 && strstr(buf_str(&text), "ACCEPT 127.0.0.1:"))
            sscanf(strstr(buf_str(&text), "ACCEPT"), "ACCEPT 127.0.0.1:%d\n", &port);
    }
    return port;
}

/* Names the certificates of a folder by their hashes. */
static void rehash(const char *dir)
{
    int status = -1;
    char folder[64];
    snprintf(folder, sizeof(folder), "%s", dir);
    char *argv[] = {"openssl", "rehash", folder, NULL};
    pid_t pid = start(argv, "/dev/null");
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid); /* it complains of the key */
}

static void a_certificate_is_checked(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char dir[] = "/tmp/unit-net-XXXXXX", url[64], path[128];
    pid_t pid = -1;
    assert_non_null(mkdtemp(dir));
    int port = start_tls(dir, &pid);
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
    rehash(dir);
    setenv("SSL_CERT_DIR", dir, 1);
    if (call_code(url, NET_TRUSTED, &err) != ERR_NONE)
        fail_msg("%s", err.msg);
    unsetenv("SSL_CERT_DIR");
    assert_int_equal(call_code(url, NET_TRUSTED, &err), ERR_UPSTREAM);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(path_remove_tree(dir, &err), 0);
}

/* --- relays -------------------------------------------------------------------------------- */

#define PIECE 65536
#define MEBI (INT64_C(1) << 20)

struct side {
    int64_t up_left; /* still to send */
    int64_t down;    /* has come */
    int heads, status;
    int refuse_write_after; /* pieces; 0: never */
    int writes;
    bool refuse_head, refuse_read;
    bool wrong; /* a byte that is not its number */
    _Atomic bool stopping;
    char type[64];
};

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct side *side = arg;
    size_t n = (int64_t)size < side->up_left ? size : (size_t)side->up_left;
    if (side->refuse_read)
        return -1;
    memset(to, 'u', n);
    side->up_left -= (int64_t)n;
    return (ssize_t)n;
}

static int on_head(int status, const struct buf *head, void *arg)
{
    struct side *side = arg;
    side->heads++;
    side->status = status;
    net_header(head, "Content-Type", side->type, sizeof(side->type));
    return side->refuse_head ? -1 : 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct side *side = arg;
    assert_int_equal(side->heads, 1);
    for (size_t i = 0; i < len; i += 997)
        side->wrong |= data[i] != 'd';
    side->down += (int64_t)len;
    side->writes++;
    return side->refuse_write_after && side->writes >= side->refuse_write_after ? -1 : 0;
}

static bool on_stop(void *arg)
{
    struct side *side = arg;
    return side->stopping;
}

static struct net_relay relay_to(const char *url, const char *method, int64_t body_len,
                                 struct side *side)
{
    side->up_left = body_len > 0 ? body_len : side->up_left;
    return (struct net_relay){.method = method,
                              .url = url,
                              .body_len = body_len,
                              .connect_ms = 2000,
                              .silence_ms = 20000,
                              .arg = side,
                              .read = on_read,
                              .head = on_head,
                              .write = on_write,
                              .stop = on_stop};
}

struct far {
    _Atomic int64_t up;   /* bytes of the last body that came */
    _Atomic int64_t down; /* to send */
    _Atomic bool wrong, chunked;
};

static bool stream_both_ways(struct loopback_call *call, void *arg)
{
    struct far *far = arg;
    static _Thread_local char piece[PIECE];
    char line[128];
    ssize_t n;
    int64_t down = far->down;
    far->up = 0;
    while ((n = loopback_read(call, piece, sizeof(piece))) > 0) {
        for (ssize_t i = 0; i < n; i += 997)
            far->wrong = far->wrong || piece[i] != 'u';
        far->up += n;
    }
    far->chunked = loopback_header(call, "Transfer-Encoding", line, sizeof(line)) != NULL;
    snprintf(line, sizeof(line),
             "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: %lld\r\n\r\n",
             (long long)down);
    loopback_text(call, line);
    memset(piece, 'd', sizeof(piece));
    for (int64_t left = down; left > 0; left -= PIECE)
        if (!loopback_send(call, piece, left < PIECE ? (size_t)left : PIECE))
            return false;
    return true;
}

/* The most memory that the process has used since the last call, in KiB. */
static long peak_kib(void)
{
    long kib = -1;
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    AUTO(fd) int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1)
        return -1;
    return kib;
}

static void a_hundred_megabytes_pass_both_ways_at_flat_memory(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct far far = {.down = 100 * MEBI};
    struct loopback *server = loopback_start(stream_both_ways, &far);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int round = 0; round < 3; round++) { /* the first warms up */
        struct side side = {.up_left = 100 * MEBI};
        struct net_relay relay = relay_to(url, "POST", round == 2 ? -1 : 100 * MEBI, &side);
        long before = peak_kib();
        if (net_relay(link, &relay, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(side.down, 100 * MEBI);
        assert_int_equal(far.up, 100 * MEBI);
        assert_int_equal(far.chunked, round == 2);
        assert_false(side.wrong || far.wrong);
        assert_int_equal(side.status, 200);
        assert_string_equal(side.type, "text/x");
        long after = peak_kib();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        if (round > 0 && before > 0)
            assert_true(after - before < 4096);
#else
        (void)before, (void)after;
#endif
    }
    net_link_free(link);
    loopback_stop(server);
}

static void a_link_uses_one_connection(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct far far = {.down = 10};
    struct loopback *server = loopback_start(stream_both_ways, &far);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int i = 0; i < 50; i++) {
        struct side side = {0};
        struct net_relay relay = relay_to(url, i % 2 ? "POST" : "GET", i % 2 ? 1000 : 0, &side);
        assert_int_equal(net_relay(link, &relay, &err), 0);
        assert_int_equal(side.down, 10);
        assert_int_equal(far.up, i % 2 ? 1000 : 0);
    }
    assert_int_equal(loopback_requests(server), 50);
    assert_int_equal(loopback_connections(server), 1);
    net_link_free(link);
    loopback_stop(server);
}

static bool answer_and_close(struct loopback_call *call, void *arg)
{
    (void)arg;
    free(loopback_body(call));
    loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd");
    return false;
}

static void a_kept_connection_that_was_closed_is_replaced(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(answer_and_close, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int i = 0; i < 20; i++) {
        struct side side = {0};
        struct net_relay relay = relay_to(url, "POST", 100, &side);
        if (net_relay(link, &relay, &err))
            fail_msg("%d: %s", i, err.msg);
        usleep(5000);
    }
    assert_int_equal(loopback_requests(server), 20);
    net_link_free(link);
    loopback_stop(server);
}

/* A kept connection that dies unanswered: with `fresh` nothing is sent on it, and so not twice. */
static bool answer_first_only(struct loopback_call *call, void *arg)
{
    _Atomic int *requests = arg;
    return ++*requests == 1 && loopback_answer(call, 200, "", "x");
}

static void a_fresh_relay_is_sent_once(void **state)
{
    (void)state;
    for (int fresh = 0; fresh < 2; fresh++) {
        struct err err = ERR_INIT;
        _Atomic int requests = 0;
        struct loopback *server = loopback_start(answer_first_only, &requests);
        AUTO(str) char *url = loopback_url(server, "/");
        struct net_link *link = net_link_new();
        for (int i = 0; i < 2; i++) {
            struct side side = {0};
            bool sent = false;
            struct net_relay relay = relay_to(url, "POST", 0, &side);
            relay.fresh = fresh;
            relay.ret_sent = &sent;
            assert_int_equal(net_relay(link, &relay, &err), i ? -1 : 0);
            assert_true(sent);
        }
        assert_int_equal(requests, fresh ? 2 : 3);
        net_link_free(link);
        loopback_stop(server);
    }
}

static void a_relay_has_a_time_for_all_of_it_and_says_whether_it_was_sent(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    bool sent = true;
    struct side side = {0};
    struct loopback *server = loopback_start(misbehave, NULL);
    AUTO(str) char *url = loopback_url(server, "/trickle");
    struct net_link *link = net_link_new();
    struct net_relay relay = relay_to(url, "GET", 0, &side);
    relay.total_ms = 400;
    relay.ret_sent = &sent;
    int64_t began = clock_mono_ms();
    assert_int_equal(net_relay(link, &relay, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(sent);
    assert_true(clock_mono_ms() - began < 3000);
    loopback_stop(server);
    assert_int_equal(net_relay(link, &relay, &err), -1); /* nobody listens any more */
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_false(sent);
    net_link_free(link);
}

static bool no_content(struct loopback_call *call, void *arg)
{
    (void)arg;
    return loopback_text(call, "HTTP/1.1 204 No Content\r\nContent-Type: text/none\r\n\r\n");
}

static void an_answer_without_a_body_has_a_head(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(no_content, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    static const char *const methods[] = {"GET", "HEAD", "POST"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        struct side side = {0};
        const struct net_relay relay = relay_to(url, methods[i], 0, &side);
        assert_int_equal(net_relay(link, &relay, &err), 0);
        assert_int_equal(side.heads, 1);
        assert_int_equal(side.status, 204);
        assert_string_equal(side.type, "text/none");
    }
    net_link_free(link);
    loopback_stop(server);
}

static void who_gives_up_is_obeyed_and_the_link_works_again(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct far far = {.down = 100 * MEBI};
    struct loopback *server = loopback_start(stream_both_ways, &far);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int how = 0; how < 3; how++) {
        struct side side = {.refuse_write_after = how == 0 ? 3 : 0,
                            .refuse_head = how == 1,
                            .refuse_read = how == 2};
        far.down = 100 * MEBI;
        struct net_relay relay = relay_to(url, "POST", 100, &side);
        assert_int_equal(net_relay(link, &relay, &err), -1);
        assert_string_equal(err.msg, "given up");
        assert_int_equal(side.writes, how == 0 ? 3 : 0);
        struct side again = {0};
        far.down = 10;
        relay = relay_to(url, "POST", 100, &again);
        assert_int_equal(net_relay(link, &relay, &err), 0);
        assert_int_equal(again.down, 10);
    }
    net_link_free(link);
    loopback_stop(server);
}

static void *stop_soon(void *arg)
{
    struct side *side = arg;
    usleep(100000);
    side->stopping = true;
    return NULL;
}

static bool first_a_little(struct loopback_call *call, void *arg)
{
    (void)arg;
    if (strcmp(call->path, "/little") == 0)
        loopback_text(call, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n");
    loopback_await_close(call, 20000);
    return false;
}

static void a_relay_is_stopped_while_the_other_side_is_silent(void **state)
{
    (void)state;
    struct loopback *server = loopback_start(first_a_little, NULL);
    static const char *const paths[] = {"/nothing", "/little"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct err err = ERR_INIT;
        pthread_t thread;
        struct side side = {0};
        AUTO(str) char *url = loopback_url(server, paths[i]);
        struct net_link *link = net_link_new();
        const struct net_relay relay = relay_to(url, "GET", 0, &side);
        int64_t began = clock_mono_ms();
        pthread_create(&thread, NULL, stop_soon, &side);
        assert_int_equal(net_relay(link, &relay, &err), -1);
        assert_true(clock_mono_ms() - began < 3000);
        assert_string_equal(err.msg, "given up");
        assert_int_equal(side.down, (int64_t)i);
        pthread_join(thread, NULL);
        net_link_free(link);
    }
    loopback_stop(server);
}

static void a_relay_ends_when_nothing_moves_for_too_long(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct side side = {0};
    struct loopback *server = loopback_start(first_a_little, NULL);
    AUTO(str) char *url = loopback_url(server, "/little");
    struct net_link *link = net_link_new();
    struct net_relay relay = relay_to(url, "GET", 0, &side);
    relay.silence_ms = 1000;
    int64_t began = clock_mono_ms();
    assert_int_equal(net_relay(link, &relay, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(clock_mono_ms() - began < 15000);
    net_link_free(link);
    loopback_stop(server);
}

static bool ping(struct loopback_call *call, void *arg)
{
    (void)arg;
    loopback_text(call, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 4; i++) {
        usleep(1500000);
        if (!loopback_text(call, "1\r\nd\r\n"))
            return false;
    }
    return loopback_text(call, "0\r\n\r\n");
}

static void a_stream_that_pings_within_the_time_lives(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct side side = {0};
    struct loopback *server = loopback_start(ping, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    struct net_relay relay = relay_to(url, "GET", 0, &side);
    relay.silence_ms = 4000;
    if (net_relay(link, &relay, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(side.down, 4);
    net_link_free(link);
    loopback_stop(server);
}

static void a_bad_server_ends_a_relay(void **state)
{
    (void)state;
    static const char *const paths[] = {"/cut-body", "/cut-chunk", "/cut-head",
                                        "/nothing",  "/garbage",   "/huge-head"};
    struct loopback *server = loopback_start(misbehave, NULL);
    struct net_link *link = net_link_new();
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct err err = ERR_INIT;
        struct side side = {0};
        AUTO(str) char *url = loopback_url(server, paths[i]);
        const struct net_relay relay = relay_to(url, "GET", 0, &side);
        net_relay(link, &relay, &err);
        if (err.code != ERR_UPSTREAM && err.code != ERR_TOO_LARGE)
            fail_msg("%s: %s", paths[i], err.msg);
    }
    net_link_free(link);
    net_link_free(NULL);
    loopback_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_special_range_is_public),
        cmocka_unit_test(what_is_beside_a_special_range_is_public),
        cmocka_unit_test(other_families_are_not_public),
        cmocka_unit_test(no_spelling_of_a_private_address_is_reached),
        cmocka_unit_test(plain_http_goes_to_loopback_only),
        cmocka_unit_test(other_schemes_are_refused),
        cmocka_unit_test(method_headers_and_body_arrive_and_so_does_the_answer),
        cmocka_unit_test(a_post_without_a_body_has_a_length),
        cmocka_unit_test(a_header_with_a_line_end_is_refused),
        cmocka_unit_test(an_answer_is_taken_up_to_its_maximum),
        cmocka_unit_test(a_bad_server_is_an_error_and_takes_no_longer_than_allowed),
        cmocka_unit_test(a_connection_that_is_not_taken_ends_in_time),
        cmocka_unit_test(redirects_are_answers),
        cmocka_unit_test(only_the_last_answers_head_is_kept),
        cmocka_unit_test(the_environments_proxies_are_not_used),
        cmocka_unit_test(a_certificate_is_checked),
        cmocka_unit_test(a_hundred_megabytes_pass_both_ways_at_flat_memory),
        cmocka_unit_test(a_link_uses_one_connection),
        cmocka_unit_test(a_kept_connection_that_was_closed_is_replaced),
        cmocka_unit_test(a_fresh_relay_is_sent_once),
        cmocka_unit_test(a_relay_has_a_time_for_all_of_it_and_says_whether_it_was_sent),
        cmocka_unit_test(an_answer_without_a_body_has_a_head),
        cmocka_unit_test(who_gives_up_is_obeyed_and_the_link_works_again),
        cmocka_unit_test(a_relay_is_stopped_while_the_other_side_is_silent),
        cmocka_unit_test(a_relay_ends_when_nothing_moves_for_too_long),
        cmocka_unit_test(a_stream_that_pings_within_the_time_lives),
        cmocka_unit_test(a_bad_server_ends_a_relay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
