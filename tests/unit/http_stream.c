/* Streams: pieces for clients that read, stop, crawl and go away. */
#include "http_cut.h"
#include "http_peer.h"
#include "http_source.h"

#include "base/auto.h"
#include "base/fd.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define KEPT(path) "GET " path " HTTP/1.1\r\n" HOST "Connection: keep-alive\r\n\r\n"
#define MANY 2000 /* at most STREAMS_MAX */
#define AT_ONCE 200
#define FILE_BYTES ((int64_t)24 << 20)

static void stream(struct http_request *req, void *arg)
{
    struct err err;
    struct http_stream_config config = base_config;
    (void)arg;
    int index = atomic_fetch_add(&reader_count, 1) % STREAMS_MAX;
    struct reader *reader = &readers[index];
    reader->source = &source;
    reader->at = 0;
    config.arg = reader;
    pthread_mutex_lock(&reader->lock);
    reader->stream = http_stream(req, &config, &err);
    bool streams = reader->stream != NULL;
    pthread_mutex_unlock(&reader->lock);
    if (!streams) {
        http_add_header(req, "Retry-After", "5");
        http_send_error(req, &err, NULL);
    }
}

static void stream_cut_off(struct http_request *req, void *arg)
{
    cut_off_too_late(req);
    stream(req, arg);
}

static void hello(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain", "hello", 5);
}

static const struct http_route routes[] = {{"GET", "/stream", stream, 0},
                                           {"POST", "/stream", stream, 0},
                                           {"GET", "/hello", hello, 0},
                                           {"GET", "/cut-off", stream_cut_off, 0}};

static void count_end(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    (void)req;
    (void)arg;
    (void)duration_us;
    atomic_store(&last_status, status);
    atomic_fetch_add(&ended_count, 1);
}

static int start_with(size_t streams_max)
{
    struct err err;
    const struct http_config config = {.bind = "127.0.0.1",
                                       .workers = 4,
                                       .routes = routes,
                                       .route_count = COUNT_OF(routes),
                                       .done = count_end,
                                       .head_ms = 20000,
                                       .body_idle_ms = 20000,
                                       .body_total_ms = 20000,
                                       .idle_ms = 20000,
                                       .parked_max = 10,
                                       .streams_max = streams_max};
    base_config = (struct http_stream_config){.status = 200,
                                              .type = "text/event-stream",
                                              .headers = "X-More: yes\r\n",
                                              .heartbeat = ":\n\n",
                                              .heartbeat_ms = 600000,
                                              .stuck_ms = 600000,
                                              .fill = fill,
                                              .done = on_done};
    source = (struct source){.file = -1};
    for (size_t i = 0; i < COUNT_OF(readers); i++) {
        memset(&readers[i], 0, sizeof(readers[i]));
        pthread_mutex_init(&readers[i].lock, NULL);
    }
    reader_count = done_count = ended_count = last_status = 0;
    server = http_start(&config, &err);
    return server ? 0 : -1;
}

static int start(void **state)
{
    (void)state;
    return start_with(STREAMS_MAX);
}

static int stop(void **state)
{
    (void)state;
    int64_t began_ms = clock_mono_ms();
    http_stop(server, 0);
    if (source.file >= 0)
        close(source.file);
    return done_count == (reader_count < STREAMS_MAX ? reader_count : done_count) &&
                   clock_mono_ms() - began_ms < 15000
               ? 0
               : -1;
}

static void wake_all(void)
{
    int count = atomic_load(&reader_count);
    for (int i = 0; i < count && i < STREAMS_MAX; i++) {
        pthread_mutex_lock(&readers[i].lock);
        if (readers[i].stream)
            http_stream_wake(readers[i].stream);
        pthread_mutex_unlock(&readers[i].lock);
    }
}

static void make(int64_t more)
{
    atomic_fetch_add(&source.made, more);
    wake_all();
}

static void finish(void)
{
    atomic_store(&source.over, true);
    wake_all();
}

