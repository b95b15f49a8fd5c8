#include "runner/worker/deliver.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/walk.h"
#include "google/storage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_FIRST_MS 500
#define RETRY_MOST_MS 10000
#define READ_BYTES (256u << 10)
#define OUTPUT_GIVE_UP_MS (10 * 60 * 1000)

/* --- one parcel ------------------------------------------------------------------------------- */

static bool never(void *arg)
{
    (void)arg;
    return false;
}

/* Uploads once. A bucket that hangs must not use up the time that is left for the result. */
static int put(struct job *job, const struct parcel *parcel, struct err *err)
{
    struct google *google = job->cloud.google;
    const struct storage_at at = {job->cloud.bucket, parcel->name, parcel->type,
                                  parcel->fresh ? STORAGE_ABSENT : STORAGE_ANY};
    const struct storage_stop stop = {.stop = parcel->last ? never : job_is_over, .arg = job};
    return parcel->data ? storage_put_until(google, &at, parcel->data, (size_t)parcel->size, &stop,
                                            NULL, err)
                        : storage_put_file(google, &at, parcel->fd, parcel->from, parcel->size,
                                           &stop, NULL, err);
}

static int checksum(const struct parcel *parcel, uint32_t *ret_crc)
{
    uint32_t crc = 0;
    if (parcel->data) {
        *ret_crc = google_crc32c(0, parcel->data, (size_t)parcel->size);
        return 0;
    }
    char *chunk = malloc(READ_BYTES);
    int64_t at = 0;
    while (chunk && at < parcel->size) {
        int64_t left = parcel->size - at;
        size_t want = left < (int64_t)READ_BYTES ? (size_t)left : READ_BYTES;
        ssize_t n = fd_pread_full(parcel->fd, chunk, want, parcel->from + at);
        if (n <= 0)
            break;
        crc = google_crc32c(crc, chunk, (size_t)n);
        at += n;
    }
    free(chunk);
    *ret_crc = crc;
    return at == parcel->size ? 0 : -1;
}

/* The name is taken. Returns 1 when an earlier try of ours, whose answer was lost, took it, 0 when
 * somebody else did, -1 when that is unknown. */
static int is_delivered(struct job *job, const struct parcel *parcel, struct err *err)
{
    uint32_t crc;
    AUTO(storage_object) struct storage_object object = {0};
    if (storage_stat(job->cloud.google, job->cloud.bucket, parcel->name, &object, err))
        return -1;
    if (object.size != parcel->size)
        return 0;
    if (checksum(parcel, &crc))
        return err_sys(err, "cannot read what '%s' should hold", parcel->name);
    return object.has_crc32c && object.crc32c == crc;
}

/* Returns 1 when it is done, 0 when not yet (*err says why), -1 when it never will be. */
static int try_once(struct job *job, const struct parcel *parcel, struct err *err)
{
    if (put(job, parcel, err) == 0)
        return 1;
    if (err->code != ERR_MISMATCH || !parcel->fresh)
        return 0;
    int ours = is_delivered(job, parcel, err);
    if (ours != 0)
        return ours > 0;
    job_lose(job, "its place in the bucket holds something else");
    err_set(err, ERR_MISMATCH, "'%s' is there and is not ours", parcel->name);
    return -1;
}

int deliver(struct job *job, const struct parcel *parcel, int64_t give_up_ms, struct err *err)
{
    REQUIRE(parcel->name && (parcel->data || parcel->fd >= 0));
    int64_t give_up = clock_mono_ms() + give_up_ms, wait = RETRY_FIRST_MS;
    for (int tries = 1;; tries++) {
        if (job_is_lost(job))
            return err_set(err, ERR_CONFLICT, "the attempt is not ours any more");
        int done = try_once(job, parcel, err);
        if (done > 0 && tries > 1)
            log_info("job", "'%s' is stored, after %d tries", parcel->name, tries);
        if (done)
            return done > 0 ? 0 : -1;
        if (job_is_over(job) || clock_mono_ms() >= give_up)
            return err_wrap(err, "'%s' could not be stored", parcel->name);
        log_warn("job", "'%s' is not stored yet: %s", parcel->name, err->msg);
        job_pause(job, wait);
        wait = 2 * wait < RETRY_MOST_MS ? 2 * wait : RETRY_MOST_MS;
    }
}

/* --- outputs ---------------------------------------------------------------------------------- */

struct outputs {
    struct job *job;
    int skipped;
    struct err *err;
};

/* The object of an output. False when no object can have its name: those are UTF-8 of at most 1024
 * bytes. */
static bool name_output(const struct outputs *outputs, const char *path, struct buf *ret_name)
{
    folder_output_name(outputs->job->id, path, ret_name);
    return buf_ok(ret_name) && ret_name->len <= 1024 && str_is_utf8(path, strlen(path));
}

static int announce_output(int dir, const char *name, const char *path, const struct stat *st,
                           void *arg)
{
    const struct outputs *outputs = arg;
    AUTO(buf) struct buf object = BUF_INIT(8192);
    (void)dir;
    (void)name;
    return name_output(outputs, path, &object)
               ? folder_result_add_output(&outputs->job->result, path, st->st_size, outputs->err)
               : 0;
}

int deliver_announce(struct job *job, const char *dir, struct err *err)
{
    struct outputs outputs = {.job = job, .err = err};
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : walk_files(fd, announce_output, &outputs);
}

static int deliver_output(int dir, const char *name, const char *path, const struct stat *st,
                          void *arg)
{
    struct outputs *outputs = arg;
    struct job *job = outputs->job;
    AUTO(buf) struct buf object = BUF_INIT(8192);
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (!name_output(outputs, path, &object) || fd < 0) {
        outputs->skipped++;
        return 0;
    }
    const struct parcel parcel = {.name = buf_str(&object),
                                  .type = "application/octet-stream",
                                  .fd = fd,
                                  .size = st->st_size};
    if (deliver(job, &parcel, OUTPUT_GIVE_UP_MS, outputs->err)) {
        err_wrap(outputs->err, "%lld bytes", (long long)st->st_size);
        return -1;
    }
    unlinkat(dir, name, 0); /* The file may use memory. */
    return folder_result_add_output(&job->result, path, st->st_size, outputs->err);
}

int deliver_outputs(struct job *job, const char *dir, struct err *err)
{
    struct outputs outputs = {.job = job, .err = err};
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int rc = walk_files(fd, deliver_output, &outputs);
    if (outputs.skipped > 0)
        log_warn("job", "%d outputs have names that no object can have", outputs.skipped);
    return rc;
}
