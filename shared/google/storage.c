#include "google/storage.h"

#include "base/check.h"
#include "base/str.h"
#include "google/limits.h"
#include "google/object.h"

#include <string.h>

#define NAME_BYTES_MAX 1024
#define BUCKET_BYTES_MAX 222
#define COMPOSE_MAX 32
#define SWEEPS_MAX 16
#define URL_MAX 16384
#define BODY_MAX (512u << 10)

/* --- names and paths ------------------------------------------------------------------------- */

static bool is_bucket(const char *bucket)
{
    size_t len = strlen(bucket);
    return len >= 1 && len <= BUCKET_BYTES_MAX &&
           strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len && bucket[0] != '.' &&
           bucket[len - 1] != '.';
}

int object_check(const char *bucket, const char *name, struct err *err)
{
    if (!is_bucket(bucket))
        return err_set(err, ERR_INVALID, "'%.80s' is no name of a bucket", bucket);
    if (!name)
        return 0;
    size_t len = strlen(name);
    if (len == 0 || len > NAME_BYTES_MAX || !str_is_utf8(name, len) || strpbrk(name, "\r\n") ||
        strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(err, ERR_INVALID, "no object can have the name it was to get");
    return 0;
}

void object_add_path(struct buf *out, const char *bucket, const char *name)
{
    buf_adds(out, "/storage/v1/b/");
    google_add_escaped(out, bucket);
    buf_adds(out, "/o");
    if (name)
        buf_addc(out, '/');
    if (name)
        google_add_escaped(out, name);
}

void object_add_precondition(struct buf *out, const char *before, int64_t generation)
{
    if (generation != STORAGE_ANY)
        buf_addf(out, "%sifGenerationMatch=%lld", before, (long long)generation);
}

void object_add_upload_path(struct buf *out, const char *bucket, const char *name, const char *type,
                            int64_t generation)
{
    buf_adds(out, "/upload/storage/v1/b/");
    google_add_escaped(out, bucket);
    buf_addf(out, "/o?uploadType=%s&name=", type);
    google_add_escaped(out, name);
    object_add_precondition(out, "&", generation);
}

/* --- objects -------------------------------------------------------------------------------- */

void storage_object_done(struct storage_object *object)
{
    free(object->name);
    object->name = NULL;
}

void object_hand_out(struct storage_object *object, struct storage_object *ret_object)
{
    if (ret_object)
        *ret_object = *object;
    else
        storage_object_done(object);
    *object = (struct storage_object){0};
}

void object_add_crc(struct buf *out, uint32_t crc)
{
    const unsigned char bytes[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                    (unsigned char)(crc >> 8), (unsigned char)crc};
    str_add_base64(out, BASE64_STD, bytes, sizeof(bytes));
}

bool object_parse_crc(const char *text, size_t len, uint32_t *ret_crc)
{
    AUTO(buf) struct buf bytes = BUF_INIT(16);
    if (len != 8 || str_read_base64(text, len, &bytes) || bytes.len != 4)
        return false;
    const unsigned char *b = (const unsigned char *)bytes.data;
    *ret_crc = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return true;
}

int object_read(const struct json *json, struct storage_object *ret_object, struct err *err)
{
    struct storage_object object = {0};
    const char *name = json_text(json_get(json, "name"));
    const char *crc = json_text(json_get(json, "crc32c"));
    if (!name || answer_int(json, "generation", &object.generation) ||
        (json_get(json, "size") && answer_int(json, "size", &object.size)) || object.size < 0)
        return err_set(err, ERR_UPSTREAM,
                       "Cloud Storage: an object without a name, generation or size");
    object.has_crc32c = crc && object_parse_crc(crc, strlen(crc), &object.crc32c);
    object.updated_ms = answer_time(json, "updated");
    *ret_object = object;
    return str_replace(&ret_object->name, name) ? err_sys(err, "an object's name") : 0;
}

int object_read_answer(const struct wire_answer *answer, struct storage_object *ret_object,
                       struct err *err)
{
    AUTO(json) struct json *json = NULL;
    return answer_json(GOOGLE_STORAGE, answer, &json, err) ? -1
                                                           : object_read(json, ret_object, err);
}

int object_verify(struct google *google, const char *bucket, const struct storage_object *object,
                  int64_t size, uint32_t crc, struct err *err)
{
    struct err ignored = ERR_INIT;
    AUTO(storage_object) struct storage_object known = {0};
    bool same = object->size == size && object->has_crc32c && object->crc32c == crc;
    if (object->size == size && !object->has_crc32c) /* The answer may lack fields, but the object
                                                      * does not. */
        same = storage_stat(google, bucket, object->name, &known, &ignored) == 0 &&
               known.size == size && (!known.has_crc32c || known.crc32c == crc);
    if (same)
        return 0;
    ignored = (struct err)ERR_INIT;
    storage_delete(google, bucket, object->name, object->generation, &ignored);
    return err_set(err, ERR_UPSTREAM,
                   "Cloud Storage: '%.80s' arrived changed (its size or CRC32C is another) and was "
                   "deleted%s",
                   object->name, ignored.code ? ", or should have been" : "");
}

int object_claim(struct google *google, const char *bucket, const char *name, int64_t generation,
                 int64_t size, uint32_t crc, struct storage_object *ret_object)
{
    struct err ignored = ERR_INIT;
    AUTO(storage_object) struct storage_object found = {0};
    if (storage_stat(google, bucket, name, &found, &ignored) || found.size != size ||
        !found.has_crc32c || found.crc32c != crc || found.generation == generation)
        return -1;
    object_hand_out(&found, ret_object);
    return 0;
}

/* --- calls ---------------------------------------------------------------------------------- */

static int call(struct google *google, const char *method, const struct buf *path,
                const struct buf *body, struct json **ret_json, struct google_answer *ret_answer,
                struct err *err)
{
    const struct google_call call = {.api = GOOGLE_STORAGE,
                                     .method = method,
                                     .path = buf_str(path),
                                     .body = body ? body->data : NULL,
                                     .body_len = body ? body->len : 0};
    *ret_answer = (struct google_answer){.retry_after_ms = -1};
    if (buf_check(path, "the request's path", err) || (body && buf_check(body, "the request", err)))
        return -1;
    return google_call(google, &call, ret_json, ret_answer, err);
}

int storage_stat(struct google *google, const char *bucket, const char *name,
                 struct storage_object *ret_object, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX);
    AUTO(json) struct json *json = NULL;
    struct google_answer answer;
    if (object_check(bucket, name, err))
        return -1;
    object_add_path(&path, bucket, name);
    if (call(google, "GET", &path, NULL, &json, &answer, err))
        return -1;
    return object_read(json, ret_object, err);
}

