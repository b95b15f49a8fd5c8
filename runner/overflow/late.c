#include "runner/overflow/late.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/id.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/result.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES (256u << 10)
#define TASKS_MAX 1024 /* the rest comes after the next restart */
#define FIRST_MS 3000
#define MOST_MS 600000

struct awaited {
    char id[ID_SIZE];
    int64_t next_ms; /* mono: when it is looked for next */
    int64_t wait_ms; /* pause after that look */
    bool loaded;     /* an earlier process gave it up */
    bool counted;    /* as failed */
};

struct late {
    struct late_config config;
    struct thread thread;
    struct lock lock; /* guards the fields below */
    pthread_cond_t wake;
    bool stop;
    struct awaited tasks[TASKS_MAX];
    size_t count;
};

static bool note_locked(struct late *late, const char *id, bool loaded) HOLDS(late->lock);
static bool note_locked(struct late *late, const char *id, bool loaded)
{
    size_t at = 0;
    while (at < late->count && strcmp(late->tasks[at].id, id) != 0)
        at++;
    if (at == TASKS_MAX || at < late->count) /* One that fails again and again keeps its pause. */
        return at < late->count && !late->tasks[at].counted;
    late->count++;
    snprintf(late->tasks[at].id, ID_SIZE, "%s", id);
    late->tasks[at].wait_ms = FIRST_MS;
    late->tasks[at].next_ms = clock_mono_ms() + FIRST_MS;
    late->tasks[at].loaded = loaded;
    late->tasks[at].counted = false;
    return true;
}

bool late_note(struct late *late, const char *id)
{
    lock_take(&late->lock);
    bool noted = note_locked(late, id, false);
    pthread_cond_signal(&late->wake);
    lock_drop(&late->lock);
    return noted;
}

static bool is_stopped(void *arg)
{
    struct late *late = arg;
    lock_take(&late->lock);
    bool stop = late->stop;
    lock_drop(&late->lock);
    return stop;
}

static bool has_come(struct late *late, const char *id, int attempt)
{
    struct err err;
    AUTO(folder_result) struct folder_result result;
    folder_result_init(&result);
    return cloud_find_result(late->config.cloud, id, FOLDER_RESULT, attempt, is_stopped, late,
                             &result, &err) == RESULT_FOUND;
}

/* Looks for one result. True when nothing is left to do for it. */
static bool look(struct late *late, struct awaited *task)
{
    const char *id = task->id;
    struct err err;
    struct store_placement placement;
    AUTO(task_record) struct task_record record = {0};
    if (store_get(late->config.store, id, &record, &err))
        return err.code == ERR_NOT_FOUND;
    if (task_state_is_active(record.state))
        return false; /* It is about to end. */
    if (store_placement(late->config.store, id, &placement, &err))
        return false;
    if (record.state != TASK_FAILED || placement.phase < PLACEMENT_LOST)
        return true;
    int64_t age_ms = clock_real_ms() - record.ended_ms;
    bool old = age_ms >= LATE_COUNT_MS;
    task->counted |= task->loaded && old; /* by that process */
    task->loaded = false;
    if (!has_come(late, id, placement.attempt)) {
        if (old && !task->counted)
            engine_count(late->config.engine, id);
        task->counted |= old;
        return age_ms > overflow_late_ms(placement.phase);
    }
    int resumed = engine_resume(late->config.engine, id, task->counted, &err);
    if (resumed < 0)
        log_warn("overflow", "the late result of '%s' waits: %s", id, err.msg);
    if (resumed == 1)
        log_info("overflow", "the result of '%s' has come, %lld s after it was given up", id,
                 (long long)(clock_real_ms() - record.ended_ms) / 1000);
    return false; /* Until it has ended well. */
}

/* Looks at each task once whose time has come: takes it out of the list and appends it again. */
static void round_locked(struct late *late) HOLDS(late->lock);
static void round_locked(struct late *late)
{
    for (size_t left = late->count; left > 0 && late->count > 0 && !late->stop; left--) {
        struct awaited task = late->tasks[0];
        memmove(late->tasks, late->tasks + 1, --late->count * sizeof(late->tasks[0]));
        bool over = false;
        if (clock_mono_ms() >= task.next_ms) {
            lock_drop(&late->lock);
            over = look(late, &task);
            lock_take(&late->lock);
            task.next_ms = clock_mono_ms() + task.wait_ms;
            task.wait_ms = task.wait_ms * 2 < MOST_MS ? task.wait_ms * 2 : MOST_MS;
        }
        bool noted = false; /* anew, meanwhile */
        for (size_t i = 0; i < late->count; i++)
            if (strcmp(late->tasks[i].id, task.id) == 0) {
                late->tasks[i].counted |= task.counted;
                noted = true;
            }
        if (!over && !noted && late->count < TASKS_MAX)
            late->tasks[late->count++] = task;
    }
}

static int64_t wait_ms_locked(const struct late *late) HOLDS(late->lock);
static int64_t wait_ms_locked(const struct late *late)
{
    int64_t now = clock_mono_ms(), least = late->count > 0 ? MOST_MS : INT32_MAX;
    for (size_t i = 0; i < late->count; i++)
        if (late->tasks[i].next_ms - now < least)
            least = late->tasks[i].next_ms - now;
    return least > 1 ? least : 1;
}

static void load(struct late *late)
{
    struct err err;
    AUTO(strlist) struct strlist ids = STRLIST_INIT;
    if (store_lost(late->config.store, clock_real_ms() - overflow_late_ms(PLACEMENT_LOST),
                   TASKS_MAX, &ids, &err))
        log_warn("overflow", "cannot look for tasks that were given up: %s", err.msg);
    lock_take(&late->lock);
    for (size_t i = 0; i < ids.count; i++)
        (void)note_locked(late, ids.items[i], true);
    lock_drop(&late->lock);
}

static void *work(void *arg)
{
    struct late *late = arg;
    load(late);
    lock_take(&late->lock);
    while (!late->stop) {
        round_locked(late);
        if (!late->stop)
            (void)lock_wait(&late->wake, &late->lock, wait_ms_locked(late));
    }
    lock_drop(&late->lock);
    return NULL;
}

struct late *late_new(const struct late_config *config, struct err *err)
{
    struct late *late = calloc(1, sizeof(*late));
    if (!late) {
        err_sys(err, "overflow");
        return NULL;
    }
    late->config = *config;
    lock_init(&late->lock);
    cond_init(&late->wake);
    return late;
}

int late_start(struct late *late, struct err *err)
{
    return thread_start(&late->thread, "cloud-late", STACK_BYTES, work, late, err);
}

void late_free(struct late *late)
{
    if (!late)
        return;
    lock_take(&late->lock);
    late->stop = true;
    pthread_cond_broadcast(&late->wake);
    lock_drop(&late->lock);
    thread_join(&late->thread);
    pthread_cond_destroy(&late->wake);
    lock_done(&late->lock);
    free(late);
}
