#include "runner/overflow/image.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/overflow/kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE_CPU 1
#define BASE_MEMORY_MB 2048
#define BODY_BYTES_MAX (1u << 20)
#define LABEL "claude-runner-base"
#define HASH_BYTES 5
#define JOB_ID_MAX 63
#define PAGES_MAX 100
#define DAY_MS (INT64_C(86400) * 1000)

/* --- sizes --------------------------------------------------------------------------------- */

struct size {
    int cpu, memory_mb;
};

/* The sizes of Cloud Run: cores, and how much memory they allow. */
static const struct {
    int cpu, least_mb, most_mb;
} sizes[] = {{1, 512, 4096}, {2, 512, 8192}, {4, 2048, 16384}, {8, 4096, 32768}};

/* Finds the smallest size that is large enough; false when there is none. */
static bool find_size(const struct task_request *request, struct size *ret_size)
{
    double cpu = request->limits_cpu > 0 ? request->limits_cpu : BASE_CPU;
    int64_t memory = request->limits_memory_mb > 0 ? request->limits_memory_mb : BASE_MEMORY_MB;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        if (cpu > sizes[i].cpu || memory > sizes[i].most_mb)
            continue;
        ret_size->cpu = sizes[i].cpu;
        ret_size->memory_mb = (int)(memory < sizes[i].least_mb ? sizes[i].least_mb : memory);
        return true;
    }
    return false;
}

static bool is_usual(const struct task_request *request)
{
    return !request->image && request->limits_cpu <= BASE_CPU &&
           request->limits_memory_mb <= BASE_MEMORY_MB;
}

const char *image_refuses(const struct task_request *request)
{
    struct size size;
    return find_size(request, &size) ? NULL : "Cloud Run has 8 cores and 32768 MB at most (limits)";
}

int image_job_name(const struct cloud *cloud, const struct task_request *request,
                   char ret_name[RUN_NAME_SIZE], struct err *err)
{
    struct size size;
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf what = BUF_INIT(4096), hex = BUF_INIT(64);
    const char *id = strrchr(cloud->job, '/');
    if (is_usual(request)) {
        snprintf(ret_name, RUN_NAME_SIZE, "%s", cloud->job);
        return 0;
    }
    if (!id || !find_size(request, &size))
        return err_set(err, ERR_INVALID, "%s", image_refuses(request));
    buf_addf(&what, "%s\n%d\n%d\n%s", request->image ? request->image : "", size.cpu,
             size.memory_mb, request->image ? kit_name() : "");
    crypto_sha256(buf_str(&what), what.len, digest);
    str_add_hex(&hex, digest, HASH_BYTES);
    size_t room = JOB_ID_MAX - 2 * HASH_BYTES - 1, len = strlen(id + 1);
    snprintf(ret_name, RUN_NAME_SIZE, "%.*s-%s",
             (int)(id + 1 - cloud->job) + (int)(len < room ? len : room), cloud->job,
             buf_str(&hex));
    return buf_check(&what, "image", err);
}

/* --- the definition ------------------------------------------------------------------------ */

static void add_node(struct json_writer *w, const char *name, const struct json *node)
{
    AUTO(buf) struct buf text = BUF_INIT(BODY_BYTES_MAX);
    if (!node)
        return;
    json_print(node, &text);
    json_add_raw(w, name, buf_str(&text), text.len);
}

static void write_container(struct json_writer *w, const struct json *base,
                            const struct task_request *request, const struct size *size)
{
    char cpu[16], memory[32];
    snprintf(cpu, sizeof(cpu), "%d", size->cpu);
    snprintf(memory, sizeof(memory), "%dMi", size->memory_mb);
    json_open_array(w, "containers");
    json_open_object(w, NULL);
    if (request->image)
        json_add_text(w, "image", request->image);
    else
        add_node(w, "image", json_get(base, "image"));
    add_node(w, "env", json_get(base, "env"));
    json_open_object(w, "resources");
    json_open_object(w, "limits");
    json_add_text(w, "cpu", cpu);
    json_add_text(w, "memory", memory);
    json_close(w);
    json_close(w);
    if (request->image) {
        json_open_array(w, "command");
        json_add_text(w, NULL, "/bin/sh");
        json_add_text(w, NULL, KIT_MOUNT "/" KIT_START);
        json_close(w);
        json_open_array(w, "volumeMounts");
        json_open_object(w, NULL);
        json_add_text(w, "name", "claude-runner");
        json_add_text(w, "mountPath", KIT_MOUNT);
        json_close(w);
        json_close(w);
    }
    json_close(w);
    json_close(w);
}

/* Writes a volume: a folder of the bucket, whose files can be executed. */
static void write_volume(struct json_writer *w, const struct cloud *cloud)
{
    char only[160];
    snprintf(only, sizeof(only), "only-dir=%s", kit_name());
    json_open_array(w, "volumes");
    json_open_object(w, NULL);
    json_add_text(w, "name", "claude-runner");
    json_open_object(w, "gcs");
    json_add_text(w, "bucket", cloud->bucket);
    json_add_bool(w, "readOnly", true);
    json_open_array(w, "mountOptions");
    json_add_text(w, NULL, only);
    json_add_text(w, NULL, "implicit-dirs");
    json_add_text(w, NULL, "file-mode=555");
    json_add_text(w, NULL, "dir-mode=555");
    json_close(w);
    json_close(w);
    json_close(w);
    json_close(w);
}

