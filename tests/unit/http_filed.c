/* Answers out of files: for clients that read, stop, leave and come back, and files that shrink. */
#include "http_peer.h"

#include "base/auto.h"
#include "base/fd.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define WORKERS 4
#define SLOW (3 * WORKERS)
#define FILE_BYTES ((int64_t)12 << 20)
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define HEAD(path) "HEAD " path " HTTP/1.1\r\n" HOST "\r\n"

static struct http_server *server;
static int file;
static int quiet_fds;
static _Atomic int ended_count, whole_count;
static char version[512]; /* of the kernel: a text that no file system stores */
static ssize_t version_len;

static char byte_at(int64_t at)
{
    return (char)((uint64_t)at * 2654435761U >> 13);
}

static void send_all(struct http_request *req, void *arg)
{
    (void)arg;
    http_send_file(req, 200, "text/plain", file, 0, FILE_BYTES);
}

/* /part/{from}/{len} */
static void send_part(struct http_request *req, void *arg)
{
    int64_t from = strtoll(http_param(req, "from"), NULL, 10);
    int64_t len = strtoll(http_param(req, "len"), NULL, 10);
    (void)arg;
    http_add_header(req, "X-Part", "yes");
    http_send_file(req, 206, "text/plain", file, from, len);
}

/* A file that the kernel cannot send by itself. */
static void send_version(struct http_request *req, void *arg)
{
    AUTO(fd) int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
    (void)arg;
    http_send_file(req, 200, "text/plain", fd, 1, version_len - 1);
}

static void hello(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 200, "text/plain", "hello", 5);
}

static const struct http_route routes[] = {
    {"GET", "/all", send_all, 0},
    {"GET", "/part/{from}/{len}", send_part, 0},
    {"GET", "/version", send_version, 0},
    {"GET", "/hello", hello, 0},
};

static void count_end(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    (void)arg;
    (void)duration_us;
    if (strcmp(http_path(req), "/hello") == 0)
        return;
    if (status != 0)
        atomic_fetch_add(&whole_count, 1);
    atomic_fetch_add(&ended_count, 1);
}

static int start(void **state)
{
    struct err err;
    const struct http_config config = {.bind = "127.0.0.1",
                                       .workers = WORKERS,
                                       .routes = routes,
                                       .route_count = COUNT_OF(routes),
                                       .done = count_end,
                                       .head_ms = 60000,
                                       .body_idle_ms = 60000,
                                       .body_total_ms = 60000,
                                       .idle_ms = 60000,
                                       .parked_max = 10,
                                       .streams_max = 1};
    (void)state;
    char *bytes = malloc(FILE_BYTES);
    file = memfd_create("file", MFD_CLOEXEC);
    for (int64_t i = 0; bytes && i < FILE_BYTES; i++)
        bytes[i] = byte_at(i);
    int rc = bytes && file >= 0 ? fd_write_all(file, bytes, FILE_BYTES) : -1;
    free(bytes);
    ended_count = whole_count = 0;
    server = rc == 0 ? http_start(&config, &err) : NULL;
    quiet_fds = peer_count("/proc/self/fd");
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_stop(server, 0);
    fd_close(&file);
    return 0;
}

/* Reads the head of an answer; what came of the body stays in `out`. Returns the status. */
static int read_head(int fd, struct buf *out)
{
    if (!peer_read_until(fd, out, "\r\n\r\n"))
        return 0;
    int status = peer_status(out);
    buf_drop(out, (size_t)(strstr(buf_str(out), "\r\n\r\n") + 4 - buf_str(out)));
    return status;
}

/* Reads `len` bytes of the body, or up to its end when that comes first, and compares them with
 * the file's from `from` on. Returns how many came. */
static int64_t read_body(int fd, struct buf *out, int64_t from, int64_t len)
{
    int64_t got = 0;
    for (;;) {
        for (size_t i = 0; i < out->len; i++)
            if (out->data[i] != byte_at(from + got + (int64_t)i))
                fail_msg("the byte at %lld is wrong", (long long)(from + got + (int64_t)i));
        got += (int64_t)out->len;
        buf_clear(out);
        if (got >= len || peer_recv(fd, out, PEER_MS) <= 0)
            return got;
    }
}

