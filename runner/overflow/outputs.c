/* What cloud tasks have left: listed at home, fetched when somebody asks. */
#include "base/fd.h"
#include "base/path.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_NAME "outputs.cloud"
#define LIST_BYTES_MAX (16u << 20)
#define PART ".part" /* beside the outputs: no output is called so */

int outputs_save(const char *keep_dir, const void *json, size_t len, struct err *err)
{
    AUTO(str) char *path = path_join(keep_dir, LIST_NAME);
    return path ? file_replace(path, json, len, 0600, err) : err_sys(err, "outputs");
}

struct sink {
    int fd;
};

static int write_piece(const char *data, size_t len, void *arg)
{
    return fd_write_all(((struct sink *)arg)->fd, data, len);
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

/* Aside first: what is there under its name is whole. */
static int fetch_one(struct overflow *overflow, const char *id, const char *keep_dir,
                     const char *path, struct err *err)
{
    struct stat st;
    AUTO(buf) struct buf name = BUF_INIT(8192);
    AUTO(str) char *dir = path_join(keep_dir, "outputs");
    AUTO(str) char *to = dir ? path_join(dir, path) : NULL;
    AUTO(str) char *part = path_join(keep_dir, LIST_NAME PART);
    if (!to || !part)
        return err_sys(err, "outputs");
    if (lstat(to, &st) == 0)
        return 0;
    folder_output_name(id, path, &name);
    if (buf_check(&name, "the output's name", err) || make_parents(to, err))
        return -1;
    AUTO(fd) int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct sink sink = {fd};
    const struct storage_sink into = {.write = write_piece, .arg = &sink};
    if (fd < 0)
        return err_sys(err, "cannot make '%s'", part);
    if (storage_read(overflow->config.cloud->google, overflow->config.cloud->bucket, buf_str(&name),
                     0, -1, &into, err))
        return -1;
    return rename(part, to) ? err_sys(err, "cannot keep '%s'", path) : 0;
}

static int fetch_listed(struct overflow *overflow, const char *id, const char *keep_dir,
                        const char *path, const struct json *list, struct err *err)
{
    bool found = !path;
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        const char *listed = json_text(json_get(at, "path"));
        if (!listed || !path_is_inside(listed) || /* a job wrote the list */
            (path && strcmp(path, listed) != 0))
            continue;
        found = true;
        if (fetch_one(overflow, id, keep_dir, listed, err))
            return -1;
    }
    return found ? 0 : err_set(err, ERR_NOT_FOUND, "the task has no output of that name");
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

int overflow_fetch(struct overflow *overflow, const char *id, const char *keep_dir,
                   const char *path, struct err *err)
{
    AUTO(json) struct json *list = overflow_outputs(keep_dir, err);
    if (!list)
        return err->code == ERR_NOT_FOUND ? 0 : -1; /* it has left nothing */
    pthread_mutex_lock(&overflow->fetching);
    int rc = fetch_listed(overflow, id, keep_dir, path, list, err);
    pthread_mutex_unlock(&overflow->fetching);
    return rc;
}
