/* Cancelling a task, or all tasks of a group. */
#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "runner/api/handlers.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_MS 2000 /* for the process tree to end; then it is "cancelling" */
#define CANCEL_BYTES_MAX (1u << 20)

/* --- one task's end ------------------------------------------------------------------------ */

struct awaited {
    struct engine_watch watch; /* first member: ended() receives its address */
    struct lock lock;
    pthread_cond_t changed;
    bool ended;
};

static void on_ended(struct engine_watch *watch)
{
    struct awaited *awaited = (struct awaited *)(void *)watch;
    lock_take(&awaited->lock);
    awaited->ended = true;
    pthread_cond_signal(&awaited->changed);
    lock_drop(&awaited->lock);
}

/* Waits for a task that was asked to end, until `deadline_ms` (mono). */
static void await_end(struct api *api, const char *id, int64_t deadline_ms)
{
    struct awaited awaited = {.watch = {.ended = on_ended, .patient = true}};
    lock_init(&awaited.lock); /* Set before the watch, which may end at once. */
    cond_init(&awaited.changed);
    if (!engine_watch(api->engine, id, &awaited.watch)) {
        pthread_cond_destroy(&awaited.changed);
        lock_done(&awaited.lock);
        return;
    }
    lock_take(&awaited.lock);
    int64_t left = deadline_ms - clock_mono_ms();
    while (!awaited.ended && left > 0 && lock_wait(&awaited.changed, &awaited.lock, left))
        left = deadline_ms - clock_mono_ms();
    bool ended = awaited.ended;
    lock_drop(&awaited.lock);
    if (!ended && !engine_unwatch(api->engine, id, &awaited.watch, false)) {
        lock_take(&awaited.lock); /* ended() is running right now and still needs the watch. */
        while (!awaited.ended)
            pthread_cond_wait(&awaited.changed, &awaited.lock.mutex);
        lock_drop(&awaited.lock);
    }
    pthread_cond_destroy(&awaited.changed);
    lock_done(&awaited.lock);
}

/* "cancelled", another final state that the task reached just then, or "cancelling". */
static const char *status_of(struct api *api, const char *id, struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    if (store_get(api->store, id, &record, err))
        return NULL;
    return task_state_is_active(record.state) ? "cancelling" : task_state_name(record.state);
}

/* --- answers ------------------------------------------------------------------------------- */

static const char *message_of(const char *status)
{
    return strcmp(status, "cancelled") == 0    ? "Task cancelled"
           : strcmp(status, "cancelling") == 0 ? "Task is being cancelled"
                                               : "Task had ended when it was to be cancelled";
}

static void add_answer(struct json_writer *w, const char *id, const char *status)
{
    json_add_bool(w, "success", true);
    json_add_text(w, "message", message_of(status));
    json_add_text(w, "taskId", id);
    json_add_text(w, "status", status);
    json_add_bool(w, "cancelled", true);
}

static void cancel_one(struct http_request *req, struct api *api, const char *id)
{
    struct err err;
    struct json_writer w;
    enum task_state state;
    AUTO(buf) struct buf out = BUF_INIT(1024);
    if (engine_cancel(api->engine, id, &state, &err)) {
        send_err(req, &err);
        return;
    }
    if (task_state_is_active(state))
        await_end(api, id, clock_mono_ms() + PATIENCE_MS);
    const char *status = status_of(api, id, &err);
    if (!status) {
        send_err(req, &err);
        return;
    }
    json_write(&w, &out);
    json_open_object(&w, NULL);
    add_answer(&w, id, status);
    json_close(&w);
    send_json(req, 200, &out);
}

/* --- a group ------------------------------------------------------------------------------- */

struct members {
    char ids[ENGINE_GROUP_MAX][ID_SIZE];
    size_t count;
};

static int note_member(const struct task_record *record, void *arg)
{
    struct members *members = arg;
    snprintf(members->ids[members->count++], ID_SIZE, "%s", record->id);
    return members->count == ENGINE_GROUP_MAX;
}

/* Cancels the members of a group. All are asked to end before any is waited for; those that had
 * ended stay as they are. */
static void cancel_members(struct http_request *req, struct api *api, const char *group,
                           const struct members *members)
{
    struct err err;
    struct json_writer w;
    enum task_state state;
    bool going_on = false;
    AUTO(buf) struct buf out = BUF_INIT(CANCEL_BYTES_MAX);
    AUTO(buf) struct buf runs = BUF_INIT(CANCEL_BYTES_MAX);
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
    for (size_t i = 0; i < members->count; i++) {
        if (instances_cancel(api, members->ids[i], &err)) {
            send_err(req, &err);
            return;
        }
        (void)engine_cancel(api->engine, members->ids[i], &state, &err);
    }
    json_write(&w, &runs);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < members->count; i++) {
        await_end(api, members->ids[i], deadline_ms);
        const char *status = status_of(api, members->ids[i], &err);
        going_on |= status && strcmp(status, "cancelling") == 0;
        json_open_object(&w, NULL);
        json_add_text(&w, "taskId", members->ids[i]);
        json_add_text(&w, "status", status);
        json_close(&w);
    }
    json_close(&w);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    add_answer(&w, group, going_on ? "cancelling" : "cancelled");
    json_add_text(&w, "group", group);
    json_add_raw(&w, "runs", buf_str(&runs), runs.len);
    json_close(&w);
    send_json(req, 200, &out);
}

void task_cancel(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct members members = {.count = 0};
    AUTO(task_record) struct task_record record = {0};
    const char *id = http_param(req, "id");
    const struct store_filter filter = {
        .group = id, .oldest_first = true, .limit = ENGINE_GROUP_MAX};
    bool valid = id_is_valid(id);
    err_set(&err, ERR_NOT_FOUND, "there is no such task");
    if (valid && instances_find(api, id, &record, &err) == 0) {
        if (task_state_is_active(record.state) && instances_cancel(api, id, &err)) {
            send_err(req, &err);
            return;
        }
        cancel_one(req, api, id);
        return;
    }
    if (valid && err.code == ERR_NOT_FOUND && instances_find_group(api, id, &err) == 0 &&
        store_list(api->store, &filter, note_member, &members, &err) == 0 && members.count > 0)
        cancel_members(req, api, id, &members);
    else
        send_err(req, &err);
}
