/* Connections that another protocol takes over: here one that says everything back. */
#include "http_cut.h"
#include "http_peer.h"

#include "base/auto.h"
#include "base/fd.h"

#include <pthread.h>
#include <stdatomic.h>

#define HELD_MAX 65536 /* more than this waits in the socket */
#define BIG ((size_t)8 << 20)
#define ASK "GET /echo HTTP/1.1\r\n" HOST "Connection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n"

/* One connection of the echo. receive() and fill() run on one thread; `say` may be any. */
struct echo {
    pthread_mutex_t lock;
    struct buf held;
    bool ended, paused;
    struct http_parked *handle;
};

static struct http_server *server;
static struct echo echo;
static _Atomic int pauses, ends, done_count, request_count, last_status;
static _Atomic bool break_off, hold;

static enum http_receive receive(const char *data, size_t len, void *arg)
{
    struct echo *e = arg;
    if (atomic_load(&break_off))
        return HTTP_RECEIVE_BROKEN;
    pthread_mutex_lock(&e->lock);
    buf_add(&e->held, data, len);
    e->ended |= len == 0;
    e->paused = e->held.len > HELD_MAX;
    bool paused = e->paused;
    if (e->handle)
        http_stream_wake(e->handle);
    pthread_mutex_unlock(&e->lock);
    atomic_fetch_add(&ends, len == 0);
    atomic_fetch_add(&pauses, paused);
    return paused ? HTTP_RECEIVE_PAUSE : HTTP_RECEIVE_MORE;
}

static enum http_fill fill(struct http_piece *piece, void *arg)
{
    struct echo *e = arg;
    enum http_fill said = HTTP_FILL_WAIT;
    if (atomic_load(&hold))
        return said;
    pthread_mutex_lock(&e->lock);
    size_t len = e->held.len < HTTP_PIECE_BYTES ? e->held.len : HTTP_PIECE_BYTES;
    buf_add(piece->bytes, buf_str(&e->held), len);
    buf_drop(&e->held, len);
    if (e->paused && e->held.len == 0) {
        e->paused = false;
        http_stream_resume(e->handle);
    }
    if (e->held.len > 0)
        said = HTTP_FILL_MORE;
    else if (e->ended)
        said = HTTP_FILL_END;
    pthread_mutex_unlock(&e->lock);
    return said;
}

static void on_done(void *arg)
{
    struct echo *e = arg;
    pthread_mutex_lock(&e->lock);
    e->handle = NULL;
    pthread_mutex_unlock(&e->lock);
    atomic_fetch_add(&done_count, 1);
}

static void upgrade(struct http_request *req, void *arg)
{
    const struct http_stream_config config = {.headers = "X-Echo: yes\r\n",
                                              .heartbeat = "\0beat",
                                              .heartbeat_len = 5,
                                              .heartbeat_ms = atomic_load(&hold) ? 20 : 60000,
                                              .stuck_ms = 60000,
                                              .protocol = "echo",
                                              .receive = receive,
                                              .fill = fill,
                                              .done = on_done,
                                              .arg = &echo};
    struct err err;
    (void)arg;
    if (!http_wants_upgrade(req, "echo")) {
        http_send(req, 400, "text/plain", "ask for an upgrade", 18);
        assert_null(http_upgrade(req, &config, &err));
        return;
    }
    pthread_mutex_lock(&echo.lock); /* done() may come before http_upgrade() returns */
    buf_clear(&echo.held);
    echo.ended = echo.paused = false;
    echo.handle = http_upgrade(req, &config, &err);
    bool upgraded = echo.handle != NULL;
    pthread_mutex_unlock(&echo.lock);
    if (!upgraded)
        http_send_error(req, &err, NULL);
}

static void upgrade_cut_off(struct http_request *req, void *arg)
{
    cut_off_too_late(req);
    upgrade(req, arg);
}

static void hello(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain", "hello", 5);
}

static const struct http_route routes[] = {{"GET", "/echo", upgrade, 0},
                                           {"GET", "/hello", hello, 0},
                                           {"GET", "/cut-off", upgrade_cut_off, 0}};

static void count_request(const struct http_request *req, int status, int64_t duration_us,
                          void *arg)
{
    (void)req;
    (void)duration_us;
    (void)arg;
    atomic_store(&last_status, status);
    atomic_fetch_add(&request_count, 1);
}

static int start(void **state)
{
    const struct http_config config = {.bind = "127.0.0.1",
                                       .workers = 2,
                                       .routes = routes,
                                       .route_count = COUNT_OF(routes),
                                       .done = count_request,
                                       .head_ms = 20000,
                                       .body_idle_ms = 20000,
                                       .body_total_ms = 20000,
                                       .idle_ms = 20000,
                                       .parked_max = 2,
                                       .streams_max = 1};
    struct err err;
    (void)state;
    echo = (struct echo){.lock = PTHREAD_MUTEX_INITIALIZER, .held = BUF_INIT(BIG)};
    atomic_store(&pauses, 0);
    atomic_store(&ends, 0);
    atomic_store(&done_count, 0);
    atomic_store(&request_count, 0);
    atomic_store(&break_off, false);
    atomic_store(&hold, false);
    server = http_start(&config, &err);
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_stop(server, 0);
    buf_done(&echo.held);
    return 0;
}

/* Connects and asks; `more` goes out in the same piece as the head. */
static int take_over(const char *more, struct buf *answer)
{
    AUTO(buf) struct buf ask = BUF_INIT(4096);
    int fd = peer_connect(http_port(server));
    buf_addf(&ask, "%s%s", ASK, more);
    peer_send_bytes(fd, ask.data, ask.len);
    assert_true(peer_read_until(fd, answer, "\r\n\r\n"));
    return fd;
}

