/*
 * Tasks of kind "command": one shell command, with what it prints to stdout and stderr apart.
 *
 * Theory of operation. The command is run by bash in the task's own directory (or in a workspace of
 * a repository) and prints into two pipes. They are read as they fill, cleaned of secrets, and go
 * two ways: as events `stdout` and `stderr` for who follows, and into the answer, up to
 * COMMAND_TEXT_MAX each. A reader of events never slows the command.
 *
 *     bash ── stdout ──▶ capture ──▶ event, answer's "stdout"
 *          └─ stderr ──▶ capture ──▶ event, answer's "stderr"
 *
 * A command that cannot be started is a task that fails: exit code 1 and an error.
 *
 * Threads: command_run() on each task's own thread.
 */
#ifndef COMMAND_COMMAND_H
#define COMMAND_COMMAND_H

#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/gitgate/gitgate.h"
#include "runner/inputs/inputs.h"
#include "runner/repo/repos.h"
#include "runner/task/engine.h"
#include "runner/walls/walls.h"

#include <stdatomic.h>
#include <sys/types.h>

#define COMMAND_TEXT_MAX (16u << 20) /* limit of stdout, and of stderr, in an answer */

/* What commands need to run; all of it is borrowed. */
struct command {
    struct launcher *launcher;
    struct repos *repos;
    struct inputs *inputs;
    struct gitgate *gitgate;
    struct config_in_force *config; /* the configuration in force */
    const char *instance;           /* value of TASK_MARKER */
    const struct walls *walls;
    uid_t uid; /* user that commands run as */
    gid_t gid;
};

/* The kind's row; its arg must be a struct command. */
#define COMMAND_KIND "command"
extern const struct task_kind command_kind;

/* The run() of that row. */
void command_run(struct task_run *run, struct task_outcome *outcome, void *arg);

#endif
