/*
 * What is prepared before Claude starts: secrets in its environment, MCP servers, mounts, and the
 * request's own commands. Private to runner/claude.
 *
 * Threads: the task's own. Ownership: the attempt is borrowed; plans and lists are the caller's.
 */
#ifndef CLAUDE_PREPARE_H
#define CLAUDE_PREPARE_H

#include "proc/plan.h"
#include "runner/claude/attempt.h"
#include "runner/request/request.h"

/* Writes the files that the request asks for into the run's directory and adds them to the plan.
 * Call before any process of the task has run. */
int prepare_files(const struct attempt *attempt, struct plan *plan, struct err *err);

/* Appends the mounts of the workspace and of the inputs. Call again for each process tree. */
int prepare_mounts(const struct attempt *attempt, struct strlist *mounts, struct err *err);

/* Runs preExecutionCommands one after the other, in the way `plan` runs Claude; their output
 * becomes events. ERR_MISMATCH when one fails, ERR_TIMEOUT past the deadline (mono), ERR_BUSY when
 * stopped. attempt->failed_step is the task's reason when a limit was hit, else NULL. */
int prepare_commands(struct attempt *attempt, struct err *err);

/* Runs all postCommands in the same way, whatever the result of each: output in the events, exit
 * codes and errors in the answer's members. They have five minutes together; a runner that stops
 * ends them. */
void prepare_post_commands(struct attempt *attempt);

#endif
