/* What a task has left: a list, one file (with ranges), or all as an archive. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/walk.h"
#include "pack/tgz.h"
#include "runner/api/handlers.h"
#include "runner/repo/harvest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define LIST_BYTES_MAX (16u << 20)
#define DIFF_BYTES_READ (128u << 20) /* of a patch, its list, and both as JSON */

/* --- finding ------------------------------------------------------------------------------- */

/* A task wrote what is below: no link is followed, and nothing outside is reached. */
static int open_below(int dir, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_NONBLOCK | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* Where a task's events and outputs are; NULL when memory ran out. */
static char *keep_dir(const struct api *api, const char *id)
{
    char *path = engine_events_path(api->engine, id);
    char *slash = path ? strrchr(path, '/') : NULL;
    if (slash)
        *slash = '\0';
    return path;
}

/* The outputs of a task; -1 when there are none. */
static int open_outputs(const struct api *api, const char *id)
{
    AUTO(str) char *path = keep_dir(api, id);
    AUTO(fd) int dir = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return dir < 0 ? -1 : open_below(dir, "outputs", O_RDONLY | O_DIRECTORY);
}

/* What a task left in the cloud is brought here first: one output, or all with NULL. False after
 * the answer has been sent. */
static bool bring(struct http_request *req, const struct api *api, const struct task_record *record,
                  const char *path)
{
    struct err err;
    AUTO(str) char *dir = keep_dir(api, record->id);
    if (record->place != PLACE_AWAY || !api->overflow)
        return true;
    if (!dir)
        err_sys(&err, "outputs");
    else if (overflow_fetch(api->overflow, record->id, dir, path, &err) == 0)
        return true;
    send_err(req, &err);
    return false;
}

/* --- the list ------------------------------------------------------------------------------ */

static void add_output(struct json_writer *w, const char *path, int64_t size, int64_t modified_ms)
{
    char time[CLOCK_TEXT_SIZE];
    json_open_object(w, NULL);
    json_add_text(w, "path", path);
    json_add_int(w, "sizeBytes", size);
    json_add_text(w, "modifiedAt", clock_format(modified_ms, time));
    json_close(w);
}

static int list_file(int dir, const char *name, const char *path, const struct stat *st, void *arg)
{
    (void)dir;
    (void)name;
    add_output(arg, path, st->st_size, st->st_mtim.tv_sec * INT64_C(1000));
    return 0;
}

/* Those that are in the cloud still are listed all the same. */
static void list_all(const struct api *api, const struct task_record *record, struct json_writer *w)
{
    struct err err;
    AUTO(str) char *path = keep_dir(api, record->id);
    AUTO(json)
    struct json *cloud = path && record->place == PLACE_AWAY ? overflow_outputs(path, &err) : NULL;
    if (!cloud) {
        int dir = open_outputs(api, record->id);
        if (dir >= 0)
            walk_files(dir, list_file, w);
        return;
    }
    for (const struct json *at = json_first(cloud); at; at = json_next(at)) {
        int64_t size = 0;
        json_int(json_get(at, "size"), &size);
        add_output(w, json_text(json_get(at, "path")), size, record->ended_ms);
    }
}

void outputs_list(struct http_request *req, void *arg)
{
    struct json_writer w;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (!find_task(req, arg, &record))
        return;
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", record.id);
    json_open_array(&w, "outputs");
    list_all(arg, &record, &w);
    json_close(&w);
    json_close(&w);
    send_json(req, 200, &out);
}

/* --- one file ------------------------------------------------------------------------------ */

/* "bytes=a-b", "bytes=a-", "bytes=-n" (one range). 1 with the range, 0 when the header is to be
 * passed over, -1 when the range lies outside. */
static int read_range(const char *text, int64_t size, int64_t *ret_from, int64_t *ret_len)
{
    int64_t from, to = size - 1;
    char number[32];
    if (!text || !str_starts(text, "bytes=") || strchr(text, ','))
        return 0;
    text += strlen("bytes=");
    const char *dash = strchr(text, '-');
    if (!dash || dash - text >= (int)sizeof(number))
        return 0;
    snprintf(number, sizeof(number), "%.*s", (int)(dash - text), text);
    if (dash == text) { /* the last n */
        if (str_to_int(dash + 1, 0, INT64_MAX, &to))
            return 0;
        from = to < size ? size - to : 0;
        *ret_from = from;
        *ret_len = size - from;
        return to == 0 || size == 0 ? -1 : 1;
    }
    if (str_to_int(number, 0, INT64_MAX, &from) ||
        (dash[1] && (str_to_int(dash + 1, 0, INT64_MAX, &to) || to < from)))
        return 0;
    if (from >= size)
        return -1;
    *ret_from = from;
    *ret_len = (to < size ? to : size - 1) - from + 1;
    return 1;
}

static void send_bytes(struct http_request *req, int fd, int64_t from, int64_t len)
{
    char *piece = malloc(PIECE_BYTES);
    while (piece && len > 0) {
        size_t want = len < (int64_t)PIECE_BYTES ? (size_t)len : PIECE_BYTES;
        ssize_t n = fd_pread_full(fd, piece, want, from);
        if (n <= 0 || http_write(req, piece, (size_t)n))
            break;
        from += n;
        len -= n;
    }
    free(piece);
    http_end(req, len == 0);
}

void send_range(struct http_request *req, int fd, const struct stat *st, const char *etag,
                const char *type)
{
    char text[128];
    int64_t from = 0, len = st->st_size;
    struct err err;
    const char *condition = http_header(req, "If-Range");
    if (!meets_condition(req, etag))
        return;
    http_add_header(req, "Accept-Ranges", "bytes");
    bool ranged = !condition || strcmp(condition, etag) == 0;
    int got = ranged ? read_range(http_header(req, "Range"), st->st_size, &from, &len) : 0;
    if (got < 0) {
        snprintf(text, sizeof(text), "bytes */%lld", (long long)st->st_size);
        http_add_header(req, "Content-Range", text);
        err_set(&err, ERR_RANGE, "the file has %lld bytes", (long long)st->st_size);
        send_err(req, &err);
        return;
    }
    if (got > 0) {
        snprintf(text, sizeof(text), "bytes %lld-%lld/%lld", (long long)from,
                 (long long)(from + len - 1), (long long)st->st_size);
        http_add_header(req, "Content-Range", text);
    }
    if (http_begin_sized(req, got > 0 ? 206 : 200, type, len) == 0)
        send_bytes(req, fd, from, len);
}

static void send_output(struct http_request *req, int fd, const struct stat *st, const char *type)
{
    char etag[64];
    snprintf(etag, sizeof(etag), "\"%llx-%llx-%llx\"", (unsigned long long)st->st_size,
             (unsigned long long)st->st_mtim.tv_sec, (unsigned long long)st->st_mtim.tv_nsec);
    send_range(req, fd, st, etag, type);
}

void output_get(struct http_request *req, void *arg)
{
    struct err err;
    struct stat st;
    const char *path = http_param(req, "path");
    AUTO(task_record) struct task_record record = {0};
    if (!find_task(req, arg, &record) || !bring(req, arg, &record, path))
        return;
    AUTO(fd) int dir = open_outputs(arg, record.id);
    AUTO(fd) int fd = dir >= 0 && path_is_inside(path) ? open_below(dir, path, O_RDONLY) : -1;
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        err_set(&err, ERR_NOT_FOUND, "the task has no such output");
        send_err(req, &err);
        return;
    }
    http_add_header(req, "Content-Disposition", "attachment");
    send_output(req, fd, &st, "application/octet-stream");
}

