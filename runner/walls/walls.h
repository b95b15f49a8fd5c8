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
#include "runner/request/request.h"

struct walls {
    struct config_in_force *config; /* borrowed: the configuration in force */
    enum jail_tier tier;            /* of tasks' jails */
};

/* Where the program sees the place `name` ("home", "config", "tmp", "work") of the run in `dir`, in
 * fresh memory; NULL when memory ran out. */
char *walls_place(const struct walls *walls, const char *dir, const char *name);

/* The same of any path below such a place. */
char *walls_path(const struct walls *walls, const char *dir, const char *path);

/* Fills plan->jail for the run in `dir`, and shows the program argv[0] in it, whose path may change
 * by that. */
int walls_build(const struct walls *walls, const struct task_request *request, const char *dir,
                struct plan *plan, struct err *err);

/* Copies the jail of one plan to another of the same run. */
int walls_copy(const struct plan *from, struct plan *to);

#endif
