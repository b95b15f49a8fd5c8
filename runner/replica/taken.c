/*
 * A task is taken: what the bucket has of it before its caller hears of it.
 *
 * The last object that is written makes it a task: tasks/ID/task.json of one that comes alone,
 * groups/GROUP of tasks that come together. Whoever dies before it has taken nothing. With an
 * Idempotency-Key the caller's next try finishes what was begun, under the same ids.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "google/storage.h"
#include "runner/overflow/payload.h"
#include "runner/replica/carried.h"
#include "runner/replica/owed.h"
#include "runner/replica/promised.h"
#include "runner/replica/replica_private.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX 4096
#define KEY_HEX_SIZE (2 * CRYPTO_SHA256_SIZE + 1)
#define HANDS_MAX 8 /* tasks of a group that are written at once */
#define OTHER_MS 5000
#define OTHER_EVERY_MS 100

/* What is being taken. */
struct taking {
    struct replica *service;
    const struct task_new *tasks;
    size_t count;
    char key[KEY_HEX_SIZE]; /* names the Idempotency-Key; "": there is none */
    bool again;             /* an earlier try with this key may have left some of it */
};

void replica_run_id(const char *group, int run, char ret_id[ID_SIZE])
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(256), hex = BUF_INIT(128);
    buf_addf(&text, "run %d of %s", run, group);
    crypto_sha256(buf_str(&text), text.len, digest);
    str_add_hex(&hex, digest, sizeof(digest) / 2);
    snprintf(ret_id, ID_SIZE, "%s", buf_str(&hex));
}

/* --- one task ------------------------------------------------------------------------------- */

static int put_payload(const struct taking *taking, const struct task_new *task, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    const struct cloud *cloud = taking->service->config.cloud;
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
    const struct storage_at at = {cloud->bucket, name, "application/octet-stream",
                                  taking->again ? STORAGE_ANY : STORAGE_ABSENT};
    return payload_seal(cloud, &payload, &sealed, err) ||
                   storage_put(cloud->google, &at, sealed.data, sealed.len, NULL, err)
               ? -1
               : 0;
}

static int put_note(const struct taking *taking, const struct task_new *task, struct err *err)
{
    const struct replica_config *own = &taking->service->config;
    AUTO(config_ref) const struct config *config = config_ref(own->config);
    if (!task->webhook_url)
        return 0;
    if (owed_note(own->cloud, config, task->id, task->webhook_url, err))
        return -1;
    replica_wake(taking->service);
    return 0;
}

static int put_record(const struct taking *taking, const struct task_new *task, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    const struct cloud *cloud = taking->service->config.cloud;
    AUTO(buf) struct buf record = BUF_INIT(PROMISED_BYTES_MAX);
    promised_print(task, taking->key, clock_real_ms(), &record);
    if (buf_check(&record, "the task", err))
        return -1;
    replica_name_in("open", task->id, name);
    if (replica_put(cloud, name, "text/plain", "", 0, err) &&
        (err->code != ERR_MISMATCH || !taking->again))
        return -1;
    replica_name(task->id, "task.json", name);
    return replica_put(cloud, name, "application/json", record.data, record.len, err);
}

/* True when the record there was made for the same key: by another instance, at this moment. */
static bool is_same(const struct taking *taking, const struct task_new *task)
{
    struct err err;
    char name[REPLICA_NAME_SIZE];
    const struct cloud *cloud = taking->service->config.cloud;
    replica_name(task->id, "task.json", name);
    for (int64_t end = clock_mono_ms() + OTHER_MS; *taking->key && clock_mono_ms() < end;) {
        AUTO(buf) struct buf text = BUF_INIT(PROMISED_BYTES_MAX);
        if (storage_get(cloud->google, cloud->bucket, name, &text, NULL, &err) == 0)
            return promised_has_key(buf_str(&text), text.len, taking->key);
        if (err.code != ERR_NOT_FOUND)
            return false;
        poll(NULL, 0, OTHER_EVERY_MS);
    }
    return false;
}

static int put_task(const struct taking *taking, const struct task_new *task, struct err *err)
{
    if (put_payload(taking, task, err) == 0 && put_note(taking, task, err) == 0 &&
        put_record(taking, task, err) == 0)
        return 0;
    if (err->code != ERR_MISMATCH)
        return -1;
    if (is_same(taking, task))
        return 0;
    return err_set(err, ERR_CONFLICT, "there is a task '%s' already", task->id);
}

/* --- a group -------------------------------------------------------------------------------- */

