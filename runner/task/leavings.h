/*
 * What ended tasks have left: their directories, removed by a thread of its own a moment later, and
 * their event files, synced to disk by it.
 *
 * The moment matters. A task's end is known when its processes are gone, but the kernel may still
 * be taking down the mounts that showed the directory to them. Whoever removes the directory then
 * waits for that, busily, and holds the directory above it meanwhile, in which the next task wants
 * to make its own. And the files of tasks that end within the same moment reach the disk together,
 * by one commit of the file system's journal.
 *
 * Threads: any. Ownership: the engine's; leavings_take() takes what it is given over.
 */
#ifndef TASK_LEAVINGS_H
#define TASK_LEAVINGS_H

#include "base/lock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdint.h>

#define LEAVINGS_MAX 64

struct leaving {
    char *path;     /* a directory to remove; NULL: none */
    int fd;         /* a file to sync and close; -1: none */
    int64_t due_ms; /* not before (mono) */
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
/* Syncs and removes all that is left, and ends the thread. Does nothing when it does not run. */
void leavings_stop(struct leavings *leavings);
/* Call after leavings_stop(). */
void leavings_done(struct leavings *leavings);

/* Takes a directory that nobody uses under this name any more (or NULL) and a file that nobody
 * writes to any more (or -1). False: both are gone when it returns, because the thread does not run
 * or has too much to do. */
bool leavings_take(struct leavings *leavings, char *path, int fd);

#endif
