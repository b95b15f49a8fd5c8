/*
 * The variables of a task that do not come from its request: those of the runner's environment, and
 * the owner's (TASK_ENV_FILE).
 *
 * Threads: any. Ownership: everything is borrowed.
 */
#ifndef WALLS_OWNER_ENV_H
#define WALLS_OWNER_ENV_H

#include "base/redact.h"
#include "proc/plan.h"
#include "runner/config/config.h"

/* Adds the variables of the runner's own environment that tasks get; no others are passed on.
 * `proxies`: also those that name a proxy, which tasks can reach. */
void owner_env_inherit(struct plan *plan, bool proxies);

/* Sets the variables of config->task_env_file in plan->env and registers their values as secrets;
 * does nothing without such a file. -1 when it cannot be read, a line of it is wrong, or it sets a
 * variable that only the runner may set. */
int owner_env_add(const struct config *config, struct redact_set *redact, struct plan *plan,
                  struct err *err);

/* Checks the file. */
int owner_env_check(const struct config *config, struct err *err);

#endif
