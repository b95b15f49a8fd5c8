/* Requests and answers: which requests are accepted and refused, and which bytes are sent. */
#include "http_scene.h"

#include "http/head.h"
#include "http/route.h"

#include <fcntl.h>
#include <sys/un.h>

static const char *body_of(const struct buf *answer)
{
    const char *end = strstr(buf_str(answer), "\r\n\r\n");
    return end ? end + 4 : "";
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
                                 "0123456789012345678901234"; /* one byte too long */
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
        peer_send(fd, P("Content-Length: 6\r\n", "ab")); /* the body arrives in three pieces */
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
        peer_send_bytes(fd, body.data, body.len); /* the client sends everything before it reads */
        assert_int_equal(peer_answer(fd, &answer), 403);
        assert_non_null(strstr(buf_str(&answer), "Connection: close"));
        assert_int_equal(peer_recv(fd, &answer, PEER_MS), 0); /* the connection ends without a
                                                               * reset */
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
    fd = peer_connect(http_port(server)); /* this request is refused at once */
    peer_send(fd, P("Expect: 100-continue\r\nContent-Length: 300000\r\n", ""));
    assert_int_equal(peer_answer(fd, &answer), 413);
    close(fd);
}

/* The size line of a chunk is enough for a refusal: none of its bytes must arrive. */
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
    struct http_config config = config_for(2);
    struct err err;
    (void)state;
    config.body_idle_ms = 300;
    struct http_server *other = http_start(&config, &err);
    assert_non_null(other);
    int fd = peer_connect(http_port(other));
    peer_send(fd, P("Content-Length: 5\r\n", "ab")); /* then nothing more comes */
    assert_int_equal(peer_answer(fd, &answer), 408);
    assert_non_null(strstr(buf_str(&answer), "stood still"));
    close(fd);
    http_stop(other, 0);
    config = config_for(2);
    config.body_total_ms = 1500;
    other = http_start(&config, &err);
    assert_non_null(other);
    fd = peer_connect(http_port(other)); /* a byte arrives often enough, but the whole takes too
                                          * long */
    peer_send(fd, CHUNKED(""));
    buf_clear(&answer);
    int64_t end_ms = clock_mono_ms() + PEER_MS;
    while (clock_mono_ms() < end_ms && peer_recv(fd, &answer, 100) < 0)
        peer_send(fd, "1\r\na\r\n");
    assert_int_equal(peer_status(&answer), 408);
    assert_non_null(strstr(buf_str(&answer), "longer than"));
    close(fd);
    http_stop(other, 0);
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
    ask("broken\r\n\r\n", &answer); /* malformed: the gate is not asked */
    peer_wait_for(done_count == dones + 2);
    assert_int_equal(gate_count, gates + 1);
    assert_int_equal(last_status, 400);
    buf_clear(&answer);
    ask(GET, &answer);
    peer_wait_for(done_count == dones + 3);
    assert_true(last_gate_had_route);
}

/* The flag must be set from accept() on: CivetWeb would set it a moment later. */
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
    struct sockaddr_un addr = {.sun_family = AF_UNIX}, own = addr, peer;
    socklen_t len = sizeof(peer);
    char data[4];
    (void)state;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "test-http-%d", (int)getpid());
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 1), 0);
    snprintf(own.sun_path + 1, sizeof(own.sun_path) - 1, "test-http-peer-%d", (int)getpid());
    assert_int_equal(bind(client, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    int fd = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(fd >= 0);
    assert_int_equal(len, sizeof(peer));
    assert_string_equal(peer.sun_path + 1, own.sun_path + 1);
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
    assert_int_equal(err.code, ERR_INTERNAL); /* the port may become free at any moment */
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
    peer_wait_for(peer_count("/proc/self/fd") == quiet_fds); /* connections of earlier tests end */
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
        int silent[8]; /* more connections than workers */
        for (size_t k = 0; k < COUNT_OF(silent); k++)
            silent[k] = peer_connect(http_port(other));
        int64_t began_ms = clock_mono_ms();
        http_stop(other, 100);
        assert_true(clock_mono_ms() - began_ms < 15000);
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