static void write_job(struct buf *out, const struct cloud *cloud, const struct json *base,
                      const struct task_request *request, const struct size *size)
{
    static const char *const kept[] = {"serviceAccount", "timeout", "executionEnvironment",
                                       "vpcAccess", "encryptionKey"};
    struct json_writer w;
    const struct json *template = json_get(json_get(base, "template"), "template");
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_open_object(&w, "labels");
    json_add_text(&w, LABEL, strrchr(cloud->job, '/') + 1);
    json_close(&w);
    json_open_object(&w, "template");
    json_add_int(&w, "taskCount", 1);
    json_open_object(&w, "template");
    write_container(&w, json_first(json_get(template, "containers")), request, size);
    if (request->image)
        write_volume(&w, cloud);
    json_add_int(&w, "maxRetries", 0);
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        add_node(&w, kept[i], json_get(template, kept[i]));
    json_close(&w);
    json_close(&w);
    json_close(&w);
}

/* --- age ----------------------------------------------------------------------------------- */

static int64_t time_of(const struct json *object, const char *name)
{
    int64_t ms = 0;
    const char *text = json_text(json_get(object, name));
    return text && clock_parse(text, &ms) == 0 ? ms : 0;
}

static bool is_old(const struct json *job)
{
    int64_t made = time_of(job, "createTime");
    int64_t used = time_of(json_get(job, "latestCreatedExecution"), "createTime");
    int64_t last = used > made ? used : made;
    return last > 0 && last < clock_real_ms() - IMAGE_JOB_DAYS * DAY_MS;
}

static void delete_job(const struct cloud *cloud, const char *name)
{
    struct err err;
    AUTO(buf) struct buf path = BUF_INIT(2048);
    buf_adds(&path, "/v2/");
    str_add_url(&path, name, "/");
    const struct google_call call = {.api = GOOGLE_RUN, .method = "DELETE", .path = buf_str(&path)};
    if (buf_ok(&path) && google_call(cloud->google, &call, NULL, NULL, &err))
        log_warn("overflow", "a job that nobody uses stays: %s", err.msg);
}

/* Deletes old jobs of the page that *token names (empty: the first). *token then names the next
 * page, and is empty after the last. */
static int delete_old_of(const struct cloud *cloud, const char *place, struct buf *token,
                         struct err *err)
{
    AUTO(json) struct json *page = NULL;
    AUTO(buf) struct buf path = BUF_INIT(4096);
    const char *id = strrchr(cloud->job, '/') + 1;
    buf_adds(&path, "/v2/");
    str_add_url(&path, place, "/");
    buf_adds(&path, "/jobs?pageSize=100");
    if (token->len > 0) {
        buf_adds(&path, "&pageToken=");
        google_add_escaped(&path, buf_str(token));
    }
    const struct google_call call = {.api = GOOGLE_RUN, .method = "GET", .path = buf_str(&path)};
    if (buf_check(&path, "a list of jobs", err) ||
        google_call(cloud->google, &call, &page, NULL, err))
        return -1;
    const struct json *all = json_get(page, "jobs");
    for (const struct json *job = json_first(all); job; job = json_next(job)) {
        const char *base = json_text(json_get(json_get(job, "labels"), LABEL));
        const char *name = json_text(json_get(job, "name"));
        if (base && name && strcmp(base, id) == 0 && is_old(job))
            delete_job(cloud, name);
    }
    const char *next = json_text(json_get(page, "nextPageToken"));
    buf_clear(token);
    buf_adds(token, next ? next : "");
    return buf_check(token, "a page's token", err);
}

/* Deletes jobs that were not used for long. Called whenever a job is made. */
static void delete_old_jobs(const struct cloud *cloud)
{
    struct err err;
    int pages = 0;
    AUTO(buf) struct buf token = BUF_INIT(2048);
    const char *jobs = strstr(cloud->job, "/jobs/");
    AUTO(str) char *place = jobs ? str_copy(cloud->job, (size_t)(jobs - cloud->job)) : NULL;
    if (!place)
        return;
    do {
        if (delete_old_of(cloud, place, &token, &err)) {
            log_warn("overflow", "cannot look for jobs that nobody uses: %s", err.msg);
            return;
        }
    } while (token.len > 0 && ++pages < PAGES_MAX);
}

/* --- making it ----------------------------------------------------------------------------- */

int image_job_ensure(const struct cloud *cloud, const struct task_request *request,
                     const char *name, struct err *err)
{
    struct size size;
    AUTO(json) struct json *there = NULL, *base = NULL;
    AUTO(buf) struct buf definition = BUF_INIT(BODY_BYTES_MAX);
    if (strcmp(name, cloud->job) == 0)
        return 0;
    if (request->image && kit_publish(cloud, err))
        return err_wrap(err, "the worker for the image");
    if (jobs_job_get(cloud->google, name, &there, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    if (!find_size(request, &size))
        return err_set(err, ERR_INVALID, "%s", image_refuses(request));
    if (jobs_job_get(cloud->google, cloud->job, &base, err))
        return -1;
    write_job(&definition, cloud, base, request, &size);
    if (buf_check(&definition, "a job", err))
        return -1;
    if (jobs_job_put(cloud->google, name, buf_str(&definition), definition.len, false, err) &&
        err->code != ERR_CONFLICT) /* Another task has made it. */
        return err_wrap(err, "a job for the image or the size");
    log_info("overflow", "made the job %s", name);
    delete_old_jobs(cloud);
    return 0;
}
