#include "runner/replica/replica.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "crypto/crypto.h"
#include "google/storage.h"
#include "runner/overflow/payload.h"
#include "runner/replica/owed.h"
#include "runner/replica/promised.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_MS 20000 /* for tasks that nobody places */
#define OLD_MS 15000        /* whoever took one of them has had time enough */
#define ADOPTED_MAX 65536   /* tasks; the oldest are forgotten */
#define TAKEN_MAX 4096      /* tasks with callbacks that have not ended */
#define LATE_MS 30000       /* after its end: the execution has handed in no webhook */
#define SETTLE_MS 5000      /* until what has ended is shown as ended */
#define SETTLE_EVERY_MS 50
#define KEY_BYTES_MAX 4096
#define NAME_SIZE 256

struct adopted {
    char id[ID_SIZE];
    bool secrets; /* it was submitted with some, which are not here */
    int64_t created_ms;
};

/* Whoever took a task with a callback is the only instance that knows its URL. */
struct taken {
    char id[ID_SIZE];
    char *url;
};

struct replica {
    struct replica_config config;
    struct overflow_shared shared;
    struct thread thread;
    struct lock adopting; /* held across I/O: one task is adopted at a time */
    struct lock lock;     /* of what follows */
    pthread_cond_t wake;
    bool stop;
    struct adopted *adopted; /* a ring */
    size_t count;            /* ever */
    struct taken taken[TAKEN_MAX];
    size_t taken_count;
};

static void name_of(const char *id, const char *what, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "tasks/%s/%s", id, what);
}

static void open_name(const char *id, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "open/%s", id);
}

/* --- what overflow asks --------------------------------------------------------------------- */

static bool find_adopted(struct replica *service, const char *id, struct adopted *ret)
{
    bool found = false;
    lock_take(&service->lock);
    size_t kept = service->count < ADOPTED_MAX ? service->count : ADOPTED_MAX;
    for (size_t i = 0; i < kept && !found; i++)
        if (strcmp(service->adopted[i].id, id) == 0) {
            *ret = service->adopted[i];
            found = true;
        }
    lock_drop(&service->lock);
    return found;
}

static void note_adopted(struct replica *service, const char *id, int64_t created_ms, bool secrets)
{
    lock_take(&service->lock);
    struct adopted *at = &service->adopted[service->count++ % ADOPTED_MAX];
    snprintf(at->id, sizeof(at->id), "%s", id);
    at->created_ms = created_ms;
    at->secrets = secrets;
    lock_drop(&service->lock);
}

static bool is_adopted(const char *id, int64_t *ret_created_ms, bool *ret_secrets, void *arg)
{
    struct adopted adopted;
    if (!find_adopted(arg, id, &adopted))
        return false;
    *ret_created_ms = adopted.created_ms;
    *ret_secrets = adopted.secrets;
    return true;
}

static bool is_cancelled(const char *id, void *arg)
{
    struct err err;
    char name[NAME_SIZE];
    const struct cloud *cloud = ((struct replica *)arg)->config.cloud;
    AUTO(storage_object) struct storage_object object = {0};
    name_of(id, "cancelled", name);
    return storage_stat(cloud->google, cloud->bucket, name, &object, &err) == 0;
}

static void is_placed(const char *id, void *arg)
{
    struct err err;
    char name[NAME_SIZE];
    const struct cloud *cloud = ((struct replica *)arg)->config.cloud;
    open_name(id, name);
    if (storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, &err))
        log_warn("service", "%s stays: %s", name, err.msg);
}

const struct overflow_shared *replica_shared(struct replica *service)
{
    return &service->shared;
}

/* --- a task is taken ------------------------------------------------------------------------ */

static int put(const struct replica *service, const char *name, const char *type, const void *data,
               size_t len, struct err *err)
{
    const struct cloud *cloud = service->config.cloud;
    const struct storage_at at = {cloud->bucket, name, type, STORAGE_ABSENT};
    return storage_put(cloud->google, &at, data, len, NULL, err);
}

