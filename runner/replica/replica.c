#include "runner/replica/replica.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/replica/owed.h"
#include "runner/replica/promised.h"
#include "runner/replica/replica_private.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_MS 20000 /* for tasks that nobody places */
#define OLD_MS 15000        /* whoever took one of them has had time enough */
#define ADOPTED_MAX 65536   /* tasks; the oldest are forgotten */
#define LOOK_SOON_MS 5000   /* while a task here has a webhook that nobody owes yet */
#define UNTAKEN_MS 3600000  /* whoever began with it so long ago has never taken it */
#define NOTE_KEEP_MS (INT64_C(14) * 86400000) /* nothing comes of a note that is so old */
#define ALIVE_MS 45000                        /* since its last heartbeat: somebody runs it */
#define LATE_MS 30000  /* after its result: the execution has handed in no webhook */
#define SETTLE_MS 5000 /* until what has ended is shown as ended */
#define SETTLE_EVERY_MS 50

void replica_name(const char *id, const char *what, char ret_name[REPLICA_NAME_SIZE])
{
    snprintf(ret_name, REPLICA_NAME_SIZE, "tasks/%s/%s", id, what);
}

void replica_name_in(const char *place, const char *id, char ret_name[REPLICA_NAME_SIZE])
{
    snprintf(ret_name, REPLICA_NAME_SIZE, "%s/%s", place, id);
}

int replica_put(const struct cloud *cloud, const char *name, const char *type, const void *data,
                size_t len, struct err *err)
{
    const struct storage_at at = {cloud->bucket, name, type, STORAGE_ABSENT};
    return storage_put(cloud->google, &at, data, len, NULL, err);
}

bool replica_has(const struct cloud *cloud, const char *name)
{
    struct err err;
    AUTO(storage_object) struct storage_object object = {0};
    return storage_stat(cloud->google, cloud->bucket, name, &object, &err) == 0;
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
    char name[REPLICA_NAME_SIZE];
    replica_name(id, "cancelled", name);
    return replica_has(((struct replica *)arg)->config.cloud, name);
}

static void is_placed(const char *id, void *arg)
{
    struct err err;
    char name[REPLICA_NAME_SIZE];
    const struct cloud *cloud = ((struct replica *)arg)->config.cloud;
    replica_name_in("open", id, name);
    if (storage_delete(cloud->google, cloud->bucket, name, STORAGE_ANY, &err))
        log_warn("service", "%s stays: %s", name, err.msg);
}

const struct cloud *replica_cloud(const struct replica *service)
{
    return service->config.cloud;
}

const struct overflow_shared *replica_shared(struct replica *service)
{
    return &service->shared;
}

/* --- a task is adopted ---------------------------------------------------------------------- */

/* What has ended is not shown as running. */
static void settle(const struct replica *service, const char *id)
{
    struct err err;
    char result[FOLDER_NAME_SIZE];
    folder_name(id, FOLDER_RESULT, result);
    if (!replica_has(service->config.cloud, result))
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
    int runs;
    bool created, secrets;
    int64_t created_ms;
    char name[REPLICA_NAME_SIZE];
    struct task_new task;
    enum task_state state;
    const struct cloud *cloud = service->config.cloud;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf text = BUF_INIT(PROMISED_BYTES_MAX);
    replica_name(id, "task.json", name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, NULL, err))
        return err->code == ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "there is no such task")
                                          : -1;
    AUTO(json)
    struct json *json = promised_parse(buf_str(&text), text.len, &task, &created_ms, &secrets, err);
    if (!json)
        return -1;
    if (strcmp(task.id, id) != 0 || !engine_kind(service->config.engine, task.kind))
        return err_set(err, ERR_MISMATCH, "that is no record of this task");
    if (task.group && !replica_group_is_whole(cloud, task.group, &runs, err))
        return -1;
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

int replica_adopt_group(struct replica *service, const char *group, struct err *err)
{
    int count, found = 0;
    if (!replica_group_is_whole(service->config.cloud, group, &count, err))
        return -1;
    for (int i = 0; i < count; i++) {
        char id[ID_SIZE];
        replica_run_id(group, i, id);
        if (is_here(service, id) || replica_adopt(service, id, err) == 0)
            found++;
        else if (err->code != ERR_NOT_FOUND) /* What was cleared away is passed over. */
            return -1;
    }
    return found > 0 ? 0 : err_set(err, ERR_NOT_FOUND, "there is no such task");
}

