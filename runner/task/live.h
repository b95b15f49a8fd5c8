/*
 * Live tasks: the engine's objects, its table of them by id, and its queue. Private to runner/task;
 * everything here expects the engine's lock held.
 */
#ifndef TASK_LIVE_H
#define TASK_LIVE_H

#include "runner/task/engine.h"

#include <pthread.h>
#include <sys/queue.h>

#define PRIORITIES 10

enum live_state {
    LIVE_ARRIVING, /* on its way into the store: it can be watched already */
    LIVE_QUEUED,
    LIVE_RUNNING,
};

/* What decides which lane may take a task, a bit each; every combination has a queue of its own, so
 * that the next task for a lane is found without looking at those that are not for it. */
enum live_class {
    LIVE_SHARED = 1, /* it uses the runner's own credential: pauses concern it */
    LIVE_HERE = 2,   /* may run on this machine */
    LIVE_AWAY = 4,   /* may run in the cloud */
    LIVE_CLASSES = 8
};

struct live {
    char id[ID_SIZE];
    char kind[16];
    int priority;
    unsigned class; /* bits of enum live_class */
    int64_t order;  /* of arrival */
    int64_t created_ms;
    int64_t queued_ms; /* mono: since when it waits */
    int64_t started_ms;
    enum live_state state;
    enum task_place place; /* while running */
    bool adopted;          /* it ran before this process began, and still does */
    enum task_stop stop;
    int wake_fd; /* eventfd while running, else -1 */
    struct engine_watch *watches;
    TAILQ_ENTRY(live) queue; /* while queued */
    struct live *next;       /* in its bucket of the table */
};

TAILQ_HEAD(live_queue, live);

struct live_table {
    struct live **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    struct live_queue queues[PRIORITIES][LIVE_CLASSES];
    int64_t arrivals;
    int queued;
    int running[PLACE_COUNT];
};

int live_init(struct live_table *table);
void live_done(struct live_table *table);

/* Makes an arriving task and adds it. NULL when memory ran out. */
struct live *live_add(struct live_table *table, const char *id);
/* Its row is stored: it waits for its turn. */
void live_enqueue(struct live_table *table, struct live *live, const struct task_record *record);
struct live *live_find(struct live_table *table, const char *id);
/* Removes it everywhere and frees it; its watches are the caller's business. */
void live_remove(struct live_table *table, struct live *live);

/* The next to run in a place: highest priority, then oldest, among the classes in `allowed` (a bit,
 * 1 << class, each) and those that wait since before `waits_since` (mono ms). It is taken from the
 * queue and is running. */
struct live *live_take(struct live_table *table, unsigned allowed, int64_t waits_since,
                       enum task_place place);

/* When the first of the tasks of these classes began to wait; -1: there is none. */
int64_t live_waits_since(const struct live_table *table, unsigned allowed);

/* An arriving task that runs already. */
void live_adopt(struct live_table *table, struct live *live, const struct task_record *record);

/* Undoes live_take(): first of its priority again. */
void live_put_back(struct live_table *table, struct live *live);

#endif
