/* Parked requests: answered later, slowly, or never. */
#include "http_cut.h"
#include "http_peer.h"

#include "base/auto.h"
#include "base/fd.h"
#include "http/timer.h"

#include <pthread.h>
#include <stdatomic.h>

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define BIG ((size_t)20 << 20)

/* A parked request as its holder sees it. */
struct waiter {
    struct http_parked *parked;
    _Atomic int gone, waited, done;
    bool answer_when_waited;
};

static struct http_server *server;
static struct http_park_config park_config;
static struct waiter waiter; /* the request that /park parks */
static _Atomic(struct http_parked *) parked_now;
static _Atomic int done_count, last_status;
static char *big;

static void on_gone(void *arg)
{
    atomic_fetch_add(&((struct waiter *)arg)->gone, 1);
}

static void on_waited(void *arg)
{
    struct waiter *w = arg;
    atomic_fetch_add(&w->waited, 1);
    while (w->answer_when_waited && !atomic_load(&parked_now)) /* its worker goes on beside this */
        usleep(1000);
    if (w->answer_when_waited)
        http_parked_send(atomic_load(&parked_now), 202, "application/json", "Location: /x\r\n",
                         "{}", 2);
}

static void on_done(void *arg)
{
    atomic_fetch_add(&((struct waiter *)arg)->done, 1);
}

static void park(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    struct http_park_config config = park_config;
    struct err err;
    (void)arg;
    config.gone = on_gone;
    config.waited = on_waited;
    config.done = on_done;
    config.arg = &waiter;
    if (http_body(req, 1 << 20, &body, &err) < 0) {
        http_send_error(req, &err, NULL);
        return;
    }
    http_add_header(req, "X-Gate", "seen");
    struct http_parked *parked = http_park(req, &config, &err);
    if (parked)
        atomic_store(&parked_now, parked);
    else
        http_send_error(req, &err, NULL);
}

static void park_cut_off(struct http_request *req, void *arg)
{
    cut_off_too_late(req);
    park(req, arg);
}

static void hello(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain", "hello", 5);
}

static void send_big(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain", big, BIG);
}

static const struct http_route routes[] = {
    {"GET", "/park", park, 0},   {"GET", "/cut-off", park_cut_off, 0}, {"POST", "/park", park, 0},
    {"GET", "/hello", hello, 0}, {"GET", "/big", send_big, 0},
};

static void count_done(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    (void)arg;
    (void)duration_us;
    assert_non_null(http_path(req));
    atomic_store(&last_status, status);
    atomic_fetch_add(&done_count, 1);
}

static struct http_server *start_with(int workers)
{
    struct http_config config = {.bind = "127.0.0.1",
                                 .workers = workers,
                                 .routes = routes,
                                 .route_count = COUNT_OF(routes),
                                 .done = count_done,
                                 .head_ms = 20000,
                                 .body_idle_ms = 20000,
                                 .body_total_ms = 20000,
                                 .idle_ms = 20000,
                                 .parked_max = 300};
    struct err err;
    return http_start(&config, &err);
}

static int start(void **state)
{
    (void)state;
    memset(&waiter, 0, sizeof(waiter));
    park_config = (struct http_park_config){0};
    atomic_store(&parked_now, NULL);
    atomic_store(&done_count, 0);
    server = start_with(4);
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_stop(server, 0);
    return 0;
}

static int ask_to_park(const char *request)
{
    int fd = peer_connect(http_port(server));
    peer_send(fd, request);
    peer_wait_for(atomic_load(&parked_now) != NULL);
    return fd;
}

static struct http_parked *take_parked(void)
{
    return atomic_exchange(&parked_now, NULL);
}

static int parked_count(void)
{
    struct http_stats stats;
    http_stats(server, &stats);
    return stats.parked;
}

