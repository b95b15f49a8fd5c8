#include "runner/task/engine.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/task/engine_private.h"
#include "json/json.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANCEL_LOOKS 200 /* two seconds */

static int make_dirs(struct engine *engine, struct err *err)
{
    engine->tasks_dir = path_join(engine->config.state_dir, "tasks");
    engine->run_dir = path_join(engine->config.state_dir, "run");
    if (!engine->tasks_dir || !engine->run_dir)
        return err_sys(err, "engine");
    return path_make_dirs(engine->tasks_dir, 0700, err);
}

struct engine *engine_new(const struct engine_config *config, struct err *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine) {
        err_sys(err, "engine");
        return NULL;
    }
    engine->away_room = INT_MAX;
    engine->config = *config;
    lock_init(&engine->lock);
    for (int i = 0; i < MEND_LOCKS; i++)
        lock_init(&engine->mend[i]);
    cond_init(&engine->quiet);
    cond_init(&engine->clock);
    leavings_init(&engine->leavings);
    if (active_init(&engine->table) || numbers_init(&engine->numbers, config->kinds, err) ||
        make_dirs(engine, err)) {
        engine_free(engine);
        return NULL;
    }
    return engine;
}

const struct task_kind *engine_kinds(const struct engine *engine)
{
    return engine->config.kinds;
}

const struct task_kind *engine_kind(const struct engine *engine, const char *name)
{
    for (const struct task_kind *kind = engine->config.kinds; kind && kind->name; kind++)
        if (strcmp(kind->name, name) == 0)
            return kind;
    return NULL;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    scheduler_stop(engine);
    leavings_stop(&engine->leavings);
    leavings_done(&engine->leavings);
    active_done(&engine->table);
    numbers_done(&engine->numbers);
    pthread_cond_destroy(&engine->quiet);
    pthread_cond_destroy(&engine->clock);
    for (int i = 0; i < MEND_LOCKS; i++)
        lock_done(&engine->mend[i]);
    lock_done(&engine->lock);
    free(engine->tasks_dir);
    free(engine->run_dir);
    free(engine);
}

void engine_tell(struct engine_watch *watch, const struct buf *answer)
{
    while (watch) {
        struct engine_watch *next = watch->next; /* ended() may free it. */
        watch->answer = answer;
        watch->ended(watch);
        watch = next;
    }
}

static struct engine_watch *retire_locked(struct engine *engine, struct active_task *active,
                                          enum task_state state) HOLDS(engine->lock);
static struct engine_watch *retire_locked(struct engine *engine, struct active_task *active,
                                          enum task_state state)
{
    struct engine_watch *watches = active->watches;
    active_remove(&engine->table, active);
    engine->completed += state == TASK_COMPLETED;
    engine->failed += state == TASK_FAILED;
    engine->cancelled += state == TASK_CANCELLED;
    return watches;
}

void engine_retire(struct engine *engine, struct active_task *active, enum task_state state,
                   const struct buf *answer)
{
    lock_take(&engine->lock);
    struct engine_watch *watches = retire_locked(engine, active, state);
    lock_drop(&engine->lock);
    engine_tell(watches, answer);
}

/* Moves the watches that do not wait through pauses to *impatient. */
static void split_watches(struct active_task *active, struct engine_watch **impatient)
{
    for (struct engine_watch **at = &active->watches; *at;) {
        struct engine_watch *watch = *at;
        if (watch->patient) {
            at = &watch->next;
            continue;
        }
        *at = watch->next;
        watch->next = *impatient;
        *impatient = watch;
    }
}

void engine_put_back(struct engine *engine, struct active_task *active)
{
    struct engine_watch *impatient = NULL;
    struct err ignored;
    enum task_state state;
    char id[ID_SIZE];
    lock_take(&engine->lock);
    bool cancel = active->stop == STOP_CANCEL; /* The cancel came too late for the run. */
    snprintf(id, sizeof(id), "%s", active->id);
    split_watches(active, &impatient);
    active_put_back(&engine->table, active);
    scheduler_schedule_locked(engine);
    lock_drop(&engine->lock);
    engine_tell(impatient, NULL);
    if (cancel)
        engine_cancel(engine, id, &state, &ignored);
}

static struct engine_watch *hold_locked(struct engine *engine, enum task_state why)
    HOLDS(engine->lock);
static struct engine_watch *hold_locked(struct engine *engine, enum task_state why)
{
    struct engine_watch *impatient = NULL;
    struct active_task *active;
    engine->hold = why;
    for (int i = 0; i < PRIORITIES && why != TASK_PENDING; i++)
        for (unsigned class = 0; class < ACTIVE_CLASSES; class ++)
            if ((class & ACTIVE_SHARED) && !scheduler_may_leave_locked(engine, class))
                TAILQ_FOREACH(active, &engine->table.queues[i][class], queue)
    split_watches(active, &impatient);
    return impatient;
}

