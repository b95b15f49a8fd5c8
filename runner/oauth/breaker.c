#include "runner/oauth/breaker.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSALS_MAX 3
#define TRY_AGAIN_MS 60000            /* A refused key may work again: try it after this time. */
#define LIMIT_MAX_MS (8LL * 86400000) /* longest pause, whatever the API says */
#define LIMIT_MIN_MS 1000
#define IDLE_MS 60000
#define KEPT_BYTES 32 /* size of the file: a time, as text */

struct breaker {
    void (*changed)(const struct breaker_status *status, void *arg);
    void *arg;
    struct thread thread;

    /* Held while a change is reported, so that changes are reported in their order. Taken before
     * `lock`, never while that is held. */
    struct lock telling;
    enum breaker_state told GUARDED_BY_MEMBER(telling);

    struct lock lock; /* guards the fields below; never held across I/O or changed() */
    pthread_cond_t turned;
    bool stopping;
    bool login_needed;
    int refusals;          /* in a row */
    int64_t refused_until; /* mono ms; 0: not refused */
    int64_t limit_until;   /* mono ms; 0: no limit */
    int64_t reserve_until; /* mono ms; 0: the tasks' share is not used up */
    char *path;            /* file that keeps the limit; NULL: none. Set once */
    int64_t kept;          /* the limit_until in that file; 0: no file */
    int64_t limits, auth_refusals;
    int64_t denied_ms; /* real ms of the last refusal by the API */
    char denied_task[ID_SIZE];
};

static struct breaker_status status_locked(const struct breaker *breaker) HOLDS(breaker->lock);
static struct breaker_status status_locked(const struct breaker *breaker)
{
    int64_t now = clock_mono_ms(), real = clock_real_ms();
    struct breaker_status status = {.limits = breaker->limits,
                                    .auth_refusals = breaker->auth_refusals,
                                    .refused_ms = breaker->denied_ms};
    snprintf(status.refused_task, sizeof(status.refused_task), "%s", breaker->denied_task);
    if (breaker->login_needed) {
        status.state = BREAKER_LOGIN;
    } else if (breaker->refused_until > now) {
        status.state = BREAKER_LOGIN;
        status.until_ms = real + breaker->refused_until - now;
    } else if (breaker->limit_until > now || breaker->reserve_until > now) {
        int64_t last = breaker->limit_until > breaker->reserve_until ? breaker->limit_until
                                                                     : breaker->reserve_until;
        status.state = BREAKER_LIMIT;
        status.until_ms = real + last - now;
        status.reserved = breaker->limit_until <= now;
    }
    return status;
}

void breaker_status(struct breaker *breaker, struct breaker_status *ret_status)
{
    lock_take(&breaker->lock);
    *ret_status = status_locked(breaker);
    lock_drop(&breaker->lock);
}

static void log_change(const struct breaker_status *status)
{
    char time[CLOCK_TEXT_SIZE];
    switch (status->state) {
    case BREAKER_CLOSED:
        log_info("oauth", "Claude tasks go on");
        break;
    case BREAKER_LOGIN:
        log_warn("oauth", "Claude tasks wait for a working login");
        break;
    case BREAKER_LIMIT:
        log_warn("oauth", "%s: Claude tasks wait until %s",
                 status->reserved ? "the rest of a usage window is kept for the owner"
                                  : "usage limit",
                 clock_format(status->until_ms, time));
        break;
    }
}

/* Reports changes to the queue until there are none left, including those made meanwhile. When it
 * returns, the queue knows the state at the call or a later one. */
static void tell(struct breaker *breaker)
{
    struct breaker_status now;
    lock_take(&breaker->telling);
    for (breaker_status(breaker, &now); now.state != breaker->told; breaker_status(breaker, &now)) {
        breaker->told = now.state;
        log_change(&now);
        breaker->changed(&now, breaker->arg);
    }
    lock_drop(&breaker->telling);
}

void breaker_login(struct breaker *breaker, bool needed)
{
    lock_take(&breaker->lock);
    if (breaker->login_needed && !needed) /* There is a new login: drop what the API said about the
                                           * old one. */
        breaker->refusals = 0, breaker->refused_until = 0;
    breaker->login_needed = needed;
    lock_drop(&breaker->lock);
    tell(breaker);
}

void breaker_renewed(struct breaker *breaker)
{
    lock_take(&breaker->lock);
    breaker->refusals = 0;
    breaker->refused_until = breaker->limit_until = 0;
    pthread_cond_broadcast(&breaker->turned);
    lock_drop(&breaker->lock);
    tell(breaker);
}

/* Converts a real time to the monotonic clock, within bounds. */
static int64_t mono_of(int64_t until_ms)
{
    int64_t wait = until_ms - clock_real_ms();
    wait = wait < LIMIT_MIN_MS ? LIMIT_MIN_MS : wait > LIMIT_MAX_MS ? LIMIT_MAX_MS : wait;
    return clock_mono_ms() + wait;
}

static void limit_locked(struct breaker *breaker, int64_t until_ms) HOLDS(breaker->lock);
static void limit_locked(struct breaker *breaker, int64_t until_ms)
{
    int64_t until = mono_of(until_ms);
    if (until > breaker->limit_until)
        breaker->limit_until = until;
    pthread_cond_broadcast(&breaker->turned);
}

void breaker_limit(struct breaker *breaker, int64_t until_ms)
{
    lock_take(&breaker->lock);
    breaker->limits++;
    limit_locked(breaker, until_ms);
    lock_drop(&breaker->lock);
    tell(breaker);
}

void breaker_reserve(struct breaker *breaker, int64_t until_ms)
{
    lock_take(&breaker->lock);
    breaker->reserve_until = until_ms > 0 ? mono_of(until_ms) : 0;
    pthread_cond_broadcast(&breaker->turned);
    lock_drop(&breaker->lock);
    tell(breaker);
}