static void speaks_another_protocol_after_101(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = take_over("early,", &answer);
    assert_int_equal(peer_status(&answer), 101);
    assert_non_null(strstr(buf_str(&answer), "\r\nUpgrade: echo\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(buf_str(&answer), "\r\nX-Echo: yes\r\n"));
    assert_null(strstr(buf_str(&answer), "Content-"));
    assert_null(strstr(buf_str(&answer), "Transfer-"));
    peer_send(fd, "later.");
    assert_true(peer_read_until(fd, &answer, "early,later."));
    assert_string_equal(strstr(buf_str(&answer), "\r\n\r\n"), "\r\n\r\nearly,later.");
    shutdown(fd, SHUT_WR); /* the end is told once, then the other side ends as well */
    assert_true(peer_read_end(fd, &answer));
    peer_wait_for(atomic_load(&done_count) == 1);
    assert_int_equal(ends, 1);
    assert_int_equal(last_status, 101);
    assert_int_equal(request_count, 1);
}

static void *send_all(void *arg)
{
    int fd = *(int *)arg;
    char piece[4096];
    for (size_t sent = 0; sent < BIG; sent += sizeof(piece)) {
        for (size_t i = 0; i < sizeof(piece); i++)
            piece[i] = (char)((sent + i) * 31 >> 3);
        peer_send_bytes(fd, piece, sizeof(piece));
    }
    shutdown(fd, SHUT_WR);
    return NULL;
}

static void holds_a_fast_sender_back_and_loses_nothing(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000), piece = BUF_INIT(1 << 20);
    pthread_t thread;
    size_t count = 0;
    (void)state;
    AUTO(fd) int fd = take_over("", &answer);
    atomic_store(&hold, true); /* nothing is said back until too much has come */
    assert_int_equal(pthread_create(&thread, NULL, send_all, &fd), 0);
    peer_wait_for(atomic_load(&pauses) > 0);
    atomic_store(&hold, false);
    pthread_mutex_lock(&echo.lock);
    http_stream_wake(echo.handle);
    pthread_mutex_unlock(&echo.lock);
    for (buf_clear(&piece); peer_recv(fd, &piece, PEER_MS) > 0; buf_clear(&piece))
        for (size_t i = 0; i < piece.len; i++, count++)
            if (piece.data[i] != (char)(count * 31 >> 3))
                fail_msg("byte %zu is another one", count);
    pthread_join(thread, NULL);
    assert_int_equal(count, BIG);
    peer_wait_for(atomic_load(&done_count) == 1);
}

static void sends_its_heartbeat_as_it_is(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    atomic_store(&hold, true);
    AUTO(fd) int fd = take_over("", &answer);
    while (answer.len < 5 || memcmp(answer.data + answer.len - 5, "\0beat", 5) != 0)
        assert_true(peer_recv(fd, &answer, PEER_MS) > 0);
}

static void ends_when_either_side_breaks_off(void **state)
{
    struct linger reset = {1, 0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        AUTO(fd) int fd = take_over("", &answer);
        if (i == 0) {
            atomic_store(&break_off, true);
            peer_send(fd, "x");
            assert_true(peer_read_end(fd, &answer));
            atomic_store(&break_off, false);
        } else {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            fd_close(&fd);
        }
        peer_wait_for(atomic_load(&done_count) == i + 1);
        assert_int_equal(last_status, 0);
    }
}

static void is_bounded_and_refused_where_nobody_asked(void **state)
{
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /echo HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /echo HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: other\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\n" HOST "Connection: close\r\nUpgrade: echo\r\n\r\n", 400},
        {"GET /echo HTTP/1.0\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n", 400},
        {"HEAD /echo HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n", 400},
        {"GET /echo HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n"
         "Content-Length: 1\r\n\r\nx",
         400},
        {"GET /hello HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n", 200},
        {ASK, 503}, /* there is one already */
    };
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int first = take_over("", &answer);
    (void)first;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(fd) int fd = peer_connect(http_port(server));
        peer_send(fd, cases[i].request);
        if (strncmp(cases[i].request, "HEAD", 4) == 0) { /* it has a length and no body */
            buf_clear(&answer);
            assert_true(peer_read_end(fd, &answer));
            assert_int_equal(peer_status(&answer), cases[i].status);
        } else {
            assert_int_equal(peer_answer(fd, &answer), cases[i].status);
        }
    }
}

/* Its bytes would be taken for the client's end: the client is told to ask again. */
static void is_refused_when_the_connection_was_cut_off(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = peer_connect(http_port(server));
    peer_send(fd, "GET /cut-off HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_int_equal(peer_answer(fd, &answer), 503);
    assert_non_null(strstr(buf_str(&answer), "cut off"));
    assert_int_equal(ends, 0);
}

static void ends_with_the_server(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = take_over("", &answer);
    http_stop(server, 1000);
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(done_count, 1);
    buf_done(&echo.held);
    assert_int_equal(start(NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(speaks_another_protocol_after_101),
        TEST(holds_a_fast_sender_back_and_loses_nothing),
        TEST(sends_its_heartbeat_as_it_is),
        TEST(ends_when_either_side_breaks_off),
        TEST(is_bounded_and_refused_where_nobody_asked),
        TEST(is_refused_when_the_connection_was_cut_off),
        TEST(ends_with_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
