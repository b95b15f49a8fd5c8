/* The guard: connections that occupy a worker and send little do not prevent answers to others. */
#include "http_peer.h"

#include "http/guard.h"

#include "base/auto.h"

#include <pthread.h>
#include <stdatomic.h>

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static struct http_server *server;

static void hello(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain", "hello", 5);
}

static void echo(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    struct err err;
    (void)arg;
    if (http_body(req, 1 << 20, &body, &err) < 0)
        http_send_error(req, &err, NULL);
    else
        http_send(req, 200, "text/plain", buf_str(&body), body.len);
}

static const struct http_route routes[] = {{"GET", "/hello", hello, 0}, {"POST", "/echo", echo, 0}};

static struct http_server *start_with(int workers, int head_ms, int idle_ms)
{
    struct http_config config = {.bind = "127.0.0.1",
                                 .workers = workers,
                                 .routes = routes,
                                 .route_count = COUNT_OF(routes),
                                 .head_ms = head_ms,
                                 .body_idle_ms = 20000,
                                 .body_total_ms = 20000,
                                 .idle_ms = idle_ms,
                                 .parked_max = 10};
    struct err err;
    return http_start(&config, &err);
}

static int start(void **state)
{
    (void)state;
    server = start_with(4, 20000, 20000);
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_stop(server, 0);
    return 0;
}

/* Asks on a connection of its own and returns that. A client that stalls between connecting and
 * asking may be cut off, as the drippers are: then it asks again. */
static int ask_hello(int64_t *ret_us)
{
    for (;;) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        int64_t began_us = clock_mono_us();
        int fd = peer_connect(http_port(server));
        peer_send(fd, GET("/hello"));
        int64_t sent_us = clock_mono_us();
        int status = peer_answer(fd, &answer);
        *ret_us = clock_mono_us() - began_us;
        if (status == 200)
            return fd;
        close(fd);
        if (sent_us - began_us < GUARD_MIN_US) {
            /* at once, because other threads end the program when the server has gone */
            print_error("sent after %lld us, answered: '%s'\n", (long long)(sent_us - began_us),
                        buf_str(&answer));
            fail();
        }
    }
}

/* Sends `count` requests, each on its own connection. When slow connections hold all workers, an
 * answer would come only after these end, which is later than any client here waits. */
static void expect_answers(const char *beside, int count)
{
    int64_t worst_us = 0, us;
    for (int i = 0; i < count; i++) {
        close(ask_hello(&us));
        worst_us = us > worst_us ? us : worst_us;
    }
    print_message("beside %s: worst answer after %lld us\n", beside, (long long)worst_us);
}

static _Atomic bool dripping;

struct drippers {
    int fds[200];
    const char *opening;
};

/* Keeps 200 connections open, each of which sends a byte every few milliseconds, and opens those
 * again that are cut off. */
static void *drip(void *arg)
{
    struct drippers *d = arg;
    for (size_t i = 0; atomic_load(&dripping); i = (i + 1) % COUNT_OF(d->fds)) {
        char scrap[1024];
        if (d->fds[i] >= 0 && recv(d->fds[i], scrap, sizeof(scrap), MSG_DONTWAIT) >= 0) {
            close(d->fds[i]);
            d->fds[i] = -1;
        }
        if (d->fds[i] < 0) {
            d->fds[i] = peer_connect(http_port(server));
            peer_send(d->fds[i], d->opening);
        } else {
            peer_send(d->fds[i], "x");
        }
        if (i % 10 == 0)
            usleep(5000); /* without the pause this would test a flood of connections instead */
    }
    for (size_t i = 0; i < COUNT_OF(d->fds); i++)
        close(d->fds[i]);
    return NULL;
}

static void answers_while_others_drip(void **state)
{
    static const char *const openings[] = {
        "GET /hello HTTP/1.1\r\nX-A: ", "",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffff\r\n"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(openings); i++) {
        struct drippers d = {.opening = openings[i]};
        struct http_stats stats;
        pthread_t thread;
        memset(d.fds, -1, sizeof(d.fds));
        atomic_store(&dripping, true);
        assert_int_equal(pthread_create(&thread, NULL, drip, &d), 0);
        peer_wait_for((http_stats(server, &stats), stats.cut_off > 20 * (i + 1)));
        expect_answers("200 drippers on 4 workers", 100);
        atomic_store(&dripping, false);
        pthread_join(thread, NULL);
    }
}

static void takes_workers_back_from_idle_connections(void **state)
{
    int idle[20];
    int64_t us;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(idle); i++)
        idle[i] = ask_hello(&us);
    expect_answers("20 idle connections on 4 workers", 20);
    for (size_t i = 0; i < COUNT_OF(idle); i++)
        close(idle[i]);
}

static void *be_busy(void *arg)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    int fd = -1;
    (void)arg;
    while (atomic_load(&dripping)) {
        if (fd < 0)
            fd = peer_connect(http_port(server));
        peer_send(fd, GET("/hello"));
        if (peer_answer(fd, &answer) != 200 || strstr(buf_str(&answer), "Connection: close"))
            close(fd), fd = -1;
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void lets_nobody_starve_behind_busy_connections(void **state)
{
    pthread_t threads[8];
    (void)state;
    atomic_store(&dripping, true);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, be_busy, NULL), 0);
    expect_answers("8 busy connections on 4 workers", 200);
    atomic_store(&dripping, false);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
}

static void leaves_a_slow_but_honest_sender_alone(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    int fd = peer_connect(http_port(server)); /* there are enough workers */
    peer_send(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 20\r\n");
    usleep(50000);
    peer_send(fd, "\r\n");
    for (int i = 0; i < 20; i++) {
        usleep(10000);
        peer_send(fd, "x");
    }
    assert_int_equal(peer_answer(fd, &answer), 200);
    close(fd);
}

static void keeps_the_time_limits_of_heads_and_idle_connections(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    struct http_server *other = start_with(4, 1500, 1500);
    (void)state;
    assert_non_null(other);
    int fd = peer_connect(http_port(other)); /* single bytes do not extend the time */
    int64_t end_ms = clock_mono_ms() + PEER_MS;
    peer_send(fd, "GET /hello HTTP/1.1\r\nX-A: ");
    while (clock_mono_ms() < end_ms && peer_recv(fd, &answer, 20) < 0)
        peer_send(fd, "x");
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(peer_status(&answer), 408);
    assert_non_null(strstr(buf_str(&answer), "request_timeout"));
    close(fd);
    fd = peer_connect(http_port(other)); /* nothing is asked, so nothing is answered */
    buf_clear(&answer);
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(answer.len, 0);
    close(fd);
    fd = peer_connect(http_port(other)); /* idle after an answer; then the next head comes byte by
                                          * byte */
    peer_send(fd, GET("/hello"));
    assert_int_equal(peer_answer(fd, &answer), 200);
    buf_clear(&answer);
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(answer.len, 0);
    close(fd);
    http_stop(other, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_while_others_drip),
        TEST(takes_workers_back_from_idle_connections),
        TEST(lets_nobody_starve_behind_busy_connections),
        TEST(leaves_a_slow_but_honest_sender_alone),
        TEST(keeps_the_time_limits_of_heads_and_idle_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
