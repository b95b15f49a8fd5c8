/*
 * One task's way through the cloud, shared by overflow.c, place.c, relay.c, follow.c and end.c.
 * Private to runner/overflow.
 *
 * Threads: the task's own. Ownership: a cloud_task owns what its fields do not call borrowed.
 */
#ifndef OVERFLOW_CLOUD_TASK_H
#define OVERFLOW_CLOUD_TASK_H

#include "google/jobs.h"

#include "base/lock.h"
#include "runner/overflow/overflow.h"
#include "runner/overflow/window.h"

#define CLOUD_TASK_ENV_RUN "TASK_RUN" /* ID/ATTEMPT: by it an execution is found again */

struct sweep;

struct overflow {
    struct overflow_config config;
    struct lock lock; /* of what follows */
    struct overflow_status status;
    struct window window;
    struct sweep *sweep;
    struct warm *warm; /* executions that stay (warm.h) */
    int warm_count;
    const char *why; /* static: of the last refusal, for tasks that wait */
};

/* How its execution is doing (follow.h). */
struct follow {
    int64_t look_ms;   /* mono: when to look next */
    int64_t lost_ms;   /* real: then its time is over */
    int64_t ending_ms; /* mono: when it was first to be asked to end; 0: not yet */
    int64_t beat_ms;   /* mono: when something last told that it lives */
    int64_t beat;      /* the generation of its heartbeat */
    bool gone;         /* there was none when it was looked for */
    bool still;        /* its heartbeat stands still */
};

struct cloud_task {
    struct overflow *overflow;
    const struct cloud *cloud; /* borrowed */
    struct task_run *run;
    struct task_outcome *outcome;
    const char *id; /* borrowed from the record */
    struct task_request *request;
    char job[RUN_NAME_SIZE]; /* the configured one, or that of its image and size */
    struct store_placement placement;
    int64_t offset;   /* relay: of the job's events, what has been passed on */
    int64_t skip;     /* relay: events after it that had been passed on before */
    int64_t asked_ms; /* mono: when Google was last asked for something that it may refuse */
    bool in_flight;   /* it counts among the executions that were granted */
    int cursor_fd;    /* relay: the file that says so */
    bool awaited;     /* relay: the next piece was asked for, and was not there yet */
    int64_t rest_ms;  /* relay: it is no use to ask for it any sooner */
    bool done;        /* the job's last event has come */
    bool holes;       /* some of its events are lost */
    bool heard;       /* the first of its events has come */
    bool unclaimed; /* its execution ended and had not taken the task: nobody will run this attempt
                     */
    bool ended;     /* the execution has */
    struct follow follow;
    struct jobs_execution execution;
    bool reuses; /* an execution that has run another task before */
    bool asked_to_end;
    bool cancelled; /* so that was because somebody cancelled it */
    bool timed_out; /* or because its time was over */
};

/* What became of a step. */
enum step {
    STEP_ON,   /* the next one */
    STEP_OVER, /* the outcome is filled */
};

/* Has an execution for the task, whose name is in task->placement. */
enum step cloud_task_place(struct cloud_task *task);

/* Follows it until its last event has come or it has ended. */
enum step cloud_task_relay(struct cloud_task *task);

/* Fills the outcome from the result, or from what is known without one. */
void cloud_task_end(struct cloud_task *task);

/* Passes on the pieces that are there. 1: some; 0: none; -1: they cannot be read. */
int cloud_task_take_pieces(struct cloud_task *task, struct err *err);
/* The same at the end, past pieces that have vanished. */
void cloud_task_take_rest(struct cloud_task *task, int64_t events_bytes);

/* Waits, or until somebody wants the task to stop. */
void cloud_task_wait(struct cloud_task *task, int64_t ms);

/* Fills the outcome: it stays active as `state`, or ends. */
void cloud_task_settle(struct cloud_task *task, enum task_state state, const char *reason,
                       const char *error);

/* The same for a task that goes back into the queue, and was not begun. */
void cloud_task_put_back(struct cloud_task *task, const char *reason, const char *error);

/* The cloud refused the task, or could not be reached: tasks wait (window.h). */
void overflow_note_refusal(struct overflow *overflow, const struct cloud_task *task,
                           const struct err *err);
/* The task's execution was granted; or, adopted, had been. */
void overflow_note_success(struct overflow *overflow, struct cloud_task *task, bool adopted);
/* It counts no more. */
void overflow_note_end(struct overflow *overflow, struct cloud_task *task);
/* Why a task has to wait after a refusal: a reason of outcomes. */
const char *overflow_reason_of(const struct err *err);

/* True when no job has taken the attempt, and none will any more: then the claim is ours. */
bool cloud_task_is_unclaimed(struct cloud_task *task);

/* Its time is over: nobody opens it any more. */
void cloud_task_delete_payload(struct cloud_task *task);

/* The list of outputs beside the events. */
int cloud_task_save_outputs(const char *keep_dir, const void *json, size_t len, struct err *err);

#endif
