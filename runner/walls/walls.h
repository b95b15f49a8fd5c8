/*
 * What tasks see of this machine, and how much of it they may use: the jail part of their plans.
 *
 * In tier full the places of a run appear where people expect them (/workspace, /home/user, /tmp),
 * in the others at their own paths.
 *
 * Threads: any.
 */
#ifndef WALLS_WALLS_H
#define WALLS_WALLS_H

#include "proc/plan.h"
#include "runner/config/in_force.h"
#include "runner/egress/gate.h"
#include "runner/request/request.h"

struct walls {
    struct config_in_force *config; /* borrowed: the configuration in force */
    enum jail_tier tier;            /* of tasks' jails */
    bool gate;                      /* whether they have a network behind a gate */
    struct users *users;            /* one for each task (work/users.h), or NULL */
};

/* The run in `dir`; with a session's box, whose workspace, home and tmp are the run's (NULL: none).
 */
struct walls_run {
    const char *dir;
    const char *box;
};

/* Where a place of the run ("home", "config", "tmp", "work") is, and where the program sees it, in
 * fresh memory; NULL when memory ran out. */
char *walls_outside(const struct walls_run *run, const char *name);
char *walls_place(const struct walls *walls, const struct walls_run *run, const char *name);

/* Where the program sees a path below such a place that is the run's own. */
char *walls_path(const struct walls *walls, const struct walls_run *run, const char *path);

/* Fills plan->jail for the run, and shows the program argv[0] in it, whose path may change by that.
 */
int walls_build(const struct walls *walls, const struct task_request *request,
                const struct walls_run *run, struct plan *plan, struct err *err);

/* The same for the agent of a session whose box is `dir` (workspace, home, tmp); `request` has its
 * limits. */
int walls_box(const struct walls *walls, const struct task_request *request, const char *dir,
              struct plan *plan, struct err *err);
/* Where the agent sees its box itself. */
const char *walls_box_dir(const struct walls *walls, const char *dir);

/* The same for a helper of the runner's own that reads what a task has left in `dir`, a run's: it
 * sees that directory under its own path, and `reads` (NULL: nothing) read only, has no network
 * where jails have one of their own, and no limit of disk. */
int walls_helper(const struct walls *walls, const char *dir, const char *reads, struct plan *plan,
                 struct err *err);

/* The gate of the jails of one task, to be served to each of them: 0 with *ret_gate, which is
 * NULL where jails have none. `proxy_url` is the credential proxy's on loopback, or NULL;
 * `git_port` the git gate's, or 0. */
int walls_gate(const struct walls *walls, const struct task_request *request, const char *proxy_url,
               int git_port, struct egress_gate **ret_gate, struct err *err);

/* Tells what the gate has refused since, as events `egress_denied`; NULL has nothing to tell. */
typedef void walls_tell_fn(const char *event, const char *json, size_t len, void *arg);
void walls_tell(struct egress_gate *gate, walls_tell_fn *tell, void *arg);

/* Copies the jail of one plan to another of the same run. */
int walls_copy(const struct plan *from, struct plan *to);

#endif
