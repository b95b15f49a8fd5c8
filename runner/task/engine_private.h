/*
 * The engine's private parts, shared by its files: engine.c (the table and its life), arrival.c
 * (submitting), scheduler.c (what runs when and where), run.c (one task), answer.c (what is said
 * about it), metrics_task.c and restart.c. Private to runner/task.
 *
 * Threads: any; `_locked` expects engine.lock held, everything else expects it free. Ownership: an
 * engine owns its active tasks; watches belong to their callers.
 */
#ifndef TASK_CORE_H
#define TASK_CORE_H

#include "base/lock.h"
#include "base/metric.h"
#include "base/thread.h"
#include "runner/task/active.h"
#include "runner/task/engine.h"
#include "runner/task/leavings.h"

#include <pthread.h>

#define MEND_LOCKS 16
#define OUTPUT_BYTES_MAX (64u << 20)
#define MEMBERS_BYTES_MAX (4u << 20)
#define ANSWER_BYTES_MAX (2 * OUTPUT_BYTES_MAX + MEMBERS_BYTES_MAX)
#define RUN_ATTEMPTS_MAX 3 /* most attempts of a task that may run again */

/* Statistics of one kind of task, since the start (metrics_task.c). */
struct kind_numbers {
    const char *name; /* borrowed */
    struct histogram waited, ran;
    struct tally ended; /* by state and reason */
};

struct numbers {
    struct kind_numbers *kinds; /* in the order of engine_config.kinds, and one for all others */
    size_t count;
    _Atomic int64_t event_bytes;
};

struct engine {
    struct engine_config config; /* its limits change under the lock */
    char *tasks_dir;
    char *run_dir;

    struct lock lock;     /* guards the fields below; never held across I/O */
    pthread_cond_t quiet; /* signalled when threads becomes 0 */
    pthread_cond_t clock; /* signalled when the tasks that wait for the cloud have changed */
    bool clock_stops;
    struct thread clock_thread;
    int64_t away_held_until; /* mono */
    int away_room;           /* tasks that the cloud takes at once, as far as is known */
    const char *away_why;    /* static: why it takes no more */
    struct active_table table;
    int threads; /* threads of tasks, including their last clean-up */
    bool draining;
    bool memory_awaited;  /* a task waits only for memory */
    enum task_state hold; /* TASK_PENDING: shared tasks may start; else their pause */
    int64_t completed, failed, cancelled;

    struct numbers numbers;   /* not under the lock */
    struct leavings leavings; /* not under the lock */

    /* Held while a task's events are begun or completed, which its thread, its canceller and any
     * reader may want to do at once; the task's id selects one. Taken alone, and held across
     * I/O. */
    struct lock mend[MEND_LOCKS];
};

/* scheduler.c: starts every task that may run now. */
void scheduler_schedule_locked(struct engine *engine) HOLDS(engine->lock);
/* Reserves a slot here, and a thread's place, for an arriving task; false when it must queue. Ended
 * by scheduler_start_locked() once active_start() has made the task running, or by
 * scheduler_give_back_locked() once it is out of the table. */
bool scheduler_reserve_locked(struct engine *engine, struct active_task *active,
                              const struct task_new *task) HOLDS(engine->lock);
void scheduler_start_locked(struct engine *engine, struct active_task *active) HOLDS(engine->lock);
void scheduler_give_back_locked(struct engine *engine) HOLDS(engine->lock);
/* True when a task of that class may go to the cloud although a pause keeps it from running
 * here. */
bool scheduler_may_leave_locked(const struct engine *engine, unsigned class) HOLDS(engine->lock);
/* Takes up a task that is already running; nothing once the engine drains: then it stays for the
 * next start. */
void scheduler_adopt(struct engine *engine, const struct task_record *record, bool counted);
/* Start and stop the thread that sends tasks to the cloud when they have waited long enough. */
int scheduler_start(struct engine *engine, struct err *err);
void scheduler_stop(struct engine *engine);

/* Runs one task to its end and tells its watchers; `active` is freed. */
void run_live(struct engine *engine, struct active_task *active);

/* Puts a running task back to the front of the queue; impatient watchers are told. */
void engine_put_back(struct engine *engine, struct active_task *active);

/* Removes an ended task from the table, counts it and tells its watchers, with its answer where
 * there is one (else NULL). */
void engine_retire(struct engine *engine, struct active_task *active, enum task_state state,
                   const struct buf *answer);

/* Opens the events of a task, and adds the first one unless it is there. The caller closes them. */
struct events *run_begin_events(struct engine *engine, const struct task_record *record,
                                struct err *err);

/* Adds the last events of an ended task, unless a reader that found it ended was faster. */
int run_add_last(struct engine *engine, struct events *events, const struct task_record *record,
                 const struct buf *answer, struct err *err);

/* Calls ended() of each watch, which may free it. Call without a lock. */
void engine_tell(struct engine_watch *watches, const struct buf *answer);

/* The pause of shared tasks; TASK_PENDING: none. */
enum task_state engine_held(struct engine *engine);
/* Writes that pause to the store. */
void engine_store_hold(struct engine *engine);

/* Makes a task's directory and its first event. */
int run_announce(struct engine *engine, const struct task_record *record, struct err *err);

/* Appends the answer of an ended task with these texts. */
int run_print_answer(const struct engine *engine, const struct task_record *record,
                     const struct buf *output, const struct buf *errors, struct buf *out,
                     struct err *err);

/* The exit code that the contract gives for some reasons: 124 after a time limit, 130 when
 * cancelled. */
int outcome_exit_code(const char *reason, int exit_code);

/* Prints the members of the answer, in the form of the store's summary. */
void run_print_summary(const struct task_outcome *outcome, int64_t duration_ms, struct buf *out);

int numbers_init(struct numbers *numbers, const struct task_kind *kinds, struct err *err);
void numbers_done(struct numbers *numbers);
/* Counts the first start of a task. */
void numbers_began(struct engine *engine, const char *kind, int64_t waited_ms);
/* Counts its end: once for each task, when the store has its end. */
void numbers_ended(struct engine *engine, const char *kind, enum task_state state,
                   const char *reason);
/* Counts how long it ran; the summary is the store's. */
void numbers_ran(struct engine *engine, const char *kind, int64_t ran_ms,
                 const struct buf *summary);

#endif
