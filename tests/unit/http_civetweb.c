/* Checks the assumptions of interpose.h about CivetWeb. A CivetWeb that works differently fails
 * here, and the test's name says in what. */
#include "http_peer.h"

#include "base/auto.h"
#include "base/fd.h"
#include "http/interpose.h"

#include <civetweb.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

static struct http_server *server;
static _Atomic size_t stack_size;
static _Atomic int conn_fd, client_port, served;

/* The server's descriptor of the connection whose client has that port. */
static int server_side(int port)
{
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in addr = {0};
        socklen_t len = sizeof(addr);
        if (getpeername(fd, (struct sockaddr *)&addr, &len) == 0 && addr.sin_family == AF_INET &&
            ntohs(addr.sin_port) == port)
            return fd;
    }
    return -1;
}

static void look(struct http_request *req, void *arg)
{
    pthread_attr_t attr;
    size_t size = 0;
    (void)arg;
    assert_int_equal(pthread_getattr_np(pthread_self(), &attr), 0);
    pthread_attr_getstacksize(&attr, &size);
    pthread_attr_destroy(&attr);
    atomic_store(&stack_size, size);
    atomic_store(&conn_fd, server_side(atomic_load(&client_port)));
    atomic_fetch_add(&served, 1);
    http_send(req, 200, "text/plain", "seen", 4);
}

static const struct http_route routes[] = {{"GET", "/look", look, 0}};

static struct http_server *start_with(int workers, int head_ms)
{
    const struct http_config config = {.bind = "127.0.0.1",
                                       .workers = workers,
                                       .routes = routes,
                                       .route_count = COUNT_OF(routes),
                                       .head_ms = head_ms,
                                       .body_idle_ms = 20000,
                                       .body_total_ms = 20000,
                                       .idle_ms = 20000,
                                       .parked_max = 10};
    struct err err;
    return http_start(&config, &err);
}

static int start(void **state)
{
    (void)state;
    server = start_with(2, 20000);
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_stop(server, 0);
    return 0;
}

static int ask(const char *request)
{
    struct sockaddr_in addr = {0};
    socklen_t len = sizeof(addr);
    int fd = peer_connect(http_port(server));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    atomic_store(&client_port, ntohs(addr.sin_port));
    peer_send(fd, request);
    return fd;
}

/* The number of listening sockets of this process. */
static int listening(void)
{
    int count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        int value = 0;
        socklen_t len = sizeof(value);
        count += getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 && value;
    }
    return count;
}

static void is_of_a_version_that_was_looked_at(void **state)
{
    (void)state;
    const char *version = mg_version();
    print_message("CivetWeb %s\n", version);
    assert_true(strncmp(version, "1.15", 4) == 0 || strncmp(version, "1.16", 4) == 0);
}

static void listens_nowhere_by_itself(void **state)
{
    (void)state;
    assert_int_equal(listening(), 1); /* the runner's own */
    struct http_server *other = start_with(2, 20000);
    assert_non_null(other);
    assert_int_equal(listening(), 2);
    http_stop(other, 0);
    assert_int_equal(listening(), 1);
    int mine = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* listen() of other code is
                                                                * unchanged */
    assert_int_equal(listen(mine, 1), 0);
    assert_int_equal(listening(), 2);
    close(mine);
}

static void takes_its_connections_from_us(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = ask("GET /look HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(peer_answer(fd, &answer), 200);
    assert_true(conn_fd >= 0); /* the descriptor is the one that our listener accepted */
    assert_int_equal(fcntl(conn_fd, F_GETFD), FD_CLOEXEC);
}

static void has_stacks_as_large_as_we_say(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = ask("GET /look HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(peer_answer(fd, &answer), 200);
    assert_true(atomic_load(&stack_size) >= INTERPOSE_STACK_MIN);
}

/* CivetWeb reads heads by recv(), and bytes of one read may belong to several requests. */
static void shows_us_every_byte_of_a_head(void **state)
{
    static const char head[] = "GET /look HTTP/1.1\r\n" HOST "\r\n";
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    (void)state;
    AUTO(fd) int fd = ask("");
    for (size_t i = 0; head[i]; i++) {
        peer_send_bytes(fd, &head[i], 1);
        usleep(200);
    }
    assert_int_equal(peer_answer(fd, &answer), 200);
    atomic_store(&served, 0);
    peer_send(fd, "GET /look HTTP/1.1\r\n" HOST "\r\nGET /look HTTP/1.1\r\n" HOST "\r\n"
                  "GET /look HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    buf_clear(&answer);
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(served, 3);
}

/* A worker that waits in poll() returns when its connection is cut off, and sees its end. */
static void gives_a_worker_back_that_waits(void **state)
{
    AUTO(buf) struct buf answer = BUF_INIT(100000);
    struct http_stats stats;
    (void)state;
    struct http_server *other = start_with(1, 100);
    assert_non_null(other);
    AUTO(fd) int fd = peer_connect(http_port(other));
    peer_send(fd, "GET /look HTTP/1.1\r\n");
    assert_true(peer_read_end(fd, &answer));
    assert_int_equal(peer_status(&answer), 408);
    peer_wait_for((http_stats(other, &stats), stats.busy == 0));
    http_stop(other, 0);
}

/* CivetWeb calls the runner before it closes any connection, also one that it never read from. */
static void tells_us_before_it_closes(void **state)
{
    static const char *const requests[] = {"",
                                           "GET",
                                           "GET /look HTTP/1.1\r\n" HOST "\r\n",
                                           "GET http://test/look HTTP/1.1\r\n" HOST "\r\n",
                                           "OPTIONS * HTTP/1.1\r\n" HOST "\r\n",
                                           "\x16\x03\x01"};
    struct http_stats stats;
    (void)state;
    peer_wait_for((http_stats(server, &stats), stats.busy == 0));
    int before = peer_count("/proc/self/fd");
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < COUNT_OF(requests); i++)
            close(ask(requests[i]));
    peer_wait_for((http_stats(server, &stats), stats.busy == 0));
    peer_wait_for(peer_count("/proc/self/fd") == before);
}

static void a_tag_is_the_descriptor_that_it_was_made_of(void **state)
{
    (void)state;
    assert_int_equal(interpose_tag("0.0.0.7"), 7);
    assert_int_equal(interpose_tag("0.1.0.1"), 65537);
    assert_int_equal(interpose_tag("::1"), -1);
    assert_int_equal(interpose_tag(""), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_of_a_version_that_was_looked_at),
        TEST(listens_nowhere_by_itself),
        TEST(takes_its_connections_from_us),
        TEST(has_stacks_as_large_as_we_say),
        TEST(shows_us_every_byte_of_a_head),
        TEST(gives_a_worker_back_that_waits),
        TEST(tells_us_before_it_closes),
        cmocka_unit_test(a_tag_is_the_descriptor_that_it_was_made_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
