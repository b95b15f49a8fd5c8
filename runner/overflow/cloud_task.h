/*
 * One task's way through the cloud, shared by overflow.c, place.c with supplies.c and claims.c,
 * relay.c, follow.c and end.c. Private to runner/overflow.
 *
 * Threads: the task's own. Ownership: a cloud_task owns what its fields do not call borrowed.
 */
#ifndef OVERFLOW_CLOUD_TASK_H
#define OVERFLOW_CLOUD_TASK_H

#include "google/jobs.h"

#include "base/lock.h"
#include "runner/overflow/overflow.h"
#include "runner/overflow/window.h"

#define CLOUD_TASK_ENV_RUN "TASK_RUN" /* ID/ATTEMPT: identifies an execution */

struct folder_result;
struct late;
struct sweep;

struct overflow {
    struct overflow_config config;
    struct lock lock; /* guards the fields below */
    struct overflow_status status;
    struct window window;
    struct sweep *sweep;
    struct late *late;
    struct warm *warm; /* executions that stay (warm.h) */
    int warm_count;
    const char *why; /* static: reason of the last refusal, for tasks that wait */
};

/* The state of its execution (follow.h). */
struct follow {
    int64_t look_ms;   /* mono: when to look next */
    int64_t lost_ms;   /* real: when its time is over */
    int64_t ending_ms; /* mono: when it was first asked to end; 0: not yet */
    int64_t beat_ms;   /* mono: when something last showed that it is alive */
    int64_t beat;      /* the generation of its heartbeat */
    bool gone;         /* it was looked for and not found */
    bool still;        /* its heartbeat has stopped */
};

struct cloud_task {
    struct overflow *overflow;
    const struct cloud *cloud; /* borrowed */
    struct task_run *run;
    struct task_outcome *outcome;
    const char *id; /* borrowed from the record */
    struct task_request *request;
    char job[RUN_NAME_SIZE]; /* the configured job, or the one for its image and size */
    struct store_placement placement;
    int64_t offset;   /* relay: how much of the job's events has been passed on */
    int64_t skip;     /* relay: events after it that an earlier process had passed on */
    int64_t asked_ms; /* mono: when Google was last asked for something that it can refuse */
    bool in_flight;   /* it counts as a granted execution */
    int cursor_fd;    /* relay: the file that stores the offset */
    bool awaited;     /* relay: the next piece was asked for and did not exist */
    int64_t rest_ms;  /* relay: the next piece cannot exist before this time */
    bool done;        /* the job's last event has arrived */
    bool holes;       /* some of its events are lost */
    bool heard;       /* its first event has arrived */
    bool others;      /* another instance took it */
    int64_t taken_ms; /* then */
    bool sealed;      /* its secrets are in the payload only */
    bool unclaimed; /* its execution ended without taking the task: nobody will run this attempt */
    bool ended;     /* the execution has ended */
    bool late;      /* its result was there when it was adopted */
    struct follow follow;
    struct jobs_execution execution;
    bool reuses; /* an execution that has run another task before */
    bool asked_to_end;
    bool cancelled; /* it was asked to end because somebody cancelled it */
    bool timed_out; /* it was asked to end because its time was over */
};

/* The result of a step. */
enum step {
    STEP_ON,   /* go on with the next step */
    STEP_OVER, /* the outcome is filled in */
};

/* Makes sure that there is an execution for the task; its name is in task->placement. */
enum step cloud_task_place(struct cloud_task *task);

/* Puts into the bucket what the execution needs, and makes sure that there is a job for it. When
 * that fails the outcome is filled in. */
enum step cloud_task_supply(struct cloud_task *task);

/* Fills in the outcome of a task that the cloud has refused. A temporary refusal makes it wait; a
 * wrong set-up fails tasks that asked for the cloud, and lets others run locally. */
enum step cloud_task_refuse(struct cloud_task *task, const struct err *err);

