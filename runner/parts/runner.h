/*
 * A runner: everything that a running program of ours consists of, for the daemon and for a cloud
 * task's worker, and the one table of its parts: what it takes to run tasks (task_parts.c, both
 * have that), then what serves callers (service_parts.c, the daemon).
 *
 *     launcher ─┬─ repos ──┐                      ┌─ api ── http
 *     store ────┤          ├── claude ── engine ──┼─ janitor, webhook, alert
 *     breaker ─ usage ─ keeper ─ proxy            └─ cloud
 *
 * A room that has something to build is a row in one of these files and a field here.
 *
 * Threads: built and taken apart by one; a thread of its own tries the launcher meanwhile.
 */
#ifndef PARTS_RUNNER_H
#define PARTS_RUNNER_H

#include "base/redact.h"
#include "base/thread.h"
#include "runner/api/api.h"
#include "runner/claude/claude.h"
#include "runner/claude/version.h"
#include "runner/cloudbox/cloudbox.h"
#include "runner/cloudbox/visit.h"
#include "runner/command/command.h"
#include "runner/config/in_force.h"
#include "runner/janitor/janitor.h"
#include "runner/oauth/alert.h"
#include "runner/parts/parts.h"
#include "runner/replica/replica.h"
#include "runner/webhook/webhook.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define METRIC_SOURCES_MAX 32

#define RUNNER_KINDS 3

/* The row of a kind of tasks, without its arg; NULL for an unknown name. */
const struct task_kind *runner_kind(const char *name);

struct runner {
    struct parts parts;
    struct config_in_force config;
    const struct config *first; /* a reference: parts borrow texts from it that no reload changes */
    struct redact_set *secrets; /* borrowed */
    bool one_task;              /* it runs one task only */

    int lock_fd;    /* lock of the state directory */
    int sockets_fd; /* the directory of the sockets that jails reach by their gates */
    struct store *store;
    struct launcher *launcher;
    struct keeper *keeper;
    struct repos *repos;
    struct breaker *breaker;
    struct usage_windows *usage;
    _Atomic int64_t logins; /* the keeper's count when it was last read */
    struct proxy *proxy;
    struct gitgate *gitgate;
    struct engine *engine;
    struct claude claude;
    struct walls walls; /* set once it has been probed */
    struct command command;
    struct visit_config visit;
    struct task_kind kinds[RUNNER_KINDS + 1]; /* ends with a NULL name */
    struct { /* probes that take a moment, while other parts are built */
        struct thread thread;
        int rc;
        struct err err;
    } probe;

    struct login_flow *flow;
    char marker[128]; /* TASK_MARKER=…, in the environment of programs that we start */
    struct cloud cloud;
    struct overflow *overflow; /* NULL: no cloud is configured */
    struct executor away;
    struct replica *service;     /* NULL: this is none of its instances */
    struct prompt_watch *prompt; /* NULL: SYSTEM_PROMPT_SECRET is not set */
    struct metric_source metrics[METRIC_SOURCES_MAX];
    struct janitor *janitor;
    struct alert *alert;
    struct claude_watch *cli;
    struct webhook *webhook;
    struct sessions *sessions;
    struct cloudbox *cloudbox; /* NULL: no cloud is configured */
    struct inputs *inputs;
    struct python *python;
    struct access *access; /* NULL: not asked for */
    struct audit *audit;
    struct callers *callers;
    struct push *push;
    struct http_server *server;
    struct api api;
};

/* Build and start all parts of a worker or of the daemon, and take over `config`. *runner must be
 * zeroed before, except for `secrets`, `one_task` and `claude.cloud`. After a failure, whose error
 * names the part, the caller must call runner_end() as well. */
int runner_begin_worker(struct runner *runner, struct config *config, struct err *err);
int runner_begin_daemon(struct runner *runner, struct config *config, struct err *err);

/* Ends everything that runs and frees it. False when a task's thread hangs in the kernel: it needs
 * the rest, which stays. Does nothing for a runner that was never begun. */
bool runner_end(struct runner *runner);

/* Replaces the configuration and takes over the new one. When that fails, the new one is freed and
 * the old one stays. */
int runner_reconfigure(struct runner *runner, struct config *config, struct err *err);

/* The two halves of the table. Private to runner/parts. */
extern const struct part runner_task_parts[], runner_service_parts[];
extern const size_t runner_task_part_count, runner_service_part_count;
/* task_parts.c: refuses network settings that cannot be enforced. Private to runner/parts. */
int runner_check_network(const struct runner *runner, const struct config *config, struct err *err);
/* task_parts.c: puts `config` in force (taken over) and informs the parts that use it. Private to
 * runner/parts. */
void runner_replace_config(struct runner *runner, struct config *config);

#endif
