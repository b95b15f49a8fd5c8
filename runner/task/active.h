/*
 * Active tasks: the engine's objects, their table by id, and their queue. Private to runner/task.
 *
 * Threads: any, with the engine's lock held for every function here. Ownership: the table owns its
 * tasks.
 */
#ifndef TASK_ACTIVE_H
#define TASK_ACTIVE_H

#include "runner/task/engine.h"
#include "runner/task/memory.h"

#include <pthread.h>
#include <sys/queue.h>

#define PRIORITIES 10

enum active_state {
    ACTIVE_ARRIVING, /* being stored: it can be watched already */
    ACTIVE_QUEUED,
    ACTIVE_RUNNING,
};

/* What decides which lane may take a task, a bit each. Every combination has a queue of its own, so
 * that the next task for a lane is found without looking at unsuitable ones. */
enum active_class {
    ACTIVE_SHARED = 1, /* it uses the runner's own credential: pauses concern it */
    ACTIVE_HERE = 2,   /* may run on this machine */
    ACTIVE_AWAY = 4,   /* may run in the cloud */
    ACTIVE_CLASSES = 8
};

struct active_task {
    char id[ID_SIZE];
    char kind[16];
    int priority;
    unsigned class; /* bits of enum active_class */
    int64_t order;  /* of its arrival */
    int64_t created_ms;
    int64_t memory_mb;     /* named in its request; 0: none */
    int64_t queued_ms;     /* mono: since when it waits */
    int64_t not_before_ms; /* real; 0: at once */
    bool sleeps;           /* queued before its time: it is in no class's queue */
    int64_t started_ms;
    enum active_state state;
    bool reserved;         /* arriving, with a slot reserved for it */
    enum task_place place; /* while running or reserved */
    bool adopted;          /* it was running before this process began, and still is */
    bool counted;          /* its end has been counted: it was given up */
    enum task_stop stop;
    int wake_fd; /* eventfd while running, else -1 */
    struct engine_watch *watches;
    struct claimed_task *claimed;   /* NULL, or its row when it was claimed at its arrival */
    TAILQ_ENTRY(active_task) queue; /* while queued */
    struct active_task *next;       /* in its bucket of the table */
};

TAILQ_HEAD(active_queue, active_task);

/* A row of the store, and its secrets in plain text. */
struct claimed_task {
    struct task_record record;
    struct buf secrets;
};

/* Copies both; `secrets` may be NULL. The caller frees the copy by claimed_free(). */
struct claimed_task *claimed_new(const struct task_record *record, const char *secrets,
                                 struct err *err);
void claimed_free(struct claimed_task *claimed);

struct active_table {
    struct active_task **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    struct active_queue queues[PRIORITIES][ACTIVE_CLASSES];
    struct active_queue sleeping;
    int asleep; /* those of the queued tasks that sleep */
    int64_t arrivals;
    int queued;
    int running[PLACE_COUNT];
};

/* Selects the waiting tasks for which there is memory; NULL: all. */
struct active_fit {
    struct task_memory memory;
    int64_t promised_mb; /* to tasks that run here */
    bool left_some;      /* set when a task was skipped for want of memory */
};

int active_init(struct active_table *table);
void active_done(struct active_table *table);

/* Makes an arriving task and adds it to the table. NULL when memory ran out. */
struct active_task *active_add(struct active_table *table, const char *id);
/* Queues a task whose row is stored. */
void active_enqueue(struct active_table *table, struct active_task *active,
                    const struct task_record *record);
struct active_task *active_find(struct active_table *table, const char *id);
/* Removes a task everywhere and frees it; the caller handles its watches. */
void active_remove(struct active_table *table, struct active_task *active);

/* Takes the next task to run in a place from the queue and makes it running: the one with the
 * highest priority, then the oldest, among the classes in `allowed` (a bit, 1 << class, each) and
 * those that have waited since before `waits_since` (mono ms), that fits. Tasks that name no memory
 * may overtake those that wait for memory. */
struct active_task *active_take(struct active_table *table, unsigned allowed, int64_t waits_since,
                                enum task_place place, struct active_fit *fit);

/* The memory that was promised to all tasks that run here. */
int64_t active_promised_mb(const struct active_table *table);

/* Since when the first task of these classes waits; -1: there is none. */
int64_t active_waits_since(const struct active_table *table, unsigned allowed);

/* Queues sleeping tasks whose time has come by the real clock. Returns the time until the next one;
 * -1: there is none. */
int64_t active_wake(struct active_table *table, int64_t real_ms);

/* active_reserve() reserves a slot here for an arriving task; active_start() makes it running. */
void active_reserve(struct active_table *table, struct active_task *active,
                    const struct task_new *task);
void active_start(struct active_task *active, struct claimed_task *claimed);

/* The class of a task with these properties; it may leave when `stays` is NULL. */
unsigned active_class(bool shared, const char *stays, enum task_executor executor);

/* Makes an arriving task one that is already running. */
void active_adopt(struct active_table *table, struct active_task *active,
                  const struct task_record *record);

/* Undoes active_take() or active_start(): the task is the first of its priority again. */
void active_put_back(struct active_table *table, struct active_task *active);

#endif
