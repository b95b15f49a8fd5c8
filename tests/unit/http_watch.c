/* Connections that end while something else still refers to their socket: another thread's system
 * call, or a child between fork and exec. Here that is a duplicate which the test holds. */
#include "http_peer.h"

#include "base/auto.h"
#include "base/fd.h"
#include "http/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

static struct http_server *server;
static _Atomic int client_port, kept_fd, done_count, holder_done;
static _Atomic(struct http_parked *) handle;

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

/* Keeps the file of the connection alive, on its worker, before it is handed over. */
static void keep_file(void)
{
    int fd = server_side(atomic_load(&client_port));
    assert_true(fd >= 0);
    atomic_store(&kept_fd, dup(fd));
}

static void refuse(struct http_request *req, void *arg)
{
    struct err err;
    (void)arg;
    keep_file();
    err_set(&err, ERR_FORBIDDEN, "no");
    http_send_error(req, &err, NULL);
}

static void on_done(void *arg)
{
    (void)arg;
    atomic_fetch_add(&holder_done, 1);
}

static void park(struct http_request *req, void *arg)
{
    const struct http_park_config config = {.done = on_done};
    struct err err;
    (void)arg;
    keep_file();
    struct http_parked *parked = http_park(req, &config, &err);
    assert_non_null(parked);
    atomic_store(&handle, parked);
}

static enum http_fill fill(struct http_piece *piece, void *arg)
{
    (void)arg;
    buf_adds(piece->bytes, "data: x\n\n");
    return HTTP_FILL_WAIT;
}

static void stream(struct http_request *req, void *arg)
{
    const struct http_stream_config config = {.status = 200,
                                              .type = "text/event-stream",
                                              .heartbeat = ":\n\n",
                                              .heartbeat_ms = 60000,
                                              .stuck_ms = 60000,
                                              .fill = fill,
                                              .done = on_done};
    struct err err;
    (void)arg;
    keep_file();
    assert_non_null(http_stream(req, &config, &err));
}

static const struct http_route routes[] = {
    {"POST", "/refused", refuse, 0}, {"GET", "/park", park, 0}, {"GET", "/stream", stream, 0}};

static void count_done(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    (void)req;
    (void)status;
    (void)duration_us;
    (void)arg;
    atomic_fetch_add(&done_count, 1);
}

static int start(void **state)
{
    const struct http_config config = {.bind = "127.0.0.1",
                                       .workers = 2,
                                       .routes = routes,
                                       .route_count = COUNT_OF(routes),
                                       .done = count_done,
                                       .head_ms = 20000,
                                       .body_idle_ms = 20000,
                                       .body_total_ms = 20000,
                                       .idle_ms = 20000,
                                       .parked_max = 10,
                                       .streams_max = 10};
    struct err err;
    (void)state;
    atomic_store(&kept_fd, -1);
    atomic_store(&handle, NULL);
    atomic_store(&done_count, 0);
    atomic_store(&holder_done, 0);
    server = http_start(&config, &err);
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_stop(server, 0);
    return 0;
}

/* How many registrations all event queues of this process have. */
static int registrations(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fdinfo");
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[300];
        snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
        FILE *file = fopen(path, "re");
        char line[256];
        while (file && fgets(line, sizeof(line), file))
            count += strncmp(line, "tfd:", 4) == 0;
        if (file)
            fclose(file);
    }
    closedir(dir);
    return count;
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

enum leaving { LEAVE_BY_FIN, LEAVE_BY_RST, LEAVE_HALF, LEAVINGS };

/* The client sends more and leaves. Returns a descriptor that is still open, or -1. */
static int leave(int fd, enum leaving how)
{
    struct linger reset = {1, 0};
    peer_send(fd, "more that nobody reads");
    if (how == LEAVE_HALF) {
        shutdown(fd, SHUT_WR);
        return fd;
    }
    if (how == LEAVE_BY_RST)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
    return -1;
}

/* How many descriptors of this process are that socket; by their links, for looking at descriptors
 * themselves would race with the threads that close them. */
static int descriptors_of(int socket)
{
    char path[64], want[64] = "", have[64];
    int count = 0;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", socket);
    assert_true(readlink(path, want, sizeof(want) - 1) > 0);
    for (int fd = 3; fd < 1024; fd++) {
        memset(have, 0, sizeof(have));
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        count += readlink(path, have, sizeof(have) - 1) > 0 && strcmp(want, have) == 0;
    }
    return count;
}

/* Once the server has closed a connection nothing in it refers to that any more, whoever else holds
 * the file. `bells` registrations are always there. */
static void expect_forgotten(int bells)
{
    peer_wait_for(descriptors_of(atomic_load(&kept_fd)) == 1);
    assert_int_equal(registrations(), bells);
    close(atomic_exchange(&kept_fd, -1));
}

