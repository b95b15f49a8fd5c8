/*
 * The bytes of connections through a gate. Where a connection leads is scripted: every one to the
 * service of the test.
 */
#include "testbase.h"

#include "base/fd.h"
#include "runner/egress/gate.h"
#include "runner/egress/rules.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PATIENCE_S 60
#define MB ((size_t)1 << 20)
#define TUBES_MAX 8 /* of a gate */
#define STALLED 24  /* more connections than tubes */

/* --- the script ----------------------------------------------------------------------------- */

static struct sockaddr_in service;
static atomic_int spliced; /* pieces */
static atomic_bool no_splice, no_pipe;

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
const char *__wrap_egress_refuses(const struct strlist *lan, const struct sockaddr *address);
ssize_t __real_splice(int from, off64_t *at, int to, off64_t *to_at, size_t len, unsigned flags);
ssize_t __wrap_splice(int from, off64_t *at, int to, off64_t *to_at, size_t len, unsigned flags);
int __real_pipe2(int ends[2], int flags);
int __wrap_pipe2(int ends[2], int flags);

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    if (level != SOL_IP || name != SO_ORIGINAL_DST)
        return __real_getsockopt(fd, level, name, value, size);
    memcpy(value, &service, sizeof(service));
    return 0;
}

const char *__wrap_egress_refuses(const struct strlist *lan, const struct sockaddr *address)
{
    (void)lan, (void)address;
    return NULL;
}

ssize_t __wrap_splice(int from, off64_t *at, int to, off64_t *to_at, size_t len, unsigned flags)
{
    if (atomic_load(&no_splice)) {
        errno = EINVAL;
        return -1;
    }
    atomic_fetch_add(&spliced, 1);
    return __real_splice(from, at, to, to_at, len, flags);
}

int __wrap_pipe2(int ends[2], int flags)
{
    if (atomic_load(&no_pipe)) {
        errno = EMFILE;
        return -1;
    }
    return __real_pipe2(ends, flags);
}

/* --- connections ------------------------------------------------------------------------------ */

static struct egress_gate *gate;
static int outer;                            /* the service's listener */
static struct sockaddr_in entry;             /* where programs arrive */
static int descriptors_before, pipes_before; /* of the process, without connections */

static int open_listener(struct sockaddr_in *at)
{
    socklen_t size = sizeof(*at);
    *at = (struct sockaddr_in){.sin_family = AF_INET};
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(bind(fd, (struct sockaddr *)at, size) == 0 && listen(fd, 64) == 0 &&
                getsockname(fd, (struct sockaddr *)at, &size) == 0);
    return fd;
}

/* How many descriptors of the process lead to what begins so. */
static int descriptors(const char *what)
{
    char target[64];
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    for (const struct dirent *at; (at = readdir(dir));) {
        ssize_t len = readlinkat(dirfd(dir), at->d_name, target, sizeof(target) - 1);
        target[len > 0 ? len : 0] = '\0';
        count += len > 0 && strncmp(target, what, strlen(what)) == 0;
    }
    closedir(dir);
    return count;
}

