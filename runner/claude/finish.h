/*
 * What follows a run: outputs, and after a success postExecutionActions. Private to runner/claude.
 *
 * Threads: the task's own.
 */
#ifndef CLAUDE_FINISH_H
#define CLAUDE_FINISH_H

#include "runner/claude/attempt.h"

/* Keeps the output folder and, after a success, does what the request asks for; appends what came
 * of it to the answer's members. A failure is reported there and fails nothing. */
void finish_run(struct attempt *attempt, bool success);

/* Keeps what was changed in the workspace beside the task's events, for who asks for it. */
void finish_changes(struct task_run *run, struct workspace *workspace);

/* How a request names its repository. */
struct repo_wish finish_wish(const struct task_request *request);

/* A task_run as somebody who may end a program: on a cancel, or when the runner stops. */
struct work_stop finish_stop(struct task_run *run);

/* Names in a workspace that are the runner's own and never committed. */
extern const char *const finish_own_files[];

#endif
