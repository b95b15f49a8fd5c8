/*
 * What a task finds before Claude starts: secrets in its environment, MCP servers, commands, and
 * what its own commands have made of the workspace. Private to runner/claude.
 */
#ifndef CLAUDE_PREPARE_H
#define CLAUDE_PREPARE_H

#include "proc/plan.h"
#include "runner/claude/attempt.h"
#include "runner/request/request.h"

/* Writes the files that the request asks for among the run's own and adds to the plan. To be called
 * before any process of the task has run. */
int prepare_files(const struct attempt *attempt, struct plan *plan, struct err *err);

/* Appends the mounts of the workspace and of the inputs: anew for each process tree. */
int prepare_mounts(const struct attempt *attempt, struct strlist *mounts, struct err *err);

/* Runs preExecutionCommands one after the other, as Claude would be run by `plan`; their output
 * becomes events. ERR_MISMATCH when one fails, ERR_TIMEOUT past the deadline (mono), ERR_BUSY when
 * stopped. attempt->failed_step is the task's reason when it was a limit, else NULL. */
int prepare_commands(struct attempt *attempt, struct err *err);

/* Runs postCommands, all of them whatever comes of each, in the same way: output in the events,
 * exit codes and errors in the answer's members. They have five minutes together; a runner that
 * goes down ends them. */
void prepare_post_commands(struct attempt *attempt);

#endif