static int streams_open(void)
{
    struct http_stats stats;
    http_stats(server, &stats);
    return stats.streams;
}

static int open_stream(const char *request)
{
    int before = atomic_load(&reader_count);
    int fd = peer_connect(http_port(server));
    peer_send(fd, request);
    peer_wait_for(atomic_load(&reader_count) > before);
    return fd;
}

/* The chunks' content; false when the last one is missing. */
static bool unchunk(const struct buf *answer, struct buf *out)
{
    const char *body = strstr(buf_str(answer), "\r\n\r\n");
    assert_non_null(body);
    const char *at = body + 4, *stop = answer->data + answer->len;
    while (at < stop) {
        char *end;
        size_t size = strtoul(at, &end, 16);
        assert_memory_equal(end, "\r\n", 2);
        assert_true(end + 2 + size + 2 <= stop);
        assert_memory_equal(end + 2 + size, "\r\n", 2);
        if (size == 0)
            return true;
        buf_add(out, end + 2, size);
        at = end + 2 + size + 2;
    }
    return false;
}

static void assert_text(const struct buf *got, int64_t len)
{
    AUTO(buf) struct buf expected = BUF_INIT((size_t)len + 1);
    add_text(&expected, 0, (size_t)len);
    assert_int_equal(got->len, len);
    assert_memory_equal(buf_str(got), buf_str(&expected), (size_t)len);
}

static void sends_what_comes_as_it_comes_and_ends(void **state)
{
    static const char *const requests[] = {GET("/stream"), "GET /stream HTTP/1.0\r\n\r\n",
                                           "POST /stream HTTP/1.1\r\n" HOST "\r\n"};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
        AUTO(buf) struct buf body = BUF_INIT(1 << 20);
        bool old = strstr(requests[i], "1.0") != NULL;
        atomic_store(&source.made, 0);
        atomic_store(&source.over, false);
        int fd = open_stream(requests[i]);
        assert_true(peer_read_until(fd, &answer, "\r\n\r\n"));
        assert_non_null(strstr(buf_str(&answer), "Content-Type: text/event-stream\r\n"));
        assert_non_null(strstr(buf_str(&answer), "X-More: yes\r\n"));
        make(3);
        assert_true(peer_read_until(fd, &answer, "abc"));
        make(2);
        assert_true(peer_read_until(fd, &answer, "de"));
        assert_int_equal(streams_open(), 1);
        make(50000);
        finish();
        assert_true(peer_read_end(fd, &answer));
        assert_int_equal(strstr(buf_str(&answer), "chunked") != NULL, !old);
        if (old)
            buf_adds(&body, strstr(buf_str(&answer), "\r\n\r\n") + 4);
        else
            assert_true(unchunk(&answer, &body));
        assert_text(&body, 50005);
        peer_wait_for(atomic_load(&done_count) == (int)i + 1);
        peer_wait_for(atomic_load(&ended_count) == (int)i + 1);
        assert_int_equal(last_status, 200);
        assert_int_equal(streams_open(), 0);
        close(fd);
    }
}

#define LAST_CHUNK "\r\n0\r\n\r\n"

/* Three streams and an ordinary answer over one connection. */
static void keeps_the_connection_of_a_client_that_asks_for_it(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    (void)state;
    make(500);
    finish();
    AUTO(fd) int fd = peer_connect(http_port(server));
    for (int i = 0; i < 3; i++) {
        buf_clear(&answer);
        buf_clear(&body);
        peer_send(fd, KEPT("/stream"));
        assert_true(peer_read_until(fd, &answer, LAST_CHUNK));
        assert_non_null(strstr(buf_str(&answer), "\r\nConnection: keep-alive\r\n"));
        assert_true(unchunk(&answer, &body));
        assert_text(&body, 500);
        peer_wait_for(atomic_load(&done_count) == i + 1);
        assert_int_equal(atomic_load(&ended_count), i + 1);
        assert_int_equal(atomic_load(&last_status), 200);
    }
    peer_send(fd, GET("/hello"));
    assert_int_equal(peer_answer(fd, &answer), 200);
    assert_int_equal(streams_open(), 0);
}

