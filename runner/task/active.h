/*
 * active tasks: the engine's objects, its table of them by id, and its queue. Private to
 * runner/task; everything here expects the engine's lock held.
 */
#ifndef TASK_ACTIVE_H
#define TASK_ACTIVE_H

#include "runner/task/engine.h"
#include "runner/task/memory.h"

#include <pthread.h>
#include <sys/queue.h>

#define PRIORITIES 10

enum active_state {
    ACTIVE_ARRIVING, /* on its way into the store: it can be watched already */
    ACTIVE_QUEUED,
    ACTIVE_RUNNING,
};

/* What decides which lane may take a task, a bit each; every combination has a queue of its own, so
 * that the next task for a lane is found without looking at those that are not for it. */
enum active_class {
    ACTIVE_SHARED = 1, /* it uses the runner's own credential: pauses concern it */
    ACTIVE_HERE = 2,   /* may run on this machine */
    ACTIVE_AWAY = 4,   /* may run away from it */
    ACTIVE_CLASSES = 8
};

struct active_task {
    char id[ID_SIZE];
    char kind[16];
    int priority;
    unsigned class; /* bits of enum active_class */
    int64_t order;  /* of arrival */
    int64_t created_ms;
    int64_t memory_mb;     /* that its request names, 0: none */
    int64_t queued_ms;     /* mono: since when it waits */
    int64_t not_before_ms; /* real; 0: at once */
    bool sleeps;           /* queued, and its time has not come: it is in no queue of a class */
    int64_t started_ms;
    enum active_state state;
    bool reserved;         /* arriving, and a slot is kept for it */
    enum task_place place; /* while running or reserved */
    bool adopted;          /* it ran before this process began, and still does */
    enum task_stop stop;
    int wake_fd; /* eventfd while running, else -1 */
    struct engine_watch *watches;
    struct claimed_task *claimed;   /* NULL, or the row that was claimed where it was added */
    TAILQ_ENTRY(active_task) queue; /* while queued */
    struct active_task *next;       /* in its bucket of the table */
};

TAILQ_HEAD(active_queue, active_task);

/* A row as the store has it, and its secrets in plain text. */
struct claimed_task {
    struct task_record record;
    struct buf secrets;
};

/* A copy of both; `secrets` may be NULL. */
struct claimed_task *claimed_new(const struct task_record *record, const char *secrets,
                                 struct err *err);
void claimed_free(struct claimed_task *claimed);

struct active_table {
    struct active_task **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    struct active_queue queues[PRIORITIES][ACTIVE_CLASSES];
    struct active_queue sleeping;
    int asleep; /* of those queued */
    int64_t arrivals;
    int queued;
    int running[PLACE_COUNT];
};

/* Which of the tasks that wait may be taken by their memory; NULL: all. */
struct active_fit {
    struct task_memory memory;
    int64_t promised_mb; /* to those that run here */
    bool left_some;      /* is set when one had to be left for want of memory */
};

int active_init(struct active_table *table);
void active_done(struct active_table *table);

/* Makes an arriving task and adds it. NULL when memory ran out. */
struct active_task *active_add(struct active_table *table, const char *id);
/* Its row is stored: it waits for its turn. */
void active_enqueue(struct active_table *table, struct active_task *active,
                    const struct task_record *record);
struct active_task *active_find(struct active_table *table, const char *id);
/* Removes it everywhere and frees it; its watches are the caller's business. */
void active_remove(struct active_table *table, struct active_task *active);

/* The next to run in a place: highest priority, then oldest, among the classes in `allowed` (a bit,
 * 1 << class, each) and those that wait since before `waits_since` (mono ms), that fits. Tasks that
 * name no memory pass those that wait for theirs. It is taken from the queue and is running. */
struct active_task *active_take(struct active_table *table, unsigned allowed, int64_t waits_since,
                                enum task_place place, struct active_fit *fit);

/* What the tasks that run here were promised together. */
int64_t active_promised_mb(const struct active_table *table);

/* When the first of the tasks of these classes began to wait; -1: there is none. */
int64_t active_waits_since(const struct active_table *table, unsigned allowed);

/* Queues those whose time has come by the real clock. Returns how long until the next one's does;
 * -1: there is none. */
int64_t active_wake(struct active_table *table, int64_t real_ms);

/* Keeps a slot here for an arriving task, which active_start() makes a running one. */
void active_reserve(struct active_table *table, struct active_task *active,
                    const struct task_new *task);
void active_start(struct active_task *active, struct claimed_task *claimed);

/* The class of a task that is shared, may leave (`stays` is NULL) and has this executor. */
unsigned active_class(bool shared, const char *stays, enum task_executor executor);

/* An arriving task that runs already. */
void active_adopt(struct active_table *table, struct active_task *active,
                  const struct task_record *record);

/* Undoes active_take() or active_start(): first of its priority again. */
void active_put_back(struct active_table *table, struct active_task *active);

#endif
