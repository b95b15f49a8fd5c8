#include "runner/replica/carried.h"

#include "base/clock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/replica/replica_private.h"
#include "json/json.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define RECORD_MAX 4096
#define YOUNG_MS 60000 /* whoever claimed it so lately may be about to be taken */
#define TRIES_MAX 5

struct found {
    struct carried carried;
    int64_t generation; /* STORAGE_ABSENT: there is none */
};

int carried_parse(const char *text, size_t len, struct carried *ret_carried, struct err *err)
{
    AUTO(json) struct json *json = json_parse(text, len, err);
    const char *task = json_text(json_get(json, "taskId"));
    const char *next = json_text(json_get(json, "next"));
    if (!task || !id_is_valid(task) || (next && !id_is_valid(next)))
        return err_set(err, ERR_MISMATCH, "that is no conversation's record");
    snprintf(ret_carried->task, ID_SIZE, "%s", task);
    snprintf(ret_carried->next, ID_SIZE, "%s", next ? next : "");
    return 0;
}

static void name_of(const char *conversation, char name[REPLICA_NAME_SIZE])
{
    snprintf(name, REPLICA_NAME_SIZE, "conversations/%s.json", conversation);
}

static int read_carried(const struct cloud *cloud, const char *conversation,
                        struct found *ret_found, struct err *err)
{
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    *ret_found = (struct found){.generation = STORAGE_ABSENT};
    name_of(conversation, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, &ret_found->generation, err))
        return -1;
    return carried_parse(buf_str(&text), text.len, &ret_found->carried, err);
}

/* Writes it over the generation that was found. */
static int write_carried(const struct cloud *cloud, const char *conversation, struct found *found,
                         struct err *err)
{
    struct json_writer w;
    char name[REPLICA_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RECORD_MAX);
    AUTO(storage_object) struct storage_object object = {0};
    name_of(conversation, name);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", found->carried.task);
    json_add_text(&w, "next", found->carried.next[0] ? found->carried.next : NULL);
    json_close(&w);
    const struct storage_at at = {cloud->bucket, name, "application/json", found->generation};
    if (storage_put(cloud->google, &at, buf_str(&text), text.len, &object, err))
        return -1;
    found->generation = object.generation;
    return 0;
}

/* --- at the service ------------------------------------------------------------------------- */

/* True when a task that somebody has claimed it for may still be taken. */
static bool is_young(const struct cloud *cloud, const char *conversation)
{
    struct err err;
    char name[REPLICA_NAME_SIZE];
    AUTO(storage_object) struct storage_object object = {0};
    name_of(conversation, name);
    return storage_stat(cloud->google, cloud->bucket, name, &object, &err) == 0 &&
           clock_real_ms() - object.updated_ms < YOUNG_MS;
}

/* ERR_CONFLICT when the one who goes on with it has not ended. */
static int check_next(struct replica *service, const char *conversation, const char *next,
                      struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    bool known = replica_adopt(service, next, err) == 0 &&
                 store_get(service->config.store, next, &record, err) == 0;
    if (!known && err->code != ERR_NOT_FOUND)
        return -1;
    if (known ? task_state_is_active(record.state) : is_young(service->config.cloud, conversation))
        return err_set(err, ERR_CONFLICT, "the session '%s' is in use by the task '%s'",
                       conversation, next);
    return 0;
}

struct use {
    const char *conversation;
    char task[ID_SIZE];
};

static int note_use(const struct task_record *record, void *arg)
{
    struct use *use = arg;
    if (strcmp(record->conversation, use->conversation) != 0)
        return 0;
    snprintf(use->task, sizeof(use->task), "%s", record->id);
    return 1;
}

/* Nobody has left it. The first task that has it may be on its way. */
static int explain_absence(struct replica *service, const char *conversation, struct err *err)
{
    struct err ignored;
    struct use use = {.conversation = conversation};
    const struct store_filter active = {.states = TASK_ACTIVE_STATES, .limit = INT_MAX};
    if (store_list(service->config.store, &active, note_use, &use, &ignored) == 0 && use.task[0])
        return err_set(err, ERR_CONFLICT, "the session '%s' is in use by the task '%s'",
                       conversation, use.task);
    return err_set(err, ERR_NOT_FOUND, "no task has left a session '%s'", conversation);
}

static int claim_once(struct replica *service, const struct task_new *task, struct found *ret_found,
                      struct err *err)
{
    const struct cloud *cloud = service->config.cloud;
    struct carried *carried = &ret_found->carried;
    if (read_carried(cloud, task->conversation, ret_found, err))
        return err->code == ERR_NOT_FOUND ? explain_absence(service, task->conversation, err) : -1;
    if (strcmp(carried->next, task->id) == 0) /* an earlier try with the same key */
        return 0;
    if (carried->next[0] && check_next(service, task->conversation, carried->next, err))
        return -1;
    snprintf(carried->next, sizeof(carried->next), "%s", task->id);
    return write_carried(cloud, task->conversation, ret_found, err);
}

static int copy_before(const struct cloud *cloud, const char *from, const char *to, struct err *err)
{
    char source[FOLDER_NAME_SIZE], target[FOLDER_NAME_SIZE];
    const char *names[] = {source};
    folder_name(from, FOLDER_CONVERSATION, source);
    folder_name(to, FOLDER_BEFORE, target);
    const struct storage_at at = {cloud->bucket, target, "application/gzip", STORAGE_ANY};
    return storage_compose(cloud->google, &at, names, 1, NULL, err);
}

int carried_claim(struct replica *service, const struct task_new *task, struct err *err)
{
    struct found found;
    int rc = claim_once(service, task, &found, err);
    for (int tries = 1; rc && err->code == ERR_MISMATCH && tries < TRIES_MAX; tries++)
        rc = claim_once(service, task, &found, err); /* another instance was faster */
    if (rc)
        return err->code == ERR_MISMATCH
                   ? err_set(err, ERR_CONFLICT, "the session '%s' is in use", task->conversation)
                   : -1;
    if (copy_before(service->config.cloud, found.carried.task, task->id, err) == 0)
        return 0;
    carried_give_back(service, task);
    return err->code == ERR_NOT_FOUND
               ? err_set(err, ERR_NOT_FOUND, "nothing is left of the session '%s'",
                         task->conversation)
               : -1;
}

void carried_give_back(struct replica *service, const struct task_new *task)
{
    struct err err;
    struct found found;
    const struct cloud *cloud = service->config.cloud;
    if (read_carried(cloud, task->conversation, &found, &err) ||
        strcmp(found.carried.next, task->id) != 0)
        return;
    found.carried.next[0] = '\0';
    if (write_carried(cloud, task->conversation, &found, &err))
        log_warn("service", "session '%s': %s", task->conversation, err.msg);
}

/* --- in the execution ----------------------------------------------------------------------- */

int carried_leave(const struct cloud *cloud, const char *conversation, const char *id,
                  struct err *err)
{
    struct found found;
    if (read_carried(cloud, conversation, &found, err) && err->code != ERR_NOT_FOUND)
        return -1;
    bool ours = found.generation == STORAGE_ABSENT || strcmp(found.carried.next, id) == 0 ||
                (!found.carried.next[0] && strcmp(found.carried.task, id) == 0);
    if (!ours)
        return err_set(err, ERR_CONFLICT, "the session is another task's by now");
    snprintf(found.carried.task, sizeof(found.carried.task), "%s", id);
    found.carried.next[0] = '\0';
    return write_carried(cloud, conversation, &found, err);
}
