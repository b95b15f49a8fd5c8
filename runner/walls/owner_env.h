/*
 * The owner's variables for tasks: TASK_ENV_FILE.
 *
 * Threads: any. Ownership: everything is borrowed.
 */
#ifndef WALLS_OWNER_ENV_H
#define WALLS_OWNER_ENV_H

#include "base/redact.h"
#include "proc/plan.h"
#include "runner/config/config.h"

/* Sets the variables of config->task_env_file in plan->env and registers their values as secrets;
 * does nothing without such a file. -1 when it cannot be read, a line of it is wrong, or it sets a
 * variable that only the runner may set. */
int owner_env_add(const struct config *config, struct redact_set *redact, struct plan *plan,
                  struct err *err);

/* Checks the file. */
int owner_env_check(const struct config *config, struct err *err);

#endif
