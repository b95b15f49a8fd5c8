/*
 * Speaks to Google's APIs as the runner does, step by step, while faults happen; says which step
 * went wrong and how.
 *
 *   google-adapters BASE CREDENTIALS BUCKET KEY JOB SECRET
 *
 * CREDENTIALS is a file, or "metadata". Faults go to BASE/_control (tests/doubles/google_api.c).
 */
#include "base/clock.h"
#include "google/jobs.h"
#include "google/kms.h"
#include "google/secret.h"
#include "google/storage.h"
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE ((size_t)20 << 20)

struct world {
    struct google *google;
    const char *base, *bucket, *key, *job, *secret;
    char *bytes; /* LARGE of them */
    int fd;      /* a file with the same */
    char execution[RUN_NAME_SIZE];
};

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition))                                                           \
            return err_set(err, ERR_INTERNAL, "line %d: %s", __LINE__, #condition); \
    } while (0)

static int control(const struct world *w, const char *json, struct err *err)
{
    char url[256];
    AUTO(net_answer) struct net_answer answer = {0};
    snprintf(url, sizeof(url), "%s/_control", w->base);
    const struct net_request request = {.method = "POST",
                                        .url = url,
                                        .body = json,
                                        .body_len = strlen(json),
                                        .reach = NET_TRUSTED,
                                        .answer_max = 65536};
    if (net_call(&request, &answer, err))
        return -1;
    CHECK(answer.status >= 200 && answer.status < 300);
    return 0;
}

/* --- storage -------------------------------------------------------------------------------- */

static int put_and_get(struct world *w, struct err *err)
{
    AUTO(storage_object) struct storage_object object = {0};
    AUTO(buf) struct buf out = BUF_INIT(1000);
    int64_t generation = 0;
    if (storage_put(
            w->google,
            &(const struct storage_at){w->bucket, "a/\xc3\xa4 b?", "text/plain", STORAGE_ABSENT},
            "hello", 5, &object, err) ||
        storage_get(w->google, w->bucket, "a/\xc3\xa4 b?", &out, &generation, err))
        return -1;
    CHECK(strcmp(buf_str(&out), "hello") == 0 && generation == object.generation);
    CHECK(storage_put(w->google,
                      &(const struct storage_at){w->bucket, "a/\xc3\xa4 b?", NULL, STORAGE_ABSENT},
                      "x", 1, NULL, err) == -1 &&
          err->code == ERR_MISMATCH);
    return storage_delete(w->google, w->bucket, "a/\xc3\xa4 b?", generation, err) ||
                   storage_delete(w->google, w->bucket, "a/\xc3\xa4 b?", generation, err)
               ? -1
               : 0;
}

static int put_once(struct world *w, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(1000);
    if (storage_put(w->google, &(const struct storage_at){w->bucket, "once", NULL, STORAGE_ABSENT},
                    "hello", 5, NULL, err) ||
        storage_get(w->google, w->bucket, "once", &out, NULL, err))
        return -1;
    CHECK(strcmp(buf_str(&out), "hello") == 0);
    return storage_delete(w->google, w->bucket, "once", STORAGE_ANY, err);
}

static int count_name(const struct storage_object *object, void *arg)
{
    char want[32];
    int *count = arg;
    snprintf(want, sizeof(want), "list/%03d", (*count)++);
    return strcmp(object->name, want) != 0;
}

static int list_pages(struct world *w, struct err *err)
{
    char name[32];
    int count = 0;
    for (int i = 6; i >= 0; i--) {
        snprintf(name, sizeof(name), "list/%03d", i);
        if (storage_put(w->google, &(const struct storage_at){w->bucket, name, NULL, STORAGE_ANY},
                        name, 3, NULL, err))
            return -1;
    }
    if (storage_list(w->google, w->bucket, &(struct storage_list){.prefix = "list/"}, count_name,
                     &count, err))
        return -1;
    CHECK(count == 7);
    count = 3;
    if (storage_list(w->google, w->bucket,
                     &(struct storage_list){.prefix = "list/", .start_offset = "list/003"},
                     count_name, &count, err))
        return -1;
    CHECK(count == 7);
    return 0;
}

struct taken {
    const struct world *world;
    size_t at;
};

static int compare(const char *data, size_t len, void *arg)
{
    struct taken *taken = arg;
    if (len > LARGE - taken->at || memcmp(taken->world->bytes + taken->at, data, len) != 0)
        return -1;
    taken->at += len;
    return 0;
}

static int read_large(struct world *w, size_t from, int64_t len, struct err *err)
{
    struct taken taken = {w, from};
    const struct storage_sink sink = {.write = compare, .arg = &taken};
    if (storage_read(w->google, w->bucket, "large", (int64_t)from, len, &sink, err))
        return -1;
    CHECK(taken.at == (len < 0 ? LARGE : from + (size_t)len));
    return 0;
}

