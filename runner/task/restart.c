/* Makes the store match reality after a restart. */
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "proc/tree.h"
#include "runner/task/engine_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEFTOVER_MS 10000

/* Everything that a task starts has this in its environment. */
static int end_leftovers(struct engine *engine, struct err *err)
{
    char marker[128];
    snprintf(marker, sizeof(marker), TASK_MARKER "=%s", store_instance(engine->config.store));
    int found = tree_end_marked(marker, LEFTOVER_MS);
    if (found < 0)
        return err_set(err, ERR_INTERNAL,
                       "processes of an earlier run cannot be ended; see %s in their environment",
                       marker);
    if (found > 0)
        log_warn("task", "ended %d processes that an earlier run left behind", found);
    return 0;
}

struct settled {
    struct engine *engine;
    struct err *err;
    int failed;
    int requeued;
    int adopted;
    bool broken;
};

void engine_count(struct engine *engine, const char *id)
{
    struct err ignored;
    AUTO(task_record) struct task_record record = {0};
    if (store_get(engine->config.store, id, &record, &ignored) == 0)
        numbers_ended(engine, record.kind, record.state, record.reason);
}

/* Fails a task that no thread runs; non-zero when that cannot be stored. */
static int fail(struct settled *all, const char *id, unsigned from, int64_t duration_ms,
                const char *reason, const char *error)
{
    struct engine *engine = all->engine;
    AUTO(buf) struct buf summary = BUF_INIT(4096);
    struct task_outcome outcome = {.state = TASK_FAILED, .exit_code = 1};
    snprintf(outcome.reason, sizeof(outcome.reason), "%s", reason);
    snprintf(outcome.error, sizeof(outcome.error), "%s", error);
    run_print_summary(&outcome, duration_ms, &summary);
    const struct task_end end = {.state = TASK_FAILED,
                                 .reason = reason,
                                 .summary = buf_str(&summary),
                                 .now_ms = clock_real_ms()};
    all->failed++;
    int ended = store_end(engine->config.store, id, from, &end, all->err);
    all->broken |= ended < 0;
    if (ended == 1)
        engine_count(engine, id);
    /* When events cannot be written the runner starts nevertheless: a reader will add them. */
    if (!all->broken && engine_mend_events(engine, id, all->err))
        log_warn("task", "the last event of task '%s' is missing for now: %s", id, all->err->msg);
    return all->broken;
}

static int settle(const struct task_record *record, void *arg)
{
    struct settled *all = arg;
    const struct executor *away = all->engine->config.away;
    if (record->place == PLACE_AWAY && away && away->outlives) { /* It did not notice the
                                                                  * restart. */
        all->adopted++;
        scheduler_adopt(all->engine, record, false);
        return 0;
    }
    if (record->retry_interrupted && record->attempts < RUN_ATTEMPTS_MAX) {
        all->requeued++;
        all->broken |=
            store_requeue(all->engine->config.store, record->id, TASK_PENDING, all->err) < 0;
        return all->broken;
    }
    return fail(all, record->id, 1u << TASK_RUNNING, clock_real_ms() - record->started_ms,
                "interrupted", "the runner stopped while the task ran");
}

static int settle_interrupted(struct engine *engine, struct err *err)
{
    struct settled all = {.engine = engine, .err = err};
    const struct store_filter running = {
        .states = 1u << TASK_RUNNING, .oldest_first = true, .limit = INT_MAX};
    if (store_list(engine->config.store, &running, settle, &all, err) || all.broken)
        return -1;
    if (all.failed + all.requeued > 0)
        log_warn("task", "%d tasks were interrupted by the runner's end, %d are run again",
                 all.failed, all.requeued);
    if (all.adopted > 0)
        log_info("task", "%d tasks run elsewhere and are followed again", all.adopted);
    return 0;
}

static int settle_sealed_one(const char *id, void *arg)
{
    return fail(arg, id, TASK_WAITING_STATES, 0, "secrets_lost",
                "the key that opens the task's secrets was lost or replaced while it waited");
}

/* Fails tasks whose secrets cannot be opened, all at once instead of one by one at their turn. */
static int settle_sealed(struct engine *engine, struct err *err)
{
    struct settled all = {.engine = engine, .err = err};
    if (store_unreadable(engine->config.store, settle_sealed_one, &all, err) || all.broken)
        return -1;
    if (all.failed > 0)
        log_error("task",
                  "'%s/secret.key' was lost or replaced: failed %d waiting tasks whose secrets it "
                  "does not open",
                  engine->config.state_dir, all.failed);
    return 0;
}

static int load(const struct task_record *record, void *arg)
{
    struct engine *engine = arg;
    struct active_task *active = active_add(&engine->table, record->id);
    if (active)
        active_enqueue(&engine->table, active, record);
    else
        log_error("task", "out of memory; task '%s' waits for the next start", record->id);
    return 0;
}

static int load_pending(struct engine *engine, struct err *err)
{
    const struct store_filter waiting = {
        .states = TASK_WAITING_STATES, .oldest_first = true, .limit = INT_MAX};
    return store_list(engine->config.store, &waiting, load, engine, err);
}

static void *remove_old(void *arg)
{
    struct err err;
    AUTO(str) char *path = arg;
    if (path_remove_tree(path, &err))
        log_warn("task", "%s", err.msg);
    return NULL;
}

/* Makes a new directory for workspaces. Those of an earlier process are moved away at once, and
 * removed in the background. */
static int renew_run_dir(struct engine *engine, struct err *err)
{
    struct err ignored;
    char *old = NULL;
    if (asprintf(&old, "%s.old", engine->run_dir) < 0)
        return err_sys(err, "workspaces");
    if (rename(engine->run_dir, old) && errno != ENOENT && path_remove_tree(engine->run_dir, err)) {
        free(old);
        return -1;
    }
    if (thread_start_detached("remove-old", THREAD_STACK_DEFAULT, remove_old, old, &ignored))
        remove_old(old);
    /* Tasks walk through it to their own directory, but cannot list others. */
    if (path_make_dirs(engine->run_dir, 0711, err))
        return -1;
    path_spread(engine->run_dir);
    return 0;
}

int engine_start(struct engine *engine, struct err *err)
{
    if (end_leftovers(engine, err) || renew_run_dir(engine, err) ||
        leavings_start(&engine->leavings, err) || settle_interrupted(engine, err) ||
        settle_sealed(engine, err) || load_pending(engine, err) || scheduler_start(engine, err))
        return -1;
    lock_take(&engine->lock);
    scheduler_schedule_locked(engine);
    lock_drop(&engine->lock);
    return 0;
}

int engine_resume(struct engine *engine, const char *id, bool counted, struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    lock_take(&engine->lock);
    bool later = engine->draining || active_find(&engine->table, id);
    lock_drop(&engine->lock);
    if (later)
        return 0;
    int resumed = store_resume(engine->config.store, id, err);
    if (resumed != 1)
        return resumed;
    if (store_get(engine->config.store, id, &record, err))
        return -1; /* It is running in the store: the next start adopts it. */
    scheduler_adopt(engine, &record, counted);
    return 1;
}
