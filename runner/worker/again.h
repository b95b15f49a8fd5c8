/*
 * What an execution does after a command of a session: it waits for the session's next one
 * (overflow/warm.h).
 *
 * Threads: the main one.
 */
#ifndef WORKER_AGAIN_H
#define WORKER_AGAIN_H

#include "runner/worker/job.h"

/* Reads from the environment how long it may stay. */
void again_read(struct job *job);
/* What the result says of it; before the result is handed in. */
void again_promise(struct job *job);
/* True when there is a next task: the job is that task's then. False when it is time to go. */
bool again_await(struct job *job);

#endif
