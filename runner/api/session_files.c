/* Files of a session: single files, lists, texts, and whole directories as archives. */
#include "base/fd.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/session/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define ANSWER_BYTES_MAX (96u << 20)
#define TEXT_BYTES_MAX (64u << 20)
#define SEEN_BYTES_MAX (4LL << 30) /* of a file in which lines are counted */
#define PATH_BYTES_MAX 4095
#define ASK_BYTES_MAX (90u << 10) /* what fits into a message to an agent */

static void make_etag(const struct stat *st, char *text, size_t size)
{
    snprintf(text, size, "\"%llx-%llx-%llx\"", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_size,
             (unsigned long long)st->st_mtim.tv_sec * 1000000000ULL +
                 (unsigned long long)st->st_mtim.tv_nsec);
}

/* --- reading ------------------------------------------------------------------------------- */

/* Reads a number of the query; -1 after the answer has been sent. */
static int query_number(struct http_request *req, const char *name, int64_t *ret_value)
{
    struct err err;
    const char *text = http_query(req, name);
    if (!text || !*text || str_to_int(text, 0, INT64_MAX, ret_value) == 0)
        return 0;
    err_set(&err, ERR_INVALID, "%s must be a whole number from 0 on, got '%.40s'", name, text);
    send_err(req, &err);
    return -1;
}

struct lines {
    int64_t first, end; /* 0-based; `end` is past the last */
    int64_t at;         /* the line that is being read */
    int64_t max;        /* bytes that are wanted of them; -1: all */
    struct buf text;
};

/* Keeps the part that belongs to the wanted lines; false once all of them have been read. */
static bool keep_lines(struct lines *lines, const char *piece, size_t len)
{
    for (size_t at = 0; at < len && lines->at < lines->end;) {
        const char *end = memchr(piece + at, '\n', len - at);
        size_t n = end ? (size_t)(end - piece) + 1 - at : len - at;
        if (lines->at >= lines->first && buf_add(&lines->text, piece + at, n))
            return false;
        if (lines->max >= 0 && lines->text.len > (size_t)lines->max)
            return false;
        lines->at += end != NULL;
        at += n;
    }
    return lines->at < lines->end;
}

/* ?startLine=&endLine=&maxLength=: text, cut where it is too long. */
static void send_lines(struct http_request *req, int fd, struct lines *lines)
{
    struct err err;
    ssize_t n = 0;
    int64_t seen = 0;
    const int64_t max = lines->max;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    while (piece && seen < SEEN_BYTES_MAX && (n = read(fd, piece, PIECE_BYTES)) > 0 &&
           keep_lines(lines, piece, (size_t)n))
        seen += n;
    if (seen >= SEEN_BYTES_MAX) {
        err_set(&err, ERR_TOO_LARGE, "lines are looked for in the first %lld GiB of a file only",
                SEEN_BYTES_MAX >> 30);
        send_err(req, &err);
        return;
    }
    if (!piece || buf_check(&lines->text, "what was asked for", &err)) {
        if (!piece)
            err_sys(&err, "file");
        send_err(req, &err);
        return;
    }
    if (max >= 0 && lines->text.len > (size_t)max) {
        size_t len = (size_t)max;
        while (len > 0 && ((unsigned char)lines->text.data[len] & 0xc0) == 0x80)
            len--;
        lines->text.len = len;
        buf_adds(&lines->text, "(truncated)");
    } else if (lines->end != INT64_MAX && lines->text.len > 0 &&
               lines->text.data[lines->text.len - 1] == '\n') {
        lines->text.len--; /* The last line's end does not count. */
    }
    http_send(req, 200, "text/plain; charset=utf-8", buf_str(&lines->text), lines->text.len);
}

static void send_it(struct http_request *req, int fd)
{
    struct err err;
    struct stat st;
    char etag[80];
    struct lines lines = {.end = INT64_MAX, .max = -1, .text = BUF_INIT(TEXT_BYTES_MAX)};
    if (fstat(fd, &st)) {
        err_sys(&err, "file");
        send_err(req, &err);
        return;
    }
    make_etag(&st, etag, sizeof(etag));
    if (query_number(req, "startLine", &lines.first) || query_number(req, "endLine", &lines.end) ||
        query_number(req, "maxLength", &lines.max))
        return;
    if (lines.first > 0 || lines.end != INT64_MAX || lines.max >= 0) {
        if (meets_condition(req, etag))
            send_lines(req, fd, &lines);
        buf_done(&lines.text);
        return;
    }
    send_range(req, fd, &st, etag, "application/octet-stream");
}

