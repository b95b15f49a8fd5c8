#include "runner/overflow/sweep.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/id.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "google/google.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES (256u << 10)
#define TASKS_MAX 1024
#define EVERY_MS 5000
#define LATE_MS 600000 /* this long after a task's end nothing of it arrives any more */

struct late {
    char id[ID_SIZE];
    int64_t until_ms; /* mono: when looking after it ends; 0: its task has not ended */
    int64_t next_ms;  /* mono: when it is looked at next */
    int64_t wait_ms;  /* pause after that look */
};

struct sweep {
    const struct cloud *cloud;
    struct store *store;
    struct thread thread;
    struct lock lock; /* guards the fields below */
    pthread_cond_t wake;
    bool stop;
    struct late tasks[TASKS_MAX];
    size_t count;
};

void sweep_note(struct sweep *sweep, const char *id)
{
    lock_take(&sweep->lock);
    size_t at = 0;
    while (at < sweep->count && strcmp(sweep->tasks[at].id, id) != 0)
        at++;
    if (at == sweep->count && sweep->count < TASKS_MAX)
        snprintf(sweep->tasks[sweep->count++].id, ID_SIZE, "%s", id);
    if (at < TASKS_MAX)
        sweep->tasks[at].until_ms = 0;
    pthread_cond_signal(&sweep->wake);
    lock_drop(&sweep->lock);
}

static bool has_ended(struct sweep *sweep, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    if (store_get(sweep->store, id, &record, &err))
        return err.code == ERR_NOT_FOUND;
    return !task_state_is_active(record.state);
}

static bool is_stopped(void *arg)
{
    struct sweep *sweep = arg;
    lock_take(&sweep->lock);
    bool stop = sweep->stop;
    lock_drop(&sweep->lock);
    return stop;
}

/* storage_delete(), given up at once when the runner stops. */
static int delete_object(struct sweep *sweep, const char *name, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(4096);
    buf_addf(&path, "/storage/v1/b/%s/o/", sweep->cloud->bucket);
    google_add_escaped(&path, name);
    const struct google_call call = {.api = GOOGLE_STORAGE,
                                     .method = "DELETE",
                                     .path = buf_str(&path),
                                     .stop = is_stopped,
                                     .arg = sweep};
    return buf_check(&path, "the request's path", err)
               ? -1
               : google_call(sweep->cloud->google, &call, NULL, NULL, err);
}

/* Looks after one task. True when nothing is left to do. A failure is tried again. */
static bool look_after(struct sweep *sweep, struct late *task)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    if (clock_mono_ms() < task->next_ms || !has_ended(sweep, task->id))
        return false;
    if (task->until_ms == 0) {
        task->until_ms = clock_mono_ms() + LATE_MS;
        task->wait_ms = EVERY_MS;
    }
    task->next_ms = clock_mono_ms() + task->wait_ms;
    task->wait_ms *= 2;
    folder_name(task->id, FOLDER_PAYLOAD, name);
    if (delete_object(sweep, name, &err) && err.code != ERR_NOT_FOUND) {
        log_warn("overflow", "a late payload of '%s' stays: %s", task->id, err.msg);
        return false;
    }
    return clock_mono_ms() >= task->until_ms;
}

/* Looks at each task once: takes one out of the list and appends it again. */
static void round_locked(struct sweep *sweep) HOLDS(sweep->lock);
static void round_locked(struct sweep *sweep)
{
    for (size_t left = sweep->count; left > 0 && sweep->count > 0 && !sweep->stop; left--) {
        struct late task = sweep->tasks[0];
        memmove(sweep->tasks, sweep->tasks + 1, --sweep->count * sizeof(sweep->tasks[0]));
        lock_drop(&sweep->lock);
        bool over = look_after(sweep, &task);
        lock_take(&sweep->lock);
        if (!over && sweep->count < TASKS_MAX)
            sweep->tasks[sweep->count++] = task;
    }
}

static void *work(void *arg)
{
    struct sweep *sweep = arg;
    lock_take(&sweep->lock);
    while (!sweep->stop) {
        round_locked(sweep);
        if (!sweep->stop)
            (void)lock_wait(&sweep->wake, &sweep->lock, sweep->count > 0 ? EVERY_MS : INT32_MAX);
    }
    lock_drop(&sweep->lock);
    return NULL;
}

struct sweep *sweep_start(const struct cloud *cloud, struct store *store, struct err *err)
{
    struct sweep *sweep = calloc(1, sizeof(*sweep));
    if (!sweep) {
        err_sys(err, "overflow");
        return NULL;
    }
    sweep->cloud = cloud;
    sweep->store = store;
    lock_init(&sweep->lock);
    cond_init(&sweep->wake);
    if (thread_start(&sweep->thread, "cloud-sweep", STACK_BYTES, work, sweep, err) == 0)
        return sweep;
    pthread_cond_destroy(&sweep->wake);
    lock_done(&sweep->lock);
    free(sweep);
    return NULL;
}

void sweep_stop(struct sweep *sweep)
{
    if (!sweep)
        return;
    lock_take(&sweep->lock);
    sweep->stop = true;
    pthread_cond_broadcast(&sweep->wake);
    lock_drop(&sweep->lock);
    thread_join(&sweep->thread);
    pthread_cond_destroy(&sweep->wake);
    lock_done(&sweep->lock);
    free(sweep);
}