int replica_cancel(struct replica *service, const char *id, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    replica_name(id, "cancelled", name);
    return replica_put(service->config.cloud, name, "text/plain", "", 0, err) &&
                   err->code != ERR_MISMATCH
               ? -1
               : 0;
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

/* --- webhooks that no execution has handed in ----------------------------------------------- */

struct telling {
    struct replica *service;
    const struct config *config;
    bool waits; /* one of them comes soon */
};

/* How long ago an object was written; -1 when there is none. */
static int64_t age_of(const struct replica *service, const char *name)
{
    struct err err;
    const struct cloud *cloud = service->config.cloud;
    AUTO(storage_object) struct storage_object object = {0};
    if (storage_stat(cloud->google, cloud->bucket, name, &object, &err))
        return -1;
    int64_t age = clock_real_ms() - object.updated_ms;
    return age > 0 ? age : 0;
}

/* Of a task that has ended, and whose result is so old (-1: there is none): its execution had the
 * time to hand the webhook in, and has not. */
static bool is_left_to_us(const struct task_record *record, int64_t result_age_ms)
{
    return result_age_ms < 0 || result_age_ms >= LATE_MS || record->state == TASK_CANCELLED;
}

/* How long after its end it may still become something else, for it was given up; 0: it may not. */
static int64_t late_ms_of(const struct replica *service, const struct task_record *record)
{
    struct err err;
    struct store_placement placement;
    bool failed = record->state == TASK_FAILED &&
                  store_placement(service->config.store, record->id, &placement, &err) == 0;
    return failed ? overflow_late_ms(placement.phase) : 0;
}

static int owe(const struct telling *telling, const char *id, bool provisional, struct err *err)
{
    const struct replica *service = telling->service;
    AUTO(buf) struct buf body = BUF_INIT(OWED_BODY_MAX);
    int rc = owed_print(service->config.store, id, &body, err);
    if (rc == 0)
        rc = owed_put(service->config.cloud, telling->config, id, NULL, &body, provisional, err);
    if (rc && err->code == ERR_MISMATCH) { /* The secret is another one by now. */
        log_error("service", "the webhook of %s cannot be delivered: %s", id, err->msg);
        return owed_forget(service->config.cloud, id, err);
    }
    return rc && err->code != ERR_NOT_FOUND ? -1 : 0;
}

/* A task that nobody here knows: whoever took it may be gone, and its execution too. */
static int find_again(const struct telling *telling, const char *id, int64_t age_ms,
                      struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    struct replica *service = telling->service;
    folder_name(id, FOLDER_HEARTBEAT, name);
    int64_t beat = age_ms < OLD_MS ? 0 : age_of(service, name);
    if (age_ms > NOTE_KEEP_MS)
        return owed_forget(service->config.cloud, id, err);
    if ((beat >= 0 && beat < ALIVE_MS) || replica_adopt(service, id, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    return age_ms > UNTAKEN_MS ? owed_forget(service->config.cloud, id, err) : 0;
}

/* Of a task that is known here. True when it is to be looked at soon. What was said of one that was
 * given up stands unless a result comes. */
static bool tell_known(const struct telling *telling, const struct task_record *record)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    const struct replica *service = telling->service;
    const struct cloud *cloud = service->config.cloud;
    folder_name(record->id, FOLDER_RESULT, name);
    if (task_state_is_active(record->state))
        return true;
    int64_t result_age_ms = age_of(service, name), late_ms = late_ms_of(service, record);
    bool may_change = late_ms > 0 && clock_real_ms() - record->ended_ms <= late_ms;
    bool given_up = late_ms > 0 || (record->state == TASK_FAILED && result_age_ms < 0);
    int rc = given_up ? owed_is_known(cloud, record->id, &err) : 0;
    if (rc > 0 && may_change)
        return false;
    if (rc > 0)
        rc = owed_forget(cloud, record->id, &err);
    else if (rc == 0 && is_left_to_us(record, result_age_ms))
        rc = owe(telling, record->id, may_change, &err);
    if (rc < 0)
        log_warn("service", "webhook of %s: %s", record->id, err.msg);
    return true;
}

static void tell_one(const char *id, int64_t age_ms, void *arg)
{
    struct err err;
    struct telling *telling = arg;
    struct replica *service = telling->service;
    AUTO(task_record) struct task_record record = {0};
    if (is_stopping(service))
        return;
    if (store_get(service->config.store, id, &record, &err) == 0)
        telling->waits |= tell_known(telling, &record);
    else if (err.code != ERR_NOT_FOUND || find_again(telling, id, age_ms, &err))
        log_warn("service", "webhook of %s: %s", id, err.msg);
}

/* What executions could not hand in. True when there is more to do soon. */
static bool tell(struct replica *service)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(service->config.config);
    struct telling telling = {.service = service, .config = config};
    if (!config->callback_secret)
        return false;
    if (owed_each_noted(service->config.cloud, tell_one, &telling, &err))
        log_warn("service", "cannot look for webhooks: %s", err.msg);
    owed_sweep(service->config.cloud, config, is_stopping, service);
    return telling.waits;
}

void replica_wake(struct replica *service)
{
    lock_take(&service->lock);
    service->woken = true;
    pthread_cond_signal(&service->wake);
    lock_drop(&service->lock);
}

static void *watch(void *arg)
{
    struct replica *service = arg;
    lock_take(&service->lock);
    while (!service->stop) {
        lock_drop(&service->lock);
        look(service);
        int64_t wait_ms = tell(service) ? LOOK_SOON_MS : LOOK_EVERY_MS;
        lock_take(&service->lock);
        if (!service->stop && !service->woken)
            lock_wait(&service->wake, &service->lock, wait_ms);
        service->woken = false;
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
    free(service->adopted);
    free(service);
}
