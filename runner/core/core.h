/*
 * What it takes to run tasks, put together once for everybody who does: the daemon (runner/daemon)
 * and a cloud task's worker (runner/worker).
 *
 *     launcher ─┬─ repos ──┐
 *     store ────┤          ├── claude ── engine
 *     breaker ─ keeper ─ proxy
 *
 * Threads: built and taken apart by one; a thread of its own tries the launcher meanwhile.
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include "base/redact.h"
#include "base/thread.h"
#include "runner/claude/claude.h"
#include "runner/config/config.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct core {
    const struct config *_Atomic config; /* in force; borrowed */
    struct redact_set *secrets;          /* borrowed */
    bool one_task;                       /* it is built for one, and thrown away */
    bool begun;                          /* core_build() has been called */
    int lock_fd;
    struct store *store;
    struct launcher *launcher;
    struct keeper *keeper;
    struct repos *repos;
    struct breaker *breaker;
    _Atomic int64_t logins; /* as the keeper last counted them */
    struct proxy *proxy;
    struct engine *engine;
    struct claude claude;
    struct task_kind kinds[2];
    struct { /* what takes a moment to find out, while the rest is built */
        struct thread thread;
        int rc;
        struct err err;
    } probe;
};

/* Builds all parts; none does anything yet, but for programs that show whether tasks could. `core`
 * is zeroed before, but for `secrets` and `one_task`; it is to be stopped and freed also after a
 * failure, and may be when it was never built. */
int core_build(struct core *core, const struct config *config, struct err *err);

/* Begins: watches the login, tries whether a task's user can run anything, starts tasks. */
int core_start(struct core *core, struct err *err);

/* Another configuration is in force (borrowed, as the first). */
void core_reconfigure(struct core *core, const struct config *config);

/* Whatever runs dies; nothing can be started any more. */
void core_stop(struct core *core);
/* After core_stop(): waits until the tasks' threads have stored how theirs ended. False when one is
 * stuck in the kernel: it needs the rest, which stays. */
bool core_settle(struct core *core);
/* After core_settle(). */
void core_free(struct core *core);

#endif