static int put_group(const struct cloud *cloud, const char *group, size_t count,
                     int64_t *generation, struct err *err)
{
    char name[REPLICA_NAME_SIZE], text[64];
    AUTO(storage_object) struct storage_object object = {0};
    replica_name_in("groups", group, name);
    int len = snprintf(text, sizeof(text), "{\"runs\":%zu}", count);
    const struct storage_at at = {cloud->bucket, name, "application/json", *generation};
    if (storage_put(cloud->google, &at, text, (size_t)len, &object, err))
        return -1;
    *generation = object.generation;
    return 0;
}

/* 0 for a group that was only begun. */
static int read_group(const struct cloud *cloud, const char *group, int *ret_count,
                      int64_t *ret_generation, struct err *err)
{
    int64_t count = 0;
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(KEY_BYTES_MAX);
    replica_name_in("groups", group, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, ret_generation, err))
        return -1;
    AUTO(json) struct json *json = json_parse(buf_str(&text), text.len, err);
    if (json_int(json_get(json, "runs"), &count) || count < 0 || count > ENGINE_GROUP_MAX)
        return err_set(err, ERR_MISMATCH, "what lies at %s is no group", name);
    *ret_count = (int)count;
    return 0;
}

bool replica_group_is_whole(const struct cloud *cloud, const char *group, int *ret_count,
                            struct err *err)
{
    int64_t generation;
    if (read_group(cloud, group, ret_count, &generation, err))
        return false;
    if (*ret_count > 0)
        return true;
    err_set(err, ERR_NOT_FOUND, "there is no such task");
    return false;
}

/* Several hands write the tasks of a group. */
struct crew {
    const struct taking *taking;
    _Atomic size_t next;
    struct lock lock; /* of err */
    struct err err;
};

static void *write_tasks(void *arg)
{
    struct crew *crew = arg;
    for (;;) {
        struct err err = ERR_INIT;
        size_t i = atomic_fetch_add(&crew->next, 1);
        if (i >= crew->taking->count)
            return NULL;
        if (put_task(crew->taking, &crew->taking->tasks[i], &err) == 0)
            continue;
        atomic_store(&crew->next, crew->taking->count); /* nobody begins another one */
        lock_take(&crew->lock);
        if (crew->err.code == ERR_NONE)
            crew->err = err;
        lock_drop(&crew->lock);
    }
}

static int put_tasks(const struct taking *taking, struct err *err)
{
    struct err ignored;
    struct thread hands[HANDS_MAX] = {{.running = false}};
    struct crew crew = {.taking = taking, .err = ERR_INIT};
    lock_init(&crew.lock);
    for (size_t i = 1; i < HANDS_MAX && i < taking->count; i++)
        (void)thread_start(&hands[i], "bucket", THREAD_STACK_DEFAULT, write_tasks, &crew, &ignored);
    write_tasks(&crew);
    for (size_t i = 1; i < HANDS_MAX; i++)
        thread_join(&hands[i]);
    lock_done(&crew.lock);
    if (crew.err.code == ERR_NONE)
        return 0;
    *err = crew.err;
    return -1;
}

/* Claims the group's name. */
static int begin_group(const struct taking *taking, const char *group, int64_t *ret_generation,
                       struct err *err)
{
    int count = 0;
    char name[REPLICA_NAME_SIZE];
    const struct cloud *cloud = taking->service->config.cloud;
    *ret_generation = STORAGE_ABSENT;
    replica_name(group, "task.json", name);
    if (replica_has(cloud, name))
        return err_set(err, ERR_CONFLICT, "taskId '%s' is taken", group);
    if (put_group(cloud, group, 0, ret_generation, err) == 0)
        return 0;
    if (err->code != ERR_MISMATCH)
        return -1;
    if (!taking->again)
        return err_set(err, ERR_CONFLICT, "taskId '%s' is taken", group);
    return read_group(cloud, group, &count, ret_generation, err);
}

static int take_group(const struct taking *taking, struct err *err)
{
    int count;
    int64_t generation;
    const char *group = taking->tasks->group;
    const struct cloud *cloud = taking->service->config.cloud;
    if (begin_group(taking, group, &generation, err) || put_tasks(taking, err))
        return -1;
    if (put_group(cloud, group, taking->count, &generation, err) == 0)
        return 0;
    /* Another instance may have finished it for the same key. */
    return err->code == ERR_MISMATCH && replica_group_is_whole(cloud, group, &count, err) ? 0 : -1;
}

