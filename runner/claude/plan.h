/* What a claude task's process shall be. Private to runner/claude. */
#ifndef CLAUDE_PLAN_H
#define CLAUDE_PLAN_H

#include "proc/plan.h"
#include "runner/claude/attempt.h"

/* Makes the directories of a run (below `dir`) and the plan of its process, which gets the lease's
 * token for a credential. */
struct plan *claude_plan(const struct attempt *attempt, struct err *err);

#endif