void file_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"startLine", "endLine", "maxLength", NULL};
    struct api *api = arg;
    struct err err;
    if (check_query(req, known, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(fd)
    int fd = session_open(api->sessions, http_param(req, "id"), http_param(req, "path"), &err);
    if (fd < 0)
        send_err(req, &err);
    else
        send_it(req, fd);
}

/* --- writing ------------------------------------------------------------------------------- */

/* Reads the body, piece by piece. */
static int take_body(struct http_request *req, int fd, int64_t *ret_bytes, struct err *err)
{
    ssize_t n;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    *ret_bytes = 0;
    if (!piece)
        return err_sys(err, "file");
    while ((n = http_read(req, piece, PIECE_BYTES, err)) > 0) {
        if (fd_write_all(fd, piece, (size_t)n))
            return err_sys(err, "cannot write the file");
        *ret_bytes += n;
    }
    return n < 0 ? -1 : 0;
}

static int read_wish(struct http_request *req, struct file_wish *wish, struct err *err)
{
    static const char *const known[] = {"append", "mode", NULL};
    int64_t mode = 0;
    const char *append = http_query(req, "append"), *text = http_query(req, "mode");
    *wish = (struct file_wish){.path = http_param(req, "path"),
                               .append = append && strcmp(append, "true") == 0,
                               .if_match = http_header(req, "If-Match"),
                               .if_none_match = http_header(req, "If-None-Match"),
                               .mode = -1};
    if (check_query(req, known, err))
        return -1;
    if (append && strcmp(append, "true") != 0 && strcmp(append, "false") != 0)
        return err_set(err, ERR_INVALID, "append must be true or false");
    if (!text)
        return 0;
    for (const char *at = text; *at; at++)
        mode = *at >= '0' && *at <= '7' && mode < 01000 ? mode * 8 + (*at - '0') : 07777777;
    if (!*text || mode > 0777)
        return err_set(err, ERR_INVALID, "mode must be octal, 0..777, got '%.20s'", text);
    wish->mode = (int)mode;
    return 0;
}

static void say_written(struct http_request *req, const char *path, bool existed, int64_t bytes,
                        const struct buf *members)
{
    AUTO(buf) struct buf out = BUF_INIT(65536);
    buf_adds(&out, "{\"path\":\"");
    str_add_json(&out, path, strlen(path));
    buf_addf(&out, "\",\"bytes_written\":%lld,\"created\":%s", (long long)bytes,
             existed ? "false" : "true");
    if (members->len > 2) {
        buf_addc(&out, ',');
        buf_add(&out, members->data + 1, members->len - 2);
    }
    buf_addc(&out, '}');
    send_json(req, existed ? 200 : 201, &out);
}

void file_put(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct file_wish wish;
    struct session_write write;
    int64_t bytes;
    AUTO(buf) struct buf members = BUF_INIT(65536);
    const char *id = http_param(req, "id");
    if (read_wish(req, &wish, &err) || session_write_open(api->sessions, id, &wish, &write, &err)) {
        send_err(req, &err);
        return;
    }
    if (take_body(req, write.fd, &bytes, &err) ||
        (!wish.append && session_write_commit(api->sessions, id, &wish, &write, &members, &err))) {
        session_write_discard(api->sessions, id, &write);
        send_err(req, &err);
    } else {
        say_written(req, write.path, write.existed, bytes, &members);
    }
    session_write_done(&write);
}

void file_delete(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    bool there = false;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    const struct file_wish wish = {
        .path = http_param(req, "path"), .if_match = http_header(req, "If-Match"), .mode = -1};
    if (session_remove(api->sessions, http_param(req, "id"), &wish, &there, &err)) {
        send_err(req, &err);
        return;
    }
    buf_adds(&out, "{\"success\":true,\"path\":\"");
    str_add_json(&out, wish.path, strlen(wish.path));
    buf_addf(&out, "\",\"deleted\":%s}", there ? "true" : "false");
    send_json(req, 200, &out);
}

/* --- lists and texts ----------------------------------------------------------------------- */

static void add_text(struct buf *ask, const char *name, const char *text)
{
    if (!text)
        return;
    buf_addf(ask, ",\"%s\":\"", name);
    str_add_json(ask, text, strlen(text));
    buf_addc(ask, '"');
}

static void work(struct http_request *req, struct api *api, const char *name, const struct buf *ask)
{
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(ANSWER_BYTES_MAX);
    if (session_work(api->sessions, http_param(req, "id"), name, ask, &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

void files_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"path", "recursive", "limit", "cursor", NULL};
    struct err err;
    int64_t limit = 1000;
    const char *path = http_query(req, "path"), *recursive = http_query(req, "recursive");
    AUTO(buf) struct buf ask = BUF_INIT(65536);
    if (check_query(req, known, &err)) {
        send_err(req, &err);
        return;
    }
    if (query_number(req, "limit", &limit))
        return;
    add_text(&ask, "path", path && *path ? path : "/workspace");
    add_text(&ask, "cursor", http_query(req, "cursor"));
    buf_addf(&ask, ",\"recursive\":%s,\"limit\":%lld",
             recursive && strcmp(recursive, "true") == 0 ? "true" : "false",
             (long long)(limit > 0 && limit < 10000 ? limit : 10000));
    work(req, arg, "list", &ask);
}

void files_search(struct http_request *req, void *arg)
{
    const char *path = "/workspace", *pattern = NULL;
    int64_t limit = 1000;
    AUTO(buf) struct buf ask = BUF_INIT(ASK_BYTES_MAX);
    const struct field fields[] = {
        {.name = "path", .kind = FIELD_TEXT, .to = &path, .max = PATH_BYTES_MAX},
        {.name = "pattern", .kind = FIELD_TEXT, .to = &pattern, .max = 4096, .required = true},
        {.name = "limit", .kind = FIELD_INT, .to = &limit, .min = 1, .max = 10000, .zero = true},
    };
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    add_text(&ask, "path", path);
    add_text(&ask, "pattern", pattern);
    buf_addf(&ask, ",\"limit\":%lld", (long long)limit);
    work(req, arg, "search", &ask);
}

void files_find(struct http_request *req, void *arg)
{
    const char *path = "/workspace", *pattern = NULL;
    AUTO(buf) struct buf ask = BUF_INIT(ASK_BYTES_MAX);
    const struct field fields[] = {
        {.name = "path", .kind = FIELD_TEXT, .to = &path, .max = PATH_BYTES_MAX},
        {.name = "pattern", .kind = FIELD_TEXT, .to = &pattern, .max = 4096, .required = true},
    };
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    add_text(&ask, "path", path);
    add_text(&ask, "pattern", pattern);
    work(req, arg, "find", &ask);
}

void files_replace(struct http_request *req, void *arg)
{
    struct err err;
    const char *path = NULL, *old = NULL, *fresh = NULL;
    int64_t count = 0;
    bool dry = false;
    AUTO(buf) struct buf ask = BUF_INIT(ASK_BYTES_MAX);
    const struct field fields[] = {
        {.name = "path", .kind = FIELD_TEXT, .to = &path, .max = PATH_BYTES_MAX, .required = true},
        {.name = "old", .kind = FIELD_TEXT, .to = &old, .required = true},
        {.name = "new", .kind = FIELD_EMPTY, .to = &fresh, .required = true},
        {.name = "count",
         .kind = FIELD_INT,
         .to = &count,
         .min = 1,
         .max = INT32_MAX,
         .zero = true},
        {.name = "dryRun", .kind = FIELD_BOOL, .to = &dry},
    };
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    add_text(&ask, "path", path);
    add_text(&ask, "old", old);
    add_text(&ask, "new", fresh);
    buf_addf(&ask, ",\"dryRun\":%s", dry ? "true" : "false");
    if (count > 0)
        buf_addf(&ask, ",\"count\":%lld", (long long)count);
    if (buf_check(&ask, "what is to be replaced", &err))
        send_err(req, &err);
    else
        work(req, arg, "replace", &ask);
}

/* --- archives ------------------------------------------------------------------------------ */

static const char *archive_path(struct http_request *req, struct err *err)
{
    static const char *const known[] = {"path", NULL};
    const char *path = http_query(req, "path");
    if (check_query(req, known, err))
        return NULL;
    return path && *path ? path : "/workspace";
}

void archive_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    const char *path = archive_path(req, &err);
    AUTO(fd) int fd = path ? session_pack(api->sessions, http_param(req, "id"), path, &err) : -1;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    ssize_t n = 1;
    if (fd < 0 || !piece) {
        if (fd >= 0)
            err_sys(&err, "archive");
        send_err(req, &err);
        return;
    }
    http_add_header(req, "Content-Disposition", "attachment; filename=\"files.tgz\"");
    if (http_begin(req, 200, "application/gzip"))
        return;
    while ((n = read(fd, piece, PIECE_BYTES)) > 0)
        if (http_write(req, piece, (size_t)n))
            return;
    http_end(req, n == 0);
}

static ssize_t next_piece(char *to, size_t max, void *arg, struct err *err)
{
    return http_read(arg, to, max, err);
}

void archive_put(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    const char *path = archive_path(req, &err);
    if (!path || session_unpack(api->sessions, http_param(req, "id"), path, false, next_piece, req,
                                &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}
