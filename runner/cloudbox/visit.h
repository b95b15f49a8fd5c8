/*
 * Tasks of kind "session": one command of a cloud session, in an execution.
 *
 * Theory of operation. The execution makes a local session (runner/session) of what the bucket
 * holds, runs the command in it, ends the session's processes, and stores what has changed:
 *
 *     carry_pull ─▶ STATE/sessions/ID/box ─▶ sessions_new, exec_start ─▶ sessions_stop ─▶
 * carry_push
 *
 * So a shell is here what it is at home. A task that is cancelled or cut off stores nothing, and
 * the session is what it was before. One that ended by its own time limit is stored as at home.
 *
 * The request: `command`, `inSession`, `env` (the session's own), `limits`, and as `metadata`
 * {"session","shell","cwd","timeoutMs"}. The answer has `session`, an exec's answer without output.
 *
 * Threads: visit_run() on each task's own thread, one at a time for a session.
 */
#ifndef CLOUDBOX_VISIT_H
#define CLOUDBOX_VISIT_H

#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/overflow/folder.h"
#include "runner/repo/repos.h"
#include "runner/task/engine.h"
#include "runner/walls/walls.h"

#include <sys/types.h>

#define VISIT_KIND "session"

struct visit_config {
    struct config_in_force *config; /* borrowed, as all here */
    struct launcher *launcher;
    struct repos *repos;
    const struct walls *walls;
    const char *instance; /* store_instance() */
    const char *state_dir;
    const struct cloud *const *cloud; /* NULL there: this is no execution */
    uid_t uid;
    gid_t gid;
};

/* The row of the kind; its arg is a struct visit_config. */
extern const struct task_kind visit_kind;

#endif