int storage_delete(struct google *google, const char *bucket, const char *name, int64_t generation,
                   struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX);
    struct google_answer answer;
    if (object_check(bucket, name, err))
        return -1;
    object_add_path(&path, bucket, name);
    object_add_precondition(&path, "?", generation);
    int rc = call(google, "DELETE", &path, NULL, NULL, &answer, err);
    if (rc && err->code == ERR_MISMATCH) { /* There is no object, so the precondition did not fail
                                            * on one. */
        AUTO(storage_object) struct storage_object there = {0};
        struct err why = ERR_INIT;
        if (storage_stat(google, bucket, name, &there, &why) && why.code == ERR_NOT_FOUND)
            rc = 0;
    }
    if (rc && err->code == ERR_NOT_FOUND)
        rc = 0;
    if (rc == 0)
        *err = (struct err)ERR_INIT;
    return rc;
}

/* --- writing at once ------------------------------------------------------------------------ */

static int put_headers(struct strlist *headers, const char *type, uint32_t crc, struct err *err)
{
    AUTO(buf) struct buf hash = BUF_INIT(64);
    object_add_crc(&hash, crc);
    strlist_addf(headers, "Content-Type: %s", type ? type : "application/octet-stream");
    strlist_addf(headers, "X-Goog-Hash: crc32c=%s", buf_str(&hash));
    return headers->failed ? err_set(err, ERR_TOO_LARGE, "headers") : 0;
}

int storage_put(struct google *google, const struct storage_at *at, const void *data, size_t len,
                struct storage_object *ret_object, struct err *err)
{
    return storage_put_until(google, at, data, len, NULL, ret_object, err);
}

