/*
 * Ownership of an attempt: taking it, and showing that it is being worked on. Private to
 * runner/worker.
 *
 * The pulse is a thread that writes heartbeat.json, each time replacing only its own previous
 * version: when that fails, somebody else has taken over or has removed the folder, and the job is
 * lost.
 *
 * Threads: claim_take() and pulse_* by the job's main thread. Ownership: pulse_stop() frees a
 * pulse, unless it returns false.
 */
#ifndef WORKER_CLAIM_H
#define WORKER_CLAIM_H

#include "runner/worker/job.h"

/* Takes the attempt. Returns 1 when it is ours, 0 when it is somebody else's, or -1. */
int claim_take(struct job *job, struct err *err);

/* Writes metadata.json. */
int claim_describe(struct job *job, struct err *err);

struct pulse;
struct pulse *pulse_start(struct job *job, struct err *err);
/* Waits until the pulse does nothing any more. False when a write hangs: its thread needs the job
 * for the rest of the process's life. NULL does nothing. */
bool pulse_stop(struct pulse *pulse);

#endif
