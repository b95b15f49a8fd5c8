/* All outputs of a task as one archive, which is made while it is sent. */
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/walk.h"
#include "pack/tgz.h"
#include "runner/api/handlers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)

struct archive {
    struct http_request *req;
    struct tgz *tgz;
    char *piece;
    int64_t cloud_left; /* of the file that comes from the cloud */
};

static int send_piece(const void *data, size_t len, void *arg)
{
    return http_write(arg, data, len);
}

static int add_file(int dir, const char *name, const char *path, const struct stat *st, void *arg)
{
    struct archive *archive = arg;
    struct err ignored;
    int64_t at = 0;
    AUTO(fd) int fd = outputs_open_below(dir, name, O_RDONLY);
    if (fd < 0)
        return 0;
    if (tgz_file(archive->tgz, path, 0644, st->st_mtim.tv_sec, st->st_size, &ignored))
        return -1;
    while (at < st->st_size) {
        int64_t left = st->st_size - at;
        size_t want = left < (int64_t)PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        ssize_t n = fd_pread_full(fd, archive->piece, want, at);
        if (n <= 0 || tgz_data(archive->tgz, archive->piece, (size_t)n, &ignored))
            return -1;
        at += n;
    }
    return 0;
}

/* --- of the cloud -------------------------------------------------------------------------- */

static int add_piece(const char *data, size_t len, void *arg)
{
    struct archive *archive = arg;
    struct err ignored;
    if ((int64_t)len > archive->cloud_left)
        return -1; /* The object is longer than the list said: the job has rewritten it. */
    archive->cloud_left -= (int64_t)len;
    return tgz_data(archive->tgz, data, len, &ignored);
}

/* Adds outputs from the bucket. Those that were fetched before are local. */
static int add_cloud(struct archive *archive, const struct api *api,
                     const struct task_record *record, int dir)
{
    struct err err;
    AUTO(str) char *keep = outputs_keep_dir(api, record->id);
    AUTO(json) struct json *list = keep ? overflow_outputs(keep, &err) : NULL;
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        struct stat st;
        int64_t size = 0;
        const char *path = json_text(json_get(at, "path"));
        json_int(json_get(at, "size"), &size);
        if (!path || !path_is_inside(path))
            continue;
        AUTO(fd) int fd = dir >= 0 ? outputs_open_below(dir, path, O_RDONLY) : -1;
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
            if (add_file(dir, path, path, &st, archive))
                return -1;
            continue;
        }
        archive->cloud_left = size;
        const struct overflow_sink sink = {.write = add_piece, .arg = archive};
        if (tgz_file(archive->tgz, path, 0644, record->ended_ms / 1000, size, &err) ||
            overflow_read(api->overflow, record->id, path, 0, -1, &sink, &err) ||
            archive->cloud_left > 0) {
            log_warn("outputs", "'%s' cannot be had from the cloud: %s", path,
                     archive->cloud_left > 0 ? "it is shorter than it was" : err.msg);
            return -1;
        }
    }
    return 0;
}

/* --- all ----------------------------------------------------------------------------------- */

static bool add_all(struct archive *archive, const struct api *api,
                    const struct task_record *record)
{
    struct err err;
    int dir = outputs_open(api, record->id);
    if (record->place != PLACE_AWAY || !api->overflow) /* The walk closes the directory. */
        return (dir < 0 || walk_files(dir, add_file, archive) == 0) &&
               tgz_end(archive->tgz, &err) == 0;
    bool whole = add_cloud(archive, api, record, dir) == 0 && tgz_end(archive->tgz, &err) == 0;
    fd_close(&dir);
    return whole;
}

void outputs_archive(struct http_request *req, void *arg)
{
    struct err err;
    char name[160];
    AUTO(task_record) struct task_record record = {0};
    if (!find_task(req, arg, &record))
        return;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    AUTO(tgz) struct tgz *tgz = tgz_new(send_piece, req, &err);
    struct archive archive = {.req = req, .tgz = tgz, .piece = piece};
    if (!piece || !tgz) {
        err_set(&err, ERR_INTERNAL, "out of memory");
        send_err(req, &err);
        return;
    }
    snprintf(name, sizeof(name), "attachment; filename=\"%s.tgz\"", record.id);
    http_add_header(req, "Content-Disposition", name);
    if (http_begin(req, 200, "application/gzip") == 0)
        http_end(req, add_all(&archive, arg, &record));
}
