/*
 * What a command's process shall be. Private to runner/command.
 *
 * Threads: the task's own.
 */
#ifndef COMMAND_PLAN_H
#define COMMAND_PLAN_H

#include "proc/plan.h"
#include "runner/command/command.h"
#include "runner/request/request.h"

/* Makes the directories of a run below `dir` and the plan of its process. `workspace` is NULL for a
 * task without a repository. The owner's variables are registered in `redact`. NULL with *err when
 * that failed. */
struct plan *command_plan(const struct command *command, const struct task_request *request,
                          const char *dir, struct workspace *workspace, struct redact_set *redact,
                          struct err *err);

/* A descriptor to read the command's standard input from, at its end when there is none. */
int command_stdin_fd(const char *text, struct err *err);

#endif
