/*
 * The two axes of a task: what it is (its kind) and where it runs (a place, by an executor). The
 * engine joins them; it compares names and knows none.
 *
 *     kind      claude   command   …            one row each, made by the kind's own room
 *     executor  this machine (the engine's own: calls kind->run()), and one for tasks that go away
 *
 * Threads: rows do not change while an engine has them. run() is called on the task's own thread,
 * the other functions on any.
 * Ownership: everything is borrowed from who made the row.
 */
#ifndef TASK_KIND_H
#define TASK_KIND_H

#include "base/buf.h"
#include "base/metric.h"
#include "runner/store/store.h"

#include <stdbool.h>

struct task_request;
struct task_run;

/* The outcome of a run. `reason` is one of api.md's words; `error` is a sentence for a person. */
struct task_outcome {
    /* One of TASK_ENDED_STATES; or one of TASK_WAITING_STATES: nothing has been done yet, and the
     * task goes back into the queue (TASK_PENDING) or runs again when that pause ends; or
     * TASK_RUNNING: it goes on without this process, and the next start may adopt it. */
    enum task_state state;
    char reason[32];
    char error[512];
    int exit_code;
    struct buf output;  /* its output: the answer's text */
    struct buf errors;  /* its error output (stderr), for kinds that show it */
    struct buf members; /* further members of the answer: ,"k":v,… */
    bool refused; /* with TASK_PENDING: its place refused it; this does not count as an attempt */
    bool truncated;
    bool resumable;      /* a later task can continue from its end */
    bool may_change;     /* it is given up, and may still become something else (engine_resume());
                          * who says so counts it (engine_count()) */
    int64_t duration_ms; /* of its own, where it ran elsewhere; 0: as long as it took here */
};

struct task_kind {
    const char *name; /* stored with each task; NULL ends a list of rows */
    unsigned fields;  /* the request fields it has: REQUEST_CLAUDE, … (request.h) */

    /* Does the work on this machine and fills in the outcome, which begins as a failure without a
     * reason. */
    void (*run)(struct task_run *run, struct task_outcome *outcome, void *arg);
    void *arg;

    /* True when the request uses the shared account: it waits while that is paused, for a login or
     * the end of a usage limit. NULL: pauses do not concern this kind. */
    bool (*shares_account)(const struct task_request *request);

    /* Why the request must stay on this machine, as a static text, or NULL when it may go to the
     * cloud; `key_waits` says that there is a credential there. NULL: it may always go. */
    const char *(*stays)(const struct task_request *request, bool key_waits);

    /* The name of a task's private directory; tasks with the same one never run at the same time.
     * NULL: its id. */
    const char *(*dir_name)(const struct task_record *record);

    /* Appends the members of the answer that hold the task's output: "k":"…",… */
    void (*print_said)(const struct buf *output, const struct buf *errors, struct buf *out);

    /* Count what an ended task's summary (store.h) says, and print the counters. NULL: the kind has
     * no counters of its own. */
    void (*count)(const struct buf *summary, void *arg);
    void (*metrics)(struct metric_page *page, void *arg);
};

/* An executor: runs tasks of any kind in one place. */
struct executor {
    void (*run)(struct task_run *run, struct task_outcome *outcome, void *arg);
    void *arg;
    bool outlives; /* its tasks go on when this process ends: the next one adopts them */
};

/* The print_said() of kinds with one text: "output":"…" */
void kind_print_output(const struct buf *output, const struct buf *errors, struct buf *out);

#endif
