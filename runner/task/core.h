/*
 * The engine's inside, shared by engine.c (queue and life), run.c (one task) and restart.c.
 * Private to runner/task.
 */
#ifndef TASK_CORE_H
#define TASK_CORE_H

#include "runner/task/engine.h"
#include "runner/task/live.h"

#include <pthread.h>

#define MEND_LOCKS 16
#define RUN_ATTEMPTS_MAX 3 /* a task that may be run again is, at most so often */

struct engine {
    struct engine_config config; /* its limits change under the lock */
    char *tasks_dir;
    char *run_dir;

    pthread_mutex_t lock; /* of all that follows; never held across I/O */
    pthread_cond_t quiet; /* threads became 0 */
    pthread_cond_t clock; /* what waits for the cloud has changed */
    bool clock_runs, clock_stops;
    pthread_t clock_thread;
    int64_t cloud_held_until; /* mono */
    struct live_table table;
    int threads; /* task threads, the last clean-up included */
    bool draining;
    enum task_state hold; /* TASK_PENDING: shared tasks may start; else why they wait */
    int64_t completed, failed, cancelled;

    /* Held while a task's events are begun or concluded, which its thread, its canceller and any
     * reader may want to do at once; which of them by the task's id. Taken alone, and across I/O.
     */
    pthread_mutex_t mend[MEND_LOCKS];
};

/* lanes.c: starts whatever may run now. */
void lanes_schedule_locked(struct engine *engine);
/* True when a task of that class may go to the cloud although a pause keeps it from running here.
 */
bool lanes_may_leave_locked(const struct engine *engine, unsigned class);
/* Starts a task that is running already. */
void lanes_adopt(struct engine *engine, const struct task_record *record);
/* The thread that lets tasks go to the cloud when they have waited long enough. */
int lanes_start(struct engine *engine, struct err *err);
void lanes_stop(struct engine *engine);

/* Runs one task to its end and tells its watchers; `live` is gone afterwards. */
void run_live(struct engine *engine, struct live *live);

/* Puts a running task back to the front of the queue; who does not want to wait is told. */
void engine_put_back(struct engine *engine, struct live *live);

/* Takes an ended task out of the table, counts it and tells its watchers. */
void engine_retire(struct engine *engine, struct live *live, enum task_state state);

/* Makes a task's directory and its first event. */
int run_announce(struct engine *engine, const char *id, struct err *err);

/* The members of the answer, as store.h's summary. */
void run_print_summary(const struct task_outcome *outcome, int64_t duration_ms, struct buf *out);

#endif