static void answers_a_parked_request_later(void **state)
{
    static const char *const requests[] = {
        GET("/park"), "POST /park HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody",
        "POST /park HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "GET /park HTTP/1.0\r\n\r\n"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        int fd = ask_to_park(requests[i]);
        assert_int_equal(parked_count(), 1);
        http_parked_send(take_parked(), 201, "application/json", "Location: /y\r\n", "{\"a\":1}",
                         7);
        assert_true(peer_read_end(fd, &answer));
        assert_int_equal(peer_status(&answer), 201);
        assert_non_null(strstr(buf_str(&answer), "X-Gate: seen\r\nLocation: /y\r\nConnection: close"
                                                 "\r\n\r\n{\"a\":1}"));
        assert_non_null(strstr(buf_str(&answer), "Content-Length: 7\r\n"));
        peer_wait_for(atomic_load(&waiter.done) == (int)i + 1);
        assert_int_equal(last_status, 201);
        assert_int_equal(parked_count(), 0);
        close(fd);
    }
    assert_int_equal(waiter.gone, 0);
    assert_int_equal(done_count, COUNT_OF(requests));
}

static void answers_a_parked_head_without_body(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    park_config.keepalive_after_ms = 5;
    park_config.keepalive_every_ms = 5;
    park_config.wait_ms = 50;
    waiter.answer_when_waited = false;
    int fd = ask_to_park("HEAD /park HTTP/1.1\r\n" HOST "\r\n");
    peer_wait_for(atomic_load(&waiter.waited) == 1);
    http_parked_send(take_parked(), 200, "application/json", NULL, "{\"a\":1}", 7);
    assert_true(peer_read_end(fd, &answer));
    assert_non_null(strstr(buf_str(&answer), "Content-Length: 7\r\n"));
    assert_string_equal(strstr(buf_str(&answer), "\r\n\r\n"), "\r\n\r\n");
    close(fd);
}

/* Removes the chunk framing, which must be right. */
static void unchunk(const char *text, struct buf *out)
{
    for (;;) {
        char *end;
        unsigned long len = strtoul(text, &end, 16);
        assert_true(end > text);
        assert_memory_equal(end, "\r\n", 2);
        buf_add(out, end + 2, len);
        assert_memory_equal(end + 2 + len, "\r\n", 2);
        text = end + 2 + len + 2;
        if (len == 0)
            break;
    }
    assert_string_equal(text, "");
}

static void keeps_a_waiting_client_alive_with_white_space(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000), body = BUF_INIT(100000);
    (void)state;
    park_config.keepalive_after_ms = 20;
    park_config.keepalive_every_ms = 20;
    int fd = ask_to_park(GET("/park"));
    assert_true(peer_read_until(fd, &answer, "1\r\n \r\n1\r\n \r\n1\r\n \r\n"));
    http_parked_send(take_parked(), 500, "text/plain", "X-Lost: 1\r\n", "{\"a\":1}", 7);
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(peer_status(&answer), 200);
    assert_non_null(strstr(buf_str(&answer), "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(buf_str(&answer), "Content-Type: application/json\r\n"));
    assert_null(strstr(buf_str(&answer), "Content-Length"));
    unchunk(strstr(buf_str(&answer), "\r\n\r\n") + 4, &body);
    assert_string_equal(buf_str(&body) + strspn(buf_str(&body), " "), "{\"a\":1}");
    peer_wait_for(atomic_load(&waiter.done) == 1);
    assert_int_equal(last_status, 200);
    close(fd);

    buf_clear(&answer); /* HTTP/1.0 has no chunks: the body ends with the connection */
    fd = ask_to_park("GET /park HTTP/1.0\r\n\r\n");
    assert_true(peer_read_until(fd, &answer, "\r\n\r\n  "));
    http_parked_send(take_parked(), 200, "application/json", NULL, "{}", 2);
    assert_true(peer_read_end(fd, &answer));
    assert_null(strstr(buf_str(&answer), "chunked"));
    assert_string_equal(buf_str(&answer) + answer.len - 3, " {}");
    close(fd);

    buf_clear(&answer); /* an answer without a body stays without one */
    buf_clear(&body);
    fd = ask_to_park(GET("/park"));
    assert_true(peer_read_until(fd, &answer, "1\r\n \r\n"));
    http_parked_send(take_parked(), 204, NULL, NULL, "", 0);
    assert_true(peer_read_end(fd, &answer));
    unchunk(strstr(buf_str(&answer), "\r\n\r\n") + 4, &body);
    close(fd);
}

static void tells_when_the_wait_is_over(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    park_config.wait_ms = 30;
    waiter.answer_when_waited = true;
    int fd = ask_to_park(GET("/park"));
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(peer_status(&answer), 202);
    assert_non_null(strstr(buf_str(&answer), "Location: /x\r\n"));
    peer_wait_for(atomic_load(&waiter.done) == 1);
    assert_int_equal(waiter.waited, 1);
    assert_int_equal(waiter.gone, 0);
    close(fd);
}

static void notices_a_client_that_goes_away(void **state)
{
    struct linger reset = {1, 0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        int fd = ask_to_park(i == 2 ? "GET /park HTTP/1.0\r\n\r\n" : GET("/park"));
        if (i == 1)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd);
        peer_wait_for(atomic_load(&waiter.gone) == i + 1);
        assert_int_equal(waiter.done, i);
        assert_int_equal(last_status, 0);
        peer_wait_for(parked_count() == 0);
        if (i == 1)
            http_parked_drop(take_parked());
        else
            http_parked_send(take_parked(), 200, "text/plain", NULL, "x", 1);
        peer_wait_for(atomic_load(&waiter.done) == i + 1);
    }
}

