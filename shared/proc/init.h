/*
 * The first process of a task's tree: it starts the program, reaps, and ends the tree. It runs
 * between the launcher's clone() and its own _exit(), single-threaded. Private to shared/proc.
 */
#ifndef PROC_INIT_H
#define PROC_INIT_H

#include "proc/launch.h"
#include "proc/plan.h"
#include "proc/wire.h"

/* `fds` as enum wire_fd. Never returns. */
_Noreturn void init_run(const struct plan *plan, const int fds[WIRE_FDS], enum proc_walls walls);

/* Namespaces that clone() is asked for, per kind of walls. */
unsigned long init_clone_flags(enum proc_walls walls);

/* Inside a fresh clone: finishes what the namespaces need. Returns 0, or -1 with errno. */
int init_enter(enum proc_walls walls, uid_t uid, gid_t gid);

#endif
