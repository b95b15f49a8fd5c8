/*
 * Passes on an output from the bucket as it arrives. The answer begins with the first byte, so that
 * a missing output gives an error and not a truncated answer. The first bytes are passed on at
 * once, the next in larger pieces; the last are held back until the checksum of the whole is
 * verified. A whole output is also stored here, so that the next request gets it from the disk.
 */
#include "base/fd.h"
#include "base/path.h"
#include "runner/api/handlers.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TYPE "application/octet-stream"
#define HELD_MAX (4u << 20) /* what is held before a piece, and that, as it arrives */
/* So much is written at once: it arrives in pieces of 16 KiB, and each write costs. */
#define WRITE_BYTES (256u << 10)

struct passing {
    struct http_request *req;
    struct range range;
    int64_t passed;
    bool begun;
    bool failed;             /* the caller is gone, or the object is too long */
    struct buf halves[2];    /* one is filled and passed on; the copy may still read the other */
    struct buf *held;        /* the one that is filled: what has not been passed on */
    struct cloud_copy *copy; /* or NULL */
};

static int begin_answer(struct passing *passing)
{
    if (passing->begun)
        return passing->failed ? -1 : 0;
    passing->begun = true;
    http_add_header(passing->req, "Content-Disposition", "attachment");
    passing->failed = range_begin(passing->req, &passing->range, TYPE) != 0;
    return passing->failed ? -1 : 0;
}

/* Gives the copy what is held; from then on it does not read the other half any more. */
static void store(struct passing *passing)
{
    if (passing->copy)
        cloud_copy_add(passing->copy, passing->held->data, passing->held->len);
}

static int pass_held(struct passing *passing)
{
    store(passing);
    int rc = http_write(passing->req, passing->held->data, passing->held->len);
    passing->held = &passing->halves[passing->held == &passing->halves[0]];
    buf_clear(passing->held);
    return rc;
}

static int pass_on(const char *data, size_t len, void *arg)
{
    struct passing *passing = arg;
    const bool first = passing->passed == 0;
    if ((int64_t)len > passing->range.len - passing->passed)
        passing->failed = true; /* The object is longer than the list said: the job has rewritten
                                 * it. */
    if (passing->failed || begin_answer(passing))
        return -1;
    passing->passed += (int64_t)len;
    passing->failed = buf_add(passing->held, data, len) != 0;
    if (!passing->failed && passing->passed < passing->range.len &&
        (first || passing->held->len >= WRITE_BYTES))
        passing->failed = pass_held(passing) != 0;
    return passing->failed ? -1 : 0;
}

static void finish(struct passing *passing, int rc, struct err *err)
{
    bool whole = rc == 0 && passing->passed == passing->range.len;
    if (!passing->begun && !whole) {
        if (rc == 0)
            err_set(err, ERR_UPSTREAM, "the output in the bucket is shorter than it was");
        else if (passing->failed)
            err_set(err, ERR_UPSTREAM, "the output in the bucket is longer than it was");
        send_err(passing->req, err);
        return;
    }
    if (begin_answer(passing))
        return;
    if (whole && passing->held->len > 0)
        whole = http_write(passing->req, passing->held->data, passing->held->len) == 0;
    http_end(passing->req, whole);
}

static void send_from_bucket(struct http_request *req, const struct api *api,
                             const struct task_record *record, const char *path,
                             const struct range *range)
{
    struct err err = ERR_INIT;
    AUTO(str) char *keep = outputs_keep_dir(api, record->id);
    bool all = range->from == 0 && range->len == range->size;
    struct passing passing = {
        .req = req, .range = *range, .halves = {BUF_INIT(HELD_MAX), BUF_INIT(HELD_MAX)}};
    passing.held = &passing.halves[0];
    if (strcmp(http_method(req), "HEAD") == 0) {
        if (begin_answer(&passing) == 0)
            http_end(req, true);
        return;
    }
    if (all && keep)
        passing.copy = cloud_copy_new(keep, path, range->size);
    const struct overflow_sink sink = {.write = pass_on, .arg = &passing};
    int rc = overflow_read(api->overflow, record->id, path, range->from, all ? -1 : range->len,
                           &sink, &err);
    store(&passing);
    bool kept = cloud_copy_end(passing.copy, rc == 0 && passing.passed == range->size);
    finish(&passing, rc, &err);
    buf_done(&passing.halves[0]);
    buf_done(&passing.halves[1]);
    if (kept)
        overflow_drop(api->overflow, record->id, path);
}

bool outputs_cloud_get(struct http_request *req, const struct api *api,
                       const struct task_record *record, const char *path)
{
    char etag[80];
    struct err err;
    struct stat st;
    struct range range;
    int64_t size = 0;
    if (record->place != PLACE_AWAY || !api->overflow)
        return false;
    AUTO(str) char *keep = outputs_keep_dir(api, record->id);
    if (!keep || !path_is_inside(path) || overflow_find_output(keep, path, &size, &err))
        return false; /* It does not exist: the caller answers as for any other task. */
    snprintf(etag, sizeof(etag), "\"cloud-%llx-%llx\"", (unsigned long long)size,
             (unsigned long long)record->ended_ms);
    AUTO(fd) int dir = outputs_open(api, record->id);
    AUTO(fd) int fd = dir >= 0 ? outputs_open_below(dir, path, O_RDONLY) : -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        http_add_header(req, "Content-Disposition", "attachment");
        send_range(req, fd, &st, etag, TYPE);
    } else if (range_plan(req, size, etag, &range)) {
        send_from_bucket(req, api, record, path, &range);
    }
    return true;
}
