#include "base/check.h"
#include "base/str.h"
#include "google/limits.h"
#include "google/object.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define URL_MAX 16384

struct download {
    struct google *google;
    const char *bucket, *name;
    const struct storage_sink *sink;
    int64_t from, end;  /* end: offset after the last wanted byte; -1: the object's end */
    int64_t at;         /* the next byte to pass on */
    int64_t skip;       /* bytes before it that are sent nevertheless */
    int64_t generation; /* generation that is being read; -1: not known yet */
    uint32_t crc, promised;
    bool has_promised;
    bool changed;   /* the object has another generation now */
    bool misplaced; /* another range was sent than was asked for */
    bool over;      /* all wanted bytes have arrived, though more are sent */
    bool gave_up;
};

/* --- the answer's head ---------------------------------------------------------------------- */

/* Reads "x-goog-hash: crc32c=AAAAAA==,md5=…", which may be spread over several lines. */
static void take_hash(struct download *d, const struct buf *head)
{
    static const char name[] = "x-goog-hash:";
    for (const char *line = buf_str(head), *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        end += *end == '\n';
        if (strncasecmp(line, name, sizeof(name) - 1) != 0)
            continue;
        const char *crc = memmem(line, (size_t)(end - line), "crc32c=", 7);
        if (crc)
            d->has_promised = object_parse_crc(crc + 7, strcspn(crc + 7, ", \t\r\n"), &d->promised);
    }
}

static int take_generation(struct download *d, const struct buf *head)
{
    char text[32];
    int64_t generation;
    if (!net_header(head, "x-goog-generation", text, sizeof(text)) ||
        str_to_int(text, 0, INT64_MAX, &generation))
        return 0;
    d->changed = d->generation >= 0 && d->generation != generation;
    d->generation = generation;
    return d->changed ? -1 : 0;
}

static int take_range(struct download *d, int status, const struct buf *head)
{
    char text[96], *end = text;
    d->skip = status == 200 ? d->at : 0; /* The whole object is sent, asked for or not. */
    if (status == 206)
        d->misplaced = !net_header(head, "Content-Range", text, sizeof(text)) ||
                       !str_starts(text, "bytes ") ||
                       strtoll(text + strlen("bytes "), &end, 10) != d->at || *end != '-';
    return d->misplaced ? -1 : 0;
}

static int on_head(int status, const struct buf *head, void *arg)
{
    struct download *d = arg;
    take_hash(d, head);
    return take_generation(d, head) || take_range(d, status, head) ? -1 : 0;
}

/* --- its body ------------------------------------------------------------------------------- */

static int on_write(const char *data, size_t len, void *arg)
{
    struct download *d = arg;
    if (d->skip > 0) {
        size_t n = d->skip < (int64_t)len ? (size_t)d->skip : len;
        d->skip -= (int64_t)n;
        data += n;
        len -= n;
    }
    if (d->end >= 0 && (int64_t)len > d->end - d->at) {
        len = (size_t)(d->end - d->at);
        d->over = true;
    }
    d->crc = google_crc32c(d->crc, data, len);
    d->at += (int64_t)len;
    d->gave_up = len > 0 && d->sink->write(data, len, d->sink->arg) != 0;
    return d->gave_up || d->over ? -1 : 0;
}

/* --- tries ---------------------------------------------------------------------------------- */

static int ask(struct download *d, struct wire_answer *answer, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX);
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    object_add_path(&path, d->bucket, d->name);
    buf_adds(&path, "?alt=media");
    object_add_precondition(&path, "&", d->generation >= 0 ? d->generation : STORAGE_ANY);
    strlist_add(&headers, "Accept-Encoding: gzip"); /* As it is stored, and not decompressed on the
                                                     * way. */
    if (d->end >= 0)
        strlist_addf(&headers, "Range: bytes=%lld-%lld", (long long)d->at, (long long)d->end - 1);
    else if (d->at > 0)
        strlist_addf(&headers, "Range: bytes=%lld-", (long long)d->at);
    const struct wire wire = {.api = GOOGLE_STORAGE,
                              .method = "GET",
                              .path = buf_str(&path),
                              .headers = &headers,
                              .media = true,
                              .silence_ms = MEDIA_SILENCE_MS,
                              .head = on_head,
                              .write = on_write,
                              .arg = d,
                              .stop = d->sink->stop,
                              .stop_arg = d->sink->arg};
    if (buf_check(&path, "the request's path", err))
        return -1;
    return wire_ask(d->google, &wire, answer, err);
}

