/*
 * Tasks on their way in: a place in the table first, the store then, the queue last.
 *
 * A task can be watched from the moment it has its place, so whoever sends the same Idempotency-Key
 * again finds it as soon as the store knows it.
 *
 * A task that comes alone and finds nobody waiting and a slot free keeps that slot while it is
 * stored, and is stored as claimed: one transaction, one sync to disk for both. Its program starts
 * after that. A claim must be on disk before the program may do anything: if the power failed and
 * the claim were lost, the next start would take the task for one that never ran and do a second
 * time what it had done outside (a push, a message, a purchase). So a task that had to wait pays
 * for its claim with a sync of its own, which the store shares among all who write at that moment.
 */
#include "base/check.h"
#include "base/lock.h"
#include "base/log.h"
#include "runner/task/engine_private.h"

#include <stdlib.h>

/* Makes a place for a new task, which can be watched from now on. NULL with *err when there is
 * none. */
static struct active_task *arrive(struct engine *engine, const char *id, struct err *err)
{
    struct active_task *active = NULL;
    lock_take(&engine->lock);
    const struct active_table *table = &engine->table;
    if (engine->draining)
        err_set(err, ERR_BUSY, "the runner is shutting down and takes no new tasks");
    else if ((int)table->count - table->running[PLACE_AWAY] >=
             engine->config.limits.slots + engine->config.limits.queue_max)
        err_set(err, ERR_RATE, "the queue is full: %d tasks run and %d wait",
                table->running[PLACE_HERE], table->queued);
    else if (active_find(&engine->table, id))
        err_set(err, ERR_CONFLICT, "taskId '%s' is taken", id);
    else if (!(active = active_add(&engine->table, id)))
        err_set(err, ERR_INTERNAL, "out of memory");
    lock_drop(&engine->lock);
    return active;
}

/* Ends the arrival: with a record the task is queued; without one it is removed, and its watchers
 * are told. */
static void settle(struct engine *engine, struct active_task *active,
                   const struct task_record *record)
{
    struct engine_watch *watches = NULL;
    lock_take(&engine->lock);
    if (record) {
        active_enqueue(&engine->table, active, record);
        scheduler_schedule_locked(engine);
    } else {
        bool reserved = active->reserved;
        watches = active->watches;
        active_remove(&engine->table, active);
        if (reserved)
            scheduler_give_back_locked(engine);
    }
    lock_drop(&engine->lock);
    engine_tell(watches, NULL);
}

/* Reserves a slot for a task that arrives alone, if one is free; then it is stored as claimed. */
static void reserve(struct engine *engine, struct active_task *active, struct task_new *task)
{
    lock_take(&engine->lock);
    task->claimed = scheduler_reserve_locked(engine, active, task);
    lock_drop(&engine->lock);
}

/* Starts the thread of a task that was stored as running, with the data that the store would
 * give. */
static int start(struct engine *engine, struct active_task *active, const struct task_new *task,
                 const struct task_record *record, struct err *err)
{
    struct claimed_task *claimed = claimed_new(record, task->secrets, err);
    if (!claimed) {
        struct err ignored;
        if (store_requeue(engine->config.store, record->id, TASK_PENDING, &ignored) != 1)
            log_error("task", "%s", ignored.msg);
        settle(engine, active, NULL); /* It is stored nevertheless, and runs after the next
                                       * start. */
        return -1;
    }
    lock_take(&engine->lock);
    active_start(active, claimed);
    scheduler_start_locked(engine, active);
    lock_drop(&engine->lock);
    return 0;
}

/* Arriving tasks; NULL for one whose id is taken, perhaps by the same request sent again. */
struct arrivals {
    struct active_task *active[ENGINE_GROUP_MAX];
    struct task_new tasks[ENGINE_GROUP_MAX]; /* with their ids */
    char ids[ENGINE_GROUP_MAX][ID_SIZE];
    size_t count;
};

static void turn_away(struct engine *engine, struct arrivals *arrivals)
{
    for (size_t i = 0; i < arrivals->count; i++)
        if (arrivals->active[i])
            settle(engine, arrivals->active[i], NULL);
}

/* Makes a place for each task. -1 when there is not enough room for all of them. */
static int let_in(struct engine *engine, const struct task_new *tasks, size_t count,
                  struct arrivals *arrivals, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct task_new *task = &arrivals->tasks[i];
        *task = tasks[i];
        if (!task->id) {
            id_new(arrivals->ids[i]);
            task->id = arrivals->ids[i];
        }
        arrivals->active[i] = arrive(engine, task->id, err);
        arrivals->count = i + 1;
        if (!arrivals->active[i] && err->code != ERR_CONFLICT) {
            turn_away(engine, arrivals);
            return -1;
        }
    }
    return 0;
}

/* Queues a stored task. Its first event may fail now; run_live() adds it later. */
static int take_in(struct engine *engine, struct active_task *active, const struct task_new *task,
                   struct task_record *record, struct err *err)
{
    struct err ignored;
    if (!active && !(active = arrive(engine, record->id, err)))
        return -1; /* It is stored nevertheless, and runs after the next start. */
    if (run_announce(engine, record, &ignored))
        log_warn("task", "%s", ignored.msg);
    if (task->claimed) {
        int rc = start(engine, active, task, record, err);
        record->state = TASK_PENDING; /* Callers see every accepted task as pending. */
        return rc;
    }
    settle(engine, active, record);
    return 0;
}

int engine_submit_group(struct engine *engine, const struct task_new *tasks, size_t count,
                        struct task_record *ret_records, bool *ret_created, struct err *err)
{
    REQUIRE(count >= 1 && count <= ENGINE_GROUP_MAX);
    int rc = 0;
    *ret_created = false;
    struct arrivals *arrivals = calloc(1, sizeof(*arrivals));
    if (!arrivals)
        return err_sys(err, "task");
    if (let_in(engine, tasks, count, arrivals, err)) {
        free(arrivals);
        return -1;
    }
    if (count == 1 && arrivals->active[0])
        reserve(engine, arrivals->active[0], &arrivals->tasks[0]);
    if (store_add_group(engine->config.store, arrivals->tasks, count, ret_records, ret_created,
                        err)) {
        turn_away(engine, arrivals);
        rc = -1;
    } else if (!*ret_created) {
        turn_away(engine, arrivals);
    } else {
        for (size_t i = 0; i < count; i++)
            rc |= take_in(engine, arrivals->active[i], &arrivals->tasks[i], &ret_records[i], err);
    }
    free(arrivals);
    /* Tasks that arrive during a pause are paused, too. */
    if (*ret_created && tasks->shared && engine_held(engine) != TASK_PENDING)
        engine_store_hold(engine);
    return rc;
}

int engine_submit(struct engine *engine, const struct task_new *task,
                  struct task_record *ret_record, bool *ret_created, struct err *err)
{
    return engine_submit_group(engine, task, 1, ret_record, ret_created, err);
}
