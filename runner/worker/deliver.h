/*
 * Bringing things to the bucket through whatever is between, for as long as there is time. Private
 * to runner/worker.
 *
 * Threads: any.
 */
#ifndef WORKER_DELIVER_H
#define WORKER_DELIVER_H

#include "runner/worker/job.h"

/* What is to be delivered: bytes in memory, or of a file. */
struct parcel {
    const char *name;
    const char *type;
    const void *data; /* NULL: `size` bytes of fd from `from` on */
    int fd;
    int64_t from;
    int64_t size;
    bool last;  /* sent once also when the job is over */
    bool fresh; /* nothing may be there: what is there and is not the same belongs to others */
};

/* Tries again over every fault, for give_up_ms at most and while the job is not over. 0, or -1
 * with *err; ERR_MISMATCH when a fresh name holds something else (then the job is lost). */
int deliver(struct job *job, const struct parcel *parcel, int64_t give_up_ms, struct err *err);

/* All files below `dir`, noted in the job's result; `dir` may be missing. */
int deliver_outputs(struct job *job, const char *dir, struct err *err);

#endif