void breaker_refused(struct breaker *breaker)
{
    lock_take(&breaker->lock);
    if (++breaker->refusals >= REFUSALS_MAX)
        breaker->refused_until = clock_mono_ms() + TRY_AGAIN_MS;
    pthread_cond_broadcast(&breaker->turned);
    lock_drop(&breaker->lock);
    tell(breaker);
}

void breaker_denied(struct breaker *breaker, const char *task)
{
    lock_take(&breaker->lock);
    breaker->auth_refusals++;
    breaker->denied_ms = clock_real_ms();
    snprintf(breaker->denied_task, sizeof(breaker->denied_task), "%s", task);
    lock_drop(&breaker->lock);
    breaker_refused(breaker);
}

void breaker_accepted(struct breaker *breaker)
{
    lock_take(&breaker->lock);
    breaker->refusals = 0;
    breaker->refused_until = 0;
    lock_drop(&breaker->lock);
    tell(breaker);
}

/* --- over restarts ------------------------------------------------------------------------- */

/* The end of the limit in the file, in real ms; 0 when there is none in the future. */
static int64_t read_limit(const char *path)
{
    struct err ignored;
    int64_t until_ms;
    AUTO(buf) struct buf text = BUF_INIT(KEPT_BYTES);
    if (file_read(path, &text, &ignored) || str_to_int(buf_str(&text), 1, INT64_MAX, &until_ms))
        return 0;
    return until_ms > clock_real_ms() ? until_ms : 0;
}

int breaker_remember(struct breaker *breaker, const char *path, struct err *err)
{
    REQUIRE(path && !breaker->path);
    char *copy = strdup(path);
    if (!copy)
        return err_sys(err, "breaker");
    int64_t until_ms = read_limit(path);
    lock_take(&breaker->lock);
    breaker->path = copy;
    breaker->kept = -1; /* The file's content is unknown, so it must be written or removed. */
    if (until_ms)
        limit_locked(breaker, until_ms);
    pthread_cond_broadcast(&breaker->turned);
    lock_drop(&breaker->lock);
    tell(breaker);
    return 0;
}

static void write_limit(const char *path, int64_t until_ms)
{
    struct err err = ERR_INIT;
    char text[KEPT_BYTES];
    int len = snprintf(text, sizeof(text), "%lld", (long long)until_ms);
    int rc = until_ms                          ? file_replace(path, text, (size_t)len, 0600, &err)
             : unlink(path) && errno != ENOENT ? err_sys(&err, "cannot remove '%s'", path)
                                               : 0;
    if (rc)
        log_warn("oauth", "a restart will not know of the usage limit: %s", err.msg);
}

/* Makes the file match the limit; true when it released the lock meanwhile. Called on the breaker's
 * thread only: with two writers the older limit could be the last. */
static bool keep_locked(struct breaker *breaker) HOLDS(breaker->lock);
static bool keep_locked(struct breaker *breaker)
{
    int64_t left = breaker->limit_until - clock_mono_ms();
    int64_t wanted = left > 0 ? breaker->limit_until : 0;
    if (!breaker->path || breaker->kept == wanted)
        return false;
    breaker->kept = wanted;
    lock_drop(&breaker->lock);
    write_limit(breaker->path, wanted ? clock_real_ms() + left : 0);
    lock_take(&breaker->lock);
    return true;
}

/* --- life ---------------------------------------------------------------------------------- */

/* The time until the first pause ends. */
static int64_t sleep_ms_locked(const struct breaker *breaker) HOLDS(breaker->lock);
static int64_t sleep_ms_locked(const struct breaker *breaker)
{
    const int64_t ends[] = {breaker->refused_until, breaker->limit_until, breaker->reserve_until};
    int64_t now = clock_mono_ms(), sleep = IDLE_MS;
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (ends[i] > now && ends[i] - now + 5 < sleep)
            sleep = ends[i] - now + 5;
    return sleep;
}

static void *watch(void *arg)
{
    struct breaker *breaker = arg;
    lock_take(&breaker->lock);
    while (!breaker->stopping) {
        lock_drop(&breaker->lock);
        tell(breaker); /* A pause has ended by itself. */
        lock_take(&breaker->lock);
        if (!breaker->stopping && !keep_locked(breaker))
            lock_wait(&breaker->turned, &breaker->lock, sleep_ms_locked(breaker));
    }
    keep_locked(breaker);
    lock_drop(&breaker->lock);
    return NULL;
}

struct breaker *breaker_new(void (*changed)(const struct breaker_status *status, void *arg),
                            void *arg, struct err *err)
{
    REQUIRE(changed);
    struct breaker *breaker = calloc(1, sizeof(*breaker));
    if (!breaker) {
        err_sys(err, "breaker");
        return NULL;
    }
    breaker->changed = changed;
    breaker->arg = arg;
    lock_init(&breaker->telling);
    lock_init(&breaker->lock);
    cond_init(&breaker->turned);
    if (thread_start(&breaker->thread, "breaker", THREAD_STACK_SMALL, watch, breaker, err)) {
        breaker_free(breaker);
        return NULL;
    }
    return breaker;
}

void breaker_free(struct breaker *breaker)
{
    if (!breaker)
        return;
    lock_take(&breaker->lock);
    breaker->stopping = true;
    pthread_cond_broadcast(&breaker->turned);
    lock_drop(&breaker->lock);
    thread_join(&breaker->thread);
    pthread_cond_destroy(&breaker->turned);
    lock_done(&breaker->lock);
    lock_done(&breaker->telling);
    free(breaker->path);
    free(breaker);
}
