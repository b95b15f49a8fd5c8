/*
 * Which task starts when, and where.
 *
 * There are two places, this machine and away from it, each with so many slots. A task says by its
 * class (active.h) which of them may have it. This machine takes first; a task that may run in
 * either goes away by the rules of enum config_overflow. Some of these rules depend on time, and so
 * does a task's notBefore: a thread of its own sleeps until the next such moment.
 */
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "runner/task/engine_private.h"

#include <stdlib.h>
#include <string.h>

#define TASK_STACK_BYTES (512u << 10)
#define CLOCK_STACK_BYTES (128u << 10)
#define CLASS(bits) (1u << (bits))
#define EITHER (ACTIVE_HERE | ACTIVE_AWAY)
#define SLEEP_MS 3600000
#define LOOK_MS 15000      /* while tasks sleep: the real clock may have been set */
#define MEMORY_LOOK_MS 500 /* Nothing reports that there is more memory. */

/* --- what may run now ---------------------------------------------------------------------- */

static bool away_is_open(const struct engine *engine, int64_t now)
{
    return engine->config.away && engine->config.limits.away_slots > 0 &&
           now >= engine->away_held_until && engine->table.running[PLACE_AWAY] < engine->away_room;
}

static bool away_is_full(const struct engine *engine)
{
    const int running = engine->table.running[PLACE_AWAY];
    return running >= engine->config.limits.away_slots || running >= engine->away_room;
}

/* The classes that a free slot here may be given to now; 0: no slot is free. */
static unsigned allowed_here(const struct engine *engine, int64_t now)
{
    const struct engine_limits *limits = &engine->config.limits;
    unsigned allowed = CLASS(ACTIVE_HERE), shared = CLASS(ACTIVE_HERE | ACTIVE_SHARED);
    if (engine->table.running[PLACE_HERE] >= limits->slots)
        return 0;
    if (limits->overflow != OVERFLOW_ALWAYS || !away_is_open(engine, now)) {
        allowed |= CLASS(EITHER);
        shared |= CLASS(EITHER | ACTIVE_SHARED);
    }
    return engine->hold == TASK_PENDING ? allowed | shared : allowed;
}

/* Reads how much memory there is; false when that does not matter. */
static bool see_memory(const struct engine *engine, struct active_fit *ret_fit)
{
    if (!engine->config.memory)
        return false;
    *ret_fit = (struct active_fit){.promised_mb = active_promised_mb(&engine->table)};
    engine->config.memory(&ret_fit->memory);
    return true;
}

static struct active_task *take_here(struct engine *engine, int64_t now)
{
    struct active_fit fit;
    unsigned allowed = allowed_here(engine, now);
    engine->memory_awaited = false;
    if (!allowed || engine->table.queued == 0)
        return NULL;
    bool matters = see_memory(engine, &fit);
    struct active_task *active =
        active_take(&engine->table, allowed, INT64_MAX, PLACE_HERE, matters ? &fit : NULL);
    engine->memory_awaited = matters && fit.left_some;
    return active;
}

/* True when a new task need not wait for memory. */
static bool fits_now(const struct engine *engine, const struct task_new *task)
{
    struct active_fit fit;
    return !see_memory(engine, &fit) ||
           task_memory_fits(&fit.memory, fit.promised_mb,
                            task_memory_asked(task->request, strlen(task->request)));
}

bool scheduler_reserve_locked(struct engine *engine, struct active_task *active,
                              const struct task_new *task)
{
    unsigned class = active_class(task->shared, task->stays, task->executor);
    if (engine->draining || engine->table.queued > engine->table.asleep ||
        task->not_before_ms > clock_real_ms() ||
        !(allowed_here(engine, clock_mono_ms()) & CLASS(class)) || !fits_now(engine, task))
        return false;
    active_reserve(&engine->table, active, task);
    engine->threads++;
    return true;
}

bool scheduler_may_leave_locked(const struct engine *engine, unsigned class)
{
    enum config_overflow mode = engine->config.limits.overflow;
    if (!engine->config.away || !(class & ACTIVE_AWAY))
        return false;
    return !(class & ACTIVE_HERE) || mode == OVERFLOW_ALWAYS || mode == OVERFLOW_UNAVAILABLE;
}

/* The classes that may go to the cloud at once. */
static unsigned at_once(const struct engine *engine)
{
    unsigned classes = CLASS(ACTIVE_AWAY) | CLASS(ACTIVE_AWAY | ACTIVE_SHARED);
    enum config_overflow mode = engine->config.limits.overflow;
    if (mode == OVERFLOW_ALWAYS)
        classes |= CLASS(EITHER) | CLASS(EITHER | ACTIVE_SHARED);
    else if (mode == OVERFLOW_UNAVAILABLE && engine->hold != TASK_PENDING)
        classes |= CLASS(EITHER | ACTIVE_SHARED);
    return classes;
}

