/*
 * Makes the plan of the process that runs Claude for a task. Private to runner/claude.
 *
 * Threads: the task's own.
 * Ownership: the caller frees the plan by plan_free(); the attempt is borrowed.
 */
#ifndef CLAUDE_PLAN_H
#define CLAUDE_PLAN_H

#include "proc/plan.h"
#include "runner/claude/attempt.h"

/* Makes the directories of a run (below `dir`) and the plan of its process, which gets the lease's
 * token as its credential. The caller frees the plan. */
struct plan *claude_plan(const struct attempt *attempt, struct err *err);

#endif
