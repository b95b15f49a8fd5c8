/*
 * What ended tasks have left: their directories, removed by a thread of its own a moment later.
 *
 * The moment matters. A task's end is known when its processes are gone, but the kernel may still
 * be taking down the mounts that showed the directory to them. Whoever removes the directory then
 * waits for that, busily, and holds the directory above it meanwhile, in which the next task wants
 * to make its own.
 *
 * Threads: any. Ownership: the engine's; leavings_add() takes the path over when it returns true.
 */
#ifndef TASK_LEAVINGS_H
#define TASK_LEAVINGS_H

#include "base/lock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdint.h>

#define LEAVINGS_MAX 64

/* A directory to remove, not before due_ms (mono). */
struct leaving {
    char *path;
    int64_t due_ms;
};

struct leavings {
    struct lock lock; /* guards the fields below; not held while something is removed */
    pthread_cond_t changed;
    struct thread thread;
    struct leaving ring[LEAVINGS_MAX];
    size_t first, count;
    bool stopping;
};

void leavings_init(struct leavings *leavings);
/* Starts the thread. Returns 0 or -1. */
int leavings_start(struct leavings *leavings, struct err *err);
/* Removes all that is left, and ends the thread. Does nothing when it does not run. */
void leavings_stop(struct leavings *leavings);
/* Call after leavings_stop(). */
void leavings_done(struct leavings *leavings);

/* Gives it a directory to remove that nobody uses under this name any more. False when the thread
 * does not run or has too much to do: then the caller removes the directory. */
bool leavings_add(struct leavings *leavings, char *path);

#endif
