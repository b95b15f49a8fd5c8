/*
 * Results that come after their task was given up. An execution that home could not see any more,
 * or not reach, may finish all the same; and what one had sent before it ended may arrive after it.
 * Such a task has PLACEMENT_LOST or PLACEMENT_ENDED in the store; its result is looked for as long
 * as overflow_late_ms() says, at first every few seconds, then more and more rarely. When it comes
 * the engine takes the task up again, and it ends as what it became. A restart begins anew with the
 * tasks that the store names. Private to runner/overflow.
 *
 * Threads: one of its own; late_note() from any. Ownership: the caller of late_new() frees it by
 * late_free().
 */
#ifndef OVERFLOW_LATE_H
#define OVERFLOW_LATE_H

#include "runner/overflow/folder.h"
#include "runner/store/store.h"
#include "runner/task/engine.h"

#define LATE_COUNT_MS 300000 /* then it is counted as the failure that it is told to be */

struct late;

struct late_config {
    const struct cloud *cloud; /* borrowed, as all here */
    struct store *store;
    struct engine *engine;
};

struct late *late_new(const struct late_config *config, struct err *err);
/* Starts its thread, which begins with the tasks that earlier processes have given up. Call once,
 * after engine_start(). */
int late_start(struct late *late, struct err *err);
/* Ends its thread, if there is one. NULL is allowed. */
void late_free(struct late *late);

/* Notes a task that is given up; its placement says so by now, and it is about to end. True: its
 * end is counted by us, as what it becomes within LATE_COUNT_MS, and once. False when there is no
 * room for it, or it has been counted. */
bool late_note(struct late *late, const char *id);

#endif