/* Bytes of a next request that came too early would be lost, and a body of unknown length may go
 * on: then the stream ends its connection, and says so. */
static void closes_a_connection_that_cannot_go_on(void **state)
{
    static const char *const requests[] = {
        GET("/stream"), KEPT("/stream") GET("/hello"),
        "POST /stream HTTP/1.1\r\n" HOST
        "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /stream HTTP/1.1\r\n" HOST "Connection: keep-alive\r\nContent-Length: 5\r\n\r\nab",
        "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"};
    (void)state;
    make(500);
    finish();
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
        AUTO(fd) int fd = peer_connect(http_port(server));
        peer_send(fd, requests[i]);
        assert_true(peer_read_end(fd, &answer));
        assert_int_equal(peer_status(&answer), 200);
        assert_non_null(strstr(buf_str(&answer), "\r\nConnection: close\r\n"));
        assert_null(strstr(buf_str(&answer), "hello"));
    }
}

static void head_gets_the_head_alone(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    (void)state;
    make(10);
    int fd = open_stream("HEAD /stream HTTP/1.1\r\n" HOST "\r\n");
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(peer_status(&answer), 200);
    assert_string_equal(strstr(buf_str(&answer), "\r\n\r\n"), "\r\n\r\n");
    close(fd);
}

static void breaks_off_so_that_the_client_knows(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    (void)state;
    make(5);
    int fd = open_stream(GET("/stream"));
    assert_true(peer_read_until(fd, &answer, "abcde"));
    atomic_store(&source.broken, true);
    wake_all();
    assert_true(peer_read_end(fd, &answer));
    assert_false(unchunk(&answer, &body));
    peer_wait_for(atomic_load(&done_count) == 1);
    assert_int_equal(last_status, 0);
    close(fd);
}

static void beats_while_there_is_nothing(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    (void)state;
    base_config.heartbeat_ms = 20;
    int fd = open_stream(GET("/stream"));
    assert_true(peer_read_until(fd, &answer, "3\r\n:\n\n\r\n3\r\n:\n\n\r\n"));
    make(4);
    assert_true(peer_read_until(fd, &answer, "4\r\nabcd\r\n"));
    assert_true(peer_read_until(fd, &answer, "abcd\r\n3\r\n:\n\n\r\n"));
    finish();
    assert_true(peer_read_end(fd, &answer));
    close(fd);
}

static void notices_a_client_that_goes_away(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    (void)state;
    int fd = open_stream(GET("/stream"));
    assert_true(peer_read_until(fd, &answer, "\r\n\r\n"));
    close(fd);
    peer_wait_for(atomic_load(&done_count) == 1);
    assert_int_equal(last_status, 0);
    /* half a close is none */
    fd = open_stream(GET("/stream"));
    shutdown(fd, SHUT_WR);
    buf_clear(&answer);
    assert_true(peer_read_until(fd, &answer, ":\n\n"));
    make(3);
    assert_true(peer_read_until(fd, &answer, "abc"));
    finish();
    assert_true(peer_read_end(fd, &answer));
    close(fd);
}

/* The guard's cut must not hide the client's own end. */
static void notices_the_end_of_a_client_that_was_cut_off_too_late(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
        atomic_store(&source.made, 0);
        int fd = open_stream(i == 0 ? GET("/cut-off") : KEPT("/cut-off"));
        make(3);
        assert_true(peer_read_until(fd, &answer, "abc"));
        assert_null(strstr(buf_str(&answer), ":\n\n")); /* nobody doubts that it is there */
        assert_non_null(strstr(buf_str(&answer), "\r\nConnection: close\r\n"));
        make(2);
        assert_true(peer_read_until(fd, &answer, "de"));
        if (i == 1) { /* half a close is none */
            shutdown(fd, SHUT_WR);
            assert_true(peer_read_until(fd, &answer, ":\n\n"));
            make(3);
            assert_true(peer_read_until(fd, &answer, "fgh"));
            make(1); /* only bytes that it does not take tell that it is gone now */
        }
        close(fd);
        peer_wait_for(atomic_load(&done_count) == i + 1);
        assert_int_equal(last_status, 0);
        assert_int_equal(streams_open(), 0);
    }
}

