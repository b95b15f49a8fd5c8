/*
 * The owner's variables for tasks: TASK_ENV_FILE.
 *
 * Threads: any.
 */
#ifndef WALLS_OWNER_ENV_H
#define WALLS_OWNER_ENV_H

#include "base/redact.h"
#include "proc/plan.h"
#include "runner/config/config.h"

/* Sets the variables of config->task_env_file in plan->env and registers their values; does nothing
 * without such a file. -1 when it cannot be read, a line of it is wrong, or it sets a variable that
 * is the runner's to set. */
int owner_env_add(const struct config *config, struct redact_set *redact, struct plan *plan,
                  struct err *err);

/* Whether the file is as it should be. */
int owner_env_check(const struct config *config, struct err *err);

#endif