static int put_payload(const struct replica *service, const struct task_new *task, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    AUTO(payload)
    struct payload payload = {.task_id = strdup(task->id),
                              .kind = strdup(task->kind),
                              .request = strdup(task->request),
                              .secrets = strdup(task->secrets ? task->secrets : ""),
                              .request_id = strdup(task->request_id),
                              .attempt = 1};
    if (!payload.task_id || !payload.kind || !payload.request || !payload.secrets ||
        !payload.request_id)
        return err_sys(err, "a payload");
    folder_name(task->id, FOLDER_PAYLOAD, name);
    return payload_seal(service->config.cloud, &payload, &sealed, err) ||
                   put(service, name, "application/octet-stream", sealed.data, sealed.len, err)
               ? -1
               : 0;
}

static int put_task(const struct replica *service, const struct task_new *task, struct err *err)
{
    char name[NAME_SIZE];
    AUTO(buf) struct buf record = BUF_INIT(PROMISED_BYTES_MAX);
    promised_print(task, clock_real_ms(), &record);
    if (buf_check(&record, "the task", err))
        return -1;
    open_name(task->id, name);
    if (put_payload(service, task, err) || put(service, name, "text/plain", "", 0, err))
        return -1;
    name_of(task->id, "task.json", name);
    return put(service, name, "application/json", record.data, record.len, err);
}

static void key_name(const struct task_new *task, char name[NAME_SIZE])
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf hex = BUF_INIT(128), text = BUF_INIT(8192);
    buf_addf(&text, "%s\x1f%s", task->caller, task->idempotency_key);
    crypto_sha256(buf_str(&text), text.len, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    snprintf(name, NAME_SIZE, "keys/%s", buf_str(&hex));
}

/* The key is used: by the same body, or by another. */
static int read_key(const struct replica *service, const char *name, const char *hash,
                    char ret_earlier[ID_SIZE], struct err *err)
{
    const struct cloud *cloud = service->config.cloud;
    AUTO(buf) struct buf text = BUF_INIT(KEY_BYTES_MAX);
    if (storage_get(cloud->google, cloud->bucket, name, &text, NULL, err))
        return -1;
    AUTO(json) struct json *key = json_parse(buf_str(&text), text.len, err);
    const char *id = json_text(json_get(key, "taskId"));
    const char *body = json_text(json_get(key, "body"));
    if (!id || !body || !id_is_valid(id))
        return err_set(err, ERR_UPSTREAM, "what lies at %s is no key", name);
    if (strcmp(body, hash) != 0)
        return err_set(err, ERR_CONFLICT, "the Idempotency-Key was used with another body");
    snprintf(ret_earlier, ID_SIZE, "%s", id);
    return 0;
}

/* Claims the key for this task; 1 when it was claimed before. */
static int take_key(const struct replica *service, const struct task_new *task,
                    char ret_earlier[ID_SIZE], struct err *err)
{
    char name[NAME_SIZE];
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(KEY_BYTES_MAX), hash = BUF_INIT(256);
    key_name(task, name);
    str_add_hex(&hash, task->body_hash, task->body_hash_len);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", task->id);
    json_add_text(&w, "body", buf_str(&hash));
    json_close(&w);
    if (buf_check(&text, "the Idempotency-Key", err))
        return -1;
    if (put(service, name, "application/json", text.data, text.len, err) == 0)
        return 0;
    if (err->code != ERR_MISMATCH)
        return -1;
    return read_key(service, name, buf_str(&hash), ret_earlier, err) ? -1 : 1;
}

/* What an instance that was killed between the key and the task has left is finished by the next
 * one that comes with the key: the id is the key's. */
