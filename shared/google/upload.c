/*
 * Resumable uploads.
 *
 *     begin ──> PUT a piece ──308──> PUT the next … ──200──> the object, compared
 *       ^           │ cut, 5xx            │                    with what was read
 *       │           v                     v
 *       └─404,410── ask where it stands ──┘      412 after a lost answer: is it ours?
 *
 * A piece is sent again from where the server says that it stands. What has been read once is in
 * the checksum once, however often it is sent.
 */
#include "base/check.h"
#include "base/fd.h"
#include "base/form.h"
#include "base/str.h"
#include "google/limits.h"
#include "google/object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define URL_MAX 16384
#define RESTARTS_MAX 3

struct session {
    struct google *google;
    const char *bucket, *name, *type; /* borrowed */
    int64_t generation;
    char *path;     /* where pieces are sent; NULL: not begun */
    char *base;     /* scheme and host of path, when they are not our endpoint's; or NULL */
    bool bare;      /* send without our token, which must not go there */
    int64_t stored; /* bytes that the server has */
    int64_t total;  /* -1: not known yet */
    bool lost;      /* the server must be asked how much it has */
    int restarts;
    struct tries tries;
    uint32_t crc; /* of the first crc_to bytes */
    int64_t crc_to;
    bool finished;
    struct storage_object object;
    /* The source of the bytes: memory that begins at byte held_at, or a file. */
    const struct buf *held;
    int64_t held_at;
    int fd;
    int64_t file_from;
    int64_t at, end; /* of the piece that is being sent */
    bool file_short;
    int file_errno;
};

static struct session session_make(struct google *google, const char *bucket, const char *name,
                                   const char *type, int64_t generation)
{
    return (struct session){.google = google,
                            .bucket = bucket,
                            .name = name,
                            .type = type ? type : "application/octet-stream",
                            .generation = generation,
                            .total = -1,
                            .fd = -1,
                            .tries.retry = retry_begin(STALL_MS, NULL, NULL)};
}

static void session_done(struct session *session)
{
    free(session->path);
    free(session->base);
    storage_object_done(&session->object);
}

/* --- begin ---------------------------------------------------------------------------------- */

static bool is_googles(const char *host)
{
    static const char domain[] = ".googleapis.com";
    size_t len = strlen(host);
    return len > strlen(domain) && strcmp(host + len - strlen(domain), domain) == 0;
}

/* Decides whether pieces are sent to the host of a session's URL, and whether with our token or
 * only by the session's name, which is all that Google requires. Google's own hosts are accepted
 * when our endpoint is Google's; our token goes to another host only when it is our endpoint's,
 * whatever the port. */
static bool is_followed(const struct session *s, const char *url, bool *ret_bare)
{
    struct form_url to, endpoint;
    if (form_url(url, &to) || to.has_user || (!to.tls && !to.loopback) || is_googles(to.host) ||
        form_url(s->google->endpoints[GOOGLE_STORAGE], &endpoint))
        return false;
    bool same = strcmp(to.host, endpoint.host) == 0 || (to.loopback && endpoint.loopback);
    *ret_bare = !same || (endpoint.tls && !to.tls);
    return true;
}

/* Scheme and host of a URL with a path; the caller frees the text. */
static char *host_part(const char *url)
{
    const char *host = strstr(url, "://") + 3;
    return str_copy(url, (size_t)(host - url) + strcspn(host, "/"));
}

static int take_location(struct session *s, const struct buf *head, struct err *err)
{
    char url[8192];
    const char *whole = net_header(head, "Location", url, sizeof(url)), *path = whole;
    const char *host = path ? strstr(path, "://") : NULL;
    if (host)
        path = strchr(host + 3, '/');
    if (!path || path[0] != '/' || path[1] == '/')
        return err_set(err, ERR_UPSTREAM, "Cloud Storage: an upload began without a location");
    bool followed = host && is_followed(s, whole, &s->bare);
    if (!followed)
        s->bare = false;
    free(STEAL_PTR(s->base));
    if ((followed || !host) &&
        !(s->base = host_part(host ? whole : s->google->endpoints[GOOGLE_STORAGE])))
        return err_sys(err, "an upload");
    free(s->path);
    s->path = strdup(path);
    return s->path ? 0 : err_sys(err, "an upload");
}

/* Nobody answers at the session URL: its host may be a name that only the server knows. Use the
 * endpoint's host instead. */
static void stay_at_endpoint(struct session *s, int rc, const struct wire_answer *answer)
{
    if (!s->base || rc == 0 || answer->sent)
        return;
    free(STEAL_PTR(s->base));
    s->bare = false;
}

