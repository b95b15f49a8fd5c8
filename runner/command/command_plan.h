/*
 * The plan of a command's process. Private to runner/command.
 *
 * Threads: the task's own. Ownership: the caller frees the plan and closes the descriptor;
 * everything else is borrowed.
 */
#ifndef COMMAND_PLAN_H
#define COMMAND_PLAN_H

#include "proc/plan.h"
#include "runner/command/command.h"
#include "runner/inputs/layers.h"
#include "runner/request/request.h"

/* The files that a command works with. */
struct command_files {
    const char *dir;             /* the run's own */
    struct workspace *workspace; /* NULL: a task without a repository */
    struct input_layers *inputs; /* NULL: none */
    struct redact_set *redact;   /* gets the owner's variables as secrets */
};

/* Makes the directories of a run and the plan of its process. NULL with *err when that failed. */
struct plan *command_plan(const struct command *command, const struct task_request *request,
                          const struct command_files *files, struct err *err);

/* A descriptor from which the command's standard input can be read; at its end when there is
 * none. */
int command_stdin_fd(const char *text, struct err *err);

#endif