static int upload_file(struct world *w, struct err *err)
{
    return storage_put_file(w->google,
                            &(const struct storage_at){w->bucket, "large", "x/y", STORAGE_ANY},
                            w->fd, 0, (int64_t)LARGE, NULL, NULL, err);
}

static int upload_file_once(struct world *w, struct err *err)
{
    return storage_delete(w->google, w->bucket, "large", STORAGE_ANY, err) ||
                   storage_put_file(
                       w->google,
                       &(const struct storage_at){w->bucket, "large", "x/y", STORAGE_ABSENT}, w->fd,
                       0, (int64_t)LARGE, NULL, NULL, err)
               ? -1
               : 0;
}

static int download_file(struct world *w, struct err *err)
{
    return read_large(w, 0, -1, err);
}

static int download_part(struct world *w, struct err *err)
{
    return read_large(w, 7000000, 5000001, err);
}

static int upload_pieces(struct world *w, struct err *err)
{
    AUTO(storage_upload)
    struct storage_upload *upload =
        storage_upload_new(w->google, w->bucket, "large", NULL, STORAGE_ANY, err);
    for (size_t at = 0; upload && at < LARGE; at += 1 << 20)
        if (storage_upload_add(upload, w->bytes + at, 1 << 20, err))
            return -1;
    if (!upload || storage_upload_end(upload, NULL, err))
        return -1;
    return download_file(w, err);
}

static int compose(struct world *w, struct err *err)
{
    static const char *const names[] = {"list/001", "list/000"};
    AUTO(buf) struct buf out = BUF_INIT(1000);
    AUTO(storage_object) struct storage_object object = {0};
    if (storage_delete(w->google, w->bucket, "composed", STORAGE_ANY, err) ||
        storage_compose(w->google,
                        &(const struct storage_at){w->bucket, "composed", NULL, STORAGE_ABSENT},
                        names, 2, &object, err) ||
        storage_get(w->google, w->bucket, "composed", &out, NULL, err))
        return -1;
    CHECK(strcmp(buf_str(&out), "lislis") == 0 && object.size == 6);
    return 0;
}

static int get_spoiled(struct world *w, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(1000);
    CHECK(storage_get(w->google, w->bucket, "list/000", &out, NULL, err) == -1);
    CHECK(err->code == ERR_UPSTREAM && out.len == 0);
    return 0;
}

/* --- keys and secrets ----------------------------------------------------------------------- */

static int wrap_and_unwrap(struct world *w, struct err *err)
{
    AUTO(buf) struct buf sealed = BUF_INIT(10000), opened = BUF_INIT(100);
    struct err why = ERR_INIT;
    if (kms_encrypt(w->google, w->key, "k\0y", 3, "task 1", &sealed, err) ||
        kms_decrypt(w->google, w->key, sealed.data, sealed.len, "task 1", &opened, err))
        return -1;
    CHECK(opened.len == 3 && memcmp(opened.data, "k\0y", 3) == 0);
    CHECK(kms_decrypt(w->google, w->key, sealed.data, sealed.len, "task 2", &opened, &why) == -1);
    CHECK(why.code == ERR_INVALID);
    return 0;
}

static int wrap_spoiled(struct world *w, struct err *err)
{
    AUTO(buf) struct buf sealed = BUF_INIT(10000);
    CHECK(kms_encrypt(w->google, w->key, "key", 3, "task 1", &sealed, err) == -1);
    CHECK(err->code == ERR_UPSTREAM && sealed.len == 0);
    return 0;
}

static int read_secret(struct world *w, struct err *err)
{
    char version[SECRET_VERSION_SIZE];
    AUTO(buf) struct buf out = BUF_INIT(SECRET_BYTES_MAX);
    if (google_secret(w->google, w->secret, &out, version, err))
        return -1;
    CHECK(strcmp(buf_str(&out), "a secret key") == 0 && strcmp(version, "1") == 0);
    return 0;
}

/* --- executions ----------------------------------------------------------------------------- */

static int start(struct world *w, struct err *err)
{
    static const char *const env[] = {"TASK_ID=adapters", "SLEEP=300", NULL};
    const struct jobs_start wish = {.env = env, .timeout_s = 600};
    bool unsure;
    return jobs_start(w->google, w->job, &wish, w->execution, &unsure, err);
}

static int count_found(const struct jobs_execution *execution, void *arg)
{
    struct world *w = ((void **)arg)[0];
    int *count = ((void **)arg)[1];
    *count += strcmp(execution->name, w->execution) == 0;
    return 0;
}

