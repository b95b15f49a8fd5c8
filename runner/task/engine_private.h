/*
 * The engine's inside, shared by engine.c (queue and life), run.c (one task) and restart.c.
 * Private to runner/task.
 */
#ifndef TASK_CORE_H
#define TASK_CORE_H

#include "base/metric.h"
#include "base/thread.h"
#include "runner/task/active.h"
#include "runner/task/engine.h"

#include <pthread.h>

#define MEND_LOCKS 16
#define RUN_ATTEMPTS_MAX 3 /* a task that may be run again is, at most so often */

#define TOKEN_TYPES 4

/* Of one kind of task, since the start (numbers.c). */
struct kind_numbers {
    const char *name; /* borrowed */
    struct histogram waited, ran;
    struct tally ended; /* by state and reason */
    _Atomic int64_t tokens[TOKEN_TYPES];
    _Atomic int64_t nano_usd;
};

struct numbers {
    struct kind_numbers *kinds; /* in the order of engine_config's, and one for all others */
    size_t count;
    _Atomic int64_t event_bytes;
};

struct engine {
    struct engine_config config; /* its limits change under the lock */
    char *tasks_dir;
    char *run_dir;

    pthread_mutex_t lock; /* of all that follows; never held across I/O */
    pthread_cond_t quiet; /* threads became 0 */
    pthread_cond_t clock; /* what waits for the cloud has changed */
    bool clock_stops;
    struct thread clock_thread;
    int64_t cloud_held_until; /* mono */
    struct active_table table;
    int threads; /* task threads, the last clean-up included */
    bool draining;
    enum task_state hold; /* TASK_PENDING: shared tasks may start; else why they wait */
    int64_t completed, failed, cancelled;

    struct numbers numbers; /* not under the lock */

    /* Held while a task's events are begun or concluded, which its thread, its canceller and any
     * reader may want to do at once; which of them by the task's id. Taken alone, and across I/O.
     */
    pthread_mutex_t mend[MEND_LOCKS];
};

/* scheduler.c: starts whatever may run now. */
void scheduler_schedule_locked(struct engine *engine);
/* True when a task of that class may go to the cloud although a pause keeps it from running here.
 */
bool scheduler_may_leave_locked(const struct engine *engine, unsigned class);
/* Starts a task that is running already. */
void scheduler_adopt(struct engine *engine, const struct task_record *record);
/* The thread that lets tasks go to the cloud when they have waited long enough. */
int scheduler_start(struct engine *engine, struct err *err);
void scheduler_stop(struct engine *engine);

/* Runs one task to its end and tells its watchers; `active` is gone afterwards. */
void run_live(struct engine *engine, struct active_task *active);

/* Puts a running task back to the front of the queue; who does not want to wait is told. */
void engine_put_back(struct engine *engine, struct active_task *active);

/* Takes an ended task out of the table, counts it and tells its watchers. */
void engine_retire(struct engine *engine, struct active_task *active, enum task_state state);

/* Makes a task's directory and its first event. */
int run_announce(struct engine *engine, const char *id, struct err *err);

/* The members of the answer, as store.h's summary. */
void run_print_summary(const struct task_outcome *outcome, int64_t duration_ms, struct buf *out);

int numbers_init(struct numbers *numbers, const struct task_kind *kinds, struct err *err);
void numbers_done(struct numbers *numbers);
/* A task has been started for the first time. */
void numbers_began(struct engine *engine, const char *kind, int64_t waited_ms);
/* It has ended: once for each task, when the store has its end. */
void numbers_ended(struct engine *engine, const char *kind, enum task_state state,
                   const char *reason);
/* It had run before that; the summary is the store's. */
void numbers_ran(struct engine *engine, const char *kind, int64_t ran_ms,
                 const struct buf *summary);

#endif