int storage_put_until(struct google *google, const struct storage_at *at, const void *data,
                      size_t len, const struct storage_stop *stop,
                      struct storage_object *ret_object, struct err *err)
{
    const char *bucket = at->bucket, *name = at->name;
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX);
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(wire_answer) struct wire_answer answer = {0};
    AUTO(storage_object) struct storage_object object = {0};
    uint32_t crc = google_crc32c(0, data, len);
    struct tries tries = {
        .retry = retry_begin(CALL_MS, stop ? stop->stop : NULL, stop ? stop->arg : NULL)};
    if (object_check(bucket, name, err) || put_headers(&headers, at->type, crc, err))
        return -1;
    object_add_upload_path(&path, bucket, name, "media", at->generation);
    const struct wire wire = {.api = GOOGLE_STORAGE,
                              .method = "POST",
                              .path = buf_str(&path),
                              .headers = &headers,
                              .body = len > 0 ? data : NULL,
                              .body_len = (int64_t)len,
                              .silence_ms = TRY_SILENCE_MS};
    if (buf_check(&path, "the request's path", err))
        return -1;
    if (wire_call(google, &wire, &tries, &answer, NULL, err))
        return err->code == ERR_MISMATCH && tries.unsure
                   ? object_claim(google, bucket, name, at->generation, (int64_t)len, crc,
                                  ret_object)
                   : -1;
    if (object_read_answer(&answer, &object, err) ||
        object_verify(google, bucket, &object, (int64_t)len, crc, err))
        return -1;
    object_hand_out(&object, ret_object);
    return 0;
}

/* --- lists ---------------------------------------------------------------------------------- */

static void add_query(struct buf *path, const char *name, const char *value)
{
    buf_addf(path, "&%s=", name);
    google_add_escaped(path, value);
}

struct listing {
    const struct storage_list *wish;
    int (*fn)(const struct storage_object *object, void *arg);
    void *arg;
    int told;
    bool over;
};

static int tell_page(struct listing *listing, const struct json *page, struct err *err)
{
    const struct json *items = json_get(page, "items");
    for (const struct json *one = json_first(items); one && !listing->over; one = json_next(one)) {
        AUTO(storage_object) struct storage_object object = {0};
        if (object_read(one, &object, err))
            return -1;
        listing->over = listing->fn(&object, listing->arg) != 0 ||
                        (++listing->told == listing->wish->max && listing->wish->max > 0);
    }
    return 0;
}

static int fetch_page(struct google *google, const char *bucket, const struct listing *listing,
                      const char *token, struct json **ret_page, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX);
    struct google_answer answer;
    const struct storage_list *wish = listing->wish;
    int left = wish->max > 0 ? wish->max - listing->told : LIST_PAGE_MAX;
    object_add_path(&path, bucket, NULL);
    buf_addf(&path, "?maxResults=%d", left < LIST_PAGE_MAX ? left : LIST_PAGE_MAX);
    if (wish->prefix && *wish->prefix)
        add_query(&path, "prefix", wish->prefix);
    if (wish->start_offset && *wish->start_offset)
        add_query(&path, "startOffset", wish->start_offset);
    if (token)
        add_query(&path, "pageToken", token);
    return call(google, "GET", &path, NULL, ret_page, &answer, err);
}

int storage_list(struct google *google, const char *bucket, const struct storage_list *wish,
                 int (*fn)(const struct storage_object *object, void *arg), void *arg,
                 struct err *err)
{
    REQUIRE(fn);
    struct listing listing = {.wish = wish, .fn = fn, .arg = arg};
    AUTO(str) char *token = NULL;
    if (object_check(bucket, NULL, err))
        return -1;
    for (int pages = 0; pages < PAGES_MAX; pages++) {
        AUTO(json) struct json *page = NULL;
        if (fetch_page(google, bucket, &listing, token, &page, err) ||
            tell_page(&listing, page, err))
            return -1;
        int rc = answer_next_page(GOOGLE_STORAGE, page, &token, err);
        if (rc <= 0 || listing.over)
            return listing.over ? 0 : rc;
    }
    return err_set(err, ERR_UPSTREAM, "Cloud Storage: the list does not end");
}

struct sweep {
    struct google *google;
    const char *bucket;
    bool (*goes)(const char *name, void *arg);
    void *arg;
    int deleted;
    struct err failure;
};

static int sweep_one(const struct storage_object *object, void *arg)
{
    struct err err = ERR_INIT;
    struct sweep *sweep = arg;
    if (sweep->goes && !sweep->goes(object->name, sweep->arg))
        return 0;
    if (storage_delete(sweep->google, sweep->bucket, object->name, STORAGE_ANY, &err) == 0)
        sweep->deleted++;
    else if (sweep->failure.code == ERR_NONE)
        sweep->failure = err;
    return 0;
}

