#include "http/guard.h"

#include "base/clock.h"
#include "http/head.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LISTENERS_MAX 16
#define TICK_MS 250        /* deadlines are kept this exactly */
#define PRESSED_TICK_MS 10 /* while workers are short */
#define US_PER_BYTE 15     /* a sender of 64 KiB/s does not wait at all */

struct guard {
    struct guard_config config;
    int reserve; /* workers that shall be free */
    _Atomic int held;
    _Atomic bool pressed;
    _Atomic bool draining;
    _Atomic uint64_t cut_count;

    pthread_mutex_t lock; /* the fields below; held for no I/O but shutdown and ioctl */
    pthread_cond_t wake;
    struct conn **table; /* by descriptor */
    size_t table_size;
    size_t count;
    bool asleep; /* the thread waits without a time limit */
    bool quit;
    pthread_t thread;
};

/* Whose listening descriptor is whose. Before any guard's lock. */
static struct {
    int fd;
    struct guard *guard;
} listeners[LISTENERS_MAX];
static pthread_mutex_t listeners_lock = PTHREAD_MUTEX_INITIALIZER;

/* What the calling thread works for; all NULL outside of CivetWeb's workers. */
static _Thread_local struct {
    struct guard *guard;
    struct conn *conn;
} here;

void conn_enter(struct conn *conn, enum conn_state state)
{
    atomic_store_explicit(&conn->bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&conn->since_us, clock_mono_us(), memory_order_relaxed);
    atomic_store_explicit(&conn->state, state, memory_order_release);
}

static int64_t waited_us(const struct conn *conn, int64_t now_us)
{
    return now_us - atomic_load_explicit(&conn->since_us, memory_order_relaxed) -
           atomic_load_explicit(&conn->bytes, memory_order_relaxed) * US_PER_BYTE;
}

/* Never on a descriptor that was closed: both ends of a connection's life take the lock. */
static void cut_locked(struct guard *guard, struct conn *conn)
{
    atomic_store(&conn->cut, true);
    shutdown(conn->fd, SHUT_RD);
    atomic_fetch_add_explicit(&guard->cut_count, 1, memory_order_relaxed);
}

static bool is_late(const struct guard *guard, const struct conn *conn, int state, int64_t now_us)
{
    int64_t age_ms = (now_us - atomic_load_explicit(&conn->since_us, memory_order_relaxed)) / 1000;
    return (state == CONN_HEAD && age_ms > guard->config.head_ms) ||
           (state == CONN_IDLE && age_ms > guard->config.idle_ms);
}

static bool has_unread(const struct conn *conn)
{
    int unread = 0;
    return ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0;
}

struct candidate {
    int64_t waited_us;
    struct conn *conn;
};

