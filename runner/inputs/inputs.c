#include "runner/inputs/inputs_private.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"
#include "crypto/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define DISK_LOOK_BYTES                                                 \
    (INT64_C(64) << 20) /* after so many bytes the disk's free space is \
                         * checked */
#define WAIT_MS                                                  \
    600000 /* most time to wait for another thread that does the \
            * same job */
#define LOOK_MS                                                 \
    200 /* how often it is checked meanwhile whether the job is \
         * still wanted */

int input_name(const char *text, char ret_name[INPUT_NAME_SIZE])
{
    if (str_starts(text, "sha256:"))
        text += strlen("sha256:");
    if (strlen(text) != INPUT_NAME_SIZE - 1 ||
        strspn(text, "0123456789abcdef") != INPUT_NAME_SIZE - 1)
        return -1;
    memcpy(ret_name, text, INPUT_NAME_SIZE);
    return 0;
}

struct inputs *input_store_new(const struct inputs_config *config, struct err *err)
{
    struct inputs *inputs = calloc(1, sizeof(*inputs));
    if (!inputs) {
        err_sys(err, "inputs");
        return NULL;
    }
    inputs->config = *config;
    inputs->dir = -1;
    lock_init(&inputs->lock);
    cond_init(&inputs->changed);
    inputs->path = path_join(config->state_dir, "inputs");
    if (inputs->path && path_make_dirs(inputs->path, 0700, err) == 0)
        inputs->dir = open(inputs->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (inputs->dir >= 0) {
        inputs_sweep(inputs);
        return inputs;
    }
    err_sys(err, "inputs");
    input_store_free(inputs);
    return NULL;
}

void input_store_free(struct inputs *inputs)
{
    if (!inputs)
        return;
    fd_close(&inputs->dir);
    pthread_cond_destroy(&inputs->changed);
    lock_done(&inputs->lock);
    free(inputs->path);
    free(inputs);
}

int input_open(struct inputs *inputs, const char *name, int64_t *ret_size, struct err *err)
{
    struct stat st;
    AUTO(fd) int fd = openat(inputs->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no input '%s'", name)
                               : err_sys(err, "input '%.16s…'", name);
    futimens(fd, (const struct timespec[]){{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}});
    *ret_size = st.st_size;
    int out = fd;
    fd = -1;
    return out;
}

/* --- use ----------------------------------------------------------------------------------- */

static struct input_use **find_use_locked(struct inputs *inputs, const char *name)
    HOLDS(inputs->lock);
static struct input_use **find_use_locked(struct inputs *inputs, const char *name)
{
    struct input_use **at = &inputs->uses;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

int input_hold(struct inputs *inputs, const char *name, struct err *err)
{
    REQUIRE(strlen(name) == INPUT_NAME_SIZE - 1);
    struct input_use *fresh = calloc(1, sizeof(*fresh));
    static const struct timespec now[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    if (!fresh)
        return err_sys(err, "input");
    snprintf(fresh->name, sizeof(fresh->name), "%s", name);
    lock_take(&inputs->lock);
    /* Marked under the lock: eviction looks at the time again under it (room.c). */
    int rc = utimensat(inputs->dir, name, now, AT_SYMLINK_NOFOLLOW) ? errno : 0;
    struct input_use **at = find_use_locked(inputs, name);
    if (rc == 0 && !*at)
        *at = STEAL_PTR(fresh);
    if (rc == 0)
        (*at)->count++;
    lock_drop(&inputs->lock);
    free(fresh);
    errno = rc;
    return rc == 0        ? 0
           : rc == ENOENT ? err_set(err, ERR_NOT_FOUND, "there is no input '%s'", name)
                          : err_sys(err, "input '%.16s…'", name);
}

void input_drop(struct inputs *inputs, const char *name)
{
    struct input_use *gone = NULL;
    lock_take(&inputs->lock);
    struct input_use **at = find_use_locked(inputs, name);
    if (*at && --(*at)->count == 0) {
        gone = *at;
        *at = gone->next;
    }
    lock_drop(&inputs->lock);
    free(gone);
}

/* --- jobs ---------------------------------------------------------------------------------- */

static bool is_under_way_locked(const struct inputs *inputs, const char *what) HOLDS(inputs->lock);
static bool is_under_way_locked(const struct inputs *inputs, const char *what)
{
    const struct input_job *job = inputs->jobs;
    while (job && strcmp(job->what, what) != 0)
        job = job->next;
    return job != NULL;
}

int input_job_enter(struct inputs *inputs, struct input_job *job, bool (*stopped)(void *arg),
                    void *arg, struct err *err)
{
    struct stat st;
    bool stop = false;
    int64_t until = clock_mono_ms() + WAIT_MS;
    lock_take(&inputs->lock);
    while (is_under_way_locked(inputs, job->what) && !stop && clock_mono_ms() < until) {
        lock_wait(&inputs->changed, &inputs->lock, LOOK_MS);
        lock_drop(&inputs->lock);
        stop = stopped && stopped(arg);
        lock_take(&inputs->lock);
    }
    bool there = fstatat(inputs->dir, job->what, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && !stop) {
        job->next = inputs->jobs;
        inputs->jobs = job;
    }
    lock_drop(&inputs->lock);
    return there ? 0 : stop ? err_set(err, ERR_BUSY, "stopped") : 1;
}

void input_job_leave(struct inputs *inputs, struct input_job *job)
{
    lock_take(&inputs->lock);
    struct input_job **at = &inputs->jobs;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    pthread_cond_broadcast(&inputs->changed);
    lock_drop(&inputs->lock);
}

/* --- uploads ------------------------------------------------------------------------------- */

typedef ssize_t next_fn(char *to, size_t max, void *arg, struct err *err);

/* Writes and hashes the bytes that arrive. */
static int take(struct inputs *inputs, const char *name, int fd, next_fn *next, void *arg,
                int64_t *ret_size, struct err *err)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    AUTO(crypto_hash) struct crypto_hash *hash = crypto_hash_new();
    AUTO(buf) struct buf hex = BUF_INIT(2 * CRYPTO_SHA256_SIZE + 1);
    int64_t max = inputs_bytes_max(inputs);
    ssize_t n;
    if (!piece || !hash)
        return err_sys(err, "input");
    *ret_size = 0;
    while ((n = next(piece, PIECE_BYTES, arg, err)) > 0) {
        *ret_size += n;
        if (*ret_size > max)
            return err_set(err, ERR_TOO_LARGE, "an input may have %lld MB (INPUTS_MAX_MB)",
                           (long long)(max >> 20));
        crypto_hash_add(hash, piece, (size_t)n);
        if (*ret_size / DISK_LOOK_BYTES != (*ret_size - n) / DISK_LOOK_BYTES &&
            inputs_check_disk(inputs, err))
            return -1;
        if (fd_write_all(fd, piece, (size_t)n))
            return err_sys(err, "cannot keep the input");
    }
    if (n < 0)
        return -1;
    crypto_hash_end(hash, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    if (strcmp(buf_str(&hex), name) == 0)
        return 0;
    return err_set(err, ERR_MISMATCH, "the SHA-256 of what came is %s", buf_str(&hex));
}

static int put(struct inputs *inputs, const char *name, next_fn *next, void *arg, int64_t *ret_size,
               struct err *err)
{
    char part[ID_SIZE + 8], id[ID_SIZE];
    id_new(id);
    snprintf(part, sizeof(part), INPUTS_PART "%s", id);
    AUTO(fd) int fd = openat(inputs->dir, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot keep an input");
    int rc = take(inputs, name, fd, next, arg, ret_size, err);
    if (rc == 0)
        rc = inputs_make_room(inputs, *ret_size, name, err);
    if (rc == 0 && (fsync(fd) || renameat(inputs->dir, part, inputs->dir, name)))
        rc = err_sys(err, "cannot keep the input");
    if (rc)
        unlinkat(inputs->dir, part, 0);
    return rc;
}

int input_put(struct inputs *inputs, const char *name, next_fn *next, void *arg, bool *ret_made,
              int64_t *ret_size, struct err *err)
{
    REQUIRE(next && ret_made);
    struct stat st;
    struct input_job job = {0};
    snprintf(job.what, sizeof(job.what), "%s", name);
    int mine = input_job_enter(inputs, &job, NULL, NULL, err);
    *ret_made = mine == 1;
    if (mine != 1) {
        *ret_size = fstatat(inputs->dir, name, &st, AT_SYMLINK_NOFOLLOW) ? 0 : st.st_size;
        return mine;
    }
    int rc = inputs_check_disk(inputs, err) || put(inputs, name, next, arg, ret_size, err) ? -1 : 0;
    input_job_leave(inputs, &job);
    return rc;
}