/* The guard's cut must not hide the client's own end, also while white space goes out. */
static void notices_the_end_of_a_client_that_was_cut_off_too_late(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        park_config.keepalive_after_ms = i == 0 ? 0 : 5;
        int fd = ask_to_park(GET("/cut-off"));
        assert_true(i == 0 || peer_read_until(fd, &answer, "1\r\n \r\n"));
        assert_int_equal(waiter.gone, i);
        close(fd);
        peer_wait_for(atomic_load(&waiter.gone) == i + 1);
        http_parked_drop(take_parked());
        peer_wait_for(atomic_load(&waiter.done) == i + 1);
    }
}

static void answers_a_client_that_was_cut_off_too_late(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = ask_to_park(GET("/cut-off"));
    shutdown(fd, SHUT_WR); /* half a close is none */
    assert_true(peer_read_until(fd, &answer, "HTTP/1.1 102 Processing\r\n\r\n"));
    assert_int_equal(waiter.gone, 0);
    http_parked_send(take_parked(), 200, "text/plain", NULL, "late", 4);
    assert_true(peer_read_end(fd, &answer));
    assert_string_equal(buf_str(&answer) + answer.len - 4, "late");
}

static void notices_a_client_that_goes_away_amid_white_space(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    park_config.keepalive_after_ms = 10;
    park_config.keepalive_every_ms = 10;
    int fd = ask_to_park(GET("/park"));
    assert_true(peer_read_until(fd, &answer, "1\r\n \r\n"));
    close(fd);
    peer_wait_for(atomic_load(&waiter.gone) == 1);
    http_parked_drop(take_parked());
    peer_wait_for(atomic_load(&waiter.done) == 1);
}

static void answers_a_client_that_closed_its_half(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    int fd = ask_to_park(GET("/park"));
    shutdown(fd, SHUT_WR);
    assert_true(peer_read_until(fd, &answer, "HTTP/1.1 102 Processing\r\n\r\n"));
    assert_int_equal(waiter.gone, 0);
    http_parked_send(take_parked(), 200, "text/plain", NULL, "late", 4);
    assert_true(peer_read_end(fd, &answer));
    assert_non_null(strstr(buf_str(&answer), "HTTP/1.1 200 OK\r\n"));
    assert_string_equal(buf_str(&answer) + answer.len - 4, "late");
    close(fd);
    /* a client that then disconnects is noticed at the next white space */
    park_config.keepalive_after_ms = 50;
    park_config.keepalive_every_ms = 50;
    buf_clear(&answer);
    fd = ask_to_park(GET("/park"));
    shutdown(fd, SHUT_WR);
    assert_true(peer_read_until(fd, &answer, "102 Processing"));
    close(fd);
    peer_wait_for(atomic_load(&waiter.gone) == 1);
    http_parked_drop(take_parked());
    peer_wait_for(atomic_load(&waiter.done) == 2);
}

