/*
 * Reads the task's outcome from the worker's own store. Private to runner/worker.
 *
 * Threads: no state. Ownership: the outcome belongs to the job.
 */
#ifndef WORKER_OUTCOME_H
#define WORKER_OUTCOME_H

#include "runner/worker/job.h"

/* Fills the job's outcome from the ended task's row. */
int job_outcome_read(struct job *job, struct err *err);

/* Replaces the outcome: the task failed for a reason outside of itself. */
void job_outcome_fail(struct job *job, const char *reason, const char *error);

#endif
