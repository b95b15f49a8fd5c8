/*
 * What came of the task, out of the worker's own store. Private to runner/worker.
 *
 * Threads: no state.
 */
#ifndef WORKER_OUTCOME_H
#define WORKER_OUTCOME_H

#include "runner/worker/job.h"

/* Fills the job's outcome from the ended task's row. */
int job_outcome_read(struct job *job, struct err *err);

/* The task failed outside of itself: the outcome says so, instead of what it said before. */
void job_outcome_fail(struct job *job, const char *reason, const char *error);

#endif