enum task_state engine_held(struct engine *engine)
{
    lock_take(&engine->lock);
    enum task_state hold = engine->hold;
    lock_drop(&engine->lock);
    return hold;
}

/* Writes the present hold to the store. Several threads may do this at once, and their writes may
 * take effect in any order: a thread whose write is no longer right writes again, so the last write
 * agrees with memory. */
void engine_store_hold(struct engine *engine)
{
    struct err err;
    enum task_state hold = engine_held(engine), written;
    do {
        written = hold;
        if (store_pause(engine->config.store, written, &err)) {
            log_error("task", "%s", err.msg); /* Only what callers see is out of date. */
            return;
        }
        hold = engine_held(engine);
    } while (hold != written);
}

void engine_hold(struct engine *engine, enum task_state why)
{
    REQUIRE(task_state_in(why, TASK_WAITING_STATES));
    lock_take(&engine->lock);
    struct engine_watch *impatient = hold_locked(engine, why);
    lock_drop(&engine->lock);
    engine_store_hold(engine);
    engine_tell(impatient, NULL);
    lock_take(&engine->lock);
    scheduler_schedule_locked(engine);
    lock_drop(&engine->lock);
}

/* --- waiting ------------------------------------------------------------------------------- */

int engine_watch(struct engine *engine, const char *id, struct engine_watch *watch)
{
    lock_take(&engine->lock);
    struct active_task *active = active_find(&engine->table, id);
    bool will_end = active && !(engine->draining && active->state == ACTIVE_QUEUED);
    if (will_end) {
        watch->next = active->watches;
        active->watches = watch;
    }
    lock_drop(&engine->lock);
    return will_end ? 1 : 0;
}

bool engine_unwatch(struct engine *engine, const char *id, struct engine_watch *watch, bool leaving)
{
    struct err ignored;
    enum task_state state;
    bool found = false, attached = false;
    lock_take(&engine->lock);
    struct active_task *active = active_find(&engine->table, id);
    for (struct engine_watch **at = active ? &active->watches : NULL; at && *at;) {
        if (*at == watch) {
            *at = watch->next;
            found = true;
            continue;
        }
        attached |= (*at)->attached;
        at = &(*at)->next;
    }
    lock_drop(&engine->lock);
    if (leaving && found && watch->attached && !attached)
        engine_cancel(engine, id, &state, &ignored);
    return found;
}

void engine_abandon(struct engine *engine, const char *id)
{
    struct err ignored;
    enum task_state state;
    bool attached = false;
    lock_take(&engine->lock);
    struct active_task *active = active_find(&engine->table, id);
    for (struct engine_watch *at = active ? active->watches : NULL; at; at = at->next)
        attached |= at->attached;
    lock_drop(&engine->lock);
    if (!attached)
        engine_cancel(engine, id, &state, &ignored);
}

/* --- ending -------------------------------------------------------------------------------- */

static void stop_locked(struct active_task *active, enum task_stop stop)
{
    const uint64_t one = 1;
    if (active->stop == STOP_NO)
        active->stop = stop;
    if (active->wake_fd >= 0)
        (void)!write(active->wake_fd, &one, sizeof(one));
}

static bool stop_running(struct engine *engine, const char *id)
{
    lock_take(&engine->lock);
    struct active_task *active = active_find(&engine->table, id);
    bool running = active && active->state == ACTIVE_RUNNING;
    if (running)
        stop_locked(active, STOP_CANCEL);
    lock_drop(&engine->lock);
    return running;
}

/* Returns 1 when the task was waiting and is now cancelled. */
static int cancel_waiting(struct engine *engine, const char *id, struct err *err)
{
    AUTO(buf) struct buf summary = BUF_INIT(4096);
    const struct task_outcome outcome = {.state = TASK_CANCELLED,
                                         .reason = "cancelled",
                                         .error = "cancelled before it started",
                                         .exit_code = outcome_exit_code("cancelled", 1)};
    run_print_summary(&outcome, 0, &summary);
    const struct task_end end = {.state = TASK_CANCELLED,
                                 .reason = "cancelled",
                                 .summary = buf_str(&summary),
                                 .now_ms = clock_real_ms()};
    int rc = store_end(engine->config.store, id, TASK_WAITING_STATES, &end, err);
    if (rc != 1)
        return rc;
    if (engine_mend_events(engine, id, err))
        log_warn("task", "%s", err->msg);
    struct engine_watch *watches = NULL;
    lock_take(&engine->lock);
    struct active_task *active = active_find(&engine->table, id);
    if (active && active->state == ACTIVE_QUEUED) /* Otherwise its thread finds out by itself. */
        watches = retire_locked(engine, active, TASK_CANCELLED);
    lock_drop(&engine->lock);
    engine_tell(watches, NULL);
    return 1;
}