static void assert_gets(int fd, const char *request, int status, int64_t from, int64_t len)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    peer_send(fd, request);
    assert_int_equal(read_head(fd, &out), status);
    assert_int_equal(read_body(fd, &out, from, len), len);
}

static void assert_served(void)
{
    AUTO(buf) struct buf out = BUF_INIT(65536);
    int fd = peer_connect(http_port(server));
    peer_send(fd, GET("/hello"));
    assert_int_equal(peer_answer(fd, &out), 200);
    close(fd);
}

static void sends_files_and_parts_one_after_the_other(void **state)
{
    int fd = peer_connect(http_port(server));
    (void)state;
    assert_gets(fd, GET("/all"), 200, 0, FILE_BYTES);
    assert_gets(fd, GET("/part/70001/1"), 206, 70001, 1);
    assert_gets(fd, GET("/part/4095/9000000"), 206, 4095, 9000000);
    assert_gets(fd, GET("/part/5/0"), 206, 5, 0);
    assert_gets(fd, HEAD("/all"), 200, 0, 0);
    assert_gets(fd, GET("/all"), 200, 0, FILE_BYTES);
    close(fd);
    peer_wait_for(ended_count == 6);
    assert_int_equal(whole_count, 6);
}

static void says_how_long_the_body_is(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    int fd = peer_connect(http_port(server));
    (void)state;
    peer_send(fd, GET("/part/3/77"));
    assert_int_equal(peer_answer(fd, &out), 206);
    assert_non_null(strstr(buf_str(&out), "\r\nContent-Length: 77\r\n"));
    assert_non_null(strstr(buf_str(&out), "\r\nX-Part: yes\r\n"));
    assert_non_null(strstr(buf_str(&out), "\r\nConnection: keep-alive\r\n"));
    assert_null(strstr(buf_str(&out), "Transfer-Encoding"));
    peer_send(fd, HEAD("/all"));
    buf_clear(&out);
    assert_true(peer_read_until(fd, &out, "\r\n\r\n"));
    assert_non_null(strstr(buf_str(&out), "\r\nContent-Length: 12582912\r\n"));
    close(fd);
}

/* Three times as many clients as there are workers, none of which reads. */
static void slow_clients_hold_no_worker_and_get_all(void **state)
{
    int fds[SLOW];
    (void)state;
    for (int i = 0; i < SLOW; i++) {
        fds[i] = peer_connect(http_port(server));
        peer_send(fds[i], GET("/all"));
    }
    assert_served();
    for (int i = 0; i < SLOW; i++) {
        AUTO(buf) struct buf out = BUF_INIT(1 << 20);
        assert_int_equal(read_head(fds[i], &out), 200);
        assert_int_equal(read_body(fds[i], &out, 0, FILE_BYTES), FILE_BYTES);
    }
    for (int i = 0; i < SLOW; i++)
        close(fds[i]);
    peer_wait_for(ended_count == SLOW);
    assert_int_equal(whole_count, SLOW);
    peer_wait_for(peer_count("/proc/self/fd") == quiet_fds);
}

/* Asks, reads the first bytes of the answer and waits until the worker has given the rest to the
 * park. */
static int ask_slowly(const char *request, struct buf *out)
{
    struct http_stats stats;
    int fd = peer_connect(http_port(server));
    peer_send(fd, request);
    assert_int_equal(read_head(fd, out), 200);
    peer_wait_for((http_stats(server, &stats), stats.busy == 0));
    return fd;
}

static void a_slow_client_goes_on_with_its_connection(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    int fd = ask_slowly(GET("/all"), &out);
    (void)state;
    assert_int_equal(read_body(fd, &out, 0, FILE_BYTES), FILE_BYTES);
    assert_gets(fd, GET("/part/9/100"), 206, 9, 100);
    close(fd);
}

static void a_slow_client_of_http_1_0_sees_the_end(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    int fd = ask_slowly("GET /all HTTP/1.0\r\n\r\n", &out);
    (void)state;
    assert_int_equal(read_body(fd, &out, 0, INT64_MAX), FILE_BYTES);
    close(fd);
}

