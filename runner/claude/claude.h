/*
 * Tasks of kind "claude": Claude Code, started, followed and ended.
 *
 * Threads: claude_run() on each task's own thread.
 */
#ifndef CLAUDE_CLAUDE_H
#define CLAUDE_CLAUDE_H

#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/oauth/keeper.h"
#include "runner/overflow/folder.h"
#include "runner/proxy/proxy.h"
#include "runner/repo/repos.h"
#include "runner/task/engine.h"

#include <stdatomic.h>
#include <sys/types.h>

struct claude {
    struct launcher *launcher;      /* borrowed */
    struct keeper *keeper;          /* borrowed */
    struct repos *repos;            /* borrowed */
    struct breaker *breaker;        /* borrowed */
    struct proxy *proxy;            /* borrowed */
    struct config_in_force *config; /* borrowed: the configuration in force */
    const struct cloud *cloud;      /* borrowed: whose bucket gcsPrefix means, or NULL */
    const char *instance;           /* borrowed: value of TASK_MARKER */
    uid_t uid;                      /* whom it runs as */
    gid_t gid;
};

/* A task_kind's run(); arg is a struct claude. */
void claude_run(struct task_run *run, struct task_outcome *outcome, void *arg);

#endif
