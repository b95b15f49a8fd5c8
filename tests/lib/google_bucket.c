#include "google_peer_inside.h"

#include "base/str.h"

#include <string.h>

#define UNIT ((size_t)256 << 10)

/* ---- small things ---- */

static void decode(const char *from, size_t len, char *to)
{
    unsigned value;
    for (size_t i = 0; i < len; i++)
        if (from[i] == '%' && i + 2 < len + 0 && sscanf(from + i + 1, "%2x", &value) == 1) {
            *to++ = (char)value;
            i += 2;
        } else {
            *to++ = from[i];
        }
    *to = '\0';
}

/* The decoded value of a query parameter in fresh memory, or NULL. */
static char *query(const char *path, const char *name)
{
    size_t n = strlen(name);
    const char *at = strchr(path, '?');
    for (; at; at = strchr(at + 1, '&'))
        if (strncmp(at + 1, name, n) == 0 && at[1 + n] == '=') {
            const char *from = at + n + 2;
            size_t len = strcspn(from, "&");
            char *value = malloc(len + 1);
            must(value != NULL, "query");
            decode(from, len, value);
            return value;
        }
    return NULL;
}

static long long query_number(const char *path, const char *name, long long missing)
{
    char *text = query(path, name);
    long long value = text ? strtoll(text, NULL, 10) : missing;
    free(text);
    return value;
}

struct object *bucket_find(struct bucket *bucket, const char *name)
{
    for (int i = 0; i < bucket->object_count; i++)
        if (strcmp(bucket->objects[i].name, name) == 0)
            return &bucket->objects[i];
    return NULL;
}

struct object *bucket_put(struct bucket *bucket, const char *name, char *data, size_t len)
{
    struct object *object = bucket_find(bucket, name);
    if (!object) {
        must(bucket->object_count < OBJECTS_MAX, "objects");
        int at = bucket->object_count++;
        for (; at > 0 && strcmp(bucket->objects[at - 1].name, name) > 0; at--)
            bucket->objects[at] = bucket->objects[at - 1];
        object = &bucket->objects[at];
        *object = (struct object){.name = strdup(name)};
    }
    free(object->data);
    object->data = data;
    object->len = len;
    object->generation = ++bucket->generation;
    return object;
}

static void remove_locked(struct bucket *bucket, struct object *object)
{
    free(object->name);
    free(object->data);
    size_t after = (size_t)(&bucket->objects[bucket->object_count] - object) - 1;
    memmove(object, object + 1, after * sizeof(*object));
    bucket->object_count--;
}

static void crc_text(const struct object *object, char text[16])
{
    struct buf out = BUF_INIT(16);
    uint32_t crc = google_crc32c_portable(0, object->data, object->len);
    const unsigned char b[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                (unsigned char)(crc >> 8), (unsigned char)crc};
    str_add_base64(&out, BASE64_STD, b, 4);
    snprintf(text, 16, "%s", buf_str(&out));
    buf_done(&out);
}

static void add_object(struct buf *out, const struct object *object)
{
    char crc[16];
    crc_text(object, crc);
    buf_adds(out, "{\"kind\":\"storage#object\",\"name\":\"");
    str_add_json(out, object->name, strlen(object->name));
    buf_addf(out,
             "\",\"bucket\":\"b\",\"generation\":\"%lld\",\"metageneration\":\"1\",\"size\":"
             "\"%zu\",\"crc32c\":\"%s\",\"updated\":\"2026-01-02T03:04:05.678Z\"}",
             object->generation, object->len, crc);
}

/* ---- answers ---- */

bool bucket_error(struct loopback_call *call, int status, const char *reason)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"error\":{\"code\":%d,\"message\":\"it is so\",\"errors\":[{\"message\":\"it is "
             "so\",\"domain\":\"global\",\"reason\":\"%s\"}]}}",
             status, reason);
    return loopback_answer(call, status, "Content-Type: application/json\r\n", body);
}