static void closes_a_dropped_request_without_an_answer(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    int fd = ask_to_park(GET("/park"));
    http_parked_drop(take_parked());
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(answer.len, 0);
    peer_wait_for(atomic_load(&waiter.done) == 1);
    assert_int_equal(waiter.gone, 0);
    assert_int_equal(last_status, 0);
    close(fd);
}

static void *send_soon(void *arg)
{
    http_parked_send(arg, 200, "text/plain", NULL, "x", 1);
    return NULL;
}

static void survives_an_answer_that_races_with_the_client_leaving(void **state)
{
    (void)state;
    park_config.keepalive_after_ms = 1;
    park_config.keepalive_every_ms = 1;
    for (int i = 0; i < 1000; i++) {
        pthread_t thread;
        int fd = ask_to_park(GET("/park"));
        assert_int_equal(pthread_create(&thread, NULL, send_soon, take_parked()), 0);
        for (volatile int spin = (i * 37) % 2000; spin > 0; spin--)
            ;
        close(fd);
        pthread_join(thread, NULL);
        peer_wait_for(atomic_load(&waiter.done) == i + 1);
    }
    assert_true(waiter.gone <= 1000);
    assert_int_equal(done_count, 1000);
    assert_int_equal(parked_count(), 0);
}

/* Reads a big answer slowly; returns how many bytes of the body came. */
static size_t read_slowly(int fd)
{
    AUTO(buf) struct buf piece = BUF_INIT(1 << 20);
    size_t count = 0;
    int64_t end_ms = clock_mono_ms() + 2 * PEER_MS;
    bool in_body = false;
    while (clock_mono_ms() < end_ms && peer_recv(fd, &piece, PEER_MS) > 0) {
        const char *body = in_body ? piece.data : strstr(piece.data, "\r\n\r\n");
        if (body && !in_body)
            body += 4;
        in_body |= body != NULL;
        if (body) {
            count += piece.len - (size_t)(body - piece.data);
            buf_clear(&piece);
        }
    }
    return count;
}

static void sends_a_big_answer_to_a_slow_reader(void **state)
{
    int small = 65536;
    (void)state;
    for (int i = 0; i < 2; i++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        int fd = peer_connect(http_port(server));
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        peer_send(fd, i == 0 ? GET("/park") : GET("/big"));
        if (i == 0) {
            peer_wait_for(atomic_load(&parked_now) != NULL);
            http_parked_send(take_parked(), 200, "text/plain", NULL, big, BIG);
        }
        /* Meanwhile no worker is held. */
        for (int k = 0; k < 20; k++) {
            int other = peer_connect(http_port(server));
            peer_send(other, GET("/hello"));
            assert_int_equal(peer_answer(other, &answer), 200);
            close(other);
        }
        assert_int_equal(read_slowly(fd), BIG);
        close(fd);
    }
    peer_wait_for(atomic_load(&waiter.done) == 1);
}

static void bounds_how_many_are_parked(void **state)
{
    struct http_parked *parked[300];
    int fds[300];
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    for (int i = 0; i < 300; i++) {
        fds[i] = ask_to_park(GET("/park"));
        parked[i] = take_parked();
    }
    int fd = peer_connect(http_port(server));
    peer_send(fd, GET("/park"));
    assert_int_equal(peer_answer(fd, &answer), 503);
    assert_non_null(strstr(buf_str(&answer), "\"unavailable\""));
    peer_send(fd, GET("/hello")); /* as many callers as can be wait, and others are served */
    assert_int_equal(peer_answer(fd, &answer), 200);
    close(fd);
    for (int i = 0; i < 300; i++)
        http_parked_send(parked[i], 200, "text/plain", NULL, "ok", 2);
    for (int i = 0; i < 300; i++) {
        buf_clear(&answer);
        assert_true(peer_read_end(fds[i], &answer));
        assert_int_equal(peer_status(&answer), 200);
        close(fds[i]);
    }
    peer_wait_for(atomic_load(&waiter.done) == 300);
}

