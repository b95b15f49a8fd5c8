/*
 * The children of a zygote.
 *
 * Threads: one.
 */
#ifndef INSIDE_CHILDREN_H
#define INSIDE_CHILDREN_H

#include "base/err.h"
#include "runner/python/python_wire.h"

#include <stdbool.h>
#include <sys/types.h>

struct children;

struct children *children_new(void);

/* In a fork of the zygote: they are not ours. Frees `children`. */
void children_forget(struct children *children);

/* Clones one into a jail, where it waits for its request. `fds` stay the caller's. */
int children_start(struct children *children, uint32_t id, int memory_mb, const int fds[CHILD_FDS],
                   struct err *err);

int children_limit(struct children *children, uint32_t id, int memory_mb, struct err *err);

/* For an id that is not there it does nothing: the end is on its way. */
void children_signal(struct children *children, uint32_t id, int sig);

/* Reaps one that has ended: true, with what to tell of it. */
bool children_reap(struct children *children, struct zygote_wire *ret_wire);

/* Frees what the one that was reaped last has left: it takes time, and who asked need not wait. */
void children_tidy(struct children *children);

/* Kills those that are beyond their memory. Returns the milliseconds to the next look; -1: none is
 * needed. */
int children_look(struct children *children);

/* As fork(), with clone()'s flags beside SIGCHLD. */
long clone_process(unsigned long flags);

#endif