static void forgets_a_refused_sender_whose_file_lives_on(void **state)
{
    (void)state;
    int bells = registrations();
    for (int how = 0; how < LEAVINGS; how++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        int fd = ask("POST /refused HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
        assert_int_equal(peer_answer(fd, &answer), 403);
        AUTO(fd) int open = leave(fd, how);
        (void)open; /* stays open to the end of the round */
        peer_wait_for(atomic_load(&done_count) == how + 1);
        expect_forgotten(bells);
    }
}

static void forgets_a_parked_client_whose_file_lives_on(void **state)
{
    (void)state;
    int bells = registrations();
    for (int how = 0; how < LEAVINGS; how++) {
        int fd = ask("GET /park HTTP/1.1\r\n" HOST "\r\n");
        peer_wait_for(atomic_load(&handle) != NULL);
        AUTO(fd) int open = leave(fd, how);
        (void)open;            /* stays open to the end of the round */
        if (how != LEAVE_HALF) /* half a close is no end: the answer is still to come */
            peer_wait_for(atomic_load(&done_count) == how + 1);
        http_parked_send(atomic_exchange(&handle, NULL), 200, "text/plain", NULL, "x", 1);
        peer_wait_for(atomic_load(&holder_done) == how + 1);
        expect_forgotten(bells);
    }
}

static void forgets_a_stream_whose_file_lives_on(void **state)
{
    (void)state;
    int bells = registrations();
    for (int how = 0; how < LEAVE_HALF; how++) {
        AUTO(buf) struct buf answer = BUF_INIT(100000);
        int fd = ask("GET /stream HTTP/1.1\r\n" HOST "\r\n");
        assert_true(peer_read_until(fd, &answer, "data: x\n\n"));
        leave(fd, how);
        peer_wait_for(atomic_load(&holder_done) == how + 1);
        expect_forgotten(bells);
    }
}

static void forgets_what_was_parked_when_it_stops(void **state)
{
    (void)state;
    AUTO(fd) int fd = ask("GET /park HTTP/1.1\r\n" HOST "\r\n");
    (void)fd;
    peer_wait_for(atomic_load(&handle) != NULL);
    http_stop(server, 0);
    assert_int_equal(registrations(), 1); /* the bell of the park that the handle keeps */
    http_parked_drop(atomic_exchange(&handle, NULL));
    assert_int_equal(registrations(), 0);
    close(atomic_exchange(&kept_fd, -1));
    assert_int_equal(start(NULL), 0);
}

/* An event that was fetched before its owner ended, and one of a slot that has a new owner. */
static void an_event_of_a_former_owner_has_none(void **state)
{
    struct watch watch;
    struct epoll_event event;
    struct err err;
    char first, second;
    (void)state;
    assert_int_equal(watch_open(&watch, &err), 0);
    AUTO(fd) int fd = eventfd(1, EFD_CLOEXEC);
    watch_ticket ticket = watch_add(&watch, fd, EPOLLIN, &first);
    assert_true(ticket != 0);
    assert_int_equal(epoll_wait(watch.epoll, &event, 1, 0), 1);
    assert_ptr_equal(watch_owner(&watch, &event), &first);
    watch_remove(&watch, &ticket, fd);
    assert_int_equal(ticket, 0);
    assert_null(watch_owner(&watch, &event));
    watch_ticket next = watch_add(&watch, fd, EPOLLIN, &second);
    assert_int_equal((uint32_t)next, (uint32_t)event.data.u64); /* the same slot */
    assert_null(watch_owner(&watch, &event));
    assert_int_equal(epoll_wait(watch.epoll, &event, 1, 0), 1);
    assert_ptr_equal(watch_owner(&watch, &event), &second);
    assert_false(watch_is_bell(&event));
    watch_remove(&watch, &next, fd);
    watch_remove(&watch, &next, fd); /* nothing is there any more: nothing happens */
    assert_int_equal(epoll_wait(watch.epoll, &event, 1, 0), 0);
    watch_done(&watch);
}

static void grows_and_gives_each_its_own(void **state)
{
    struct watch watch;
    struct err err;
    int fds[200], owners[200];
    watch_ticket tickets[200];
    struct epoll_event events[200];
    (void)state;
    assert_int_equal(watch_open(&watch, &err), 0);
    for (int i = 0; i < 200; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        tickets[i] = watch_add(&watch, fds[i], EPOLLIN, &owners[i]);
        assert_true(tickets[i] != 0);
        owners[i] = 0;
    }
    for (int i = 0; i < 200; i += 2)
        watch_remove(&watch, &tickets[i], fds[i]);
    int n = epoll_wait(watch.epoll, events, 200, 0);
    assert_int_equal(n, 100);
    for (int i = 0; i < n; i++)
        ++*(int *)watch_owner(&watch, &events[i]);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(owners[i], i % 2);
        close(fds[i]);
    }
    watch_done(&watch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(forgets_a_refused_sender_whose_file_lives_on),
        TEST(forgets_a_parked_client_whose_file_lives_on),
        TEST(forgets_a_stream_whose_file_lives_on),
        TEST(forgets_what_was_parked_when_it_stops),
        cmocka_unit_test(an_event_of_a_former_owner_has_none),
        cmocka_unit_test(grows_and_gives_each_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
