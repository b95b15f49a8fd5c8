/*
 * The other end of a cloud task: what a Cloud Run execution runs.
 *
 * Threads: called from main() before there are any.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

/* `claude-runner job`; returns the exit status: 0 once result.json is written, whatever came of the
 * task; 1 a failure, 2 a wrong call or configuration, 3 the attempt is not ours. */
int worker_job(int argc, char **argv);

#endif
