/*
 * The engine: accepts tasks, queues them, runs as many as there are slots, and tells waiting
 * callers.
 *
 * Theory of operation. A task is a row of the store first; the engine keeps a small active-task
 * object for each row that has not ended. A running task is one thread that goes straight down
 * (run.c): claim, prepare, run, store the outcome, tell. Active-task objects are found by id,
 * queued by priority and order of submission, and removed once the row has ended. The task's kind
 * decides what it does, and an executor where it runs (kind.h).
 *
 *     engine_submit ─▶ store ─▶ queue ─▶ slot free ─▶ thread ─▶ executor ─▶ store ─▶ watchers
 *
 * Threads: any. Watch callbacks run on the task's thread; ended() without locks held. Ownership:
 * the caller of engine_new() frees it by engine_free(); watches belong to their callers; what
 * task_run_… functions return belongs to the run.
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

/* In the environment of everything that a task starts, with store_instance() as its value: a
 * restarted runner recognizes the processes of a killed one by it. */
#define TASK_MARKER "CLAUDE_RUNNER_INSTANCE"

/* Below the state directory: the conversations that are kept, each in a directory of its name
 * (task_record.conversation). */
#define CONVERSATIONS "conversations"

struct engine;
struct task_run;

/* The data of a run, for its kind and executor. */
const struct task_record *task_run_record(const struct task_run *run);
const char *task_run_secrets(const struct task_run *run); /* unsealed JSON, "" for none */
/* The runner's private directory for the run; its kind may name it (task_kind.dir_name). */
const char *task_run_dir(const struct task_run *run);
const char *task_run_keep_dir(const struct task_run *run); /* directory of what is kept: events,
                                                            * outputs */
struct events *task_run_events(const struct task_run *run);
struct redact_set *task_run_redact(const struct task_run *run);
/* An earlier process began this run; find out how far it got. */
bool task_run_adopted(const struct task_run *run);
/* Readable when the result of task_run_stop() may have changed. */
int task_run_wake_fd(const struct task_run *run);

enum task_stop {
    STOP_NO,
    STOP_CANCEL,    /* the caller cancelled it, or went away */
    STOP_INTERRUPT, /* the runner stops */
};
enum task_stop task_run_stop(struct task_run *run);
/* Adds an event; a write error is remembered and fails the task. */
void task_run_event(struct task_run *run, const char *name, const char *json, size_t len);
/* Remembers an error that happened elsewhere, which fails the task. */
void task_run_fail(struct task_run *run, const struct err *err);
/* False once events could not be written (a full disk). */
bool task_run_healthy(const struct task_run *run);

/* Limits that may change while the engine runs. */
struct engine_limits {
    int slots;                     /* tasks that run here at the same time */
    int away_slots;                /* tasks that run in the cloud at the same time; 0: none */
    int queue_max;                 /* tasks that wait */
    enum config_overflow overflow; /* when tasks that may run in either place go to the cloud */
    int64_t overflow_after_ms;
};

struct engine_config {
    struct store *store;           /* borrowed */
    const char *state_dir;         /* borrowed */
    const struct task_kind *kinds; /* borrowed; ends with a NULL name */
    const struct executor *away;   /* borrowed; NULL: tasks run here only. See engine_set_away() */
    uid_t uid;                     /* owner of what tasks may write */
    gid_t gid;
    struct engine_limits limits;
    /* Reads how much memory there is (memory.h). Called before each start, and again while a task
     * waits for memory; must not block. NULL: tasks start however little there is. */
    void (*memory)(struct task_memory *ret_memory);
};

struct engine *engine_new(const struct engine_config *config, struct err *err);

/* All rows; the last has no name. */
const struct task_kind *engine_kinds(const struct engine *engine);

/* The row of that name, or NULL. */
const struct task_kind *engine_kind(const struct engine *engine, const char *name);

/* Sets the executor (borrowed) of tasks that run in the cloud. Call before engine_start(). */
void engine_set_away(struct engine *engine, const struct executor *executor);

/* Makes the store match reality after a restart: ends left-over process trees, fails (or requeues)
 * tasks that were running, loads pending ones. Then starts tasks. */
int engine_start(struct engine *engine, struct err *err);

/* Sets new limits, from now on. */
void engine_set_limits(struct engine *engine, const struct engine_limits *limits);

/* Limits what the cloud takes: no task for hold_ms, then `room` tasks at once. Tasks that may run
 * here do so meanwhile; the others wait, for the reason `why`. */
struct engine_away {
    int room;
    int64_t hold_ms;
    const char *why; /* static */
};
void engine_limit_away(struct engine *engine, const struct engine_away *away);

