/*
 * The children of a zygote.
 *
 * Threads: one.
 * Ownership: children_new() is freed by children_forget() in a fork, and else lives as long as the
 * process.
 */
#ifndef INSIDE_CHILDREN_H
#define INSIDE_CHILDREN_H

#include "base/err.h"
#include "runner/python/python_wire.h"

#include <stdbool.h>
#include <sys/types.h>

struct children;

struct children *children_new(void);

/* In a fork of the zygote: frees `children` without touching the processes, which belong to the
 * parent. */
void children_forget(struct children *children);

/* Clones a child into a jail, where it waits for its request. `fds` remain the caller's. */
int children_start(struct children *children, uint32_t id, int memory_mb, const int fds[CHILD_FDS],
                   struct err *err);

int children_limit(struct children *children, uint32_t id, int memory_mb, struct err *err);

/* Sends a signal. Does nothing for an unknown id: its end is already being reported. */
void children_signal(struct children *children, uint32_t id, int sig);

/* Reaps a child that has ended. True, with the message about it. */
bool children_reap(struct children *children, struct zygote_wire *ret_wire);

/* Frees what belongs to the child that was reaped last. Separate, because it takes time and the
 * daemon should not wait for it. */
void children_tidy(struct children *children);

/* Kills children that use too much memory. Returns the milliseconds until the next look; -1 when
 * none is needed. */
int children_look(struct children *children);

/* As fork(), with clone()'s flags besides SIGCHLD. */
long clone_process(unsigned long flags);

#endif