/* The classes that may go to the cloud after waiting for a slot here. */
static unsigned after_a_while(const struct engine *engine)
{
    enum config_overflow mode = engine->config.limits.overflow;
    if (mode != OVERFLOW_FULL && mode != OVERFLOW_UNAVAILABLE)
        return 0;
    return CLASS(EITHER) | (engine->hold == TASK_PENDING ? CLASS(EITHER | ACTIVE_SHARED) : 0);
}

static struct active_task *take_away(struct engine *engine, int64_t now)
{
    const struct engine_limits *limits = &engine->config.limits;
    if (!away_is_open(engine, now) || away_is_full(engine))
        return NULL;
    struct active_task *active =
        active_take(&engine->table, at_once(engine), INT64_MAX, PLACE_AWAY, NULL);
    return active ? active
                  : active_take(&engine->table, after_a_while(engine),
                                now - limits->overflow_after_ms, PLACE_AWAY, NULL);
}

static struct active_task *next_locked(struct engine *engine) HOLDS(engine->lock);
static struct active_task *next_locked(struct engine *engine)
{
    int64_t now = clock_mono_ms();
    if (engine->draining)
        return NULL;
    struct active_task *active = take_here(engine, now);
    return active ? active : take_away(engine, now);
}

/* --- running it ---------------------------------------------------------------------------- */

struct start {
    struct engine *engine;
    struct active_task *active;
};

static void thread_gone_locked(struct engine *engine) HOLDS(engine->lock);
static void thread_gone_locked(struct engine *engine)
{
    if (--engine->threads == 0)
        pthread_cond_broadcast(&engine->quiet);
}

/* Runs tasks one after the other as long as there are any for this thread. */
static void *task_thread(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    while (start.active) {
        run_live(start.engine, start.active);
        log_set_task(NULL);
        lock_take(&start.engine->lock);
        start.active = next_locked(start.engine);
        lock_drop(&start.engine->lock);
    }
    lock_take(&start.engine->lock);
    thread_gone_locked(start.engine);
    lock_drop(&start.engine->lock);
    return NULL;
}

static int start_thread(struct engine *engine, struct active_task *active)
{
    struct err err;
    struct start *start = malloc(sizeof(*start));
    if (!start)
        return -1;
    *start = (struct start){engine, active};
    int rc = thread_start_detached("task", TASK_STACK_BYTES, task_thread, start, &err);
    if (rc)
        free(start);
    return rc ? -1 : 0;
}

static void *watch_clock(void *arg);

/* Makes sure that the clock's thread runs, for tasks that sleep. */
static void need_clock_locked(struct engine *engine) HOLDS(engine->lock);
static void need_clock_locked(struct engine *engine)
{
    struct err err;
    if (!engine->clock_thread.running && !engine->clock_stops &&
        thread_start(&engine->clock_thread, "scheduler", CLOCK_STACK_BYTES, watch_clock, engine,
                     &err))
        log_error("task", "tasks with notBefore wait for the next occasion: %s", err.msg);
}

void scheduler_start_locked(struct engine *engine, struct active_task *active)
{
    if (start_thread(engine, active) == 0)
        return;
    thread_gone_locked(engine);
    active_put_back(&engine->table, active);
    log_error("task", "cannot start a thread; %d tasks wait", engine->table.queued);
}

void scheduler_give_back_locked(struct engine *engine)
{
    thread_gone_locked(engine);
    scheduler_schedule_locked(engine);
}

/* Starts what may run. When no thread can be started the task goes back to its place and waits for
 * the next call. */
void scheduler_schedule_locked(struct engine *engine)
{
    struct active_task *active;
    while ((active = next_locked(engine))) {
        engine->threads++;
        if (start_thread(engine, active) == 0)
            continue;
        engine->threads--;
        active_put_back(&engine->table, active);
        log_error("task", "cannot start a thread; %d tasks wait", engine->table.queued);
        break;
    }
    if (!TAILQ_EMPTY(&engine->table.sleeping))
        need_clock_locked(engine);
    if (engine->clock_thread.running && engine->table.queued > 0)
        pthread_cond_signal(&engine->clock);
}

void scheduler_adopt(struct engine *engine, const struct task_record *record, bool counted)
{
    lock_take(&engine->lock);
    bool stays = engine->draining || active_find(&engine->table, record->id);
    struct active_task *active = stays ? NULL : active_add(&engine->table, record->id);
    if (active) {
        active_adopt(&engine->table, active, record);
        active->counted = counted;
        engine->threads++;
        if (start_thread(engine, active)) {
            engine->threads--;
            active_remove(&engine->table, active);
            active = NULL;
        }
    }
    lock_drop(&engine->lock);
    if (!active && !stays)
        log_error("task", "out of memory; task '%s' waits for the next start", record->id);
}