static void begin(void)
{
    struct err err;
    struct strlist open = {0}, none = {0};
    const struct egress_ours ours = {0};
    assert_int_equal(strlist_add(&open, "open") | strlist_add(&none, "none"), 0);
    gate = egress_gate_new(&open, &none, &ours, &err);
    OK(gate, &err);
    strlist_done(&open);
    strlist_done(&none);
    outer = open_listener(&service);
    const int sockets[2] = {open_listener(&entry), socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    egress_gate_serve(gate, sockets);
    atomic_store(&spliced, 0);
    descriptors_before = descriptors("");
    pipes_before = descriptors("pipe:");
}

static int tubes(void)
{
    return (descriptors("pipe:") - pipes_before) / 2;
}

static void expect_no_leftovers(void)
{
    EVENTUALLY(PATIENCE_S * 1000, descriptors("") == descriptors_before);
}

static void end(void)
{
    expect_no_leftovers();
    egress_gate_free(gate);
    fd_close(&outer);
}

/* One connection: the program's socket, and the one that the service has accepted. */
struct way {
    int ends[2];
};

static void set_patience(int fd)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

static struct way connected(void)
{
    struct way way = {.ends = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), -1}};
    const int small = 4096; /* of the program: its bytes stay in the gate */
    setsockopt(way.ends[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    assert_int_equal(connect(way.ends[0], (struct sockaddr *)&entry, sizeof(entry)), 0);
    EVENTUALLY(PATIENCE_S * 1000, (way.ends[1] = accept4(outer, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    for (int i = 0; i < 2; i++)
        set_patience(way.ends[i]);
    return way;
}

static void close_way(struct way *way)
{
    for (int i = 0; i < 2; i++)
        fd_close(&way->ends[i]);
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* Sends or receives so many bytes, which depend on their position. */
struct work {
    int fd;
    size_t size, done; /* receiving, size is what is expected before the end */
    int error;         /* errno; 0: the end of input, or all was sent */
    bool wrong;
    pthread_t thread;
};

static unsigned char byte_at(size_t at)
{
    return (unsigned char)((at * 2654435761u) >> 11 ^ at >> 20);
}

static void *send_all(void *arg)
{
    struct work *work = arg;
    unsigned char piece[32 << 10];
    while (work->done < work->size) {
        size_t len =
            work->size - work->done < sizeof(piece) ? work->size - work->done : sizeof(piece);
        for (size_t i = 0; i < len; i++)
            piece[i] = byte_at(work->done + i);
        ssize_t n = send(work->fd, piece, len, MSG_NOSIGNAL);
        if (n < 0) {
            work->error = errno;
            return NULL;
        }
        work->done += (size_t)n;
    }
    return NULL;
}

static void *receive_all(void *arg)
{
    struct work *work = arg;
    unsigned char piece[32 << 10];
    while (work->done < work->size) {
        size_t left = work->size - work->done;
        ssize_t n = recv(work->fd, piece, left < sizeof(piece) ? left : sizeof(piece), 0);
        if (n <= 0) {
            work->error = n < 0 ? errno : 0;
            return NULL;
        }
        for (ssize_t i = 0; i < n; i++)
            work->wrong |= piece[i] != byte_at(work->done + (size_t)i);
        work->done += (size_t)n;
    }
    return NULL;
}

static struct work work_of(int fd, size_t size)
{
    return (struct work){.fd = fd, .size = size};
}

static void start(struct work *work, void *(*fn)(void *arg))
{
    assert_int_equal(pthread_create(&work->thread, NULL, fn, work), 0);
}

static void finish(struct work *work)
{
    assert_int_equal(pthread_join(work->thread, NULL), 0);
    assert_int_equal(work->error, 0);
    assert_false(work->wrong);
    assert_int_equal(work->done, work->size);
}

static void expect_end(int fd)
{
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

/* Moves that much both ways at once, and then ends both. */
static void move_both_ways(size_t size)
{
    struct work sent[2], received[2];
    struct way way = connected();
    for (int i = 0; i < 2; i++) {
        sent[i] = work_of(way.ends[i], size);
        received[i] = work_of(way.ends[i], size);
        start(&sent[i], send_all);
        start(&received[i], receive_all);
    }
    for (int i = 0; i < 2; i++) {
        finish(&sent[i]);
        finish(&received[i]);
    }
    for (int i = 0; i < 2; i++) {
        shutdown(way.ends[i], SHUT_WR);
        expect_end(way.ends[!i]);
    }
    close_way(&way);
}

/* --- the tests -------------------------------------------------------------------------------- */

static void much_is_spliced_and_arrives_whole(void **state)
{
    (void)state;
    begin();
    move_both_ways(8 * MB);
    assert_true(atomic_load(&spliced) > 0);
    end();
}

static void where_the_kernel_cannot_splice_bytes_are_copied(void **state)
{
    (void)state;
    atomic_bool *const missing[] = {&no_splice, &no_pipe};
    for (size_t i = 0; i < COUNT(missing); i++) {
        atomic_store(missing[i], true);
        begin();
        move_both_ways(3 * MB);
        assert_int_equal(atomic_load(&spliced), 0);
        end();
        atomic_store(missing[i], false);
    }
}

static void little_is_never_spliced(void **state)
{
    (void)state;
    char text[100];
    begin();
    struct way way = connected();
    for (int i = 0; i < 500; i++) {
        int from = way.ends[i % 2], to = way.ends[!(i % 2)];
        memset(text, i, sizeof(text));
        assert_int_equal(send(from, text, sizeof(text), MSG_NOSIGNAL), sizeof(text));
        assert_int_equal(recv(to, text, sizeof(text), MSG_WAITALL), sizeof(text));
        assert_int_equal((unsigned char)text[99], (unsigned char)i);
    }
    assert_int_equal(tubes(), 0);
    assert_int_equal(atomic_load(&spliced), 0);
    close_way(&way);
    end();
}

/* Either side may end its direction and still receive. */
static void a_side_that_has_ended_still_receives(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 2; i++) {
        struct way way = connected();
        struct work there = work_of(way.ends[i], 3 * MB), back = work_of(way.ends[!i], 3 * MB);
        struct work read_there = work_of(way.ends[!i], 3 * MB),
                    read_back = work_of(way.ends[i], 3 * MB);
        start(&there, send_all);
        start(&read_there, receive_all);
        finish(&there);
        shutdown(way.ends[i], SHUT_WR);
        finish(&read_there);
        expect_end(way.ends[!i]);
        start(&back, send_all);
        start(&read_back, receive_all);
        finish(&back);
        shutdown(way.ends[!i], SHUT_WR);
        finish(&read_back);
        expect_end(way.ends[i]);
        close_way(&way);
    }
    end();
}

/* Their bytes wait in the gate, in no more tubes than it may have; the neighbour's pass. */
static void many_slow_readers_hold_up_nobody_else(void **state)
{
    (void)state;
    struct way ways[STALLED];
    struct work sent[STALLED], received[STALLED];
    begin();
    for (int i = 0; i < STALLED; i++) {
        ways[i] = connected();
        sent[i] = work_of(ways[i].ends[1], 12 * MB);
        start(&sent[i], send_all);
    }
    EVENTUALLY(PATIENCE_S * 1000, tubes() == TUBES_MAX);
    move_both_ways(MB);
    assert_true(tubes() <= TUBES_MAX);
    for (int i = 0; i < STALLED; i++) {
        received[i] = work_of(ways[i].ends[0], 12 * MB);
        start(&received[i], receive_all);
    }
    for (int i = 0; i < STALLED; i++) {
        finish(&sent[i]);
        finish(&received[i]);
        close_way(&ways[i]);
    }
    end();
}

/* Sends until no more is taken. False when the connection is broken. */
static bool fill(int fd)
{
    static const char piece[32 << 10];
    while (send(fd, piece, sizeof(piece), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        continue;
    return errno == EAGAIN;
}

/* A connection whose program does not read: its bytes stand in the gate. */
static struct way stalled(void)
{
    struct way way = connected();
    EVENTUALLY(PATIENCE_S * 1000, fill(way.ends[1]) && tubes() == 1);
    return way;
}

static void expect_reset(int fd)
{
    struct work rest = work_of(fd, 512 * MB);
    (void)receive_all(&rest);
    assert_int_equal(rest.error, ECONNRESET);
}

static void a_program_that_goes_away_ends_the_other_side(void **state)
{
    (void)state;
    begin();
    struct way way = stalled();
    fd_close(&way.ends[0]);
    EVENTUALLY(PATIENCE_S * 1000, !fill(way.ends[1]));
    close_way(&way);
    expect_no_leftovers();
    move_both_ways(MB); /* the gate goes on */
    end();
}

/* What was cut off must not look as if it had ended. */
static void a_reset_arrives_as_a_reset(void **state)
{
    (void)state;
    const struct linger at_once = {.l_onoff = 1};
    begin();
    struct way way = stalled();
    setsockopt(way.ends[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fd_close(&way.ends[1]);
    expect_reset(way.ends[0]);
    close_way(&way);
    end();
}

static void a_gate_that_ends_resets_what_it_holds(void **state)
{
    (void)state;
    begin();
    struct way way = stalled();
    egress_gate_free(gate);
    EVENTUALLY(PATIENCE_S * 1000, !fill(way.ends[1]));
    expect_reset(way.ends[0]);
    assert_int_equal(tubes(), 0);
    close_way(&way);
    fd_close(&outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(much_is_spliced_and_arrives_whole),
        cmocka_unit_test(where_the_kernel_cannot_splice_bytes_are_copied),
        cmocka_unit_test(little_is_never_spliced),
        cmocka_unit_test(a_side_that_has_ended_still_receives),
        cmocka_unit_test(many_slow_readers_hold_up_nobody_else),
        cmocka_unit_test(a_program_that_goes_away_ends_the_other_side),
        cmocka_unit_test(a_reset_arrives_as_a_reset),
        cmocka_unit_test(a_gate_that_ends_resets_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
