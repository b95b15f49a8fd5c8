/* Outputs of a task: the list, or one file (with ranges). */
#include "base/beneath.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/walk.h"
#include "runner/api/handlers.h"
#include "runner/repo/harvest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_BYTES_MAX (16u << 20)
#define DIFF_BYTES_READ (128u << 20) /* limit for a patch, its list, and both as JSON */

/* --- finding ------------------------------------------------------------------------------- */

/* Opens a path below dir. A task wrote what is there: no link is followed, and nothing outside is
 * reached. */
int outputs_open_below(int dir, const char *path, int flags)
{
    return beneath_open(dir, path, flags | O_NONBLOCK, 0, BENEATH_NO_LINKS);
}

char *outputs_keep_dir(const struct api *api, const char *id)
{
    char *path = engine_events_path(api->engine, id);
    char *slash = path ? strrchr(path, '/') : NULL;
    if (slash)
        *slash = '\0';
    return path;
}

int outputs_open(const struct api *api, const char *id)
{
    AUTO(str) char *path = outputs_keep_dir(api, id);
    AUTO(fd) int dir = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return dir < 0 ? -1 : outputs_open_below(dir, "outputs", O_RDONLY | O_DIRECTORY);
}

/* --- the list ------------------------------------------------------------------------------ */

/* Adds one output. The URL has its name byte for byte; the path has the part of it that is text. */
static void add_output(struct json_writer *w, const char *task, const char *path, int64_t size,
                       int64_t modified_ms)
{
    char time[CLOCK_TEXT_SIZE];
    AUTO(buf) struct buf url = BUF_INIT(16384);
    buf_addf(&url, "/tasks/%s/outputs/", task);
    str_add_url(&url, path, "/");
    json_open_object(w, NULL);
    json_add_text(w, "path", path);
    json_add_text(w, "url", buf_str(&url));
    json_add_int(w, "sizeBytes", size);
    json_add_text(w, "modifiedAt", clock_format(modified_ms, time));
    json_close(w);
}

struct output_list {
    struct json_writer *w;
    const char *task;
};

static int list_file(int dir, const char *name, const char *path, const struct stat *st, void *arg)
{
    (void)dir;
    (void)name;
    const struct output_list *list = arg;
    add_output(list->w, list->task, path, st->st_size, st->st_mtim.tv_sec * INT64_C(1000));
    return 0;
}

/* Lists all outputs, also those that are still in the cloud. */
static void list_all(const struct api *api, const struct task_record *record, struct json_writer *w)
{
    struct err err;
    AUTO(str) char *path = outputs_keep_dir(api, record->id);
    AUTO(json)
    struct json *cloud = path && record->place == PLACE_AWAY ? overflow_outputs(path, &err) : NULL;
    if (!cloud) {
        int dir = outputs_open(api, record->id);
        struct output_list list = {w, record->id};
        if (dir >= 0)
            walk_files(dir, list_file, &list);
        return;
    }
    for (const struct json *at = json_first(cloud); at; at = json_next(at)) {
        int64_t size = 0;
        json_int(json_get(at, "size"), &size);
        add_output(w, record->id, json_text(json_get(at, "path")), size, record->ended_ms);
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
    if (!find_task(req, arg, &record) || outputs_cloud_get(req, arg, &record, path))
        return;
    AUTO(fd) int dir = outputs_open(arg, record.id);
    AUTO(fd)
    int fd = dir >= 0 ? outputs_open_below(dir, path, O_RDONLY) : -1;
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

/* Reads a file that the runner keeps next to the task's events. */
static int read_kept(const struct api *api, const char *id, const char *name, struct buf *out,
                     struct err *err)
{
    AUTO(str) char *dir = outputs_keep_dir(api, id);
    AUTO(str) char *path = dir ? path_join(dir, name) : NULL;
    return path ? file_read(path, out, err) : err_sys(err, "diff");
}

/* Adds one member of a file's entry in the list. */
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
    AUTO(str) char *dir = outputs_keep_dir(api, record.id);
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
