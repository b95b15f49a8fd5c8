/* Accepted connections: how they enter and leave the guard's table, and which one the calling
 * worker serves. */
#include "http/table.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "http/head.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define US_PER_BYTE 15 /* A sender of 64 KiB/s counts as never waiting. */

/* What the calling thread works on; all NULL outside of CivetWeb's workers. */
static _Thread_local struct {
    struct guard *guard;
    struct conn *conn;
} here;

void conn_enter(struct conn *conn, enum conn_state state)
{
    if (state == CONN_HEAD || state == CONN_IDLE)
        conn_restart(conn);
    atomic_store_explicit(&conn->state, state, memory_order_release);
}

void conn_restart(struct conn *conn)
{
    atomic_store_explicit(&conn->bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&conn->since_us, clock_mono_us(), memory_order_relaxed);
}

int64_t conn_waited_us(const struct conn *conn, int64_t now_us)
{
    return now_us - atomic_load_explicit(&conn->since_us, memory_order_relaxed) -
           atomic_load_explicit(&conn->bytes, memory_order_relaxed) * US_PER_BYTE;
}

bool conn_has_unread(const struct conn *conn)
{
    int unread = 0;
    return ioctl(conn->fd, FIONREAD, &unread) == 0 && unread > 0;
}

void conn_free(struct conn *conn)
{
    buf_done(&conn->input);
    free(conn);
}

/* Makes room for a descriptor in the table. Returns 0 or -1. */
static int grow_locked(struct guard *guard, size_t fd) HOLDS(guard->lock);
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

int guard_accepted(struct guard *guard, int fd, const struct sockaddr_storage *peer)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    REQUIRE(fd >= 0);
    if (!conn)
        return -1;
    conn->fd = fd;
    conn->peer = *peer;
    buf_init(&conn->input, HEAD_MAX);
    conn_enter(conn, CONN_HEAD);
    lock_take(&guard->lock);
    int rc = grow_locked(guard, (size_t)fd);
    if (rc == 0) {
        guard->table[fd] = conn;
        guard->count++;
        if (guard->asleep)
            pthread_cond_signal(&guard->wake);
    }
    lock_drop(&guard->lock);
    if (rc < 0)
        conn_free(conn);
    return rc;
}

void guard_take(struct guard *guard)
{
    here.guard = guard;
    here.conn = NULL;
    atomic_fetch_add(&guard->held, 1);
    if (guard_free_workers(guard) < guard->reserve && !atomic_exchange(&guard->pressed, true))
        guard_wake(guard);
}

void guard_drop(struct guard *guard)
{
    here.guard = NULL;
    here.conn = NULL;
    atomic_fetch_sub(&guard->held, 1);
}

struct conn *guard_here(void)
{
    return here.conn;
}

struct conn *guard_untouched(struct guard *guard, int fd)
{
    struct conn *conn = NULL;
    lock_take(&guard->lock);
    if (fd >= 0 && (size_t)fd < guard->table_size)
        conn = guard->table[fd];
    if (conn && conn->taken)
        conn = NULL;
    lock_drop(&guard->lock);
    return conn;
}

void guard_forget(struct guard *guard, struct conn *conn)
{
    lock_take(&guard->lock);
    REQUIRE(guard->table[conn->fd] == conn);
    guard->table[conn->fd] = NULL;
    guard->count--;
    lock_drop(&guard->lock);
    here.conn = NULL;
    conn_free(conn);
}

/* Binds the connection that the calling worker begins to serve, and returns it. */
static struct conn *bind_here(int fd)
{
    struct guard *guard = here.guard;
    lock_take(&guard->lock);
    if ((size_t)fd < guard->table_size && guard->table[fd]) {
        here.conn = guard->table[fd];
        here.conn->taken = true;
    }
    lock_drop(&guard->lock);
    return here.conn;
}

bool guard_has_cut(struct guard *guard, const struct conn *conn)
{
    lock_take(&guard->lock); /* No sweep that found it waiting is still about to cut it off. */
    bool cut = atomic_load(&conn->cut);
    lock_drop(&guard->lock);
    return cut;
}

bool conn_client_ended(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    struct pollfd pfd = {.fd = fd};
    const struct timespec now = {0};
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        return info.tcpi_state != TCP_ESTABLISHED;
    /* HUP means that both directions are shut, and we have not shut ours. */
    return ppoll(&pfd, 1, &now, NULL) == 1 && pfd.revents & POLLHUP;
}

bool guard_gives_up(struct conn *conn)
{
    struct guard *guard = here.guard;
    if (!guard_is_pressed(guard) || conn_waited_us(conn, clock_mono_us()) < GUARD_MIN_US)
        return false;
    atomic_store(&conn->cut, true);
    atomic_fetch_add_explicit(&guard->cut_count, 1, memory_order_relaxed);
    return true;
}

bool guard_may_wait(int fd)
{
    if (!here.guard)
        return true;
    struct conn *conn = here.conn ? here.conn : bind_here(fd);
    return !conn || conn->fd != fd || !guard_is_pressed(here.guard) || conn_has_unread(conn) ||
           !guard_gives_up(conn);
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
    return head_size(conn->input.data, conn->input.len) == 0 && guard_gives_up(conn) ? 0 : len;
}
