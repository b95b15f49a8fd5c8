/*
 * Process trees as /proc shows them: who descends from whom, and ending them.
 *
 * Threads: no shared state.
 */
#ifndef PROC_TREE_H
#define PROC_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Sends sig to every descendant of `root`, not to root itself. Returns how many there were. */
int tree_signal(pid_t root, int sig);

/* Start time of a process in clock ticks since boot, or 0 when it does not exist. With the pid it
 * identifies one process for ever. */
int64_t tree_start_time(pid_t pid);

/* Kills every process whose environment holds `marker` ("NAME=VALUE", exactly) until none is left
 * or timeout_ms have passed. Returns how many were found, or -1 when some are left. */
int tree_end_marked(const char *marker, int timeout_ms);

/* Kills the process with this pid and start time and waits for its end. True when it is gone (or
 * never existed). */
bool tree_end_process(pid_t pid, int64_t start_time, int timeout_ms);

#endif