static int begin(struct session *s, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX), body = BUF_INIT(4096);
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(wire_answer) struct wire_answer answer = {0};
    struct json_writer w;
    struct tries tries = {.retry = retry_begin(CALL_MS, s->tries.retry.stop, s->tries.retry.arg)};
    object_add_upload_path(&path, s->bucket, s->name, "resumable", s->generation);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_text(&w, "contentType", s->type);
    json_close(&w);
    strlist_add(&headers, "Content-Type: application/json");
    strlist_addf(&headers, "X-Upload-Content-Type: %s", s->type);
    if (s->total >= 0)
        strlist_addf(&headers, "X-Upload-Content-Length: %lld", (long long)s->total);
    const struct wire wire = {.api = GOOGLE_STORAGE,
                              .method = "POST",
                              .path = buf_str(&path),
                              .headers = &headers,
                              .body = body.data,
                              .body_len = (int64_t)body.len,
                              .silence_ms = TRY_SILENCE_MS};
    if (buf_check(&path, "the request's path", err) || buf_check(&body, "the request", err) ||
        wire_call(s->google, &wire, &tries, &answer, NULL, err))
        return -1;
    s->stored = 0;
    s->lost = false;
    return take_location(s, &answer.head, err);
}

/* --- one piece ------------------------------------------------------------------------------ */

/* Reads bytes at s->at, at most size; -1 when the source has fewer than announced. */
static ssize_t source_read(struct session *s, char *to, size_t size)
{
    if (s->held) {
        memcpy(to, s->held->data + (s->at - s->held_at), size);
        return (ssize_t)size;
    }
    ssize_t n = fd_pread_full(s->fd, to, size, (off_t)(s->file_from + s->at));
    if (n < 0)
        s->file_errno = errno;
    s->file_short = n == 0;
    return n > 0 ? n : -1;
}

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct session *s = arg;
    if ((int64_t)size > s->end - s->at)
        size = (size_t)(s->end - s->at);
    if (size == 0)
        return 0;
    ssize_t n = source_read(s, to, size);
    if (n < 0)
        return -1;
    int64_t known = s->crc_to - s->at; /* These were read before, and are sent again. */
    if (known < n) {
        s->crc = google_crc32c(s->crc, to + known, (size_t)(n - known));
        s->crc_to = s->at + n;
    }
    s->at += n;
    return n;
}

/* Appends "bytes 0-9/10", "bytes 0-9/" and a star, or "bytes * /10" (without the space): the last
 * one asks for the state, or ends the upload without more bytes. */
static void add_range(const struct session *s, struct strlist *headers)
{
    char total[32] = "*", part[64] = "*";
    if (s->total >= 0)
        snprintf(total, sizeof(total), "%lld", (long long)s->total);
    if (s->end > s->at)
        snprintf(part, sizeof(part), "%lld-%lld", (long long)s->at, (long long)s->end - 1);
    strlist_addf(headers, "Content-Range: bytes %s/%s", part, total);
}

static int send_piece(struct session *s, struct wire_answer *answer, struct err *err)
{
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    const struct wire wire = {.api = GOOGLE_STORAGE,
                              .method = "PUT",
                              .base = s->base,
                              .path = s->path,
                              .bare = s->bare,
                              .headers = &headers,
                              .body_len = s->end - s->at,
                              .media = true,
                              .silence_ms = MEDIA_SILENCE_MS,
                              .read = on_read,
                              .arg = s,
                              .stop = s->tries.retry.stop,
                              .stop_arg = s->tries.retry.arg};
    strlist_addf(&headers, "Content-Type: %s", s->type);
    add_range(s, &headers);
    return wire_ask(s->google, &wire, answer, err);
}

/* --- what came of it ------------------------------------------------------------------------ */

/* Reads "Range: bytes=0-99" (or "0-99"): 100 bytes are stored; without the header none are. */
static int take_stored(struct session *s, const struct wire_answer *answer, struct err *err)
{
    char text[64];
    int64_t last = -1;
    const char *range = net_header(&answer->head, "Range", text, sizeof(text));
    if (range && str_starts(range, "bytes="))
        range += strlen("bytes=");
    if (range &&
        (!str_starts(range, "0-") || str_to_int(range + strlen("0-"), 0, INT64_MAX - 1, &last)))
        return err_set(err, ERR_UPSTREAM, "Cloud Storage: an upload stands nowhere");
    int64_t stored = last + 1;
    if (stored > s->crc_to || stored < s->held_at)
        return err_set(err, ERR_UPSTREAM,
                       "Cloud Storage: an upload stands at byte %lld, but %lld to %lld were sent",
                       (long long)stored, (long long)s->held_at, (long long)s->crc_to);
    if (stored > s->stored) {
        retry_renew(&s->tries.retry, STALL_MS);
        s->tries.renewed = false;
    } else if (!s->lost && !retry_pause(&s->tries.retry, retry_after(&answer->head))) {
        return err_set(err, ERR_TIMEOUT, "Cloud Storage: an upload does not get on");
    }
    s->stored = stored;
    s->lost = false;
    return 0;
}