static int promise_for_key(struct replica *service, const struct task_new *task,
                           const char *earlier, struct err *err)
{
    struct task_new again = *task;
    if (replica_adopt(service, earlier, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    again.id = earlier;
    if (put_task(service, &again, err) && err->code != ERR_MISMATCH)
        return -1;
    char name[NAME_SIZE];
    AUTO(buf) struct buf record = BUF_INIT(PROMISED_BYTES_MAX);
    promised_print(&again, clock_real_ms(), &record);
    name_of(earlier, "task.json", name);
    if (put(service, name, "application/json", record.data, record.len, err) &&
        err->code != ERR_MISMATCH)
        return -1;
    return replica_adopt(service, earlier, err);
}

static void note_taken(struct replica *service, const char *id, const char *url)
{
    char *copy = strdup(url);
    lock_take(&service->lock);
    if (copy && service->taken_count < TAKEN_MAX) {
        struct taken *at = &service->taken[service->taken_count++];
        snprintf(at->id, sizeof(at->id), "%s", id);
        at->url = copy;
        copy = NULL;
    }
    lock_drop(&service->lock);
    free(copy);
}

int replica_promise(struct replica *service, const struct task_new *task, char ret_earlier[ID_SIZE],
                    struct err *err)
{
    ret_earlier[0] = '\0';
    int used = task->idempotency_key ? take_key(service, task, ret_earlier, err) : 0;
    if (used < 0)
        return -1;
    if (used)
        return promise_for_key(service, task, ret_earlier, err);
    if (put_task(service, task, err) == 0) {
        if (task->webhook_url)
            note_taken(service, task->id, task->webhook_url);
        return 0;
    }
    return err->code == ERR_MISMATCH
               ? err_set(err, ERR_CONFLICT, "there is a task '%s' already", task->id)
               : -1;
}

/* --- a task is adopted ---------------------------------------------------------------------- */

static bool exists(const struct replica *service, const char *name)
{
    struct err err;
    const struct cloud *cloud = service->config.cloud;
    AUTO(storage_object) struct storage_object object = {0};
    return storage_stat(cloud->google, cloud->bucket, name, &object, &err) == 0;
}

/* What has ended is not shown as running. */
static void settle(const struct replica *service, const char *id)
{
    struct err err;
    char result[FOLDER_NAME_SIZE];
    folder_name(id, FOLDER_RESULT, result);
    if (!exists(service, result))
        return;
    for (int64_t end = clock_mono_ms() + SETTLE_MS; clock_mono_ms() < end;) {
        AUTO(task_record) struct task_record record = {0};
        if (store_get(service->config.store, id, &record, &err) ||
            !task_state_is_active(record.state))
            return;
        poll(NULL, 0, SETTLE_EVERY_MS);
    }
}

static int add_row(struct replica *service, const char *id, struct err *err)
{
    bool created, secrets;
    int64_t created_ms;
    char name[NAME_SIZE];
    struct task_new task;
    enum task_state state;
    const struct cloud *cloud = service->config.cloud;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf text = BUF_INIT(PROMISED_BYTES_MAX);
    name_of(id, "task.json", name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, NULL, err))
        return err->code == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "there is no such task")
                                          : -1;
    AUTO(json)
    struct json *json = promised_parse(buf_str(&text), text.len, &task, &created_ms, &secrets, err);
    if (!json)
        return -1;
    if (strcmp(task.id, id) != 0 || !engine_kind(service->config.engine, task.kind))
        return err_set(err, ERR_MISMATCH, "that is no record of this task");
    task.created_ms = created_ms;
    note_adopted(service, id, created_ms, secrets);
    if (engine_submit(service->config.engine, &task, &record, &created, err))
        return err->code == ERR_CONFLICT ? 0 : -1; /* another thread was faster */
    log_info("service", "task %s is adopted", id);
    if (is_cancelled(id, service) && engine_cancel(service->config.engine, id, &state, err))
        log_warn("service", "task %s: %s", id, err->msg);
    return 0;
}

static bool is_here(const struct replica *service, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    return store_get(service->config.store, id, &record, &err) == 0;
}

int replica_adopt(struct replica *service, const char *id, struct err *err)
{
    int rc = 0;
    lock_take(&service->adopting);
    if (!is_here(service, id))
        rc = add_row(service, id, err);
    lock_drop(&service->adopting);
    if (rc == 0)
        settle(service, id);
    return rc;
}

int replica_cancel(struct replica *service, const char *id, struct err *err)
{
    char name[NAME_SIZE];
    name_of(id, "cancelled", name);
    return put(service, name, "text/plain", "", 0, err) && err->code != ERR_MISMATCH ? -1 : 0;
}

/* --- tasks that nobody places --------------------------------------------------------------- */

struct found {
    struct replica *service;
    struct strlist ids;
};

static int take_open(const struct storage_object *object, void *arg)
{
    struct found *found = arg;
    const char *id = object->name + strlen("open/");
    if (id_is_valid(id) && clock_real_ms() - object->updated_ms > OLD_MS &&
        !is_here(found->service, id))
        strlist_add(&found->ids, id);
    return 0;
}