/* What a client sends ahead is lost with the hand-over, so the connection ends after the file. */
static void requests_sent_ahead_of_a_slow_answer_end_with_the_connection(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    int fd = ask_slowly(GET("/all") GET("/part/9/100"), &out);
    (void)state;
    assert_int_equal(read_body(fd, &out, 0, INT64_MAX), FILE_BYTES);
    close(fd);
}

static void a_file_that_shrinks_breaks_the_answer_off(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    int fd = ask_slowly(GET("/all"), &out);
    (void)state;
    assert_int_equal(ftruncate(file, FILE_BYTES - 4096), 0);
    int64_t got = read_body(fd, &out, 0, INT64_MAX);
    assert_true(got <= FILE_BYTES - 4096);
    close(fd);
    peer_wait_for(ended_count == 1);
    assert_int_equal(whole_count, 0);
    fd = peer_connect(http_port(server)); /* and one that is too short from the beginning */
    peer_send(fd, GET("/all"));
    assert_int_equal(read_head(fd, &out), 200);
    assert_int_equal(read_body(fd, &out, 0, INT64_MAX), FILE_BYTES - 4096);
    close(fd);
    peer_wait_for(peer_count("/proc/self/fd") == quiet_fds);
}

static void clients_that_leave_cost_nothing(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    (void)state;
    for (int i = 0; i < SLOW; i++) {
        int fd;
        if (i % 2 == 0) {
            fd = ask_slowly(GET("/all"), &out);
        } else {
            fd = peer_connect(http_port(server));
            peer_send(fd, GET("/all"));
        }
        if (i % 3 == 0)
            assert_true(peer_recv(fd, &out, PEER_MS) > 0);
        close(fd);
        buf_clear(&out);
    }
    peer_wait_for(ended_count == SLOW);
    assert_int_equal(whole_count, 0);
    peer_wait_for(peer_count("/proc/self/fd") == quiet_fds);
    assert_served();
}

static void a_file_that_the_kernel_cannot_send_is_read(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    AUTO(fd) int client = peer_connect(http_port(server));
    (void)state;
    assert_in_range(version_len, 2, sizeof(version));
    peer_send(client, GET("/version"));
    assert_int_equal(peer_answer(client, &out), 200);
    assert_memory_equal(strstr(buf_str(&out), "\r\n\r\n") + 4, version + 1, version_len - 1);
    assert_gets(client, GET("/part/9/100"), 206, 9, 100);
}

static void a_stop_ends_slow_answers(void **state)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    int fd = ask_slowly(GET("/all"), &out);
    (void)state;
    http_stop(server, 0);
    assert_int_equal(ended_count, 1);
    assert_int_equal(whole_count, 0);
    assert_true(read_body(fd, &out, 0, INT64_MAX) < FILE_BYTES);
    close(fd);
    fd_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sends_files_and_parts_one_after_the_other, start, stop),
        cmocka_unit_test_setup_teardown(says_how_long_the_body_is, start, stop),
        cmocka_unit_test_setup_teardown(slow_clients_hold_no_worker_and_get_all, start, stop),
        cmocka_unit_test_setup_teardown(a_slow_client_goes_on_with_its_connection, start, stop),
        cmocka_unit_test_setup_teardown(a_slow_client_of_http_1_0_sees_the_end, start, stop),
        cmocka_unit_test_setup_teardown(
            requests_sent_ahead_of_a_slow_answer_end_with_the_connection, start, stop),
        cmocka_unit_test_setup_teardown(a_file_that_shrinks_breaks_the_answer_off, start, stop),
        cmocka_unit_test_setup_teardown(clients_that_leave_cost_nothing, start, stop),
        cmocka_unit_test_setup_teardown(a_file_that_the_kernel_cannot_send_is_read, start, stop),
        cmocka_unit_test_setup_teardown(a_stop_ends_slow_answers, start, NULL),
    };
    AUTO(fd) int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
    version_len = read(fd, version, sizeof(version));
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