void task_transcript(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct stat st;
    AUTO(str) char *path = NULL;
    AUTO(task_record) struct task_record record = {0};
    if (!find_task(req, api, &record))
        return;
    if (asprintf(&path, "%s/tasks/%s/" TRANSCRIPT_FILE, api->state_dir, record.id) < 0)
        path = NULL;
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st)) {
        err_set(&err, ERR_NOT_FOUND, "the task has no transcript%s",
                task_state_is_active(record.state) ? " yet" : "");
        send_err(req, &err);
        return;
    }
    send_output(req, fd, &st, "application/x-ndjson");
}

/* --- what it changed ----------------------------------------------------------------------- */

/* A file that the runner keeps beside the task's events, in out. */
static int read_kept(const struct api *api, const char *id, const char *name, struct buf *out,
                     struct err *err)
{
    AUTO(str) char *dir = keep_dir(api, id);
    AUTO(str) char *path = dir ? path_join(dir, name) : NULL;
    return path ? file_read(path, out, err) : err_sys(err, "diff");
}

/* One of what the list says of a file. */
static void add_member(struct json_writer *w, const struct json *member)
{
    int64_t number;
    bool flag;
    if (json_text(member))
        json_add_text(w, json_name(member), json_text(member));
    else if (json_bool(member, &flag) == 0)
        json_add_bool(w, json_name(member), flag);
    else if (json_int(member, &number) == 0 && strcmp(json_name(member), "bytes") != 0)
        json_add_int(w, json_name(member), number);
}

