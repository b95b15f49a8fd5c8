/* Uploads to Cloud Storage: at once, with their description in two parts, or begun to be resumed
 * (google_resumable.c). */
#include "google_objects.h"
#include "google_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { PIECE = 65536, META_MAX = 65536 };

ssize_t upload_read(struct call *call, void *to, size_t size)
{
    if (call->cut_upload_at < 0)
        return server_body_read(call->conn, to, size);
    if (call->cut_upload_at == 0) {
        server_cut(call->conn);
        return -1;
    }
    size = size < (size_t)call->cut_upload_at ? size : (size_t)call->cut_upload_at;
    ssize_t n = server_body_read(call->conn, to, size);
    call->cut_upload_at -= n > 0 ? n : 0;
    return n;
}

/* Reads the rest of the request into the file; false when it was cut off. */
static bool receive(struct call *call, struct object_bytes *bytes)
{
    char piece[PIECE];
    ssize_t n;
    while ((n = upload_read(call, piece, sizeof piece)) > 0)
        if (!object_bytes_add(bytes, piece, (size_t)n))
            return false;
    return n == 0;
}

/* What came of the request's description: name and members of the object. */
static cJSON *parse_meta(struct call *call, const char *text)
{
    char fault[GOOGLE_FAULT_MAX];
    cJSON *meta = *text ? cJSON_Parse(text) : cJSON_CreateObject();
    if (!cJSON_IsObject(meta)) {
        cJSON_Delete(meta);
        return call_fail(call, "INVALID_ARGUMENT", "Parse Error");
    }
    if (google_body_fault(call->method, meta, fault)) {
        cJSON_Delete(meta);
        return call_fail(call, "INVALID_ARGUMENT", "%s", fault);
    }
    if (call->note)
        cJSON_Delete(call->note);
    call->note = cJSON_Duplicate(meta, 1);
    return meta;
}

/* The object's name: of the query, else of the description. */
static char *object_name(const struct call *call, const cJSON *meta)
{
    char *name = call_param(call, "name");
    return name ? name : strdup(json_string(meta, "name"));
}

/* Ends an upload: the object, or NULL after a refusal. */
static cJSON *commit(struct call *call, const cJSON *meta, struct object_bytes *bytes)
{
    char *name = object_name(call, meta);
    store_lock();
    cJSON *object = *name ? object_commit(call, call->args[0], name, meta, bytes)
                          : call_fail(call, "INVALID_ARGUMENT", "Required: name");
    store_unlock();
    free(name);
    return object;
}

static cJSON *upload_media(struct call *call)
{
    struct object_bytes bytes;
    char id[17];
    cJSON *meta = cJSON_CreateObject(), *object = NULL;
    const char *type = server_header(call->req, "content-type");
    random_name(id, 16);
    json_set_string(meta, "contentType", type ? type : "application/octet-stream");
    if (object_bytes_open(call, id, &bytes)) {
        if (receive(call, &bytes))
            object = commit(call, meta, &bytes);
        object_bytes_done(&bytes, false);
    }
    cJSON_Delete(meta);
    return object;
}

/* ---- multipart ---- */

struct multipart {
    char boundary[128]; /* with the dashes before it */
    char *buf;          /* what was read before the bytes */
    size_t size;
};

static bool find_boundary(const struct call *call, struct multipart *parts)
{
    const char *type = server_header(call->req, "content-type");
    const char *at = type ? strcasestr(type, "boundary=") : NULL;
    if (!at || strncasecmp(type, "multipart/related", 17) != 0)
        return false;
    at += 9;
    bool quoted = *at == '"' || *at == '\'';
    char quote[2] = {*at, '\0'};
    at += quoted;
    int len = (int)strcspn(at, quoted ? quote : "; ");
    snprintf(parts->boundary, sizeof parts->boundary, "--%.*s", len, at);
    return len > 0 && len < 100;
}

