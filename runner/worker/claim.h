/*
 * Whose attempt it is: taking it, and showing that it is still being worked on. Private to
 * runner/worker.
 *
 * The pulse is a thread that writes heartbeat.json over the one it wrote before, and over no other:
 * when it cannot, somebody else has taken over, or has cleared the folder away, and the job is
 * lost.
 *
 * Threads: claim_take() and pulse_* by the job's main thread.
 */
#ifndef WORKER_CLAIM_H
#define WORKER_CLAIM_H

#include "runner/worker/job.h"

/* 1: the attempt is ours. 0: somebody else's. -1 */
int claim_take(struct job *job, struct err *err);

/* metadata.json. */
int claim_describe(struct job *job, struct err *err);

struct pulse;
struct pulse *pulse_start(struct job *job, struct err *err);
/* Waits until nothing of it is under way. False when a write hangs: its thread needs the job for
 * what is left of the process's life. NULL is fine. */
bool pulse_stop(struct pulse *pulse);

#endif
