/*
 * Tasks of kind "claude": Claude Code, started, followed and ended.
 *
 * Threads: claude_run() on each task's own thread.
 */
#ifndef CLAUDE_CLAUDE_H
#define CLAUDE_CLAUDE_H

#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/gitgate/gitgate.h"
#include "runner/inputs/inputs.h"
#include "runner/oauth/keeper.h"
#include "runner/overflow/folder.h"
#include "runner/proxy/proxy.h"
#include "runner/repo/repos.h"
#include "runner/session/session.h"
#include "runner/task/engine.h"
#include "runner/walls/walls.h"

#include <stdatomic.h>
#include <sys/types.h>

#define CLAUDE_TOKEN_TYPES 4

/* Sums over the tasks that have ended since the start. */
struct claude_numbers {
    _Atomic int64_t tokens[CLAUDE_TOKEN_TYPES];
    _Atomic int64_t nano_usd;
};

struct claude {
    struct launcher *launcher;      /* borrowed */
    struct keeper *keeper;          /* borrowed */
    struct repos *repos;            /* borrowed */
    struct inputs *inputs;          /* borrowed */
    struct gitgate *gitgate;        /* borrowed */
    struct sessions *sessions;      /* borrowed; NULL: there are none here */
    struct breaker *breaker;        /* borrowed */
    struct usage_windows *usage;    /* borrowed, or NULL */
    struct proxy *proxy;            /* borrowed */
    struct config_in_force *config; /* borrowed: the configuration in force */
    const struct cloud *cloud;      /* borrowed: whose bucket gcsPrefix means, or NULL */
    const char *instance;           /* borrowed: value of TASK_MARKER */
    const struct walls *walls;      /* borrowed */
    uid_t uid;                      /* user that tasks run as */
    gid_t gid;
    struct claude_numbers numbers;
};

/* Stored with a task's events: its conversation as JSON lines, without its secrets. */
#define TRANSCRIPT_FILE "transcript.jsonl"

/* The kind's row; its arg must be a struct claude. */
#define CLAUDE_KIND "claude"
extern const struct task_kind claude_kind;

/* The run() of that row. */
void claude_run(struct task_run *run, struct task_outcome *outcome, void *arg);

/* The count() and metrics() of that row: tokens and cost of ended tasks. */
void claude_count(const struct buf *summary, void *arg);
void claude_metrics(struct metric_page *page, void *arg);

#endif
