/*
 * The engine: takes tasks, queues them, runs as many as there are slots, and tells who waits.
 *
 * Theory of operation. A task is a row of the store first; the engine keeps a small active-task
 * object for each row that has not ended. A running task is one thread that goes straight down
 * (run.c): claim, prepare, run, store the outcome, tell. active-task objects are found by id,
 * queued by priority and order of submission, and gone once the row has ended. What a task does is
 * its kind's business, where it runs an executor's (kind.h).
 *
 *     engine_submit ─▶ store ─▶ queue ─▶ slot free ─▶ thread ─▶ executor ─▶ store ─▶ watchers
 *
 * Threads: any. Watch callbacks run on the task's thread; ended() without locks held.
 */
#ifndef TASK_ENGINE_H
#define TASK_ENGINE_H

#include "base/auto.h"
#include "base/err.h"
#include "base/redact.h"
#include "runner/config/config.h"
#include "runner/store/store.h"
#include "runner/task/events.h"
#include "runner/task/kind.h"
#include "runner/task/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the environment of all that a task starts, with store_instance() as its value: by it a
 * restarted runner finds what a killed one left behind. */
#define TASK_MARKER "CLAUDE_RUNNER_INSTANCE"

/* Below the state directory: what lasts of conversations, each in a directory of its name
 * (task_record.conversation). */
#define CONVERSATIONS "conversations"

struct engine;
struct task_run;

/* What a run works with. */
const struct task_record *task_run_record(const struct task_run *run);
const char *task_run_secrets(const struct task_run *run); /* unsealed JSON, "" for none */
/* Private, the runner's own; named by the kind (task_kind.dir_name). */
const char *task_run_dir(const struct task_run *run);
const char *task_run_keep_dir(const struct task_run *run); /* what lasts: events, outputs */
struct events *task_run_events(const struct task_run *run);
struct redact_set *task_run_redact(const struct task_run *run);
/* An earlier process began this run; find out how far it got. */
bool task_run_adopted(const struct task_run *run);
/* Readable when task_run_stop() may have changed. */
int task_run_wake_fd(const struct task_run *run);

enum task_stop {
    STOP_NO,
    STOP_CANCEL,    /* the caller asked, or went away */
    STOP_INTERRUPT, /* the runner is going down */
};
enum task_stop task_run_stop(struct task_run *run);
/* Adds an event; a failure to write is kept and fails the task. */
void task_run_event(struct task_run *run, const char *name, const char *json, size_t len);
/* The same for a failure met elsewhere. */
void task_run_fail(struct task_run *run, const struct err *err);
/* False once the events could not be written (a full disk). */
bool task_run_healthy(const struct task_run *run);

/* What may change while it runs. */
struct engine_limits {
    int slots;                     /* tasks that run here at once */
    int away_slots;                /* tasks that run away from here at once; 0: none */
    int queue_max;                 /* tasks that wait */
    enum config_overflow overflow; /* when tasks that may run in either place go away */
    int64_t overflow_after_ms;
};

struct engine_config {
    struct store *store;           /* borrowed */
    const char *state_dir;         /* borrowed */
    const struct task_kind *kinds; /* borrowed; ends with a NULL name */
    const struct executor *away;   /* borrowed; NULL: tasks run here only. engine_set_away() */
    uid_t uid;                     /* owner of what tasks may write */
    gid_t gid;
    struct engine_limits limits;
    /* How much memory there is (memory.h), asked before each start and told again when a task waits
     * for it; must not block. NULL: tasks start whatever there is. */
    void (*memory)(struct task_memory *ret_memory);
};

struct engine *engine_new(const struct engine_config *config, struct err *err);

/* All rows; the last has no name. */
const struct task_kind *engine_kinds(const struct engine *engine);

/* The row of that name, or NULL. */
const struct task_kind *engine_kind(const struct engine *engine, const char *name);

/* Tasks may run away from this machine, by this executor (borrowed). Before engine_start(). */
void engine_set_away(struct engine *engine, const struct executor *executor);

/* Brings the store in line with the truth after a restart: ends left-over process trees, fails (or
 * requeues) what was running, loads what is pending. Then starts tasks. */
int engine_start(struct engine *engine, struct err *err);

/* From now on. */
void engine_set_limits(struct engine *engine, const struct engine_limits *limits);

