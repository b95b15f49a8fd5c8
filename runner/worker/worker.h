/*
 * The worker: what a Cloud Run execution runs.
 *
 * Threads: called from main() before there are any.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

/* `claude-runner job`; returns the exit status: 0 once result.json is written, whatever the task's
 * outcome; 1 for a failure, 2 for a wrong call or configuration, 3 when the attempt is not ours. */
int worker_job(int argc, char **argv);

#endif