static int find(struct world *w, struct err *err)
{
    int count = 0;
    void *arg[2] = {w, &count};
    int64_t since_ms = clock_real_ms() - 3600000;
    if (jobs_find(w->google, w->job, "TASK_ID", "adapters", since_ms, count_found, arg, err))
        return -1;
    CHECK(count == 1);
    return 0;
}

/* The start whose answer is lost has happened once, and is found. */
static int start_lost(struct world *w, struct err *err)
{
    static const char *const env[] = {"TASK_ID=lost", NULL};
    bool unsure = false;
    char name[RUN_NAME_SIZE];
    int count = 0;
    void *arg[2] = {w, &count};
    struct err why = ERR_INIT;
    const struct jobs_start wish = {.env = env};
    CHECK(jobs_start(w->google, w->job, &wish, name, &unsure, &why) == -1 && unsure);
    return jobs_find(w->google, w->job, "TASK_ID", "lost", 0, count_found, arg, err);
}

static int await_state(struct world *w, enum jobs_state state, struct err *err)
{
    struct jobs_execution execution;
    for (int64_t end = clock_mono_ms() + 60000; clock_mono_ms() < end; usleep(50000)) {
        if (jobs_get(w->google, w->execution, &execution, err))
            return -1;
        if (execution.state == state)
            return 0;
    }
    return err_set(err, ERR_TIMEOUT, "it is in state %d, not %d", execution.state, state);
}

static int cancel(struct world *w, struct err *err)
{
    return await_state(w, RUN_RUNNING, err) || jobs_cancel(w->google, w->execution, err) ||
                   await_state(w, RUN_CANCELLED, err) || jobs_cancel(w->google, w->execution, err)
               ? -1
               : 0;
}

static int fail_with_code(struct world *w, struct err *err)
{
    static const char *const env[] = {"TASK_ID=fails", "EXIT=3", NULL};
    const struct jobs_start wish = {.env = env};
    bool unsure;
    int code = -2;
    struct jobs_execution execution;
    if (jobs_start(w->google, w->job, &wish, w->execution, &unsure, err) ||
        await_state(w, RUN_FAILED, err) || jobs_get(w->google, w->execution, &execution, err) ||
        jobs_exit_code(w->google, w->execution, &code, err))
        return -1;
    CHECK(code == 3 && execution.ended_ms >= execution.created_ms && execution.created_ms > 0);
    CHECK(execution.cpu > 0 && execution.memory_bytes > 0);
    CHECK(strcmp(execution.reason, "NON_ZERO_EXIT_CODE") == 0);
    return 0;
}

/* Another of the same definition, created and then changed. */
static int put_job(struct world *w, struct err *err)
{
    static const char definition[] =
        "{\"template\":{\"taskCount\":1,\"template\":{\"containers\":[{\"image\":\"i\"}],"
        "\"maxRetries\":0,\"timeout\":\"60s\"}}}";
    char name[RUN_NAME_SIZE];
    AUTO(json) struct json *job = NULL;
    struct err why = ERR_INIT;
    snprintf(name, sizeof(name), "%.*s/jobs/adapters-%d", (int)(strstr(w->job, "/jobs/") - w->job),
             w->job, (int)getpid());
    CHECK(jobs_job_get(w->google, name, &job, &why) == -1 && why.code == ERR_NOT_FOUND);
    if (jobs_job_put(w->google, name, definition, strlen(definition), false, err) ||
        jobs_job_get(w->google, name, &job, err))
        return -1;
    CHECK(strcmp(json_text(json_get(job, "name")), name) == 0);
    return jobs_job_put(w->google, name, definition, strlen(definition), true, err);
}

/* --- steps ---------------------------------------------------------------------------------- */

#define FAULT(method, more) "{\"faults\":[{\"method\":\"" method "\"," more "}]}"
#define INSERT "storage.objects.insert"
#define GET "storage.objects.get"

