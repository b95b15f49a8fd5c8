/*
 * Starting processes and ending their trees.
 *
 * Theory of operation.
 *
 *     daemon ──posix_spawn──▶ launcher ──clone──▶ init ──fork+exec──▶ program ─▶ its children …
 *        └───────────── control socket ────────────┘
 *
 * The daemon has threads, so it never forks. At its start it spawns one launcher, a single-threaded
 * copy of this program (`claude-runner launch`), which clones an init for each request: no exec, no
 * dynamic linking, one millisecond. Init is the parent or grandparent of everything the program
 * starts. How well it can hold that tree depends on the host: as pid 1 of a pid namespace nothing
 * escapes it and its death is everybody's; without one it is a sub-reaper that signals its
 * descendants until none is left. Init builds the plan's jail (jail/jail.h), the program's process
 * shuts it behind itself.
 *
 * Everyone dies with the daemon: init ends the tree when its control socket closes; init dies with
 * the launcher (PR_SET_PDEATHSIG); orphans of a killed init fall to the launcher, which kills them,
 * and those of a killed launcher to the daemon, which does the same. So a program that has a
 * launcher has no other children: they would be taken for orphans.
 *
 * Without namespaces one thing can get away: a process that forks and ends faster than /proc can be
 * read, for ever, outlives KILL_WAIT_MS.
 *
 * Threads: launcher_* and child_* from any; a child belongs to one thread at a time.
 * Ownership: launcher_free() frees the launcher, child_free() a child.
 */
#ifndef PROC_LAUNCH_H
#define PROC_LAUNCH_H

#include "base/err.h"
#include "base/metric.h"
#include "jail/jail.h"
#include "proc/plan.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct launcher;
struct child;

/* Spawns the launcher from this program's own file, and does not wait until it is ready: the first
 * caller that needs it waits. The caller frees it by launcher_free(). */
struct launcher *launcher_start(struct err *err);
/* Kills everything that it has started. From now on launcher_spawn() fails with ERR_BUSY. */
void launcher_stop(struct launcher *launcher);
/* Stops and frees it. Call after the last child_free(). */
void launcher_free(struct launcher *launcher);
/* Which jails this host can give, and what is missing. Waits until the launcher is ready; the tier
 * is none when it did not start. Valid until launcher_free(). */
const struct jail_host *launcher_host(struct launcher *launcher);
enum jail_tier launcher_tier(struct launcher *launcher);

/* Starts a program. Returns once it has been executed (or could not be); the caller frees the
 * result by child_free(). `stdio` remain the caller's. A launcher that died is started again. */
struct child *launcher_spawn(struct launcher *launcher, const struct plan *plan, const int stdio[3],
                             struct err *err);

/* Statistics of launcher_spawn() since the start. */
struct launcher_numbers {
    struct histogram took; /* of those that succeeded */
    _Atomic int64_t failed;
};
const struct launcher_numbers *launcher_numbers(const struct launcher *launcher);

/* Becomes readable when child_read() has news. */
int child_fd(const struct child *child);
pid_t child_pid(const struct child *child);          /* init's, as the daemon sees it */
int64_t child_start_time(const struct child *child); /* init's */

/* Hands out the sockets of a jail with a gate (jail.h), which the caller then owns. False when
 * there are none or they were taken before. Connections wait until somebody serves them. */
bool child_take_gate(struct child *child, int ret_sockets[JAIL_GATE_SOCKETS]);

enum child_event {
    CHILD_NOTHING, /* nothing new */
    CHILD_EXITED,  /* the program has ended: child_status() */
    CHILD_ENDED,   /* the whole tree has ended */
};
enum child_event child_read(struct child *child);

/* wait() status of the program; -1 while unknown (or for ever, when init itself was killed). */
int child_status(const struct child *child);
int64_t child_peak_kib(const struct child *child);
int child_leftover(const struct child *child);      /* processes that outlived the program */
unsigned child_exceeded(const struct child *child); /* enum jail_exceeded; known at CHILD_ENDED */

/* Ends the tree: TERM, the plan's grace time, KILL; or KILL at once. child_read() reports the
 * end. */
void child_end(struct child *child, bool at_once);

/* Frees the child; a tree that still runs is killed. */
void child_free(struct child *child);

/* The main function of the launcher (`claude-runner launch`); returns its exit status. */
int launch_serve(void);

#endif