static void use_file(void)
{
    source.file = memfd_create("source", MFD_CLOEXEC);
    AUTO(buf) struct buf text = BUF_INIT(26 * 10000 + 1);
    add_text(&text, 0, 26 * 10000);
    for (int64_t at = 0; at < FILE_BYTES; at += (int64_t)text.len)
        assert_int_equal(fd_pwrite_all(source.file, text.data, text.len, at), 0);
}

static void copies_a_file_and_waits_for_a_slow_reader(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(2 * FILE_BYTES);
    AUTO(buf) struct buf body = BUF_INIT(2 * FILE_BYTES);
    (void)state;
    use_file();
    int slow = open_stream(GET("/stream"));
    make(FILE_BYTES);
    atomic_store(&source.over, true);
    peer_wait_for(atomic_load(&readers[0].at) > 0);
    /* a stuck one costs nobody anything: others get theirs, and nothing is read for it */
    int quick = open_stream(GET("/stream"));
    assert_true(peer_read_end(quick, &answer));
    assert_true(unchunk(&answer, &body));
    assert_text(&body, FILE_BYTES);
    close(quick);
    assert_true(readers[0].at < FILE_BYTES);
    buf_clear(&answer);
    buf_clear(&body);
    assert_true(peer_read_end(slow, &answer));
    assert_true(unchunk(&answer, &body));
    assert_text(&body, FILE_BYTES);
    close(slow);
}

static void drops_a_reader_that_takes_nothing(void **state)
{
    (void)state;
    use_file();
    base_config.stuck_ms = 200;
    int fd = open_stream(GET("/stream"));
    make(FILE_BYTES);
    peer_wait_for(atomic_load(&done_count) == 1);
    assert_int_equal(last_status, 0);
    assert_int_equal(streams_open(), 0);
    close(fd);
}

static void paces_what_comes_in_drops(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    (void)state;
    base_config.pace_ms = 50;
    int fd = open_stream(GET("/stream"));
    assert_true(peer_read_until(fd, &answer, "\r\n\r\n"));
    int64_t began = clock_mono_ms(), before = atomic_load(&fills);
    for (int i = 0; i < 2000; i++)
        make(1);
    int64_t took = clock_mono_ms() - began;
    finish();
    assert_true(peer_read_end(fd, &answer));
    assert_true(atomic_load(&fills) - before <= took / 50 + 4);
    close(fd);
}

static void the_one_too_many_is_told_so(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    (void)state;
    http_stop(server, 0);
    assert_int_equal(start_with(3), 0);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = open_stream(GET("/stream"));
        if (i < 3) /* else a later one may be let in before it */
            peer_wait_for(streams_open() == i + 1);
    }
    assert_int_equal(peer_answer(fds[3], &answer), 503);
    assert_non_null(strstr(buf_str(&answer), "Retry-After: 5\r\n"));
    assert_non_null(strstr(buf_str(&answer), "3 open streams"));
    close(fds[0]);
    peer_wait_for(streams_open() == 2);
    int again = open_stream(GET("/stream"));
    buf_clear(&answer);
    assert_true(peer_read_until(again, &answer, "text/event-stream"));
    atomic_fetch_sub(&reader_count, 1); /* the refused one has no end */
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    close(again);
}

/* Opens streams at once. A client that stalls before it asks may be cut off: it asks again. */
static void open_streams(int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = peer_connect(http_port(server));
        peer_send(fds[i], GET("/stream"));
    }
    for (int i = 0; i < count; i++) {
        AUTO(buf) struct buf head = BUF_INIT(100000);
        while (!peer_read_until(fds[i], &head, "\r\n\r\n") || peer_status(&head) != 200) {
            buf_clear(&head);
            close(fds[i]);
            fds[i] = peer_connect(http_port(server));
            peer_send(fds[i], GET("/stream"));
        }
    }
}