static const struct step {
    const char *name;
    const char *control; /* what happens meanwhile; or NULL */
    int (*fn)(struct world *world, struct err *err);
} steps[] = {
    {"put and get", NULL, put_and_get},
    {"put, 503", FAULT(INSERT, "\"status\":503"), put_once},
    {"put, 429 with Retry-After", FAULT(INSERT, "\"status\":429,\"retryAfter\":1"), put_once},
    {"put, cut before", FAULT(INSERT, "\"cut\":\"before\""), put_once},
    {"put, its answer lost", FAULT(INSERT, "\"cut\":\"after\""), put_once},
    {"put, tokens expired", "{\"faults\":[],\"expireTokens\":true}", put_once},
    {"the token's answer lost",
     "{\"expireTokens\":true,\"faults\":[{\"pathContains\":\"/token\",\"cut\":\"after\"}]}",
     put_once},
    {"list", NULL, list_pages},
    {"list, 503 at its second page", FAULT("storage.objects.list", "\"skip\":1,\"status\":503"),
     list_pages},
    {"get, spoiled", FAULT(GET, "\"wrongCrc\":true"), get_spoiled},
    {"upload", NULL, upload_file},
    {"download", NULL, download_file},
    {"a part", NULL, download_part},
    {"download, cut", FAULT(GET, "\"truncateAt\":5000000"), download_file},
    {"download, cut thrice", FAULT(GET, "\"truncateAt\":5000000,\"times\":3"), download_file},
    {"a part, cut", FAULT(GET, "\"truncateAt\":1000000"), download_part},
    {"download, 503", FAULT(GET, "\"status\":503"), download_file},
    {"upload, 503", FAULT("upload", "\"status\":503"), upload_file_once},
    {"upload, cut before", FAULT("upload", "\"cut\":\"before\""), upload_file_once},
    {"upload, the last answer lost", FAULT("upload", "\"cut\":\"after\""), upload_file_once},
    {"upload, begun and lost", FAULT(INSERT, "\"cut\":\"after\""), upload_file_once},
    {"pieces", NULL, upload_pieces},
    {"pieces, the second's answer lost", FAULT("upload", "\"skip\":1,\"cut\":\"after\""),
     upload_pieces},
    {"compose", NULL, compose},
    {"compose, its answer lost", FAULT("storage.objects.compose", "\"cut\":\"after\""), compose},
    {"wrap", NULL, wrap_and_unwrap},
    {"wrap, 500", FAULT("cloudkms.*", "\"status\":500"), wrap_and_unwrap},
    {"wrap, spoiled once", FAULT("cloudkms.*", "\"wrongCrc\":true"), wrap_and_unwrap},
    {"wrap, spoiled", FAULT("cloudkms.*", "\"wrongCrc\":true,\"times\":4"), wrap_spoiled},
    {"secret", NULL, read_secret},
    {"start", NULL, start},
    {"find", NULL, find},
    {"find, 503", FAULT("run.*list", "\"status\":503"), find},
    {"start, its answer lost", FAULT("run.*.run", "\"cut\":\"after\""), start_lost},
    {"cancel", NULL, cancel},
    {"fail", NULL, fail_with_code},
    {"job", NULL, put_job},
};

/* A step that passed because its fault never came shows nothing. */
static int check_faults(const struct world *w, struct err *err)
{
    char url[256];
    AUTO(net_answer) struct net_answer answer = {0};
    snprintf(url, sizeof(url), "%s/_state", w->base);
    const struct net_request request = {
        .method = "GET", .url = url, .reach = NET_TRUSTED, .answer_max = 65536};
    if (net_call(&request, &answer, err))
        return -1;
    AUTO(json) struct json *state = json_parse(buf_str(&answer.body), answer.body.len, err);
    CHECK(json_get(state, "faults") && json_count(json_get(state, "faults")) == 0);
    return 0;
}

static int take_step(struct world *w, const struct step *step, struct err *err)
{
    return control(w, step->control ? step->control : "{\"faults\":[]}", err) || step->fn(w, err) ||
                   check_faults(w, err)
               ? -1
               : 0;
}

static int prepare(struct world *w, const char *credentials, struct err *err)
{
    char path[] = "/tmp/google-adapters-XXXXXX";
    bool metadata = strcmp(credentials, "metadata") == 0;
    struct google_config config = {.credentials = metadata ? NULL : credentials,
                                   .metadata_host = metadata ? strstr(w->base, "://") + 3 : NULL};
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = w->base;
    w->bytes = malloc(LARGE);
    w->fd = mkstemp(path);
    if (!w->bytes || w->fd < 0)
        return err_sys(err, "%s", path);
    unlink(path);
    for (size_t i = 0; i < LARGE; i++)
        w->bytes[i] = (char)(i * 2654435761u >> 11);
    CHECK(write(w->fd, w->bytes, LARGE) == (ssize_t)LARGE);
    w->google = google_new(&config, err);
    return w->google ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    if (argc != 7)
        return 2;
    struct world w = {
        .base = argv[1], .bucket = argv[3], .key = argv[4], .job = argv[5], .secret = argv[6]};
    int failed = prepare(&w, argv[2], &err) != 0;
    if (failed)
        fprintf(stderr, "%s\n", err.msg);
    for (size_t i = 0; i < COUNT_OF(steps) && w.google; i++) {
        int64_t began = clock_mono_ms();
        err = (struct err)ERR_INIT;
        int rc = take_step(&w, &steps[i], &err);
        printf("%s %s (%lld ms)%s%s\n", rc ? "NOT" : "ok ", steps[i].name,
               (long long)(clock_mono_ms() - began), rc ? ": " : "", rc ? err.msg : "");
        failed |= rc != 0;
    }
    google_free(w.google);
    free(w.bytes);
    return failed;
}
