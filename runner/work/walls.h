/*
 * What the programs of a task see of this machine, and how much of it they may use: the jail part
 * of their plans.
 *
 * In tier full the places of a run appear where people expect them (/workspace, /home/user, /tmp),
 * in the others at their own paths.
 */
#ifndef WORK_WALLS_H
#define WORK_WALLS_H

#include "proc/plan.h"
#include "runner/config/config.h"
#include "runner/egress/gate.h"
#include "runner/request/request.h"

/* Where the program sees the place `name` ("home", "config", "tmp", "work") of the run in `dir`, in
 * fresh memory; NULL when memory ran out. */
char *walls_place(enum jail_tier tier, const char *dir, const char *name);

/* The same of any path below such a place. */
char *walls_path(enum jail_tier tier, const char *dir, const char *path);

/* Fills plan->jail for the run in `dir`, and shows the program argv[0] in it, whose path may change
 * by that. With `gate` its network is served by the gate of walls_gate(). */
int walls_build(enum jail_tier tier, bool gate, const struct config *config,
                const struct task_request *request, const char *dir, struct plan *plan,
                struct err *err);

/* The gate of a task's jails. `proxy_url` is the credential proxy's on loopback, or NULL. */
struct egress_gate *walls_gate(const struct config *config, const struct task_request *request,
                               const char *proxy_url, struct err *err);

/* Tells what the gate has refused since, as events `egress_denied`. NULL has nothing to tell. */
typedef void walls_tell_fn(const char *event, const char *json, size_t len, void *arg);
void walls_tell(struct egress_gate *gate, walls_tell_fn *tell, void *arg);

/* The limit that a tree was ended for, or that may be why it failed: as a task's reason and in
 * words, or NULL. */
const char *walls_reason(unsigned exceeded, const char **ret_words);

/* Copies the jail of one plan to another of the same run. */
int walls_copy(const struct plan *from, struct plan *to);

#endif
