/*
 * What was promised to a caller, kept in SQLite: tasks, their outcomes, idempotency keys.
 *
 * A task is here before its submitter gets an answer and stays until the janitor takes it. Every
 * move between states is a compare-and-set, so that a task is started once and ended once, whoever
 * races. Secrets of a task that waits are sealed under a key file and wiped when it ends.
 *
 * Threads: any. Functions that write return after the change is on disk.
 * Ownership: the caller of store_open() closes it by store_close(); records that a function fills
 * in are ended by task_record_done().
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "base/strlist.h"
#include "runner/request/executor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * X(name, number, wire name, phase): the only list of states. The numbers are stored: they count up
 * from 0 and stay what they are; a new state is appended. The phase says what a state means, in C
 * and in SQL alike:
 *
 *     WAITING  in the queue, nobody runs it; TASK_PENDING, or a pause of it
 *     RUNNING  claimed by a runner
 *     ENDED    it has its outcome, for good but for one case: a cloud task that was given up, whose
 *              result came later (store_resume())
 */
#define TASK_STATES(X)                                 \
    X(TASK_PENDING, 0, "pending", WAITING)             \
    X(TASK_WAITING_LOGIN, 1, "waiting_login", WAITING) \
    X(TASK_WAITING_LIMIT, 2, "waiting_limit", WAITING) \
    X(TASK_RUNNING, 3, "running", RUNNING)             \
    X(TASK_COMPLETED, 4, "completed", ENDED)           \
    X(TASK_FAILED, 5, "failed", ENDED)                 \
    X(TASK_CANCELLED, 6, "cancelled", ENDED)

enum task_state {
#define TASK_STATE_ENUM(name, number, wire, phase) name = (number),
    TASK_STATES(TASK_STATE_ENUM)
#undef TASK_STATE_ENUM
        TASK_STATE_COUNT
};

/* Sets of states, with a bit for each. */
#define TASK_PHASE_IS_WAITING_WAITING 1u
#define TASK_PHASE_IS_WAITING_RUNNING 0u
#define TASK_PHASE_IS_WAITING_ENDED 0u
#define TASK_PHASE_IS_ENDED_WAITING 0u
#define TASK_PHASE_IS_ENDED_RUNNING 0u
#define TASK_PHASE_IS_ENDED_ENDED 1u
#define TASK_BIT(name, number, wire, phase) | 1u << (number)
#define TASK_WAITING_BIT(name, number, wire, phase) | TASK_PHASE_IS_WAITING_##phase << (number)
#define TASK_ENDED_BIT(name, number, wire, phase) | TASK_PHASE_IS_ENDED_##phase << (number)

#define TASK_ALL_STATES (0u TASK_STATES(TASK_BIT))
#define TASK_WAITING_STATES (0u TASK_STATES(TASK_WAITING_BIT))
#define TASK_ENDED_STATES (0u TASK_STATES(TASK_ENDED_BIT))
#define TASK_ACTIVE_STATES (TASK_ALL_STATES & ~TASK_ENDED_STATES)

/* True when the state is one of the set. */
static inline bool task_state_in(enum task_state state, unsigned set)
{
    return (set >> state & 1u) != 0;
}

const char *task_state_name(enum task_state state);
bool task_state_is_active(enum task_state state); /* not ended */
/* Reads a state's name. Returns 0, or -1 when there is none of that name. */
int task_state_parse(const char *name, enum task_state *ret_state);

/* Where a task runs, or ran: on this machine, or in the cloud. The numbers are stored. */
enum task_place { PLACE_HERE, PLACE_AWAY, PLACE_COUNT };
const char *task_place_name(enum task_place place); /* "local", "cloud" */

struct task_record {
    int64_t seq; /* increases with each task: the order of submission, and the cursor of lists */
    char id[ID_SIZE];
    char kind[16];
    enum task_state state;
    char reason[32]; /* why it ended as it did; "" while active or completed */
    int priority;
    int attempts;
    int64_t created_ms;
    int64_t not_before_ms; /* real: it must not start earlier; 0: at once */
    int64_t started_ms;    /* 0: not yet */
    int64_t ended_ms;      /* 0: not yet */
    bool retry_interrupted;
    char conversation[ID_UUID_SIZE]; /* the CLI's name of it, "" for none */
    bool conversation_kept;          /* a later task can continue it */
    bool shared;                     /* it uses the runner's own credential: pauses concern it */
    enum task_executor executor;
    enum task_place place;
    char *stays;   /* why it cannot go to the cloud; NULL: it can */
    char *request; /* the request as JSON, without secrets */
    char *summary; /* members of the answer besides success and output, or NULL */
    char *caller;  /* name of the secret that submitted it */
    char *request_id;
    char group[ID_SIZE]; /* group that it was submitted in, "" for none */
    int run;             /* its index in the group */
};

