/*
 * What the engine keeps to itself, shared by its files: engine.c (the table and its life),
 * arrival.c (submitting), scheduler.c (what runs when and where), run.c (one task), answer.c (what
 * is said of it), metrics_task.c and restart.c. Private to runner/task.
 *
 * Threads: any; `_locked` expects engine.lock held, everything else expects it free.
 * Ownership: an engine owns its active tasks; watches are their callers'.
 */
#ifndef TASK_CORE_H
#define TASK_CORE_H

#include "base/lock.h"
#include "base/metric.h"
#include "base/thread.h"
#include "runner/task/active.h"
#include "runner/task/engine.h"

#include <pthread.h>

#define MEND_LOCKS 16
#define OUTPUT_BYTES_MAX (64u << 20)
#define MEMBERS_BYTES_MAX (4u << 20)
#define ANSWER_BYTES_MAX (2 * OUTPUT_BYTES_MAX + MEMBERS_BYTES_MAX)
#define RUN_ATTEMPTS_MAX 3 /* a task that may be run again is, at most so often */

/* Of one kind of task, since the start (metrics_task.c). */
struct kind_numbers {
    const char *name; /* borrowed */
    struct histogram waited, ran;
    struct tally ended; /* by state and reason */
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

    struct lock lock;     /* of all that follows; never held across I/O */
    pthread_cond_t quiet; /* threads became 0 */
    pthread_cond_t clock; /* what waits to go away has changed */
    bool clock_stops;
    struct thread clock_thread;
    int64_t away_held_until; /* mono */
    int away_room;           /* tasks that the place takes at once, as far as known */
    const char *away_why;    /* static: why no more */
    struct active_table table;
    int threads; /* task threads, the last clean-up included */
    bool draining;
    bool memory_awaited;  /* a task waits for memory only */
    enum task_state hold; /* TASK_PENDING: shared tasks may start; else why they wait */
    int64_t completed, failed, cancelled;

    struct numbers numbers; /* not under the lock */

    /* Held while a task's events are begun or concluded, which its thread, its canceller and any
     * reader may want to do at once; which of them by the task's id. Taken alone, and across I/O.
     */
    struct lock mend[MEND_LOCKS];
};

/* scheduler.c: starts whatever may run now. */
void scheduler_schedule_locked(struct engine *engine) HOLDS(engine->lock);
/* Keeps a slot here, and a thread's place, for an arriving task; false when it has to queue. Ended
 * by scheduler_start_locked() for a task that active_start() has made a running one, or by
 * scheduler_give_back_locked() once the task is out of the table. */
bool scheduler_reserve_locked(struct engine *engine, struct active_task *active,
                              const struct task_new *task) HOLDS(engine->lock);
void scheduler_start_locked(struct engine *engine, struct active_task *active) HOLDS(engine->lock);
void scheduler_give_back_locked(struct engine *engine) HOLDS(engine->lock);
/* True when a task of that class may go away although a pause keeps it from running here. */
bool scheduler_may_leave_locked(const struct engine *engine, unsigned class) HOLDS(engine->lock);
/* Starts a task that is running already. */
void scheduler_adopt(struct engine *engine, const struct task_record *record);
/* The thread that lets tasks go away when they have waited long enough. */
int scheduler_start(struct engine *engine, struct err *err);
void scheduler_stop(struct engine *engine);

/* Runs one task to its end and tells its watchers; `active` is gone afterwards. */
void run_live(struct engine *engine, struct active_task *active);

/* Puts a running task back to the front of the queue; who does not want to wait is told. */
void engine_put_back(struct engine *engine, struct active_task *active);

/* Takes an ended task out of the table, counts it and tells its watchers, with its answer where
 * that is at hand (else NULL). */
void engine_retire(struct engine *engine, struct active_task *active, enum task_state state,
                   const struct buf *answer);

/* The events of a task, with the first one there. */
struct events *run_begin_events(struct engine *engine, const struct task_record *record,
                                struct err *err);

/* Adds the last events of an ended task, unless a reader who found it ended was faster. */
int run_add_last(struct engine *engine, struct events *events, const struct task_record *record,
                 const struct buf *answer, struct err *err);

/* Calls ended() of each watch, which may free it. No lock is held. */
void engine_tell(struct engine_watch *watches, const struct buf *answer);

/* What shared tasks wait for now; TASK_PENDING: nothing. */
enum task_state engine_held(struct engine *engine);
/* Brings the store in line with that. */
void engine_store_hold(struct engine *engine);

/* Makes a task's directory and its first event. */
int run_announce(struct engine *engine, const struct task_record *record, struct err *err);

/* Appends the answer of an ended task whose texts are these. */
int run_print_answer(const struct engine *engine, const struct task_record *record,
                     const struct buf *output, const struct buf *errors, struct buf *out,
                     struct err *err);

/* The exit code that a contract gives to some reasons: 124 after a time limit, 130 when cancelled.
 */
int outcome_exit_code(const char *reason, int exit_code);

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
