/*
 * The janitor: at regular intervals it removes what is over its time: ended tasks after
 * KEEP_TASKS_DAYS with everything they left, directories and conversations that belong to no task,
 * repositories beyond REPO_CACHE_MAX_MB.
 *
 * Threads: one of its own. Ownership: the caller of janitor_new() frees it by janitor_free().
 */
#ifndef JANITOR_JANITOR_H
#define JANITOR_JANITOR_H

#include "runner/config/in_force.h"
#include "runner/repo/repos.h"
#include "runner/store/store.h"

#include <stdatomic.h>

struct janitor_config {
    struct config_in_force *config; /* borrowed, as everything here */
    struct store *store;
    struct repos *repos;
};

struct janitor;

/* Starts the thread, which begins with a round. */
struct janitor *janitor_new(const struct janitor_config *config, struct err *err);
/* Waits for a running round, and frees it. */
void janitor_free(struct janitor *janitor);

#endif