static int print_diff(const struct api *api, const char *id, struct buf *out, struct err *err)
{
    struct json_writer w;
    bool truncated = false;
    size_t at = 0;
    AUTO(buf) struct buf list = BUF_INIT(DIFF_BYTES_READ);
    AUTO(buf) struct buf patch = BUF_INIT(DIFF_BYTES_READ);
    if (read_kept(api, id, HARVEST_CHANGES, &list, err) ||
        read_kept(api, id, HARVEST_PATCH, &patch, err))
        return -1;
    AUTO(json) struct json *root = json_parse(buf_str(&list), list.len, err);
    if (!root)
        return -1;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", id);
    json_open_array(&w, "files");
    for (const struct json *f = json_first(json_get(root, "files")); f; f = json_next(f)) {
        int64_t bytes = 0;
        json_open_object(&w, NULL);
        for (const struct json *m = json_first(f); m; m = json_next(m))
            add_member(&w, m);
        json_int(json_get(f, "bytes"), &bytes);
        if (bytes < 0 || (size_t)bytes > patch.len - at)
            return err_set(err, ERR_INTERNAL, "the diff is not what its list says");
        json_add_textn(&w, "patch", buf_str(&patch) + at, (size_t)bytes);
        at += (size_t)bytes;
        json_close(&w);
    }
    json_close(&w);
    json_bool(json_get(root, "truncated"), &truncated);
    json_add_bool(&w, "truncated", truncated);
    json_close(&w);
    return 0;
}

static void no_diff(struct http_request *req, const struct task_record *record)
{
    struct err err;
    AUTO(json) struct json *request = json_parse(record->request, strlen(record->request), &err);
    bool in_repository = request && json_text(json_get(request, "repoUrl"));
    err_set(&err, ERR_NOT_FOUND, "the task has no %s%s", in_repository ? "diff" : "repository",
            in_repository && task_state_is_active(record->state) ? " yet" : "");
    send_err(req, &err);
}

void task_diff(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct stat st;
    const char *accept = http_header(req, "Accept");
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf out = BUF_INIT(DIFF_BYTES_READ);
    if (!find_task(req, api, &record))
        return;
    AUTO(str) char *dir = keep_dir(api, record.id);
    AUTO(str) char *path = dir ? path_join(dir, HARVEST_PATCH) : NULL;
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st)) {
        no_diff(req, &record);
        return;
    }
    http_add_header(req, "Vary", "Accept");
    if (!accept || !strcasestr(accept, "application/json"))
        send_output(req, fd, &st, "text/x-diff; charset=utf-8");
    else if (print_diff(api, record.id, &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

/* --- all of them --------------------------------------------------------------------------- */

struct archive {
    struct http_request *req;
    struct tgz *tgz;
    char *piece;
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
    AUTO(fd) int fd = open_below(dir, name, O_RDONLY);
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

void outputs_archive(struct http_request *req, void *arg)
{
    struct err err;
    char name[160];
    AUTO(task_record) struct task_record record = {0};
    if (!find_task(req, arg, &record) || !bring(req, arg, &record, NULL))
        return;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    AUTO(tgz) struct tgz *tgz = tgz_new(send_piece, req, &err);
    struct archive archive = {req, tgz, piece};
    if (!piece || !tgz) {
        err_set(&err, ERR_INTERNAL, "out of memory");
        send_err(req, &err);
        return;
    }
    snprintf(name, sizeof(name), "attachment; filename=\"%s.tgz\"", record.id);
    http_add_header(req, "Content-Disposition", name);
    int dir = open_outputs(arg, record.id);
    if (http_begin(req, 200, "application/gzip") == 0) {
        bool whole =
            (dir < 0 || walk_files(dir, add_file, &archive) == 0) && tgz_end(tgz, &err) == 0;
        http_end(req, whole);
    } else if (dir >= 0) {
        close(dir);
    }
}
