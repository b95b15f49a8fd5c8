#include "runner/oauth/login_lock.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME ".oauth_refresh.lock"
#define STALE_MS 30000 /* holders renew the time stamp every few seconds */
#define WAIT_MS 40000  /* A clock that steps must not block this process for ever. */
#define LOOK_MS 50
#define RENEW_MS 2000

struct login_lock {
    char path[PATH_MAX];
    int fd; /* open descriptor of our directory, so that its inode number is not reused */
    struct thread thread;
    struct lock mutex;
    pthread_cond_t over;
    bool done;
};

/* What a waiter knows about the holder. */
struct holder {
    struct timespec renewed;
    int64_t since_ms; /* mono: time since which it was not renewed */
};

/* Removes a lock whose time stamp is old, or that was not renewed while this process watched: a
 * time stamp means nothing when the clock was set meanwhile. */
static void clear_stale(const char *path, struct holder *holder)
{
    struct stat st;
    int64_t now = clock_mono_ms();
    if (stat(path, &st))
        return;
    if (holder->since_ms == 0 || holder->renewed.tv_sec != st.st_mtim.tv_sec ||
        holder->renewed.tv_nsec != st.st_mtim.tv_nsec)
        *holder = (struct holder){.renewed = st.st_mtim, .since_ms = now};
    if (clock_real_ms() - (int64_t)st.st_mtim.tv_sec * 1000 > STALE_MS ||
        now - holder->since_ms > STALE_MS)
        rmdir(path);
}

static int make(const char *path, const _Atomic bool *stop, struct err *err)
{
    struct holder holder = {0};
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (mkdir(path, 0700)) {
        if (errno != EEXIST)
            return err_sys(err, "cannot take the lock '%s'", path);
        if (stop && atomic_load(stop))
            return err_set(err, ERR_BUSY, "stopped while waiting for '%s'", path);
        if (clock_mono_ms() > deadline)
            return err_set(err, ERR_BUSY, "another program holds '%s'", path);
        clear_stale(path, &holder);
        poll(NULL, 0, LOOK_MS);
    }
    return 0;
}

static void *renew(void *arg)
{
    struct login_lock *lock = arg;
    lock_take(&lock->mutex);
    while (!lock->done) {
        futimens(lock->fd, NULL);
        lock_wait(&lock->over, &lock->mutex, RENEW_MS);
    }
    lock_drop(&lock->mutex);
    return NULL;
}

static void start_renewing(struct login_lock *lock)
{
    struct err ignored;
    lock_init(&lock->mutex);
    cond_init(&lock->over);
    /* Without the thread the lock still lasts longer than a refresh may take. */
    (void)thread_start(&lock->thread, "login-lock", THREAD_STACK_SMALL, renew, lock, &ignored);
}

static int lock_path_of(const char *path, char lock[PATH_MAX], struct err *err)
{
    const char *slash = strrchr(path, '/');
    int dir_len = slash ? (int)(slash - path) : 1;
    int n = snprintf(lock, PATH_MAX, "%.*s/" NAME, dir_len, slash ? path : ".");
    return n > 0 && n < PATH_MAX ? 0 : err_set(err, ERR_INVALID, "path too long: '%.80s'", path);
}

struct login_lock *login_lock_take(const char *path, const _Atomic bool *stop, struct err *err)
{
    struct login_lock *lock = calloc(1, sizeof(*lock));
    if (!lock) {
        err_sys(err, "lock");
        return NULL;
    }
    if (lock_path_of(path, lock->path, err) || make(lock->path, stop, err)) {
        free(lock);
        return NULL;
    }
    lock->fd = open(lock->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (lock->fd < 0) {
        err_sys(err, "cannot open the lock '%s'", lock->path);
        rmdir(lock->path);
        free(lock);
        return NULL;
    }
    start_renewing(lock);
    return lock;
}

bool login_lock_is_ours(const struct login_lock *lock)
{
    struct stat there, ours;
    return stat(lock->path, &there) == 0 && fstat(lock->fd, &ours) == 0 &&
           there.st_ino == ours.st_ino && there.st_dev == ours.st_dev;
}

void login_lock_drop(struct login_lock *lock)
{
    if (!lock)
        return;
    lock_take(&lock->mutex);
    lock->done = true;
    pthread_cond_signal(&lock->over);
    lock_drop(&lock->mutex);
    thread_join(&lock->thread);
    if (login_lock_is_ours(lock))
        rmdir(lock->path);
    fd_close(&lock->fd);
    pthread_cond_destroy(&lock->over);
    lock_done(&lock->mutex);
    free(lock);
}