/* Asks separately for what the answer's head did not say. */
static int learn(struct download *d, struct err *err)
{
    AUTO(storage_object) struct storage_object object = {0};
    if (d->generation >= 0 && d->has_promised)
        return 0;
    if (storage_stat(d->google, d->bucket, d->name, &object, err))
        return -1;
    d->changed = d->generation >= 0 && d->generation != object.generation;
    d->generation = object.generation;
    d->has_promised = object.has_crc32c;
    d->promised = object.crc32c;
    return 0;
}

static int fail(const struct download *d, int rc, const struct wire_answer *answer, struct err *err)
{
    if (d->changed || (rc == 0 && answer->status == 412))
        return err_set(err, ERR_MISMATCH, "Cloud Storage: '%.80s' was replaced while it was read",
                       d->name);
    if (d->misplaced)
        return err_set(err, ERR_UPSTREAM, "Cloud Storage: another part came than was asked for");
    if (d->gave_up || rc)
        return -1; /* The error has been set. */
    return answer_fail(GOOGLE_STORAGE, answer, NULL, err);
}

static bool is_over(const struct download *d, int rc, const struct wire_answer *answer)
{
    return d->over || (d->end >= 0 && d->at >= d->end) ||
           (rc == 0 && (answer->status == 200 || answer->status == 206 || answer->status == 416));
}

static int fetch(struct download *d, struct err *err)
{
    struct tries tries = {.retry = retry_begin(STALL_MS, d->sink->stop, d->sink->arg)};
    AUTO(wire_answer) struct wire_answer answer = {0};
    for (;;) {
        int64_t before = d->at;
        int rc = ask(d, &answer, err);
        if (d->gave_up || d->changed || d->misplaced)
            return fail(d, -1, &answer, err);
        if (is_over(d, rc, &answer))
            return 0;
        if (d->at > before) {
            retry_renew(&tries.retry, STALL_MS);
            tries.renewed = false;
        }
        if (!tries_again(&tries, rc, &answer, err))
            return fail(d, rc, &answer, err);
        if (d->at > d->from && learn(d, err))
            return -1;
    }
}

static int verify(struct download *d, struct err *err)
{
    if (learn(d, err))
        return -1;
    if (d->changed)
        return fail(d, -1, NULL, err);
    if (!d->has_promised || d->crc == d->promised)
        return 0;
    return err_set(err, ERR_UPSTREAM,
                   "Cloud Storage: '%.80s' did not arrive as it is stored (its CRC32C is another)",
                   d->name);
}

static int download(struct download *d, struct err *err)
{
    bool whole = d->from == 0 && d->end < 0;
    if (object_check(d->bucket, d->name, err))
        return -1;
    if (d->end >= 0 && d->end <= d->from)
        return 0;
    return fetch(d, err) || (whole && verify(d, err)) ? -1 : 0;
}

int storage_read(struct google *google, const char *bucket, const char *name, int64_t from,
                 int64_t len, const struct storage_sink *sink, struct err *err)
{
    if (from < 0 || len < -1 || (len > 0 && from > INT64_MAX - len))
        return err_set(err, ERR_INVALID, "no part of an object begins at %lld", (long long)from);
    struct download d = {.google = google,
                         .bucket = bucket,
                         .name = name,
                         .sink = sink,
                         .from = from,
                         .at = from,
                         .end = len < 0 ? -1 : from + len,
                         .generation = -1};
    return download(&d, err);
}

static int keep(const char *data, size_t len, void *arg)
{
    return buf_add(arg, data, len);
}

int storage_get(struct google *google, const char *bucket, const char *name, struct buf *out,
                int64_t *ret_generation, struct err *err)
{
    size_t before = out->len;
    const struct storage_sink sink = {.write = keep, .arg = out};
    struct download d = {.google = google,
                         .bucket = bucket,
                         .name = name,
                         .sink = &sink,
                         .end = -1,
                         .generation = -1};
    int rc = download(&d, err);
    if (rc && d.gave_up)
        buf_check(out, "the object", err);
    if (rc && out->data) {
        out->len = before;
        out->data[before] = '\0';
    }
    if (rc == 0 && ret_generation)
        *ret_generation = d.generation;
    return rc;
}
