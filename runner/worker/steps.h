/*
 * The steps of a job, between its claim and its exit. Private to runner/worker.
 *
 * Threads: the job's main thread.
 */
#ifndef WORKER_STEPS_H
#define WORKER_STEPS_H

#include "runner/worker/job.h"

/* Opens the payload and runs the task; the job's result has the outcome, or why it could not run.
 * False when a thread of the engine hangs in the kernel: then the memory of the job must stay. */
bool steps_run(struct job *job);

/* Uploads the outputs; outputs that cannot be stored fail a task that had succeeded. -1 when the
 * job is lost. */
int steps_hand_in_outputs(struct job *job, struct err *err);
/* Uploads result.json. Returns 0 when it is there. */
int steps_hand_in_result(struct job *job, struct err *err);

/* Owes the webhook, where the execution is to hand it in, and tries; also those of others. */
void steps_hand_in_webhook(struct job *job);

#endif
