/* Resumable uploads to Cloud Storage: the pieces. */
#include "google_objects.h"
#include "google_world.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 65536 };

/* A Content-Range: bytes FIRST-LAST/TOTAL, each of which may be left open (-1). */
struct piece {
    int64_t first, last, total;
    bool query; /* a question for what is there */
};

static bool parse_number(const char **at, int64_t *ret)
{
    if (**at == '*') {
        *ret = -1;
        ++*at;
        return true;
    }
    if (!isdigit((unsigned char)**at))
        return false;
    char *end;
    *ret = strtoll(*at, &end, 10);
    *at = end;
    return true;
}

static bool parse_range(const char *text, struct piece *piece)
{
    *piece = (struct piece){.last = -1, .total = -1};
    if (!text)
        return true;
    if (strncmp(text, "bytes ", 6) != 0)
        return false;
    text += 6;
    if (!parse_number(&text, &piece->first))
        return false;
    if (piece->first < 0)
        piece->query = true;
    else if (*text++ != '-' || !parse_number(&text, &piece->last))
        return false;
    return *text++ == '/' && parse_number(&text, &piece->total) && !*text;
}

static void say_have(struct call *call, int64_t have)
{
    if (have > 0)
        call_header(call, "Range: bytes=0-%lld\r\n", (long long)have - 1);
    call->status = 308;
    call->sent = true;
    if (!call->lose_answer)
        server_reply(call->conn, 308, call->headers, "", 0);
}

/* Takes the bytes that are not there yet. What counts after a cut is the last multiple of
 * OBJECT_CHUNK. False when it was cut off. */
static bool take_piece(struct call *call, struct object_bytes *bytes, int64_t skip,
                       struct object_bytes *ret_safe)
{
    char data[PIECE];
    ssize_t n;
    *ret_safe = *bytes;
    for (;;) {
        int64_t to_mark = OBJECT_CHUNK - bytes->size % OBJECT_CHUNK;
        int64_t want = skip > 0 ? skip : to_mark;
        n = upload_read(call, data, want < PIECE ? (size_t)want : PIECE);
        if (n <= 0)
            return n == 0;
        if (skip > 0) {
            skip -= n;
            continue;
        }
        if (!object_bytes_add(bytes, data, (size_t)n))
            return false;
        if (bytes->size % OBJECT_CHUNK == 0)
            *ret_safe = *bytes;
    }
}

static void remember(const char *key, cJSON *session, const struct object_bytes *bytes)
{
    json_set_number(session, "have", (double)bytes->size);
    json_set_number(session, "crc", bytes->crc);
    store_put(key, session);
}

/* Makes the upload an object. The query that began it has the preconditions. */
static void finish(struct call *call, const char *key, cJSON *session, struct object_bytes *bytes)
{
    struct server_request begun = *call->req;
    const struct server_request *own = call->req;
    int64_t length = json_int(session, "length", bytes->size);
    begun.query = json_string(session, "query");
    if (length != bytes->size) {
        call_fail(call, "INVALID_ARGUMENT",
                  "Invalid request. The upload has %lld bytes, X-Upload-Content-Length said %lld.",
                  (long long)bytes->size, (long long)length);
        return;
    }
    call->req = &begun;
    cJSON *object =
        object_commit(call, json_string(session, "bucket"), json_string(session, "name"),
                      cJSON_GetObjectItem(session, "meta"), bytes);
    call->req = own;
    if (!object)
        return;
    json_set(session, "done", cJSON_Duplicate(object, 1));
    store_put(key, session);
    call_answer(call, object);
}

/* Whether the piece fits what is there; false after a refusal. */
static bool piece_fits(struct call *call, const struct piece *piece, int64_t have)
{
    int64_t size = piece->last - piece->first + 1;
    bool is_final = piece->last < 0 || (piece->total >= 0 && piece->last + 1 == piece->total);
    if (piece->first > have)
        call_fail(call, "UNAVAILABLE",
                  "Invalid request.  According to the Content-Range header, the upload offset is "
                  "%lld byte(s), which exceeds already uploaded size of %lld byte(s).",
                  (long long)piece->first, (long long)have);
    else if (piece->total >= 0 && piece->last >= piece->total)
        call_fail(call, "INVALID_ARGUMENT", "Invalid request. Failed to parse Content-Range.");
    else if (!is_final && (size < OBJECT_CHUNK || size % OBJECT_CHUNK != 0))
        call_fail(call, "INVALID_ARGUMENT",
                  "Invalid request.  The number of bytes uploaded is required to be equal or "
                  "greater than 262144, except for the final request (it's recommended to be the "
                  "exact multiple of 262144).  The received request contained %lld bytes, which "
                  "does not meet this requirement.",
                  (long long)size);
    return !call->sent;
}

