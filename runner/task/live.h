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

struct live {
    char id[ID_SIZE];
    char kind[16];
    int priority;
    int64_t created_ms;
    int64_t started_ms;
    enum live_state state;
    bool shared;
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
    struct live_queue queues[PRIORITIES];
    int queued;
    int running;
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

/* The next to run: highest priority, then oldest; with `held`, of those that are not shared. It is
 * taken from the queue and is running. */
struct live *live_take(struct live_table *table, bool held);

/* Undoes live_take(): first of its priority again. */
void live_put_back(struct live_table *table, struct live *live);

#endif