static void keeps_two_thousand_and_tells_them_all(void **state)
{
    static int fds[MANY];
    (void)state;
    int threads = peer_count("/proc/self/task");
    for (int i = 0; i < MANY; i += AT_ONCE)
        open_streams(&fds[i], AT_ONCE);
    assert_int_equal(streams_open(), MANY);
    assert_int_equal(peer_count("/proc/self/task"), threads);
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    int fd = peer_connect(http_port(server));
    peer_send(fd, GET("/hello"));
    assert_int_equal(peer_answer(fd, &answer), 200);
    close(fd);
    make(26);
    for (int i = 0; i < MANY; i++) {
        AUTO(buf) struct buf got = BUF_INIT(100000);
        assert_true(peer_read_until(fds[i], &got, "xyz"));
    }
    for (int i = 0; i < MANY / 2; i++)
        close(fds[i]);
    peer_wait_for(streams_open() == MANY / 2);
    finish();
    for (int i = MANY / 2; i < MANY; i++) {
        AUTO(buf) struct buf got = BUF_INIT(100000);
        assert_true(peer_read_end(fds[i], &got));
        close(fds[i]);
    }
    peer_wait_for(atomic_load(&done_count) == MANY);
}

static _Atomic bool racing;

static void *wake_madly(void *arg)
{
    (void)arg;
    while (atomic_load(&racing))
        make(1);
    return NULL;
}

/* Wakes from two threads meet clients that come and go. */
static void wakes_race_with_ends(void **state)
{
    pthread_t threads[2];
    (void)state;
    atomic_store(&racing, true);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wake_madly, NULL), 0);
    for (int i = 0; i < 200; i++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        int fd = open_stream(GET("/stream"));
        if (i % 2)
            peer_recv(fd, &answer, PEER_MS);
        close(fd);
    }
    peer_wait_for(atomic_load(&done_count) == 200);
    /* no wake is lost: the last byte comes */
    AUTO(buf) struct buf answer = BUF_INIT((size_t)64 << 20);
    AUTO(buf) struct buf body = BUF_INIT((size_t)64 << 20);
    int fd = open_stream(GET("/stream"));
    peer_recv(fd, &answer, PEER_MS);
    atomic_store(&racing, false);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    finish();
    assert_true(peer_read_end(fd, &answer));
    assert_true(unchunk(&answer, &body));
    assert_text(&body, source.made);
    close(fd);
}

static void a_stop_ends_streams_with_what_is_there(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(1 << 20);
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    (void)state;
    int fd = open_stream(GET("/stream"));
    assert_true(peer_read_until(fd, &answer, "\r\n\r\n"));
    atomic_fetch_add(&source.made, 30);
    http_stop(server, 2000);
    assert_true(peer_read_end(fd, &answer));
    assert_true(unchunk(&answer, &body));
    assert_text(&body, 30);
    assert_int_equal(done_count, 1);
    close(fd);
    assert_int_equal(start_with(3), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(sends_what_comes_as_it_comes_and_ends),
        CASE(keeps_the_connection_of_a_client_that_asks_for_it),
        CASE(closes_a_connection_that_cannot_go_on),
        CASE(head_gets_the_head_alone),
        CASE(breaks_off_so_that_the_client_knows),
        CASE(beats_while_there_is_nothing),
        CASE(notices_a_client_that_goes_away),
        CASE(notices_the_end_of_a_client_that_was_cut_off_too_late),
        CASE(copies_a_file_and_waits_for_a_slow_reader),
        CASE(drops_a_reader_that_takes_nothing),
        CASE(paces_what_comes_in_drops),
        CASE(the_one_too_many_is_told_so),
        CASE(keeps_two_thousand_and_tells_them_all),
        CASE(wakes_race_with_ends),
        CASE(a_stop_ends_streams_with_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