enum resolution {
    RES_FOUND, /* the placement has its execution's name, unless the claim does not tell it */
    RES_NONE,  /* the attempt is over: nobody will run it */
    RES_ASK,   /* it is to be asked for again */
    RES_LATER, /* somebody wants us to stop */
};

/* Finds out what a lost answer meant. */
enum resolution cloud_task_resolve(struct cloud_task *task);
/* The same for a task that another instance took, which may have asked for an execution or be about
 * to. When it shows nothing for long enough we ask, for the same attempt: the claim lets one
 * execution run it. */
enum resolution cloud_task_resolve_others(struct cloud_task *task);

/* Writes the claim, so that no job can have it. The first one keeps it. */
void cloud_task_revoke(struct cloud_task *task);

/* Follows it until its last event has arrived or it has ended. */
enum step cloud_task_relay(struct cloud_task *task);

/* Fills in the outcome from the result, or from what is known without one. */
void cloud_task_end(struct cloud_task *task);

enum result_found {
    RESULT_FOUND,
    RESULT_ABSENT, /* there is none, or another attempt's */
    RESULT_MALFORMED,
    RESULT_UNREAD, /* the bucket could not be read */
};

/* Looks in the bucket for the result of an attempt: FOLDER_RESULT, or FOLDER_OUTCOME. `result` was
 * begun by folder_result_init(); end it by folder_result_done(). stop(), which may be NULL, gives
 * up. */
enum result_found cloud_find_result(const struct cloud *cloud, const char *id, const char *what,
                                    int attempt, bool (*stop)(void *arg), void *arg,
                                    struct folder_result *result, struct err *err);

/* For an execution that ended without a result: the outcome that it stored before its outputs, with
 * those outputs that arrived (arrived.c). Returns how many did not, -1 when nothing is known.
 * `result` is as for cloud_find_result(). */
int cloud_find_outcome(struct cloud_task *task, struct folder_result *result);

/* True when the bucket has the result of the task's attempt. */
bool cloud_task_has_result(struct cloud_task *task);

/* Passes on the pieces that exist. Returns 1 when there were some, 0 for none, -1 when they cannot
 * be read. */
int cloud_task_take_pieces(struct cloud_task *task, struct err *err);
/* Passes on the rest at the end, skipping pieces that have vanished. */
void cloud_task_take_rest(struct cloud_task *task, int64_t events_bytes);

/* Waits for `ms`, or until somebody wants the task to stop. */
void cloud_task_wait(struct cloud_task *task, int64_t ms);

/* Fills in the outcome: the task stays active as `state`, or ends. */
void cloud_task_settle(struct cloud_task *task, enum task_state state, const char *reason,
                       const char *error);

/* As cloud_task_settle(), for a task that was not begun and goes back into the queue. */
void cloud_task_put_back(struct cloud_task *task, const char *reason, const char *error);

/* The cloud refused the task, or could not be reached: tasks wait (window.h). */
void overflow_note_refusal(struct overflow *overflow, const struct cloud_task *task,
                           const struct err *err);
/* The task's execution was granted, now or (adopted) to an earlier process. */
void overflow_note_success(struct overflow *overflow, struct cloud_task *task, bool adopted);
/* The task's execution no longer counts as granted. */
void overflow_note_end(struct overflow *overflow, struct cloud_task *task);
/* The reason, in outcomes' words, for which a task must wait after a refusal. Static. */
const char *overflow_reason_of(const struct err *err);

/* When ours has ended: the execution that has the claim, if it is another one, which another
 * instance asked for. True: it is followed from now on. */
bool cloud_task_follow_claim(struct cloud_task *task);

/* True when no job has taken the attempt and none will: then the claim is ours. */
bool cloud_task_is_unclaimed(struct cloud_task *task);

/* Deletes the payload, which nobody will open any more. */
void cloud_task_delete_payload(struct cloud_task *task);

/* Stores the list of outputs beside the events. */
int cloud_task_save_outputs(const char *keep_dir, const void *json, size_t len, struct err *err);

#endif