static void look(struct replica *service)
{
    struct err err;
    struct found found = {.service = service, .ids = STRLIST_INIT};
    const struct storage_list wish = {.prefix = "open/"};
    const struct cloud *cloud = service->config.cloud;
    if (storage_list(cloud->google, cloud->bucket, &wish, take_open, &found, &err))
        log_warn("service", "cannot look for tasks that nobody places: %s", err.msg);
    for (size_t i = 0; i < found.ids.count; i++)
        if (replica_adopt(service, found.ids.items[i], &err) && err.code != ERR_NOT_FOUND)
            log_warn("service", "task %s: %s", found.ids.items[i], err.msg);
    strlist_done(&found.ids);
}

static bool is_stopping(void *arg)
{
    struct replica *service = arg;
    lock_take(&service->lock);
    bool stop = service->stop;
    lock_drop(&service->lock);
    return stop;
}

/* The webhook of a task whose execution ended without one: owed from here. True when there is
 * nothing more to do about it. */
static bool owe(struct replica *service, const struct taken *taken)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf body = BUF_INIT(OWED_BODY_MAX);
    if (store_get(service->config.store, taken->id, &record, &err))
        return err.code == ERR_NOT_FOUND;
    if (task_state_is_active(record.state) || clock_real_ms() - record.ended_ms < LATE_MS)
        return false;
    if (owed_is_known(service->config.cloud, taken->id))
        return true;
    return owed_print(service->config.store, taken->id, &body, &err) == 0 &&
           owed_put(service->config.cloud, taken->id, taken->url, &body, &err) == 0;
}

static void owe_the_rest(struct replica *service)
{
    for (size_t i = 0;; i++) {
        struct taken taken = {.url = NULL};
        lock_take(&service->lock);
        if (i < service->taken_count)
            taken = service->taken[i];
        lock_drop(&service->lock);
        if (!taken.url)
            return;
        if (!owe(service, &taken))
            continue;
        lock_take(&service->lock); /* others are only added, behind it */
        service->taken[i--] = service->taken[--service->taken_count];
        lock_drop(&service->lock);
        free(taken.url);
    }
}

/* What executions could not hand in. */
static void tell(struct replica *service)
{
    owe_the_rest(service);
    AUTO(config_ref) const struct config *config = config_ref(service->config.config);
    owed_sweep(service->config.cloud, config, is_stopping, service);
}

static void *watch(void *arg)
{
    struct replica *service = arg;
    lock_take(&service->lock);
    while (!service->stop) {
        lock_drop(&service->lock);
        look(service);
        tell(service);
        lock_take(&service->lock);
        if (!service->stop)
            lock_wait(&service->wake, &service->lock, LOOK_EVERY_MS);
    }
    lock_drop(&service->lock);
    return NULL;
}

/* --- all of it ------------------------------------------------------------------------------ */

struct replica *replica_new(const struct replica_config *config, struct err *err)
{
    struct replica *service = calloc(1, sizeof(*service));
    struct adopted *adopted = service ? calloc(ADOPTED_MAX, sizeof(*adopted)) : NULL;
    if (!adopted) {
        free(service);
        err_sys(err, "service");
        return NULL;
    }
    service->config = *config;
    service->adopted = adopted;
    service->shared = (struct overflow_shared){
        .adopted = is_adopted, .cancelled = is_cancelled, .placed = is_placed, .arg = service};
    lock_init(&service->adopting);
    lock_init(&service->lock);
    cond_init(&service->wake);
    return service;
}

int replica_start(struct replica *service, struct err *err)
{
    return thread_start(&service->thread, "service", THREAD_STACK_DEFAULT, watch, service, err);
}

void replica_stop(struct replica *service)
{
    if (!service)
        return;
    lock_take(&service->lock);
    service->stop = true;
    pthread_cond_signal(&service->wake);
    lock_drop(&service->lock);
    thread_join(&service->thread);
}

void replica_free(struct replica *service)
{
    if (!service)
        return;
    pthread_cond_destroy(&service->wake);
    lock_done(&service->lock);
    lock_done(&service->adopting);
    for (size_t i = 0; i < service->taken_count; i++)
        free(service->taken[i].url);
    free(service->adopted);
    free(service);
}