static int take_object(struct session *s, const struct wire_answer *answer, struct err *err)
{
    struct err why = ERR_INIT;
    storage_object_done(&s->object);
    s->finished = true;
    if (object_read_answer(answer, &s->object, &why) == 0)
        return 0;
    return storage_stat(s->google, s->bucket, s->name, &s->object, err);
}

/* True when the object exists with all the bytes that we read: an answer was lost. */
static bool is_ours(struct session *s)
{
    storage_object_done(&s->object);
    s->finished = s->tries.unsure && s->total >= 0 && s->crc_to == s->total &&
                  object_claim(s->google, s->bucket, s->name, s->generation, s->total, s->crc,
                               &s->object) == 0;
    return s->finished;
}

static int start_over(struct session *s, const struct wire_answer *answer, struct err *err)
{
    if (is_ours(s))
        return 0;
    if (s->held_at > 0 || s->restarts++ >= RESTARTS_MAX) {
        answer_fail(GOOGLE_STORAGE, answer, NULL, err);
        return err_wrap(err, "an upload was forgotten");
    }
    return begin(s, err);
}

static int explain_source(const struct session *s, struct err *err)
{
    errno = s->file_errno;
    if (errno)
        return err_sys(err, "reading what is to be stored as '%.80s'", s->name);
    return err_set(err, ERR_INVALID, "the file that is to be '%.80s' is shorter than it was",
                   s->name);
}

static int take_answer(struct session *s, int rc, const struct wire_answer *answer, struct err *err)
{
    if (rc == 0 && answer->status == 308)
        return take_stored(s, answer, err);
    if (rc == 0 && (answer->status == 200 || answer->status == 201))
        return take_object(s, answer, err);
    if (rc == 0 && (answer->status == 404 || answer->status == 410))
        return start_over(s, answer, err);
    if (rc == 0 && answer->status == 412 && is_ours(s))
        return 0;
    if (s->file_short || s->file_errno)
        return explain_source(s, err);
    s->lost = true;
    stay_at_endpoint(s, rc, answer);
    if (tries_again(&s->tries, rc, answer, err))
        return 0;
    return rc ? -1 : answer_fail(GOOGLE_STORAGE, answer, NULL, err);
}

/* Makes one request towards storing the bytes up to `end`, which is the end of all when s->total
 * says so. Look at s->stored and s->finished afterwards. */
static int step(struct session *s, int64_t end, struct err *err)
{
    AUTO(wire_answer) struct wire_answer answer = {0};
    if (!s->path && begin(s, err))
        return -1;
    s->at = s->stored;
    s->end = s->lost ? s->stored : end;
    int rc = send_piece(s, &answer, err);
    return take_answer(s, rc, &answer, err);
}

/* The end of the next piece: a multiple of the unit after s->stored, or the end of all. */
static int64_t piece_end(const struct session *s, int64_t most, int64_t available)
{
    int64_t left = available - s->stored;
    if (s->total == available && left <= most)
        return available;
    left = left < most ? left : most;
    return s->stored + left / UPLOAD_UNIT * UPLOAD_UNIT;
}

static int finish(struct session *s, int64_t most, struct storage_object *ret_object,
                  struct err *err)
{
    while (!s->finished)
        if (step(s, piece_end(s, most, s->total), err))
            return -1;
    if (object_verify(s->google, s->bucket, &s->object, s->total, s->crc, err))
        return -1;
    object_hand_out(&s->object, ret_object);
    return 0;
}

/* --- files ---------------------------------------------------------------------------------- */

static int put_small(struct google *google, const struct storage_at *at, int fd, int64_t from,
                     int64_t size, const struct storage_stop *stop,
                     struct storage_object *ret_object, struct err *err)
{
    AUTO(buf) struct buf data = BUF_INIT(PUT_AT_ONCE_MAX);
    char *to = buf_room(&data, (size_t)size);
    ssize_t n = to ? fd_pread_full(fd, to, (size_t)size, (off_t)from) : -1;
    if (n < 0)
        return err_sys(err, "reading what is to be stored as '%.80s'", at->name);
    if (n < size)
        return err_set(err, ERR_INVALID, "the file that is to be '%.80s' is shorter than it was",
                       at->name);
    buf_grew(&data, (size_t)size);
    return storage_put_until(google, at, buf_str(&data), (size_t)size, stop, ret_object, err);
}

