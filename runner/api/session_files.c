/* Files of a session: single files, lists, texts, and whole directories as archives. */
#include "base/fd.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/session_cloud.h"
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
#define ASK_BYTES_MAX (6u * API_BODY_MAX) /* a body whose every byte is escaped */
#define LIST_MAX 10000

static void make_etag(const struct stat *st, char *text, size_t size)
{
    snprintf(text, size, "\"%llx-%llx-%llx\"", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_size,
             (unsigned long long)st->st_mtim.tv_sec * 1000000000ULL +
                 (unsigned long long)st->st_mtim.tv_nsec);
}

/* --- reading ------------------------------------------------------------------------------- */

struct lines {
    int64_t first, end; /* 0-based; `end` is past the last */
    int64_t at;         /* the line that is being read */
    int64_t max;        /* characters that are wanted of them; -1: all */
    int64_t characters; /* in `text` */
    struct buf text;
};

static int64_t count_characters(const char *text, size_t len)
{
    int64_t count = 0;
    for (size_t i = 0; i < len; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

/* The length of the first `max` characters. */
static size_t length_of(const char *text, size_t len, int64_t max)
{
    size_t at = 0;
    for (int64_t seen = 0; at < len; at++)
        if (((unsigned char)text[at] & 0xc0) != 0x80 && seen++ == max)
            break;
    return at;
}

/* Keeps the part that belongs to the wanted lines; false once all of them have been read. */
static bool keep_lines(struct lines *lines, const char *piece, size_t len)
{
    for (size_t at = 0; at < len && lines->at < lines->end;) {
        const char *end = memchr(piece + at, '\n', len - at);
        size_t n = end ? (size_t)(end - piece) + 1 - at : len - at;
        if (lines->at >= lines->first) {
            if (buf_add(&lines->text, piece + at, n))
                return false;
            lines->characters += count_characters(piece + at, n);
        }
        if (lines->max >= 0 && lines->characters > lines->max)
            return false;
        lines->at += end != NULL;
        at += n;
    }
    return lines->at < lines->end;
}

/* Passes over a hole in the file, where no line ends; its length. */
static int64_t skip_hole(int fd, int64_t at)
{
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0)
        data = errno == ENXIO ? lseek(fd, 0, SEEK_END) : lseek(fd, at, SEEK_SET);
    return data > at ? data - at : 0;
}

/* ?startLine=&endLine=&maxLength=: text, cut where it is too long. */
static void send_lines(struct http_request *req, int fd, struct lines *lines)
{
    struct err err;
    ssize_t n = 0;
    int64_t seen = 0;
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    while (piece && seen < SEEN_BYTES_MAX && (n = read(fd, piece, PIECE_BYTES)) > 0 &&
           keep_lines(lines, piece, (size_t)n)) {
        seen += n;
        if (lines->at < lines->first)
            seen += skip_hole(fd, seen);
    }
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
    if (lines->max >= 0 && lines->characters > lines->max) {
        lines->text.len = length_of(buf_str(&lines->text), lines->text.len, lines->max);
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
    if (query_number(req, "startLine", INT64_MAX, &lines.first) ||
        query_number(req, "endLine", INT64_MAX, &lines.end) ||
        query_number(req, "maxLength", INT64_MAX, &lines.max))
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
    struct cloud_files files;
    if (query_refused(req, known) || !away_enter(req, api, false, &files))
        return;
    AUTO(fd)
    int fd = session_open(api->sessions, http_param(req, "id"), http_param(req, "path"), &err);
    if (!away_leave(req, &files, false)) /* the open file stays what it is */
        return;
    if (fd < 0 && err.code == ERR_CONFLICT && strcmp(http_method(req), "HEAD") == 0)
        http_send(req, 200, NULL, NULL, 0); /* There is something, but no file. */
    else if (fd < 0)
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

/* Reads how the file is to be written. False after the answer has been sent. */
static bool read_wish(struct http_request *req, struct file_wish *wish)
{
    static const char *const known[] = {"append", "mode", NULL};
    char why[128];
    struct err err;
    int64_t mode = 0;
    const char *text = http_query(req, "mode");
    if (http_header(req, "Content-Range")) { /* RFC 9110, 14.5 */
        err_set(&err, ERR_INVALID,
                "Content-Range: a file is written whole; ?append=true adds to it");
        send_err(req, &err);
        return false;
    }
    *wish = (struct file_wish){.path = http_param(req, "path"),
                               .if_match = http_header(req, "If-Match"),
                               .if_none_match = http_header(req, "If-None-Match"),
                               .mode = -1};
    if (query_refused(req, known) || query_bool(req, "append", &wish->append))
        return false;
    if (!text || !*text)
        return true;
    for (const char *at = text; *at; at++)
        mode = *at >= '0' && *at <= '7' && mode < 01000 ? mode * 8 + (*at - '0') : 07777777;
    if (mode > 0777) {
        snprintf(why, sizeof(why), "must be octal, 0..777, got '%.20s'", text);
        send_field_error(req, "mode", why);
        return false;
    }
    wish->mode = (int)mode;
    return true;
}

/* The file after something was added to it, in the form of session_write_commit()'s answer. */
static void add_state(int fd, struct buf *members)
{
    struct stat st;
    char etag[80];
    if (fstat(fd, &st))
        return;
    make_etag(&st, etag, sizeof(etag));
    buf_addf(members, "{\"size\":%lld,\"etag\":\"", (long long)st.st_size);
    str_add_json(members, etag, strlen(etag));
    buf_adds(members, "\"}");
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
    struct cloud_files files;
    AUTO(buf) struct buf members = BUF_INIT(65536);
    const char *id = http_param(req, "id");
    if (!read_wish(req, &wish) || !away_enter(req, api, true, &files))
        return;
    if (session_write_open(api->sessions, id, &wish, &write, &err)) {
        if (away_leave(req, &files, false))
            send_err(req, &err);
        return;
    }
    if (take_body(req, write.fd, &bytes, &err) ||
        (!wish.append && session_write_commit(api->sessions, id, &wish, &write, &members, &err))) {
        session_write_discard(api->sessions, id, &write);
        if (away_leave(req, &files, false))
            send_err(req, &err);
    } else if (away_leave(req, &files, true)) {
        if (wish.append)
            add_state(write.fd, &members);
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
    struct cloud_files files;
    static const char *const known[] = {NULL};
    if (query_refused(req, known) || !away_enter(req, api, true, &files))
        return;
    int rc = session_remove(api->sessions, http_param(req, "id"), &wish, &there, &err);
    if (!away_leave(req, &files, rc == 0))
        return;
    if (rc) {
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
    struct cloud_files files;
    AUTO(buf) struct buf out = BUF_INIT(ANSWER_BYTES_MAX);
    if (!away_enter(req, api, strcmp(name, "replace") == 0, &files))
        return;
    int rc = session_work(api->sessions, http_param(req, "id"), name, ask, &out, &err);
    if (!away_leave(req, &files, rc == 0))
        return;
    if (rc && err.code == ERR_INVALID) /* the only thing that agents look at themselves */
        send_field_error(req, "pattern", err.msg);
    else if (rc)
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

void files_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"path", "recursive", "limit", "cursor", NULL};
    int64_t limit = 1000;
    bool recursive = false;
    const char *path = http_query(req, "path");
    AUTO(buf) struct buf ask = BUF_INIT(ASK_BYTES_MAX);
    if (query_refused(req, known) || query_number(req, "limit", INT64_MAX, &limit) ||
        query_bool(req, "recursive", &recursive))
        return;
    if (limit > LIST_MAX) {
        send_field_error(req, "limit", "must be 1..10000");
        return;
    }
    add_text(&ask, "path", path && *path ? path : "/workspace");
    add_text(&ask, "cursor", http_query(req, "cursor"));
    buf_addf(&ask, ",\"recursive\":%s,\"limit\":%lld", recursive ? "true" : "false",
             (long long)(limit > 0 ? limit : 1000));
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

/* NULL after the answer has been sent. */
static const char *archive_path(struct http_request *req)
{
    static const char *const known[] = {"path", NULL};
    const char *path = http_query(req, "path");
    if (query_refused(req, known))
        return NULL;
    return path && *path ? path : "/workspace";
}

struct packed {
    struct http_request *req;
    bool began, failed;
};

/* Sends the next bytes, after the head of the answer. */
static int send_packed(const char *piece, size_t len, void *arg)
{
    struct packed *packed = arg;
    struct http_request *req = packed->req;
    if (!packed->began) {
        http_add_header(req, "Content-Disposition", "attachment; filename=\"files.tgz\"");
        packed->began = true;
        packed->failed = http_begin(req, 200, "application/gzip") != 0;
    } else {
        packed->failed = http_write(req, piece, len) != 0;
    }
    return packed->failed || strcmp(http_method(req), "HEAD") == 0 ? -1 : 0;
}

void archive_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct packed packed = {.req = req};
    const char *path = archive_path(req);
    struct cloud_files files;
    if (!path || !away_enter(req, api, false, &files))
        return;
    int rc = session_pack(api->sessions, http_param(req, "id"), path, send_packed, &packed, &err);
    if (!packed.began)
        send_err(req, &err);
    else if (!packed.failed) /* else nobody is there to be told that it is not whole */
        http_end(req, rc == 0 || strcmp(http_method(req), "HEAD") == 0);
    (void)cloudbox_leave(files.guest, false, &err);
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
    const char *path = archive_path(req);
    struct cloud_files files;
    if (!path || !away_enter(req, api, true, &files))
        return;
    int rc = session_unpack(api->sessions, http_param(req, "id"), path, false, next_piece, req,
                            &out, &err);
    if (!away_leave(req, &files, rc == 0))
        return;
    if (rc)
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}
