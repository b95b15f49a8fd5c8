/*
 * Reads Cloud Run's description of an execution. Private to shared/google.
 *
 * Threads: any.
 */
#ifndef GOOGLE_EXECUTION_H
#define GOOGLE_EXECUTION_H

#include "google/jobs.h"

int execution_read(const struct json *json, struct jobs_execution *ret_execution, struct err *err);

/* True when the environment of one of its containers has NAME=VALUE. */
bool execution_has_env(const struct json *json, const char *name, const char *value);

#endif