/* Reads until the text is there behind `from`; where it ends, 0: it never came. */
static size_t read_past(struct call *call, struct multipart *parts, size_t from, const char *text)
{
    for (;;) {
        char *hit = memmem(parts->buf + from, parts->size - from, text, strlen(text));
        if (hit)
            return (size_t)(hit - parts->buf) + strlen(text);
        if (parts->size + 1 >= META_MAX)
            return 0;
        ssize_t n = upload_read(call, parts->buf + parts->size, META_MAX - 1 - parts->size);
        if (n <= 0)
            return 0;
        parts->size += (size_t)n;
    }
}

/* The type that the second part's headers say. */
static void part_type(const struct multipart *parts, size_t from, size_t to, cJSON *meta)
{
    char *headers = strndup(parts->buf + from, to - from);
    const char *at = strcasestr(headers, "content-type:");
    if (at && !*json_string(meta, "contentType")) {
        at += 13 + strspn(at + 13, " ");
        char *value = strndup(at, strcspn(at, "\r\n"));
        json_set_string(meta, "contentType", value);
        free(value);
    }
    free(headers);
}

/* Cuts the closing boundary off what was received; false when it is not there. */
static bool cut_boundary(const struct multipart *parts, struct object_bytes *bytes)
{
    char tail[256], close_text[136], piece[PIECE];
    int n = snprintf(close_text, sizeof close_text, "\r\n%s--", parts->boundary);
    int64_t from = bytes->size > (int64_t)sizeof tail ? bytes->size - (int64_t)sizeof tail : 0;
    ssize_t got = pread(bytes->fd, tail, sizeof tail, from);
    char *hit = got > 0 ? memmem(tail, (size_t)got, close_text, (size_t)n) : NULL;
    if (!hit)
        return false;
    bytes->size = from + (hit - tail);
    bytes->crc = 0;
    if (ftruncate(bytes->fd, bytes->size) < 0)
        return false;
    for (int64_t at = 0; (got = pread(bytes->fd, piece, sizeof piece, at)) > 0; at += got)
        bytes->crc = crc32c(bytes->crc, piece, (size_t)got);
    return true;
}

/* Headers and description of the first part, headers of the second; where its bytes begin, 0: it
 * is malformed. */
static size_t read_parts(struct call *call, struct multipart *parts, char **ret_meta,
                         size_t *ret_second)
{
    size_t headers = read_past(call, parts, 0, "\r\n\r\n");
    char end[136];
    snprintf(end, sizeof end, "\r\n%s", parts->boundary);
    size_t first = headers ? read_past(call, parts, headers, end) : 0;
    size_t begin = first ? read_past(call, parts, first, "\r\n\r\n") : 0;
    if (begin)
        *ret_meta = strndup(parts->buf + headers, first - headers - strlen(end));
    *ret_second = first;
    return begin;
}

static cJSON *upload_parts(struct call *call, struct multipart *parts)
{
    struct object_bytes bytes;
    char id[17], *text = NULL;
    cJSON *object = NULL;
    size_t second, begin = read_parts(call, parts, &text, &second);
    cJSON *meta = begin ? parse_meta(call, text) : NULL;
    random_name(id, 16);
    if (!begin) {
        call_fail(call, "INVALID_ARGUMENT", "Malformed multipart body.");
    } else if (meta && object_bytes_open(call, id, &bytes)) {
        part_type(parts, second, begin, meta);
        bool whole = object_bytes_add(&bytes, parts->buf + begin, parts->size - begin) &&
                     receive(call, &bytes);
        if (whole && !cut_boundary(parts, &bytes))
            call_fail(call, "INVALID_ARGUMENT", "Malformed multipart body.");
        else if (whole)
            object = commit(call, meta, &bytes);
        object_bytes_done(&bytes, false);
    }
    cJSON_Delete(meta);
    free(text);
    return object;
}

