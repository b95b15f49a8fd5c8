/*
 * Makes the plan of the process that runs Claude for a task. Private to runner/claude.
 *
 * Threads: the task's own.
 */
#ifndef CLAUDE_PLAN_H
#define CLAUDE_PLAN_H

#include "proc/plan.h"
#include "runner/claude/claude.h"
#include "runner/repo/repos.h"
#include "runner/request/request.h"

/* Makes the directories of a run (below `dir`) and the plan of its process, which gets the lease's
 * token for a credential; `redact` learns it. `workspace` is NULL for a task without one. */
struct plan *claude_plan(const struct claude *claude, const struct task_request *request,
                         const struct lease *lease, const char *dir, struct workspace *workspace,
                         struct redact_set *redact, struct err *err);

#endif
