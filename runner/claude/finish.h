/*
 * The steps after a run: outputs, and after a success postExecutionActions. Private to
 * runner/claude.
 *
 * Threads: the task's own. Ownership: the attempt and the run are borrowed.
 */
#ifndef CLAUDE_FINISH_H
#define CLAUDE_FINISH_H

#include "runner/claude/attempt.h"

/* Keeps the output folder and, after a success, does what the request asks for; appends the results
 * to the answer's members. A failure is reported there and does not fail the task. */
void finish_run(struct attempt *attempt, bool success);

/* Stores the changes in the workspace with the task's events, for callers that ask for them. */
void finish_changes(struct task_run *run, struct workspace *workspace);

/* Names in a workspace that belong to the runner and are never committed. */
extern const char *const finish_own_files[];

#endif
