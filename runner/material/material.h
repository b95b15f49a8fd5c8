/*
 * What a run works on, whatever its kind: the repository that its request names, git's way to that
 * repository, and its inputs. Also who may stop the work on them.
 *
 * Threads: the task's own.
 * Ownership: everything passed in is borrowed; the caller ends what a function hands out, by
 * workspace_close(), gitgate_close() and input_layers_close().
 */
#ifndef MATERIAL_MATERIAL_H
#define MATERIAL_MATERIAL_H

#include "base/buf.h"
#include "base/err.h"
#include "runner/gitgate/gitgate.h"
#include "runner/inputs/layers.h"
#include "runner/repo/repos.h"
#include "runner/request/request.h"
#include "runner/task/engine.h"
#include "runner/work/work.h"

#include <stdbool.h>
#include <stdint.h>

/* The branch that a name means: "refs/heads/x" is x, and "HEAD" the default, which is NULL. */
const char *material_branch(const char *name);

/* The repository that a request names; its url is NULL when the request names none. */
struct repo_wish material_wish(const struct task_request *request);

/* The stop conditions of a run: a cancel, or a runner that stops. */
struct work_stop material_stop(struct task_run *run);

/* Makes the workspace of the request's repository, reports it as the event `repo`, and appends it
 * to `members`. *ret_workspace is NULL when the request names no repository. */
int material_open_repo(struct repos *repos, struct task_run *run,
                       const struct task_request *request, struct buf *members,
                       struct workspace **ret_workspace, struct err *err);

/* Lets git in the workspace (NULL: there is none) reach the repository through the runner.
 * `way`: how the jail reaches its gate. *ret_pass is NULL without a workspace, and may
 * be set also when this fails. */
int material_open_gitgate(struct gitgate *gitgate, struct task_run *run,
                          const struct task_request *request, struct workspace *workspace,
                          enum egress_way way, struct gitgate_pass **ret_pass, struct err *err);

struct material_inputs {
    struct inputs *inputs;
    struct repos *repos;
    struct task_run *run;
    const struct task_request *request;
    struct workspace *workspace; /* NULL: the run works in a directory of its own */
    int64_t until_ms;            /* mono: end of the run's time limit */
};

/* Prepares the request's inputs. *ret_layers is NULL when it has none. After a failure *ret_reason
 * is the task's reason: "timeout" (ERR_TIMEOUT) or "input_error". */
int material_open_inputs(const struct material_inputs *order, struct input_layers **ret_layers,
                         const char **ret_reason, struct err *err);

#endif
