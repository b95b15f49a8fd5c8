/*
 * The first process of a task's tree: it starts the program, reaps, and ends the tree. It runs
 * between the launcher's clone() and its own _exit(), single-threaded. Private to shared/proc.
 *
 * Threads: none.
 */
#ifndef PROC_INIT_H
#define PROC_INIT_H

#include "proc/launch.h"
#include "proc/plan.h"
#include "proc/wire.h"

/* `fds` are indexed by enum wire_fd. Never returns. */
_Noreturn void init_run(const struct plan *plan, struct jail *jail, const int fds[WIRE_FDS]);

#endif