/* Lists again until there is nothing to delete: a list in pages skips names when objects are
 * deleted meanwhile. */
int storage_sweep(struct google *google, const char *bucket, const char *prefix,
                  bool (*goes)(const char *name, void *arg), void *arg, struct err *err)
{
    struct sweep sweep = {.google = google, .bucket = bucket, .goes = goes, .arg = arg};
    const struct storage_list wish = {.prefix = prefix};
    for (int rounds = 0; rounds < SWEEPS_MAX; rounds++) {
        sweep.deleted = 0;
        sweep.failure = (struct err)ERR_INIT;
        if (storage_list(google, bucket, &wish, sweep_one, &sweep, err))
            return -1;
        if (sweep.failure.code != ERR_NONE)
            return *err = sweep.failure, -1;
        if (sweep.deleted == 0)
            return 0;
    }
    return err_set(err, ERR_UPSTREAM, "Cloud Storage: what was deleted is still listed");
}

/* --- compositions --------------------------------------------------------------------------- */

static void add_composition(struct buf *body, const char *const *names, size_t count,
                            const char *type)
{
    struct json_writer w;
    json_write(&w, body);
    json_open_object(&w, NULL);
    json_open_array(&w, "sourceObjects");
    for (size_t i = 0; i < count; i++) {
        json_open_object(&w, NULL);
        json_add_text(&w, "name", names[i]);
        json_close(&w);
    }
    json_close(&w);
    json_open_object(&w, "destination");
    json_add_text(&w, "contentType", type ? type : "application/octet-stream");
    json_close(&w);
    json_close(&w);
}

static int check_composition(const char *bucket, const char *const *names, size_t count,
                             const char *to, int64_t generation, struct err *err)
{
    if (count == 0 || count > COMPOSE_MAX)
        return err_set(err, ERR_INVALID, "1 to %d objects can be put together", COMPOSE_MAX);
    for (size_t i = 0; i < count; i++) {
        if (object_check(bucket, names[i], err))
            return -1;
        if (generation == STORAGE_ANY && strcmp(names[i], to) == 0) /* A second try would append
                                                                     * twice. */
            return err_set(err, ERR_INVALID,
                           "an object that is put together with itself needs its generation");
    }
    return object_check(bucket, to, err);
}

/* Recognizes a composition whose answer was lost: its sources say what it must have become. */
static int claim_composition(struct google *google, const char *bucket, const char *const *names,
                             size_t count, const char *to, int64_t generation,
                             struct storage_object *ret_object)
{
    uint32_t crc = 0;
    int64_t size = 0;
    for (size_t i = 0; i < count; i++) {
        struct err ignored = ERR_INIT;
        AUTO(storage_object) struct storage_object source = {0};
        if (storage_stat(google, bucket, names[i], &source, &ignored) || !source.has_crc32c)
            return -1;
        crc = google_crc32c_join(crc, source.crc32c, source.size);
        size += source.size;
    }
    return object_claim(google, bucket, to, generation, size, crc, ret_object);
}

int storage_compose(struct google *google, const struct storage_at *at, const char *const *names,
                    size_t count, struct storage_object *ret_object, struct err *err)
{
    const char *bucket = at->bucket, *to = at->name;
    const int64_t generation = at->generation;
    AUTO(buf) struct buf path = BUF_INIT(URL_MAX);
    AUTO(buf) struct buf body = BUF_INIT(BODY_MAX);
    AUTO(json) struct json *json = NULL;
    AUTO(storage_object) struct storage_object object = {0};
    struct google_answer answer;
    if (check_composition(bucket, names, count, to, generation, err))
        return -1;
    object_add_path(&path, bucket, to);
    buf_adds(&path, "/compose");
    object_add_precondition(&path, "?", generation);
    add_composition(&body, names, count, at->type);
    if (call(google, "POST", &path, &body, &json, &answer, err))
        return err->code == ERR_MISMATCH && answer.unsure
                   ? claim_composition(google, bucket, names, count, to, generation, ret_object)
                   : -1;
    if (object_read(json, &object, err))
        return -1;
    object_hand_out(&object, ret_object);
    return 0;
}
