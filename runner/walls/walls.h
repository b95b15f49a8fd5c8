/*
 * What tasks see of this machine, and how much of it they may use: the jail part of their plans. In
 * tier full the directories of a run appear where people expect them (/workspace, /home/user,
 * /tmp), in the other tiers at their own paths.
 *
 * Threads: any. Ownership: runs and plans are borrowed; the caller frees the returned paths, and
 * the gate of walls_gate() by egress_gate_free().
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
    enum egress_way gate;           /* whether they have a network behind a gate */
    struct users *users;            /* one for each task (work/users.h), or NULL */
    bool session_users;             /* there are enough of them for a session each, too */
};

/* The run in `dir`; with a session, `box` is the directory whose workspace, home and tmp the run
 * uses (NULL: none). */
struct walls_run {
    const char *dir;
    const char *box;
};

/* The path of a directory of the run ("home", "config", "tmp", "work"), and the path at which the
 * program sees it. The caller frees the path; NULL when memory ran out. */
char *walls_outside(const struct walls_run *run, const char *name);
char *walls_place(const struct walls *walls, const struct walls_run *run, const char *name);

/* The path at which the program sees a path below one of the run's own directories. */
char *walls_path(const struct walls *walls, const struct walls_run *run, const char *path);

/* Fills plan->jail for the run, and shows the program argv[0] in it, whose path may change. */
int walls_build(const struct walls *walls, const struct task_request *request,
                const struct walls_run *run, struct plan *plan, struct err *err);

/* Fills plan->jail for the agent of a session in `dir` (workspace, home, tmp); `request` has its
 * limits. */
int walls_box(const struct walls *walls, const struct task_request *request, const char *dir,
              struct plan *plan, struct err *err);
/* The path at which the agent sees that directory. */
const char *walls_box_dir(const struct walls *walls, const char *dir);

/* Fills plan->jail for a helper of the runner that reads what a task has left in `dir`, a run's
 * directory. The helper sees that directory at its own path, and `reads` (NULL: none) read-only;
 * where jails have a network of their own it has none; its disk use is not limited. */
int walls_helper(const struct walls *walls, const char *dir, const char *reads, struct plan *plan,
                 struct err *err);

/* Fills plan->jail for a program that is only looked at: it sees itself, as it would in a task, and
 * nothing of the runner's; where jails have a network of their own it has none. */
int walls_alone(const struct walls *walls, struct plan *plan, struct err *err);

/* Makes the gate of one task's jails, which serves each of them. Returns 0 with *ret_gate, which is
 * NULL where jails have none; the caller frees it. `ours`: which of the runner's own servers the
 * task may reach. */
int walls_gate(const struct walls *walls, const struct task_request *request,
               const struct egress_ours *ours, struct egress_gate **ret_gate, struct err *err);

/* Reports new refusals of the gate as events `egress_denied`; NULL does nothing. */
typedef void walls_tell_fn(const char *event, const char *json, size_t len, void *arg);
void walls_tell(struct egress_gate *gate, walls_tell_fn *tell, void *arg);

/* Where programs reach the gate as a proxy only, sets the variables by which they find it
 * (HTTPS_PROXY and the like, in both spellings), but for those that are set already. Call last. */
int walls_add_proxies(const struct walls *walls, struct strlist *env);

/* Copies the jail of one plan to another plan of the same run. */
int walls_copy(const struct plan *from, struct plan *to);

#endif