static int take_all(const struct taking *taking, struct err *err)
{
    if (taking->tasks->group)
        return take_group(taking, err);
    if (taking->tasks->resume && carried_claim(taking->service, taking->tasks, err))
        return -1;
    if (put_task(taking, taking->tasks, err) == 0)
        return 0;
    if (taking->tasks->resume)
        carried_give_back(taking->service, taking->tasks);
    return -1;
}

/* --- an Idempotency-Key --------------------------------------------------------------------- */

static void hash_key(const struct task_new *task, char key[KEY_HEX_SIZE])
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf hex = BUF_INIT(128), text = BUF_INIT(8192);
    buf_addf(&text, "%s\x1f%s", task->caller, task->idempotency_key);
    crypto_sha256(buf_str(&text), text.len, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    snprintf(key, KEY_HEX_SIZE, "%s", buf_str(&hex));
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
        return err_set(err, ERR_CONFLICT,
                       "this Idempotency-Key was used before with another request");
    snprintf(ret_earlier, ID_SIZE, "%s", id);
    return 0;
}

/* The name that a caller sees: a group's, or a task's. */
static const char *name_of_all(const struct taking *taking)
{
    return taking->tasks->group ? taking->tasks->group : taking->tasks->id;
}

/* Claims the key; 1 when it was claimed before. */
static int take_key(const struct taking *taking, char ret_earlier[ID_SIZE], struct err *err)
{
    struct json_writer w;
    char name[REPLICA_NAME_SIZE];
    const struct task_new *task = taking->tasks;
    AUTO(buf) struct buf text = BUF_INIT(KEY_BYTES_MAX), hash = BUF_INIT(256);
    replica_name_in("keys", taking->key, name);
    str_add_hex(&hash, task->body_hash, task->body_hash_len);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", name_of_all(taking));
    json_add_text(&w, "body", buf_str(&hash));
    json_close(&w);
    if (buf_check(&text, "the Idempotency-Key", err))
        return -1;
    if (replica_put(taking->service->config.cloud, name, "application/json", text.data, text.len,
                    err) == 0)
        return 0;
    if (err->code != ERR_MISMATCH)
        return -1;
    return read_key(taking->service, name, buf_str(&hash), ret_earlier, err) ? -1 : 1;
}

/* What is refused uses no key. */
static void give_key_back(const struct taking *taking)
{
    struct err err;
    char name[REPLICA_NAME_SIZE];
    const struct cloud *cloud = taking->service->config.cloud;
    replica_name_in("keys", taking->key, name);
    if (storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, &err))
        log_warn("service", "%s stays: %s", name, err.msg);
}

static int adopt_all(const struct taking *taking, const char *earlier, struct err *err)
{
    return taking->tasks->group ? replica_adopt_group(taking->service, earlier, err)
                                : replica_adopt(taking->service, earlier, err);
}

/* What an instance that was killed between the key and the task has left is finished by the next
 * one that comes with the key: the ids are the key's. */
static int take_for_key(const struct taking *taking, const char *earlier, struct err *err)
{
    struct taking again = *taking;
    if (adopt_all(taking, earlier, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    struct task_new *tasks = calloc(taking->count, sizeof(*tasks));
    char(*ids)[ID_SIZE] = calloc(taking->count, sizeof(*ids));
    int rc = tasks && ids ? 0 : err_sys(err, "task");
    for (size_t i = 0; i < taking->count && rc == 0; i++) {
        tasks[i] = taking->tasks[i];
        if (tasks[i].group)
            replica_run_id(earlier, tasks[i].run, ids[i]);
        tasks[i].id = tasks[i].group ? ids[i] : earlier;
        tasks[i].group = tasks[i].group ? earlier : NULL;
    }
    again.tasks = tasks;
    again.again = true;
    if (rc == 0)
        rc = take_all(&again, err) || adopt_all(taking, earlier, err) ? -1 : 0;
    free(tasks);
    free(ids);
    return rc;
}

int replica_promise(struct replica *service, const struct task_new *tasks, size_t count,
                    char ret_earlier[ID_SIZE], struct err *err)
{
    int used = 0;
    struct taking taking = {.service = service, .tasks = tasks, .count = count};
    ret_earlier[0] = '\0';
    if (tasks->idempotency_key) {
        hash_key(tasks, taking.key);
        used = take_key(&taking, ret_earlier, err);
    }
    if (used < 0)
        return -1;
    if (used)
        return take_for_key(&taking, ret_earlier, err);
    if (take_all(&taking, err) == 0)
        return 0;
    if (*taking.key && (err->code == ERR_CONFLICT || err->code == ERR_NOT_FOUND))
        give_key_back(&taking);
    return -1;
}