void engine_set_limits(struct engine *engine, const struct engine_limits *limits)
{
    lock_take(&engine->lock);
    engine->config.limits = *limits;
    scheduler_schedule_locked(engine);
    lock_drop(&engine->lock);
}

void engine_set_away(struct engine *engine, const struct executor *executor)
{
    engine->config.away = executor;
}

void engine_limit_away(struct engine *engine, const struct engine_away *away)
{
    lock_take(&engine->lock);
    engine->away_held_until = away->hold_ms > 0 ? clock_mono_ms() + away->hold_ms : 0;
    engine->away_room = away->room;
    engine->away_why = away->why;
    scheduler_schedule_locked(engine);
    lock_drop(&engine->lock);
}

/* True when a slot here is free, but not the memory of the task or of one before it. */
static bool waits_for_memory(struct engine *engine, const struct task_record *record)
{
    struct active_fit fit;
    const struct active_task *active = active_find(&engine->table, record->id);
    return active && active->state == ACTIVE_QUEUED &&
           (allowed_here(engine, clock_mono_ms()) & CLASS(active->class)) &&
           see_memory(engine, &fit) &&
           ((engine->memory_awaited && active->memory_mb > 0) ||
            !task_memory_fits(&fit.memory, fit.promised_mb, active->memory_mb));
}

const char *engine_waits_for(struct engine *engine, const struct task_record *record)
{
    const char *why = NULL;
    if (record->state != TASK_PENDING)
        return NULL;
    lock_take(&engine->lock);
    if (waits_for_memory(engine, record))
        why = "memory_full";
    else if (record->stays || record->executor == EXECUTOR_LOCAL ||
             (record->executor == EXECUTOR_AUTO && engine->config.limits.overflow == OVERFLOW_OFF))
        why = NULL;
    else if (engine->config.away && (clock_mono_ms() < engine->away_held_until ||
                                     engine->table.running[PLACE_AWAY] >= engine->away_room))
        why = engine->away_why;
    else if (engine->config.away && away_is_full(engine))
        why = "cloud_full";
    lock_drop(&engine->lock);
    return why;
}

/* --- time ---------------------------------------------------------------------------------- */

/* For how long nothing can change by itself. */
static int64_t quiet_ms(const struct engine *engine)
{
    const struct engine_limits *limits = &engine->config.limits;
    int64_t now = clock_mono_ms(), due = now + SLEEP_MS;
    int64_t since = active_waits_since(&engine->table, after_a_while(engine));
    if (engine->memory_awaited && engine->table.queued > 0)
        return MEMORY_LOOK_MS;
    if (away_is_full(engine) || engine->table.queued == 0)
        return SLEEP_MS; /* A task that ends or arrives calls the scheduler. */
    if (since >= 0 && since + limits->overflow_after_ms < due)
        due = since + limits->overflow_after_ms;
    if (engine->away_held_until > now && (due <= engine->away_held_until ||
                                          active_waits_since(&engine->table, at_once(engine)) >= 0))
        due = engine->away_held_until;
    return due > now ? due - now : 1;
}

static void *watch_clock(void *arg)
{
    struct engine *engine = arg;
    lock_take(&engine->lock);
    while (!engine->clock_stops) {
        int64_t quiet = engine->config.away || engine->config.memory ? quiet_ms(engine) : SLEEP_MS;
        int64_t asleep = active_wake(&engine->table, clock_real_ms());
        if (asleep >= 0 && asleep + 1 < quiet)
            quiet = asleep + 1;
        if (asleep >= 0 && quiet > LOOK_MS)
            quiet = LOOK_MS;
        (void)lock_wait(&engine->clock, &engine->lock, quiet);
        active_wake(&engine->table, clock_real_ms());
        if (!engine->clock_stops)
            scheduler_schedule_locked(engine);
    }
    lock_drop(&engine->lock);
    return NULL;
}

int scheduler_start(struct engine *engine, struct err *err)
{
    int rc = 0;
    lock_take(&engine->lock); /* Adopted tasks are already running. */
    if ((engine->config.away || engine->config.memory) && !engine->clock_thread.running)
        rc = thread_start(&engine->clock_thread, "scheduler", CLOCK_STACK_BYTES, watch_clock,
                          engine, err);
    lock_drop(&engine->lock);
    return rc;
}

void scheduler_stop(struct engine *engine)
{
    lock_take(&engine->lock);
    engine->clock_stops = true; /* No thread starts the clock any more. */
    pthread_cond_signal(&engine->clock);
    lock_drop(&engine->lock);
    thread_join(&engine->clock_thread);
}
