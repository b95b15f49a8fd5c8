/*
 * Settings that an execution may not change. Whoever may run the job with overrides may set any
 * variable of it, also a thief of the home runner's key. What says where the API key and the job's
 * own token go must come from the job's definition, which that key may not write.
 *
 * Theory of operation. A value that leads to Google or to Anthropic themselves is harmless. For any
 * other the job asks Cloud Run for its own definition, found by the metadata server's word (project
 * and region) and CLOUD_RUN_JOB, and takes the value that stands there, or none. Without that
 * answer only addresses of this container are let through, where nobody listens.
 *
 * Private to runner/worker.
 * Threads: the job's main thread, before there are others.
 */
#ifndef WORKER_FIXED_H
#define WORKER_FIXED_H

#include "base/err.h"
#include "base/strlist.h"

/* Changes the environment of the configuration (NAME=VALUE lines), and this process's own.
 * ERR_CONFIG names a variable whose value is not allowed. */
int fixed_settle(struct strlist *env, struct err *err);

/* True when the value of the variable is harmless whoever has set it. */
bool fixed_is_harmless(const char *name, const char *value);

#endif