static void stops_while_requests_are_parked(void **state)
{
    struct http_parked *parked[5];
    int fds[5];
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    int before = peer_count("/proc/self/fd");
    for (int i = 0; i < 5; i++) {
        fds[i] = ask_to_park(GET("/park"));
        parked[i] = take_parked();
    }
    http_parked_send(parked[0], 200, "text/plain", NULL, "last words", 10);
    http_stop(server, 5000);
    assert_int_equal(waiter.gone, 4);
    assert_int_equal(waiter.done, 5);
    assert_int_equal(done_count, 5);
    assert_true(peer_read_end(fds[0], &answer));
    assert_non_null(strstr(buf_str(&answer), "last words"));
    for (int i = 1; i < 5; i++) {
        buf_clear(&answer);
        assert_true(peer_read_end(fds[i], &answer));
        assert_int_equal(answer.len, 0);
        if (i % 2)
            http_parked_drop(parked[i]); /* owed, however late */
        else
            http_parked_send(parked[i], 200, "text/plain", NULL, "x", 1);
    }
    for (int i = 0; i < 5; i++)
        close(fds[i]);
    server = start_with(2);
    assert_non_null(server);
    assert_true(peer_count("/proc/self/fd") <= before);
    assert_int_equal(waiter.done, 5);
}

static void times_in_order(void **state)
{
    struct timers timers = {0};
    struct timer all[200] = {0};
    int64_t last_us = 0;
    size_t count = 0, left = 0;
    unsigned random = 1;
    (void)state;
    assert_int_equal(timers_reserve(&timers, COUNT_OF(all)), 0);
    for (int i = 0; i < 5000; i++) {
        random = random * 1103515245u + 12345u;
        struct timer *timer = &all[(random >> 8) % COUNT_OF(all)];
        timer_set(&timers, timer, random % 4 == 0 ? 0 : 1 + (int64_t)(random >> 16) % 1000);
    }
    for (size_t i = 0; i < COUNT_OF(all); i++)
        left += all[i].place > 0;
    for (struct timer *timer; (timer = timers_first(&timers)); count++) {
        assert_true(timer->due_us >= last_us);
        last_us = timer->due_us;
        timer_set(&timers, timer, 0);
    }
    assert_true(left > 100);
    assert_int_equal(count, left);
    timers_done(&timers);
}

static int make_big(void **state)
{
    (void)state;
    big = malloc(BIG);
    if (big)
        memset(big, 'B', BIG);
    return big ? 0 : -1;
}

static int free_big(void **state)
{
    (void)state;
    free(big);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_a_parked_request_later),
        TEST(answers_a_parked_head_without_body),
        TEST(keeps_a_waiting_client_alive_with_white_space),
        TEST(tells_when_the_wait_is_over),
        TEST(notices_a_client_that_goes_away),
        TEST(notices_a_client_that_goes_away_amid_white_space),
        TEST(notices_the_end_of_a_client_that_was_cut_off_too_late),
        TEST(answers_a_client_that_was_cut_off_too_late),
        TEST(answers_a_client_that_closed_its_half),
        TEST(closes_a_dropped_request_without_an_answer),
        TEST(survives_an_answer_that_races_with_the_client_leaving),
        TEST(sends_a_big_answer_to_a_slow_reader),
        TEST(bounds_how_many_are_parked),
        TEST(stops_while_requests_are_parked),
        cmocka_unit_test(times_in_order),
    };
    return cmocka_run_group_tests(tests, make_big, free_big);
}
