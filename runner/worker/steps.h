/*
 * The steps of a job, between its claim and its exit. Private to runner/worker.
 *
 * Threads: the job's main thread.
 */
#ifndef WORKER_STEPS_H
#define WORKER_STEPS_H

#include "runner/worker/job.h"

/* Opens the payload and runs the task; the job's result says what came of it, or of the attempt to
 * run it. False when a thread of the engine is stuck in the kernel: then the job's core has to
 * stay. */
bool steps_run(struct job *job);

/* Brings the outputs to the bucket; outputs that cannot be stored fail a task that had succeeded.
 * -1 when the job is lost. */
int steps_hand_in_outputs(struct job *job, struct err *err);
/* 0 when result.json is there. */
int steps_hand_in_result(struct job *job, struct err *err);

/* Owes the webhook, where the execution is to hand it in, and tries; also those of others. */
void steps_hand_in_webhook(struct job *job);

#endif
