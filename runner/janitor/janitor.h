/*
 * The janitor: goes round now and then and removes what is over its time. Ended tasks after
 * KEEP_TASKS_DAYS with all they left, directories and conversations that belong to no task,
 * repositories past REPO_CACHE_MAX_MB.
 *
 * Threads: one of its own.
 */
#ifndef JANITOR_JANITOR_H
#define JANITOR_JANITOR_H

#include "runner/config/in_force.h"
#include "runner/repo/repos.h"
#include "runner/store/store.h"

#include <stdatomic.h>

struct janitor_config {
    struct config_in_force *config; /* borrowed, as all here */
    struct store *store;
    struct repos *repos;
};

struct janitor;

/* Starts with a round. */
struct janitor *janitor_new(const struct janitor_config *config, struct err *err);
/* Waits for a round that is on its way. */
void janitor_free(struct janitor *janitor);

#endif