static void put_piece(struct call *call, const char *key, const struct piece *piece,
                      struct object_bytes *bytes)
{
    struct object_bytes safe;
    int64_t skip = bytes->size - piece->first;
    bool whole = take_piece(call, bytes, skip, &safe);
    bool last = piece->last < 0 ? piece->total < 0 || bytes->size == piece->total
                                : piece->total >= 0 && bytes->size == piece->total;
    store_lock();
    cJSON *session = store_get(key);
    if (session && whole && piece->last >= 0 && bytes->size != piece->last + 1) {
        call_fail(call, "INVALID_ARGUMENT",
                  "Invalid request. The body is not as long as Content-Range says.");
    } else if (session && whole && last) {
        finish(call, key, session, bytes);
    } else if (session) {
        remember(key, session, &safe);
        if (whole)
            say_have(call, safe.size);
    }
    store_unlock();
}

/* What is there? With all there, the end. */
static void answer_query(struct call *call, const char *key, const struct piece *piece,
                         struct object_bytes *bytes)
{
    store_lock();
    cJSON *session = store_get(key);
    if (session && piece->total == bytes->size)
        finish(call, key, session, bytes);
    else
        say_have(call, bytes->size);
    store_unlock();
}

/* A copy of the session; NULL after an answer. */
static cJSON *find_session(struct call *call, const char *key)
{
    store_lock();
    cJSON *session = cJSON_Duplicate(store_get(key), 1);
    int64_t lifetime = world_setting("uploadLifetimeMs");
    store_unlock();
    const cJSON *done = cJSON_GetObjectItem(session, "done");
    if (!session)
        return call_fail(call, "NOT_FOUND", "The upload is not known.");
    if (json_int(session, "begun", 0) + lifetime < store_now_ms())
        call_fail(call, "GONE", "The upload has expired.");
    else if (strcmp(call->req->method, "DELETE") != 0 && done)
        call_answer(call, cJSON_Duplicate(done, 1));
    if (!call->sent)
        return session;
    cJSON_Delete(session);
    return NULL;
}

static void serve_session(struct call *call, const char *id, const char *key, const cJSON *session)
{
    struct piece piece;
    struct object_bytes bytes;
    if (!parse_range(server_header(call->req, "content-range"), &piece)) {
        call_fail(call, "INVALID_ARGUMENT", "Invalid request. Failed to parse Content-Range.");
        return;
    }
    if (!object_bytes_open(call, id, &bytes))
        return;
    bytes.size = json_int(session, "have", 0);
    bytes.crc = (uint32_t)json_int(session, "crc", 0);
    if (ftruncate(bytes.fd, bytes.size) < 0)
        abort();
    if (piece.query)
        answer_query(call, key, &piece, &bytes);
    else if (piece_fits(call, &piece, bytes.size))
        put_piece(call, key, &piece, &bytes);
    object_bytes_done(&bytes, true);
}

static void cancel_session(struct call *call, const char *id, const char *key)
{
    char *path = store_path("uploads/%s", id);
    store_lock();
    store_delete(key);
    store_unlock();
    unlink(path);
    free(path);
    call->status = 499;
    call->sent = true;
    server_reply(call->conn, 499, "", "", 0);
}

/* The address of an upload is its key: nobody asks who sends. */
bool upload_serve(struct call *call)
{
    char key[64], *id = call_param(call, "upload_id");
    bool put = strcmp(call->req->method, "PUT") == 0;
    bool mine = id && strlen(id) < 48 && !strchr(id, '/') &&
                strncmp(call->req->path, "/upload/", 8) == 0 &&
                (put || strcmp(call->req->method, "DELETE") == 0);
    if (mine) {
        snprintf(key, sizeof key, "gcs:u/%s", id);
        cJSON *session = find_session(call, key);
        if (session && put)
            serve_session(call, id, key, session);
        else if (session)
            cancel_session(call, id, key);
        cJSON_Delete(session);
    }
    free(id);
    return mine;
}