/* Why a pending task is not started, when that is for want of memory here ("memory_full") or
 * because the cloud takes no more tasks; else NULL. */
const char *engine_waits_for(struct engine *engine, const struct task_record *record);

/* Stores and queues a task. ERR_BUSY while draining, ERR_RATE when the queue is full, else as
 * store_add(). */
int engine_submit(struct engine *engine, const struct task_new *task,
                  struct task_record *ret_record, bool *ret_created, struct err *err);

/* Stores and queues tasks that are submitted together (1 <= count <= ENGINE_GROUP_MAX): all of them
 * or none. ret_records has room for count; when a key finds earlier tasks, for their number. */
#define ENGINE_GROUP_MAX 100
int engine_submit_group(struct engine *engine, const struct task_new *tasks, size_t count,
                        struct task_record *ret_records, bool *ret_created, struct err *err);

/* A caller that waits for a task's end, and may follow its events. The engine calls ended() once,
 * unless engine_unwatch() was called first. During that call `answer` is the object that
 * engine_print_result() would print, or NULL when the engine does not have it: the task is only
 * paused, stays for the next start, or was cancelled while it waited. */
struct engine_watch {
    void (*ended)(struct engine_watch *watch);
    /* NULL, or called whenever whole events have been written to the file, with the offset after
     * them. Called under the engine's lock, never after ended() or engine_unwatch(); it may only
     * take note. */
    void (*grew)(struct engine_watch *watch, int64_t end);
    bool patient;  /* waits through pauses; else ended() is also called when the task is paused */
    bool attached; /* the task is cancelled when its last attached watch ends */
    const struct buf *answer;
    struct engine_watch *next; /* used by the engine */
};

/* Begins a watch. Returns 1 when ended() will be called, 0 when not: the task has already ended, is
 * unknown, or waits for the next start. */
int engine_watch(struct engine *engine, const char *id, struct engine_watch *watch);
/* Ends a watch. True when it was still there: then ended() will not be called. With `leaving`, a
 * task without another attached watch is cancelled. */
bool engine_unwatch(struct engine *engine, const char *id, struct engine_watch *watch,
                    bool leaving);

/* Makes shared tasks wait from now on (`why` is a pause, one of TASK_WAITING_STATES), or go on
 * (TASK_PENDING). The last call counts, in memory and in the store. */
void engine_hold(struct engine *engine, enum task_state why);

/* Cancels a task that has no attached watch left. */
void engine_abandon(struct engine *engine, const char *id);

/* Asks a task to end. *ret_state is its state now: TASK_RUNNING while it is being ended,
 * TASK_CANCELLED when it is; ERR_CONFLICT when it had ended in another way. */
int engine_cancel(struct engine *engine, const char *id, enum task_state *ret_state,
                  struct err *err);

struct engine_load {
    int running, queued, slots;
    int away;                             /* tasks that run in the cloud */
    int64_t completed, failed, cancelled; /* since start */
};
void engine_load(struct engine *engine, struct engine_load *ret_load);

/* Prints the counters for a page of metrics; arg is a struct engine. */
struct metric_page;
void engine_metrics(struct metric_page *page, void *arg);

/* Appends a JSON array of the running tasks. */
void engine_print_running(struct engine *engine, struct buf *out);

/* Takes up a task again whose place is PLACE_AWAY, that was given up, and whose result has come
 * (store_resume()): it runs once more, adopted, and ends as what it became. Call after
 * engine_start(). `counted`: engine_count() has counted it as what it was given up as. Returns 1, 0
 * when it is no such task or not now, or -1. */
int engine_resume(struct engine *engine, const char *id, bool counted, struct err *err);

/* Counts the end of a task that may_change, which nobody has counted. */
void engine_count(struct engine *engine, const char *id);

/* Starts no task from now on, and refuses new ones. Callers that wait for a queued task are told
 * now: it stays for the next start. */
void engine_drain(struct engine *engine);
/* Waits until no task runs; true when that is so within timeout_ms. */
bool engine_wait_idle(struct engine *engine, int timeout_ms);
/* Ends running tasks as interrupted (or requeues those that may run again). */
void engine_interrupt(struct engine *engine);
/* Call after engine_wait_idle(). */
void engine_free(struct engine *engine);

/* The path of a task's events, which the caller frees. */
char *engine_events_path(const struct engine *engine, const char *id);

/* Adds the last event of an ended task when a crash has prevented that. */
int engine_mend_events(struct engine *engine, const char *id, struct err *err);

/* Appends the object with which /execute and /tasks/{id}/result answer, for an ended task. */
int engine_print_result(struct engine *engine, const struct task_record *record, struct buf *out,
                        struct err *err);

#endif