static bool answer_object(struct loopback_call *call, const struct object *object)
{
    struct buf body = BUF_INIT(8192);
    add_object(&body, object);
    bool sent = loopback_answer(call, 200, "Content-Type: application/json\r\n", buf_str(&body));
    buf_done(&body);
    return sent;
}

static bool matches(const struct object *object, long long wanted)
{
    return wanted < 0 || (object ? object->generation : 0) == wanted;
}

/* ---- Cloud Storage ---- */

static bool download(struct loopback_call *call, const struct object *object,
                     const struct peer_fault *fault)
{
    char text[64], crc[16], head[512];
    size_t from = 0, to = object->len;
    bool plain = fault && fault->kind == PEER_PLAIN;
    bool ranged = !plain && loopback_header(call, "Range", text, sizeof text) &&
                  sscanf(text, "bytes=%zu-%zu", &from, &to) >= 1;
    if (ranged && from >= object->len) {
        snprintf(head, sizeof head, "Content-Range: bytes */%zu\r\n", object->len);
        return loopback_answer(call, 416, head, "");
    }
    to = !ranged ? object->len : strchr(text, '\0')[-1] == '-' ? object->len : to + 1;
    to = to < object->len ? to : object->len;
    crc_text(object, crc);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d Test\r\nContent-Length: %zu\r\n",
                     ranged ? 206 : 200, to - from);
    if (ranged)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Range: bytes %zu-%zu/%zu\r\n",
                      from, to - 1, object->len);
    if (!plain)
        n += snprintf(head + n, sizeof head - (size_t)n,
                      "X-Goog-Generation: %lld\r\nX-Goog-Hash: md5=AAAA\r\nX-Goog-Hash: "
                      "crc32c=%s\r\n",
                      object->generation, crc);
    snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    size_t len = to - from;
    if (fault && fault->kind == PEER_CUT_ANSWER && fault->bytes < len)
        len = fault->bytes;
    char *data = malloc(len + 1);
    must(data != NULL, "download");
    memcpy(data, object->data + from, len);
    if (fault && fault->kind == PEER_SPOIL && len > 0)
        data[len / 2] ^= 1;
    bool sent = loopback_text(call, head) && loopback_send(call, data, len);
    free(data);
    return sent && !(fault && fault->kind == PEER_CUT_ANSWER);
}

static bool list(struct bucket *bucket, struct loopback_call *call)
{
    struct buf body = BUF_INIT(1 << 20);
    char *prefix = query(call->path, "prefix"), *start = query(call->path, "startOffset");
    char *token = query(call->path, "pageToken");
    long long max = query_number(call->path, "maxResults", PAGE);
    int count = 0;
    const char *more = NULL;
    max = max < PAGE ? max : PAGE;
    buf_adds(&body, "{\"kind\":\"storage#objects\"");
    for (int i = 0; i < bucket->object_count && !more; i++) {
        const struct object *object = &bucket->objects[i];
        if ((prefix && strncmp(object->name, prefix, strlen(prefix)) != 0) ||
            (start && strcmp(object->name, start) < 0) ||
            (token && strcmp(object->name, token) < 0))
            continue;
        if (count == max) {
            more = object->name;
            continue;
        }
        buf_adds(&body, count++ ? "," : ",\"items\":[");
        add_object(&body, object);
    }
    buf_adds(&body, count ? "]" : "");
    if (more)
        buf_addf(&body, ",\"nextPageToken\":\"%s\"", more);
    buf_adds(&body, "}");
    free(prefix);
    free(start);
    free(token);
    bool sent = loopback_answer(call, 200, "Content-Type: application/json\r\n", buf_str(&body));
    buf_done(&body);
    return sent;
}