/* Makes *ret_copy a copy with texts of its own, which the caller ends by task_record_done(). */
int task_record_copy(const struct task_record *record, struct task_record *ret_copy,
                     struct err *err);
void task_record_done(struct task_record *record);
static inline void auto_task_record(struct task_record *record)
{
    task_record_done(record);
}

struct store;

/* Opens the database and the key file in `dir`, or makes them. The caller closes the store by
 * store_close(). */
struct store *store_open(const char *dir, struct err *err);
void store_close(struct store *store);
DEFINE_AUTO(store, struct store *, store_close)

/* A name for this state directory, which stays the same over restarts. The store owns it. */
const char *store_instance(const struct store *store);

/* How much more a caller may have; 0: any amount. */
struct store_room {
    int active_max, minute_max;
    double day_usd;
    int64_t minute_from_ms, day_from_ms;
};

struct task_new {
    const char *id; /* NULL: a new one is chosen */
    const char *kind;
    int priority;
    int64_t not_before_ms; /* as in task_record */
    bool retry_interrupted;
    bool shared;
    enum task_executor executor;
    const char *stays;        /* as in task_record */
    const char *conversation; /* or NULL */
    bool resume;              /* it continues the conversation that an earlier task has left */
    const char *request;
    const char *secrets; /* JSON to seal, or NULL */
    const char *caller;
    const struct store_room *room; /* of the caller's, or NULL; the first task's counts for all */
    const char *request_id;
    const char *webhook_url;     /* URL of the webhook that is sent when the task has ended; or
                                  * NULL */
    const char *webhook_host;    /* with a URL: its destination, "host:port" */
    const char *idempotency_key; /* or NULL */
    const void *body_hash;       /* with a key: identifies the body */
    size_t body_hash_len;
    const char *group;  /* of tasks that are added together, or NULL */
    int run;            /* its index there */
    bool claimed;       /* it is added as if store_claim() had claimed it, running here */
    int64_t created_ms; /* real: it was taken then, elsewhere, and others of its group may be here
                         * by now; 0: now */
};

/* Adds a task, pending or claimed, and fills *ret_record. *ret_created is false when the key was
 * used with the same body: then the record is the earlier task's. ERR_CONFLICT: the id is taken, or
 * the key was used with another body, or a task that has not ended uses the conversation.
 * ERR_RATE: the caller has no room for it. ERR_NOT_FOUND: no task has left that conversation. */
int store_add(struct store *store, const struct task_new *task, struct task_record *ret_record,
              bool *ret_created, struct err *err);

/* Adds `count` tasks: all of them or none. They share a key and a group, whose name must be new.
 * ret_records has room for count; when *ret_created is false it has the tasks of the earlier group
 * by index, with "" as id where one is gone. */
int store_add_group(struct store *store, const struct task_new *tasks, size_t count,
                    struct task_record *ret_records, bool *ret_created, struct err *err);

/* Reads a task. ERR_NOT_FOUND when there is none. */
int store_get(struct store *store, const char *id, struct task_record *ret_record, struct err *err);

/* Appends the unsealed secrets (JSON) of a task; nothing when it has none. */
int store_secrets(struct store *store, const char *id, struct buf *out, struct err *err);

/* Calls fn for every waiting task whose secrets cannot be opened with this key, until fn returns
 * non-zero. */
int store_unreadable(struct store *store, int (*fn)(const char *id, void *arg), void *arg,
                     struct err *err);

/* Opens secrets that store_claim() returned. */
int store_unseal(struct store *store, const char *id, const struct buf *sealed, struct buf *out,
                 struct err *err);

/* Appends the task's answer: its output, and (unless errors is NULL) its error output. Empty when
 * there was none. */
int store_output(struct store *store, const char *id, struct buf *output, struct buf *errors,
                 struct err *err);

/* Appends at most the first `max` bytes of its output, and returns its length. */
int store_output_start(struct store *store, const char *id, size_t max, struct buf *out,
                       int64_t *ret_whole, struct err *err);

/* Moves a task from pending (or paused) to running in that place, where it stays from now on.
 * Returns 1, 0 when the task does not wait any more, or -1. With 1 it fills *ret_record (unless
 * NULL) and appends the sealed secrets. */
int store_claim(struct store *store, const char *id, enum task_place place, int64_t now_ms,
                struct task_record *ret_record, struct buf *sealed, struct err *err);

