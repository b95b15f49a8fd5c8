/* Outputs of cloud tasks: the list is kept at home, the files are read when somebody asks. */
#include "base/check.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/thread.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LIST_NAME "outputs.cloud"
#define LIST_BYTES_MAX (16u << 20)
#define LOOK_MS 60000 /* how long a wait for the other side is, before it looks again */
#define PART ".part"  /* beside the outputs; no output has this name */
#define COPY_LEAVES_BYTES                                                      \
    (INT64_C(2) << 30) /* disk space that a copy must leave free: it is only a \
                        * convenience */

int cloud_task_save_outputs(const char *keep_dir, const void *json, size_t len, struct err *err)
{
    AUTO(str) char *path = path_join(keep_dir, LIST_NAME);
    return path ? file_replace(path, json, len, 0600, err) : err_sys(err, "outputs");
}

struct json *overflow_outputs(const char *keep_dir, struct err *err)
{
    AUTO(str) char *path = path_join(keep_dir, LIST_NAME);
    AUTO(buf) struct buf text = BUF_INIT(LIST_BYTES_MAX);
    if (!path) {
        err_sys(err, "outputs");
        return NULL;
    }
    return file_read(path, &text, err) ? NULL : json_parse(buf_str(&text), text.len, err);
}

int overflow_find_output(const char *keep_dir, const char *path, int64_t *ret_size, struct err *err)
{
    AUTO(json) struct json *list = overflow_outputs(keep_dir, err);
    if (!list)
        return -1;
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        const char *listed = json_text(json_get(at, "path"));
        if (listed && strcmp(path, listed) == 0 && path_is_inside(listed))
            return json_int(json_get(at, "size"), ret_size) == 0
                       ? 0
                       : err_set(err, ERR_INTERNAL, "the list of outputs is broken");
    }
    return err_set(err, ERR_NOT_FOUND, "the task has no output of that name");
}

int overflow_read(struct overflow *overflow, const char *id, const char *path, int64_t from,
                  int64_t len, const struct overflow_sink *sink, struct err *err)
{
    REQUIRE(sink->write);
    const struct storage_sink into = {.write = sink->write, .arg = sink->arg};
    const struct cloud *cloud = overflow->config.cloud;
    AUTO(buf) struct buf name = BUF_INIT(8192);
    folder_output_name(id, path, &name);
    return buf_check(&name, "the output's name", err) ||
                   storage_read(cloud->google, cloud->bucket, buf_str(&name), from, len, &into, err)
               ? -1
               : 0;
}

/* --- a copy, on the way -------------------------------------------------------------------- */

/* A thread of the copy's own writes a piece while the next one comes and this one is sent. */
struct cloud_copy {
    char *part, *to;
    int fd;
    struct thread writer;
    bool failed; /* the writer's, until it has ended */
    struct lock lock;
    pthread_cond_t changed;
    const char *data; /* borrowed: what the writer writes; NULL: nothing */
    size_t len;
    bool over; /* nothing more comes */
};

static void *write_pieces(void *arg)
{
    struct cloud_copy *copy = arg;
    lock_take(&copy->lock);
    for (;;) {
        while (!copy->data && !copy->over)
            lock_wait(&copy->changed, &copy->lock, LOOK_MS);
        if (!copy->data)
            break;
        lock_drop(&copy->lock); /* Nobody changes the piece while it is there. */
        copy->failed = copy->failed || fd_write_all(copy->fd, copy->data, copy->len) != 0;
        lock_take(&copy->lock);
        copy->data = NULL;
        pthread_cond_signal(&copy->changed);
    }
    lock_drop(&copy->lock);
    return NULL;
}

static int make_parents(const char *path, struct err *err)
{
    AUTO(str) char *dir = strdup(path);
    char *slash = dir ? strrchr(dir, '/') : NULL;
    if (!slash)
        return err_sys(err, "outputs");
    *slash = '\0';
    return path_make_dirs(dir, 0700, err);
}

static bool has_room(const char *dir, int64_t size)
{
    struct statvfs fs;
    return statvfs(dir, &fs) == 0 &&
           (int64_t)fs.f_bavail * (int64_t)fs.f_frsize > size + COPY_LEAVES_BYTES;
}

/* Takes the disk space at once: a file that grows with each write costs several times the processor
 * time of one that has its size. -1 when there is not so much space. */
static int take_space(int fd, int64_t size)
{
    int rc = size > 0 ? fallocate(fd, 0, 0, size) : 0;
    return rc && errno != ENOSPC && errno != EDQUOT ? ftruncate(fd, size) : rc;
}

/* Opens the file that the copy is written to, under another name. */
static int open_part(struct cloud_copy *copy, int64_t size)
{
    copy->fd = copy->to && copy->part ? mkostemp(copy->part, O_CLOEXEC) : -1;
    if (copy->fd < 0)
        return -1;
    if (take_space(copy->fd, size) == 0)
        return 0;
    unlink(copy->part);
    return -1;
}

static void copy_free(struct cloud_copy *copy)
{
    pthread_cond_destroy(&copy->changed);
    lock_done(&copy->lock);
    fd_close(&copy->fd);
    free(copy->to);
    free(copy->part);
    free(copy);
}

struct cloud_copy *cloud_copy_new(const char *keep_dir, const char *path, int64_t size)
{
    struct err ignored;
    AUTO(str) char *dir = path_join(keep_dir, "outputs");
    struct cloud_copy *copy = has_room(keep_dir, size) ? calloc(1, sizeof(*copy)) : NULL;
    if (!copy)
        return NULL;
    lock_init(&copy->lock);
    cond_init(&copy->changed);
    copy->to = dir ? path_join(dir, path) : NULL;
    copy->part = path_join(keep_dir, LIST_NAME PART "XXXXXX");
    if (open_part(copy, size) == 0) {
        if (thread_start(&copy->writer, "output-copy", THREAD_STACK_SMALL, write_pieces, copy,
                         &ignored) == 0)
            return copy;
        unlink(copy->part);
    }
    copy_free(copy);
    return NULL;
}

void cloud_copy_add(struct cloud_copy *copy, const char *data, size_t len)
{
    if (len == 0)
        return;
    lock_take(&copy->lock);
    while (copy->data)
        lock_wait(&copy->changed, &copy->lock, LOOK_MS);
    copy->data = data;
    copy->len = len;
    pthread_cond_signal(&copy->changed);
    lock_drop(&copy->lock);
}

/* Written under another name first, so that a file with its final name is complete. */
bool cloud_copy_end(struct cloud_copy *copy, bool whole)
{
    struct err ignored;
    if (!copy)
        return false;
    lock_take(&copy->lock);
    copy->over = true;
    pthread_cond_signal(&copy->changed);
    lock_drop(&copy->lock);
    thread_join(&copy->writer);
    bool kept = whole && !copy->failed && make_parents(copy->to, &ignored) == 0 &&
                rename(copy->part, copy->to) == 0;
    if (!kept)
        unlink(copy->part);
    copy_free(copy);
    return kept;
}

void overflow_drop(struct overflow *overflow, const char *id, const char *path)
{
    struct err err = ERR_INIT;
    AUTO(buf) struct buf name = BUF_INIT(8192);
    const struct cloud *cloud = overflow->config.cloud;
    if (overflow->config.shared) /* another instance may be asked for it */
        return;
    folder_output_name(id, path, &name);
    if (buf_ok(&name) &&
        storage_delete(cloud->google, cloud->bucket, buf_str(&name), STORAGE_ANY, &err))
        log_warn("overflow", "an output stays in the bucket until it expires: %s", err.msg);
}