/* Names in order of "name":"…" within sourceObjects. */
static bool compose(struct bucket *bucket, struct loopback_call *call, const char *name,
                    const char *body)
{
    struct buf data = BUF_INIT(64 << 20);
    const char *end = strstr(body, "\"destination\"");
    if (!matches(bucket_find(bucket, name), query_number(call->path, "ifGenerationMatch", -1)))
        return bucket_error(call, 412, "conditionNotMet");
    for (const char *at = body; (at = strstr(at, "\"name\":\"")) && at < end;) {
        char source[512];
        at += 8;
        snprintf(source, sizeof source, "%.*s", (int)strcspn(at, "\""), at);
        const struct object *object = bucket_find(bucket, source);
        if (!object)
            return bucket_error(call, 404, "notFound");
        buf_add(&data, object->data, object->len);
    }
    size_t len = data.len;
    return answer_object(call, bucket_put(bucket, name, buf_steal(&data), len));
}

static bool on_object(struct bucket *bucket, struct loopback_call *call, const char *name,
                      const char *body, const struct peer_fault *fault)
{
    struct object *object = bucket_find(bucket, name);
    long long wanted = query_number(call->path, "ifGenerationMatch", -1);
    if (strcmp(call->method, "POST") == 0)
        return compose(bucket, call, name, body);
    if (!object)
        return bucket_error(call, 404, "notFound");
    if (!matches(object, wanted))
        return bucket_error(call, 412, "conditionNotMet");
    if (strcmp(call->method, "DELETE") == 0) {
        remove_locked(bucket, object);
        return loopback_text(call, "HTTP/1.1 204 Test\r\n\r\n");
    }
    return strstr(call->path, "alt=media") ? download(call, object, fault)
                                           : answer_object(call, object);
}

/* ---- uploads ---- */

static bool has_right_hash(struct loopback_call *call, const struct object *object)
{
    char crc[16], sent[64];
    crc_text(object, crc);
    return !loopback_header(call, "X-Goog-Hash", sent, sizeof sent) || strstr(sent, crc);
}

static bool upload_at_once(struct bucket *bucket, struct loopback_call *call, const char *body,
                           size_t len, const struct peer_fault *fault)
{
    char *name = query(call->path, "name");
    bool sent = false;
    char *data = malloc(len + 1);
    must(name && data, "upload");
    memcpy(data, body, len);
    const struct object probe = {.data = data, .len = len};
    if (!matches(bucket_find(bucket, name), query_number(call->path, "ifGenerationMatch", -1))) {
        free(data);
        sent = bucket_error(call, 412, "conditionNotMet");
    } else if (!has_right_hash(call, &probe)) {
        free(data);
        sent = bucket_error(call, 400, "invalid");
    } else {
        if (fault && fault->kind == PEER_SPOIL && len > 0)
            data[len / 2] ^= 1;
        sent = answer_object(call, bucket_put(bucket, name, data, len));
    }
    free(name);
    return sent;
}

static bool upload_begin(struct bucket *bucket, struct loopback_call *call)
{
    char head[256];
    must(bucket->session_count < SESSIONS_MAX, "sessions");
    char *name = query(call->path, "name");
    long long wanted = query_number(call->path, "ifGenerationMatch", -1);
    if (!matches(bucket_find(bucket, name), wanted)) {
        free(name);
        return bucket_error(call, 412, "conditionNotMet");
    }
    bucket->sessions[bucket->session_count] = (struct session){.name = name, .wanted = wanted};
    snprintf(head, sizeof head,
             "Location: %s/upload/storage/v1/b/b/o?uploadType=resumable&upload_id=%d\r\n",
             bucket->url, bucket->session_count++);
    return loopback_answer(call, 200, head, "");
}

static bool upload_stands(struct loopback_call *call, const struct session *session)
{
    char head[64] = "";
    if (session->len > 0)
        snprintf(head, sizeof head, "Range: bytes=0-%zu\r\n", session->len - 1);
    return loopback_answer(call, 308, head, "");
}