static int longest_first(const void *a, const void *b)
{
    int64_t x = ((const struct candidate *)a)->waited_us;
    int64_t y = ((const struct candidate *)b)->waited_us;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void cut_longest_locked(struct guard *guard, struct candidate *found, size_t count, int need)
{
    qsort(found, count, sizeof(*found), longest_first);
    for (size_t i = 0; i < count && need > 0; i++, need--)
        cut_locked(guard, found[i].conn);
}

/* Looks at one connection; returns true when it may be cut to free a worker. */
static bool judge_locked(struct guard *guard, struct conn *conn, int64_t now_us)
{
    int state = atomic_load_explicit(&conn->state, memory_order_acquire);
    if (state == CONN_BUSY || atomic_load(&conn->cut))
        return false;
    if (atomic_load(&guard->draining) || is_late(guard, conn, state, now_us)) {
        cut_locked(guard, conn);
        return false;
    }
    if (!atomic_load(&guard->pressed) || waited_us(conn, now_us) < GUARD_MIN_US || has_unread(conn))
        return false;
    if (conn->taken)
        return true;
    cut_locked(guard, conn); /* silent in the queue: it would only hold a worker later */
    return false;
}

static int free_workers(const struct guard *guard)
{
    return guard->config.workers - atomic_load(&guard->held);
}

static void sweep_locked(struct guard *guard)
{
    int64_t now_us = clock_mono_us();
    int need = guard->reserve - free_workers(guard);
    struct candidate *found = NULL;
    size_t count = 0;
    atomic_store(&guard->pressed, need > 0);
    if (need > 0)
        found = calloc(guard->count + 1, sizeof(*found));
    for (size_t fd = 0; fd < guard->table_size; fd++) {
        struct conn *conn = guard->table[fd];
        if (!conn)
            continue;
        if (conn->taken && atomic_load(&conn->cut))
            need--; /* that worker is on its way */
        else if (judge_locked(guard, conn, now_us) && found)
            found[count++] = (struct candidate){waited_us(conn, now_us), conn};
    }
    if (count > 0)
        cut_longest_locked(guard, found, count, need);
    free(found);
}

static int tick_ms(const struct guard *guard)
{
    if (atomic_load(&guard->pressed) || atomic_load(&guard->draining))
        return PRESSED_TICK_MS;
    int least = guard->config.head_ms < guard->config.idle_ms ? guard->config.head_ms
                                                              : guard->config.idle_ms;
    int tick = least / 4 < TICK_MS ? least / 4 : TICK_MS;
    return tick < PRESSED_TICK_MS ? PRESSED_TICK_MS : tick;
}

static void sleep_locked(struct guard *guard)
{
    struct timespec until;
    if (guard->count == 0) {
        guard->asleep = true;
        pthread_cond_wait(&guard->wake, &guard->lock);
        guard->asleep = false;
        return;
    }
    int64_t at_us = tick_ms(guard) * 1000;
    clock_gettime(CLOCK_MONOTONIC, &until);
    at_us += until.tv_nsec / 1000;
    until.tv_sec += at_us / 1000000;
    until.tv_nsec = at_us % 1000000 * 1000;
    pthread_cond_timedwait(&guard->wake, &guard->lock, &until);
}

static void *guard_main(void *arg)
{
    struct guard *guard = arg;
    pthread_setname_np(pthread_self(), "http-guard");
    pthread_mutex_lock(&guard->lock);
    while (!guard->quit) {
        sleep_locked(guard);
        sweep_locked(guard);
    }
    pthread_mutex_unlock(&guard->lock);
    return NULL;
}

static void wake(struct guard *guard)
{
    pthread_mutex_lock(&guard->lock);
    pthread_cond_signal(&guard->wake);
    pthread_mutex_unlock(&guard->lock);
}

struct guard *guard_new(const struct guard_config *config, struct err *err)
{
    pthread_condattr_t attr;
    struct guard *guard = calloc(1, sizeof(*guard));
    if (!guard) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    guard->config = *config;
    guard->reserve = config->workers / 8 < 1    ? 1
                     : config->workers / 8 > 32 ? 32
                                                : config->workers / 8;
    pthread_mutex_init(&guard->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&guard->wake, &attr);
    pthread_condattr_destroy(&attr);
    errno = pthread_create(&guard->thread, NULL, guard_main, guard);
    if (errno == 0)
        return guard;
    err_sys(err, "starting the guard's thread");
    pthread_cond_destroy(&guard->wake);
    pthread_mutex_destroy(&guard->lock);
    free(guard);
    return NULL;
}

int guard_listen(struct guard *guard, int listen_fd, struct err *err)
{
    int rc = -1;
    pthread_mutex_lock(&listeners_lock);
    for (size_t i = 0; rc < 0 && i < LISTENERS_MAX; i++) {
        if (!listeners[i].guard) {
            listeners[i].fd = listen_fd;
            listeners[i].guard = guard;
            rc = 0;
        }
    }
    pthread_mutex_unlock(&listeners_lock);
    return rc < 0 ? err_set(err, ERR_INTERNAL, "more than %d servers", LISTENERS_MAX) : 0;
}

static struct guard *guard_of_listener(int listen_fd)
{
    struct guard *guard = NULL;
    pthread_mutex_lock(&listeners_lock);
    for (size_t i = 0; !guard && i < LISTENERS_MAX; i++)
        if (listeners[i].guard && listeners[i].fd == listen_fd)
            guard = listeners[i].guard;
    pthread_mutex_unlock(&listeners_lock);
    return guard;
}

void guard_drain(struct guard *guard)
{
    atomic_store(&guard->draining, true);
    wake(guard);
}

static void forget_listener(const struct guard *guard)
{
    pthread_mutex_lock(&listeners_lock);
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (listeners[i].guard == guard)
            listeners[i].guard = NULL;
    pthread_mutex_unlock(&listeners_lock);
}

static void conn_free(struct conn *conn)
{
    buf_done(&conn->input);
    free(conn);
}

void guard_free(struct guard *guard)
{
    if (!guard)
        return;
    forget_listener(guard);
    pthread_mutex_lock(&guard->lock);
    guard->quit = true;
    pthread_cond_signal(&guard->wake);
    pthread_mutex_unlock(&guard->lock);
    pthread_join(guard->thread, NULL);
    for (size_t fd = 0; fd < guard->table_size; fd++) {
        if (guard->table[fd]) {
            close((int)fd);
            conn_free(guard->table[fd]);
        }
    }
    free(guard->table);
    pthread_cond_destroy(&guard->wake);
    pthread_mutex_destroy(&guard->lock);
    free(guard);
}

/* Room for a descriptor. Returns 0 or -1. */
static int grow_locked(struct guard *guard, size_t fd)
{
    if (fd < guard->table_size)
        return 0;
    size_t size = (fd | 63) + 1;
    struct conn **table = realloc(guard->table, size * sizeof(struct conn *));
    if (!table)
        return -1;
    memset(table + guard->table_size, 0, (size - guard->table_size) * sizeof(struct conn *));
    guard->table = table;
    guard->table_size = size;
    return 0;
}

int guard_accepted(int listen_fd, int fd, const struct sockaddr_in *peer)
{
    struct guard *guard = guard_of_listener(listen_fd);
    if (!guard)
        return 0;
    struct conn *conn = calloc(1, sizeof(*conn));
    if (!conn)
        return -1;
    conn->fd = fd;
    conn->peer = *peer;
    buf_init(&conn->input, HEAD_MAX);
    conn_enter(conn, CONN_HEAD);
    pthread_mutex_lock(&guard->lock);
    int rc = grow_locked(guard, (size_t)fd);
    if (rc == 0) {
        guard->table[fd] = conn;
        guard->count++;
        if (guard->asleep)
            pthread_cond_signal(&guard->wake);
    }
    pthread_mutex_unlock(&guard->lock);
    if (rc < 0)
        conn_free(conn);
    return rc;
}

void guard_starved(int listen_fd)
{
    if (guard_of_listener(listen_fd)) { /* CivetWeb would try again at once, for ever */
        struct timespec pause = {0, 20000000};
        nanosleep(&pause, NULL);
    }
}

void guard_take(struct guard *guard)
{
    here.guard = guard;
    here.conn = NULL;
    atomic_fetch_add(&guard->held, 1);
    if (free_workers(guard) < guard->reserve && !atomic_exchange(&guard->pressed, true))
        wake(guard);
}

void guard_give(struct guard *guard)
{
    here.guard = NULL;
    here.conn = NULL;
    atomic_fetch_sub(&guard->held, 1);
}

struct conn *guard_here(void)
{
    return here.conn;
}

struct conn *guard_by_port(struct guard *guard, int port)
{
    struct conn *found = NULL;
    pthread_mutex_lock(&guard->lock);
    for (size_t fd = 0; fd < guard->table_size; fd++) {
        struct conn *conn = guard->table[fd];
        if (conn && !conn->taken && ntohs(conn->peer.sin_port) == port)
            found = conn;
    }
    pthread_mutex_unlock(&guard->lock);
    return found;
}

void guard_forget(struct guard *guard, struct conn *conn)
{
    pthread_mutex_lock(&guard->lock);
    guard->table[conn->fd] = NULL;
    guard->count--;
    pthread_mutex_unlock(&guard->lock);
    here.conn = NULL;
    conn_free(conn);
}

int guard_busy(const struct guard *guard)
{
    return atomic_load(&guard->held);
}

bool guard_is_pressed(const struct guard *guard)
{
    return atomic_load_explicit(&guard->pressed, memory_order_relaxed);
}

uint64_t guard_cut_count(const struct guard *guard)
{
    return atomic_load(&guard->cut_count);
}

void guard_touch(int fd)
{
    struct guard *guard = here.guard;
    if (!guard || here.conn)
        return;
    pthread_mutex_lock(&guard->lock);
    if ((size_t)fd < guard->table_size && guard->table[fd]) {
        here.conn = guard->table[fd];
        here.conn->taken = true;
    }
    pthread_mutex_unlock(&guard->lock);
}

bool guard_may_receive(int fd)
{
    struct conn *conn = here.conn;
    return !conn || conn->fd != fd || !(conn->closing || atomic_load(&conn->cut));
}

size_t guard_received(int fd, const void *data, size_t len)
{
    struct conn *conn = here.conn;
    if (!conn || conn->fd != fd)
        return len;
    int state = atomic_load_explicit(&conn->state, memory_order_relaxed);
    atomic_fetch_add_explicit(&conn->bytes, (int64_t)len, memory_order_relaxed);
    if (state == CONN_BODY || state == CONN_BUSY)
        return len;
    if (state == CONN_IDLE)
        conn_enter(conn, CONN_HEAD);
    buf_add(&conn->input, data, len);
    /* Short of workers: whoever has dripped until now does not get to drip on. */
    if (atomic_load_explicit(&here.guard->pressed, memory_order_relaxed) &&
        waited_us(conn, clock_mono_us()) > GUARD_MIN_US &&
        head_size(conn->input.data, conn->input.len) == 0) {
        atomic_store(&conn->cut, true);
        atomic_fetch_add_explicit(&here.guard->cut_count, 1, memory_order_relaxed);
        return 0;
    }
    return len;
}
