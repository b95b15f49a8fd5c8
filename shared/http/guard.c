#include "http/guard.h"

#include "base/clock.h"
#include "base/lock.h"
#include "http/table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 250       /* precision of the deadlines */
#define PRESSED_TICK_MS 5 /* the same while workers are short */

/* Cuts a connection off. Its descriptor is open, because both ends of a connection's life take this
 * lock. */
static void cut_locked(struct guard *guard, struct conn *conn) HOLDS(guard->lock);
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
    HOLDS(guard->lock);
static void cut_longest_locked(struct guard *guard, struct candidate *found, size_t count, int need)
{
    qsort(found, count, sizeof(*found), longest_first);
    for (size_t i = 0; i < count && need > 0; i++, need--)
        cut_locked(guard, found[i].conn);
}

/* Looks at one connection. Returns true when it may be cut off to free a worker. */
static bool judge_locked(struct guard *guard, struct conn *conn, int64_t now_us) HOLDS(guard->lock);
static bool judge_locked(struct guard *guard, struct conn *conn, int64_t now_us)
{
    int state = atomic_load_explicit(&conn->state, memory_order_acquire);
    if (state == CONN_BUSY || atomic_load(&conn->cut))
        return false;
    if (atomic_load(&guard->draining) || is_late(guard, conn, state, now_us)) {
        cut_locked(guard, conn);
        return false;
    }
    if (!atomic_load(&guard->pressed) || conn_waited_us(conn, now_us) < GUARD_MIN_US ||
        conn_has_unread(conn))
        return false;
    if (conn->taken)
        return true;
    cut_locked(guard, conn); /* Silent while it waits for a worker: it would only hold a worker
                              * later. */
    return false;
}

/* How many workers must be freed: those of the reserve, and one for each connection that waits. */
static int needed_locked(const struct guard *guard) HOLDS(guard->lock);
static int needed_locked(const struct guard *guard)
{
    int idle = guard_free_workers(guard);
    int queued = (int)guard->count - guard->config.workers;
    return guard->reserve - idle + (idle <= 0 && queued > 0 ? queued : 0);
}

static void sweep_locked(struct guard *guard) HOLDS(guard->lock);
static void sweep_locked(struct guard *guard)
{
    int64_t now_us = clock_mono_us();
    int need = needed_locked(guard);
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
            need--; /* That worker will be free soon. */
        else if (judge_locked(guard, conn, now_us) && found)
            found[count++] = (struct candidate){conn_waited_us(conn, now_us), conn};
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

static void sleep_locked(struct guard *guard) HOLDS(guard->lock);
static void sleep_locked(struct guard *guard)
{
    struct timespec until;
    if (guard->count == 0) {
        guard->asleep = true;
        pthread_cond_wait(&guard->wake, &guard->lock.mutex);
        guard->asleep = false;
        return;
    }
    int64_t at_us = (int64_t)tick_ms(guard) * 1000;
    clock_gettime(CLOCK_MONOTONIC, &until);
    at_us += until.tv_nsec / 1000;
    until.tv_sec += at_us / 1000000;
    until.tv_nsec = at_us % 1000000 * 1000;
    pthread_cond_timedwait(&guard->wake, &guard->lock.mutex, &until);
}

static void *guard_main(void *arg)
{
    struct guard *guard = arg;
    lock_take(&guard->lock);
    while (!guard->quit) {
        sleep_locked(guard);
        sweep_locked(guard);
    }
    lock_drop(&guard->lock);
    return NULL;
}

void guard_wake(struct guard *guard)
{
    lock_take(&guard->lock);
    pthread_cond_signal(&guard->wake);
    lock_drop(&guard->lock);
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
    lock_init(&guard->lock);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&guard->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (thread_start(&guard->thread, "http-guard", THREAD_STACK_DEFAULT, guard_main, guard, err) ==
        0)
        return guard;
    pthread_cond_destroy(&guard->wake);
    lock_done(&guard->lock);
    free(guard);
    return NULL;
}

void guard_drain(struct guard *guard)
{
    atomic_store(&guard->draining, true);
    guard_wake(guard);
}

void guard_free(struct guard *guard)
{
    if (!guard)
        return;
    lock_take(&guard->lock);
    guard->quit = true;
    pthread_cond_signal(&guard->wake);
    lock_drop(&guard->lock);
    thread_join(&guard->thread);
    for (size_t fd = 0; fd < guard->table_size; fd++) {
        if (guard->table[fd]) {
            close((int)fd);
            conn_free(guard->table[fd]);
        }
    }
    free(guard->table);
    pthread_cond_destroy(&guard->wake);
    lock_done(&guard->lock);
    free(guard);
}

int guard_free_workers(const struct guard *guard)
{
    return guard->config.workers - atomic_load(&guard->held);
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