/* What the place away from here takes: nothing for hold_ms, then `room` tasks at once. Tasks that
 * may run here do so meanwhile; the others wait, and `why` is their reason. */
struct engine_away {
    int room;
    int64_t hold_ms;
    const char *why; /* static */
};
void engine_limit_away(struct engine *engine, const struct engine_away *away);

/* Why a pending task is not placed, when that is for want of memory here ("memory_full") or because
 * the place away from here takes no more; else NULL. */
const char *engine_waits_for(struct engine *engine, const struct task_record *record);

/* Stores and queues a task. ERR_BUSY while draining, ERR_RATE with a full queue, else as
 * store_add(). */
int engine_submit(struct engine *engine, const struct task_new *task,
                  struct task_record *ret_record, bool *ret_created, struct err *err);

/* The same for tasks that come together (1 <= count <= ENGINE_GROUP_MAX): all of them or none.
 * ret_records has room for count; when a key gives earlier tasks, for as many as those were. */
#define ENGINE_GROUP_MAX 100
int engine_submit_group(struct engine *engine, const struct task_new *tasks, size_t count,
                        struct task_record *ret_records, bool *ret_created, struct err *err);

/* A caller that waits for a task's end, and may follow its events. The engine calls ended() once,
 * unless engine_unwatch() came first. During that call `answer` is the object that
 * engine_print_result() would print, or NULL when it is not at hand: the task is only paused, stays
 * for the next start, or was cancelled while it waited. */
struct engine_watch {
    void (*ended)(struct engine_watch *watch);
    /* NULL, or called whenever whole events have reached the file, with the offset after them.
     * Under the engine's lock: never after ended() or engine_unwatch(), and it may only take note.
     */
    void (*grew)(struct engine_watch *watch, int64_t end);
    bool patient;  /* waits through pauses; else ended() is called when the task is paused, too */
    bool attached; /* the task is cancelled when its last attached watch goes away */
    const struct buf *answer;
    struct engine_watch *next; /* the engine's */
};

/* 1: ended() will be called. 0: it will not, for the task has ended already, is unknown, or waits
 * for the next start. */
int engine_watch(struct engine *engine, const char *id, struct engine_watch *watch);
/* True when the watch was still there: then ended() will not be called. With `leaving`, a task
 * that has no other attached watch is cancelled. */
bool engine_unwatch(struct engine *engine, const char *id, struct engine_watch *watch,
                    bool leaving);

/* Shared tasks wait from now on (`why` is a pause, one of TASK_WAITING_STATES), or go on
 * (TASK_PENDING). Whoever calls last decides, in memory and in the store. */
void engine_hold(struct engine *engine, enum task_state why);

/* Cancels a task that no attached watch is left of. */
void engine_abandon(struct engine *engine, const char *id);

/* Asks a task to end. Returns its state now: TASK_RUNNING when it is being ended,
 * TASK_CANCELLED when it is; ERR_CONFLICT when it had ended otherwise. */
int engine_cancel(struct engine *engine, const char *id, enum task_state *ret_state,
                  struct err *err);

struct engine_load {
    int running, queued, slots;
    int away;                             /* that run away from here */
    int64_t completed, failed, cancelled; /* since start */
};
void engine_load(struct engine *engine, struct engine_load *ret_load);

/* Prints what is counted, for a page of metrics; arg is a struct engine. */
struct metric_page;
void engine_metrics(struct metric_page *page, void *arg);

/* Appends a JSON array of the running tasks. */
void engine_print_running(struct engine *engine, struct buf *out);

/* Starts nothing from now on; submits are refused. Who waits for a queued task is told now: it
 * stays for the next start. */
void engine_drain(struct engine *engine);
/* Waits until nothing runs; true when so within timeout_ms. */
bool engine_wait_idle(struct engine *engine, int timeout_ms);
/* Ends what runs, as interrupted (or requeued when it may be run again). */
void engine_interrupt(struct engine *engine);
/* After engine_wait_idle(). */
void engine_free(struct engine *engine);

/* The place of a task's events. */
char *engine_events_path(const struct engine *engine, const char *id);

/* Completes the events of an ended task whose last event a crash has swallowed. */
int engine_mend_events(struct engine *engine, const char *id, struct err *err);

/* Appends the object that /execute and /tasks/{id}/result answer with, for an ended task. */
int engine_print_result(struct engine *engine, const struct task_record *record, struct buf *out,
                        struct err *err);

#endif