static cJSON *upload_multipart(struct call *call)
{
    struct multipart parts = {.buf = malloc(META_MAX)};
    cJSON *object = find_boundary(call, &parts)
                        ? upload_parts(call, &parts)
                        : call_fail(call, "INVALID_ARGUMENT",
                                    "Content-Type must be multipart/related with a boundary.");
    free(parts.buf);
    return object;
}

/* ---- resumable: the start ---- */

/* The whole body as text; NULL when it is too long or was cut off. */
static char *body_text(struct call *call)
{
    char *text = calloc(1, META_MAX);
    size_t size = 0;
    ssize_t n = 1;
    while (n > 0 && size + 1 < META_MAX) {
        n = upload_read(call, text + size, META_MAX - 1 - size);
        size += n > 0 ? (size_t)n : 0;
    }
    if (n == 0)
        return text;
    free(text);
    return NULL;
}

/* What the session remembers of the request that began it. */
static cJSON *session_new(struct call *call, cJSON *meta, char *name)
{
    const char *type = server_header(call->req, "x-upload-content-type");
    const char *length = server_header(call->req, "x-upload-content-length");
    cJSON *session = cJSON_CreateObject();
    if (type && !*json_string(meta, "contentType"))
        json_set_string(meta, "contentType", type);
    cJSON_AddStringToObject(session, "bucket", call->args[0]);
    cJSON_AddStringToObject(session, "name", name);
    cJSON_AddStringToObject(session, "query", call->req->query);
    cJSON_AddStringToObject(session, "account", call->account);
    cJSON_AddNumberToObject(session, "have", 0);
    cJSON_AddNumberToObject(session, "crc", 0);
    cJSON_AddNumberToObject(session, "begun", (double)store_now_ms());
    if (length)
        cJSON_AddNumberToObject(session, "length", (double)strtoll(length, NULL, 10));
    cJSON_AddItemToObject(session, "meta", cJSON_Duplicate(meta, 1));
    return session;
}

static void begin_session(struct call *call, cJSON *meta, char *name)
{
    char id[41], key[64];
    if (!object_bucket(call, call->args[0]) ||
        !object_preconditions(call, store_getf("gcs:o/%s/%s", call->args[0], name)))
        return;
    random_name(id, 40);
    snprintf(key, sizeof key, "gcs:u/%s", id);
    store_put(key, session_new(call, meta, name));
    call_header(call,
                "X-GUploader-UploadID: %s\r\nLocation: "
                "%s/upload/storage/v1/b/%s/o?uploadType=resumable&upload_id=%s\r\n",
                id, world.base, call->args[0], id);
    call->status = 200;
    call->sent = true;
    if (!call->lose_answer)
        server_reply(call->conn, 200, call->headers, "", 0);
}

static cJSON *upload_resumable(struct call *call)
{
    char *text = body_text(call);
    cJSON *meta = text ? parse_meta(call, text)
                       : call_fail(call, "INVALID_ARGUMENT", "The description is too long.");
    char *name = meta ? object_name(call, meta) : NULL;
    if (meta && !*name)
        call_fail(call, "INVALID_ARGUMENT", "Required: name");
    store_lock();
    if (meta && *name)
        begin_session(call, meta, name);
    store_unlock();
    cJSON_Delete(meta);
    free(name);
    free(text);
    return NULL;
}

static cJSON *insert(struct call *call)
{
    static const struct {
        const char *type;
        call_handler *handler;
    } types[] = {
        {"media", upload_media}, {"multipart", upload_multipart}, {"resumable", upload_resumable}};
    char *type = call_param(call, "uploadType");
    call_handler *handler = NULL;
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].type, type) == 0)
            handler = types[i].handler;
    free(type);
    if (!handler || strncmp(call->req->path, "/upload/", 8) != 0)
        return call_fail(call, "INVALID_ARGUMENT", "Invalid upload type");
    return handler(call);
}

const struct call_row google_upload_rows[] = {
    {"storage.objects.insert", "storage.objects.create", insert, true},
    {0},
};