int engine_cancel(struct engine *engine, const char *id, enum task_state *ret_state,
                  struct err *err)
{
    for (int i = 0; i < CANCEL_LOOKS; i++) {
        AUTO(task_record) struct task_record record = {0};
        if (stop_running(engine, id)) {
            *ret_state = TASK_RUNNING;
            return 0;
        }
        int done = cancel_waiting(engine, id, err);
        if (done < 0 || store_get(engine->config.store, id, &record, err))
            return -1;
        if (done == 1)
            numbers_ended(engine, record.kind, TASK_CANCELLED, record.reason);
        if (record.state == TASK_CANCELLED) {
            *ret_state = TASK_CANCELLED;
            return 0;
        }
        if (!task_state_is_active(record.state))
            return err_set(err, ERR_CONFLICT, "the task has already ended: %s",
                           task_state_name(record.state));
        poll(NULL, 0, i < 10 ? 0 : 10); /* It was just being claimed or ended: look again. */
    }
    return err_set(err, ERR_BUSY, "the task cannot be reached: its end could not be stored");
}

/* --- numbers ------------------------------------------------------------------------------- */

void engine_load(struct engine *engine, struct engine_load *ret_load)
{
    lock_take(&engine->lock);
    *ret_load = (struct engine_load){.running = engine->table.running[PLACE_HERE],
                                     .away = engine->table.running[PLACE_AWAY],
                                     .queued = engine->table.queued,
                                     .slots = engine->config.limits.slots,
                                     .completed = engine->completed,
                                     .failed = engine->failed,
                                     .cancelled = engine->cancelled};
    lock_drop(&engine->lock);
}

static void print_running_locked(struct engine *engine, struct json_writer *w) HOLDS(engine->lock);
static void print_running_locked(struct engine *engine, struct json_writer *w)
{
    char time[CLOCK_TEXT_SIZE];
    for (size_t i = 0; i < engine->table.bucket_count; i++) {
        for (struct active_task *active = engine->table.buckets[i]; active; active = active->next) {
            if (active->state != ACTIVE_RUNNING)
                continue;
            json_open_object(w, NULL);
            json_add_text(w, "taskId", active->id);
            json_add_text(w, "kind", active->kind);
            json_add_text(w, "type", active->kind);
            json_add_text(w, "executor", task_place_name(active->place));
            json_add_text(w, "startedAt", clock_format(active->started_ms, time));
            json_add_bool(w, "ending", active->stop != STOP_NO);
            json_add_bool(w, "cancelling", active->stop == STOP_CANCEL);
            json_close(w);
        }
    }
}

void engine_print_running(struct engine *engine, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_array(&w, NULL);
    lock_take(&engine->lock);
    print_running_locked(engine, &w);
    lock_drop(&engine->lock);
    json_close(&w);
}

/* --- going down ---------------------------------------------------------------------------- */

/* Takes the watches of all queued tasks, which will not run before the next start. */
static struct engine_watch *take_queued_watches_locked(struct engine *engine) HOLDS(engine->lock);
static struct engine_watch *take_queued_watches_locked(struct engine *engine)
{
    struct engine_watch *all = NULL, **end = &all;
    for (int i = 0; i < PRIORITIES * ACTIVE_CLASSES; i++) {
        struct active_task *active;
        TAILQ_FOREACH(active, &engine->table.queues[i / ACTIVE_CLASSES][i % ACTIVE_CLASSES], queue)
        {
            *end = active->watches;
            active->watches = NULL;
            while (*end)
                end = &(*end)->next;
        }
    }
    return all;
}

void engine_drain(struct engine *engine)
{
    lock_take(&engine->lock);
    engine->draining = true;
    struct engine_watch *watches = take_queued_watches_locked(engine);
    lock_drop(&engine->lock);
    engine_tell(watches, NULL);
}

bool engine_wait_idle(struct engine *engine, int timeout_ms)
{
    int64_t deadline = clock_mono_ms() + timeout_ms, left = timeout_ms;
    lock_take(&engine->lock);
    while (engine->threads > 0 && left > 0 && lock_wait(&engine->quiet, &engine->lock, left))
        left = deadline - clock_mono_ms();
    bool idle = engine->threads == 0;
    lock_drop(&engine->lock);
    return idle;
}

void engine_interrupt(struct engine *engine)
{
    lock_take(&engine->lock);
    for (size_t i = 0; i < engine->table.bucket_count; i++)
        for (struct active_task *active = engine->table.buckets[i]; active; active = active->next)
            if (active->state == ACTIVE_RUNNING || active->reserved)
                stop_locked(active, STOP_INTERRUPT);
    lock_drop(&engine->lock);
}

char *engine_events_path(const struct engine *engine, const char *id)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s/events", engine->tasks_dir, id) < 0 ? NULL : path;
}