/* How far an attempt to run a task in the cloud has come. */
enum placement_phase {
    PLACEMENT_NONE,    /* no request was sent */
    PLACEMENT_ASKED,   /* an execution was asked for, and may exist */
    PLACEMENT_STARTED, /* an execution exists, and its name is known */
    PLACEMENT_LOST,    /* the same; the task was ended without its result, which may still come */
    PLACEMENT_ENDED,   /* the same; the execution has ended: what it had sent may still arrive */
};

struct store_placement {
    int attempt; /* increases over the life of the task */
    enum placement_phase phase;
    int64_t asked_ms;    /* real: since when an execution may exist */
    char execution[512]; /* its name, or "" */
};

/* Reads how far a task has come on its way into the cloud; zeros for a task that never went
 * there. */
int store_placement(struct store *store, const char *id, struct store_placement *ret_placement,
                    struct err *err);
int store_set_placement(struct store *store, const char *id,
                        const struct store_placement *placement, struct err *err);

/* Appends the ids of failed tasks whose placement is PLACEMENT_LOST or PLACEMENT_ENDED and that
 * ended after a time, the newest first. */
int store_lost(struct store *store, int64_t after_ms, int limit, struct strlist *ids,
               struct err *err);

/* Makes such a task running again, for its result has come; its webhook waits again for the task's
 * end, as another message with another id. A conversation that a later task has gone on with is no
 * longer this task's. Returns 1, 0 when it is no such task, or -1. */
int store_resume(struct store *store, const char *id, struct err *err);

struct task_end {
    enum task_state state;
    const char *reason;  /* "" for none */
    const char *summary; /* as in task_record */
    const char *output;  /* or NULL */
    size_t output_len;
    const char *errors; /* or NULL */
    size_t errors_len;
    bool conversation_kept; /* stays true for a task that continued a conversation */
    int64_t now_ms;
};

/* Moves a task from one of the active states in `from` (a bit each) to an ended one, wipes its
 * secrets, and makes its webhook due, if there is one: all in one transaction. Returns 1, 0 when
 * the task was in none of those states, or -1. */
int store_end(struct store *store, const char *id, unsigned from, const struct task_end *end,
              struct err *err);

/* From now on ended(id, arg) is called when a task has ended; NULL for no more. It may only take
 * note. Call while no other thread uses the store. */
void store_on_end(struct store *store, void (*ended)(const char *id, void *arg), void *arg);

/* Move a task that will run again from running to `state` (pending or a pause). Return 1, 0 or -1
 * as store_end(). store_refuse() is for a task that was not begun, and does not count as an
 * attempt. */
int store_refuse(struct store *store, const char *id, struct err *err);
int store_requeue(struct store *store, const char *id, enum task_state state, struct err *err);

/* Moves every waiting shared task to `state`, one of TASK_WAITING_STATES. */
int store_pause(struct store *store, enum task_state state, struct err *err);

struct store_filter {
    unsigned states;   /* a bit each; 0: all */
    const char *kind;  /* or NULL */
    const char *group; /* or NULL */
    int64_t before;    /* only tasks with a smaller seq; 0: from the newest */
    int64_t after;     /* with oldest_first: only tasks with a larger seq */
    int limit;
    bool oldest_first;
    int webhook; /* an enum webhook_state (webhooks.h): only tasks with such a webhook; 0: all */
};

/* Calls fn for each match until it returns non-zero. fn borrows the record. */
int store_list(struct store *store, const struct store_filter *filter,
               int (*fn)(const struct task_record *record, void *arg), void *arg, struct err *err);

/* Deletes up to `limit` tasks that ended before a time, with their answers, webhooks and
 * idempotency keys; not those whose webhook is still to be delivered. gone() is called first to
 * delete what a task left elsewhere; when it returns non-zero the task is kept. Returns how many
 * tasks were looked at, or -1. */
int store_expire(struct store *store, int64_t before_ms, int limit,
                 int (*gone)(const char *id, void *arg), void *arg, struct err *err);

/* Returns 1 when a task has this conversation, 0 when none has, or -1. */
int store_has_conversation(struct store *store, const char *conversation, struct err *err);

struct caller_tasks {
    char name[64]; /* cut when it is longer */
    int64_t counts[TASK_STATE_COUNT];
};

/* Counts the last 20,000 tasks by caller and state. Callers beyond `max` are left out. */
int store_callers(struct store *store, struct caller_tasks *ret_tasks, size_t max,
                  size_t *ret_count, struct err *err);

/* Counts tasks by state. */
int store_count(struct store *store, int64_t ret_counts[TASK_STATE_COUNT], struct err *err);

#endif