int storage_put_file(struct google *google, const struct storage_at *at, int fd, int64_t from,
                     int64_t size, const struct storage_stop *stop,
                     struct storage_object *ret_object, struct err *err)
{
    REQUIRE(from >= 0 && size >= 0);
    if (object_check(at->bucket, at->name, err))
        return -1;
    if (size <= PUT_AT_ONCE_MAX)
        return put_small(google, at, fd, from, size, stop, ret_object, err);
    struct session s = session_make(google, at->bucket, at->name, at->type, at->generation);
    s.fd = fd;
    s.file_from = from;
    s.total = size;
    if (stop) {
        s.tries.retry.stop = stop->stop;
        s.tries.retry.arg = stop->arg;
    }
    int rc = finish(&s, UPLOAD_FILE_PIECE, ret_object, err);
    session_done(&s);
    return rc;
}

/* --- pieces as they come -------------------------------------------------------------------- */

struct storage_upload {
    struct session session;
    char *bucket, *name, *type;
    struct buf held; /* bytes that are not stored yet */
    struct err failure;
};

void storage_upload_free(struct storage_upload *upload)
{
    if (!upload)
        return;
    session_done(&upload->session);
    buf_done(&upload->held);
    free(upload->bucket);
    free(upload->name);
    free(upload->type);
    free(upload);
}

struct storage_upload *storage_upload_new(struct google *google, const char *bucket,
                                          const char *name, const char *type, int64_t generation,
                                          struct err *err)
{
    AUTO(storage_upload) struct storage_upload *upload = NULL;
    if (object_check(bucket, name, err))
        return NULL;
    upload = calloc(1, sizeof(*upload));
    if (upload) {
        buf_init(&upload->held, UPLOAD_PIECE);
        upload->bucket = strdup(bucket);
        upload->name = strdup(name);
        upload->type = type ? strdup(type) : NULL;
    }
    if (!upload || !upload->bucket || !upload->name || (type && !upload->type)) {
        err_sys(err, "an upload");
        return NULL;
    }
    upload->session = session_make(google, upload->bucket, upload->name, upload->type, generation);
    upload->session.held = &upload->held;
    return STEAL_PTR(upload);
}

/* Makes room: stored bytes need not be kept. */
static int flush(struct storage_upload *upload, struct err *err)
{
    struct session *s = &upload->session;
    int64_t held_to = s->held_at + (int64_t)upload->held.len;
    retry_renew(&s->tries.retry, STALL_MS);
    do {
        if (step(s, piece_end(s, UPLOAD_PIECE, held_to), err))
            return -1;
        if (s->finished)
            return err_set(err, ERR_UPSTREAM, "Cloud Storage: an upload ended before its end");
    } while (held_to - s->stored >= UPLOAD_UNIT);
    buf_drop(&upload->held, (size_t)(s->stored - s->held_at));
    s->held_at = s->stored;
    return 0;
}

static int keep_failure(struct storage_upload *upload, const struct err *err)
{
    upload->failure = *err;
    return -1;
}

int storage_upload_add(struct storage_upload *upload, const void *data, size_t len, struct err *err)
{
    const char *from = data;
    *err = upload->failure;
    if (err->code != ERR_NONE)
        return -1;
    while (len > 0) {
        size_t n = UPLOAD_PIECE - upload->held.len;
        n = n < len ? n : len;
        if (n == 0 && flush(upload, err))
            return keep_failure(upload, err);
        if (buf_add(&upload->held, from, n) && buf_check(&upload->held, "an upload", err))
            return keep_failure(upload, err);
        from += n;
        len -= n;
    }
    return 0;
}

int storage_upload_end(struct storage_upload *upload, struct storage_object *ret_object,
                       struct err *err)
{
    struct session *s = &upload->session;
    if (upload->failure.code != ERR_NONE) {
        *err = upload->failure;
        return -1;
    }
    if (!s->path) /* Everything fits into one request. */
        return storage_put(s->google,
                           &(const struct storage_at){s->bucket, s->name, s->type, s->generation},
                           buf_str(&upload->held), upload->held.len, ret_object, err);
    s->total = s->held_at + (int64_t)upload->held.len;
    retry_renew(&s->tries.retry, STALL_MS);
    return finish(s, UPLOAD_PIECE, ret_object, err);
}