/* What was asked of a session that is over: its data is the object's. */
static bool upload_is_over(struct bucket *bucket, struct loopback_call *call,
                           const struct session *session)
{
    const struct object *made = bucket_find(bucket, session->name);
    return made ? answer_object(call, made) : bucket_error(call, 410, "gone");
}

static bool upload_ends(struct bucket *bucket, struct loopback_call *call, struct session *s,
                        const struct peer_fault *fault)
{
    if (!matches(bucket_find(bucket, s->name), s->wanted))
        return bucket_error(call, 412, "conditionNotMet");
    if (fault && fault->kind == PEER_SPOIL)
        s->data[s->len / 2] ^= 1;
    s->over = true;
    return answer_object(call, bucket_put(bucket, s->name, s->data, s->len));
}

/* Stores whole units of a piece that is cut. */
static bool upload_piece(struct bucket *bucket, struct loopback_call *call, const char *body,
                         size_t len, const struct peer_fault *fault)
{
    struct session *s = &bucket->sessions[query_number(call->path, "upload_id", 0)];
    char range[96] = "";
    long long first = -1, last = -1, total = -1;
    loopback_header(call, "Content-Range", range, sizeof range);
    if (s->gone)
        return bucket_error(call, 410, "gone");
    if (s->over)
        return upload_is_over(bucket, call, s);
    if (sscanf(range, "bytes %lld-%lld/%lld", &first, &last, &total) < 2)
        sscanf(range, "bytes */%lld", &total);
    bool cut = fault && fault->kind == PEER_CUT_REQUEST;
    if (first >= 0 && first != (long long)s->len)
        return bucket_error(call, 400, "invalidRange");
    if (!cut && first >= 0 && (long long)len != last - first + 1)
        return bucket_error(call, 400, "invalidLength");
    if (!cut && total < 0 && first >= 0 && len % UNIT != 0)
        return bucket_error(call, 400, "invalidUnit");
    size_t take = cut ? len / UNIT * UNIT : len;
    s->data = realloc(s->data, s->len + take + 1);
    must(s->data != NULL, "upload");
    memcpy(s->data + s->len, body, take);
    s->len += take;
    if (cut)
        return false;
    if (total < 0 || (long long)s->len < total)
        return upload_stands(call, s);
    return upload_ends(bucket, call, s, fault);
}

void bucket_prepare(struct bucket *bucket, const struct peer_fault *fault)
{
    for (int i = 0; i < bucket->session_count && fault->kind == PEER_FORGET; i++)
        bucket->sessions[i].gone = true;
    for (int i = 0; i < bucket->object_count && fault->kind == PEER_REPLACE; i++)
        bucket->objects[i].generation = ++bucket->generation;
}

bool bucket_serve(struct bucket *bucket, struct loopback_call *call, const char *body, size_t len,
                  const struct peer_fault *fault)
{
    static const char base[] = "/storage/v1/b/b/o";
    char name[4096];
    if (strncmp(call->path, "/upload/", 8) == 0) {
        if (strcmp(call->method, "PUT") == 0)
            return upload_piece(bucket, call, body, len, fault);
        return strstr(call->path, "uploadType=media")
                   ? upload_at_once(bucket, call, body, len, fault)
                   : upload_begin(bucket, call);
    }
    if (strncmp(call->path, base, sizeof base - 1) != 0)
        return bucket_error(call, 404, "notFound");
    const char *from = call->path + sizeof base - 1;
    if (*from != '/')
        return list(bucket, call);
    decode(from + 1, strcspn(from + 1, "/?"), name);
    return on_object(bucket, call, name, body, fault);
}

void bucket_done(struct bucket *bucket)
{
    while (bucket->object_count > 0)
        remove_locked(bucket, &bucket->objects[0]);
    for (int i = 0; i < bucket->session_count; i++) {
        free(bucket->sessions[i].name);
        if (!bucket->sessions[i].over)
            free(bucket->sessions[i].data);
    }
}
