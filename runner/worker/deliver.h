/*
 * Uploads to the bucket that are tried again as long as there is time. Private to runner/worker.
 *
 * Threads: any. Ownership: a parcel borrows its bytes.
 */
#ifndef WORKER_DELIVER_H
#define WORKER_DELIVER_H

#include "runner/worker/job.h"

/* What to upload: bytes in memory, or of a file. */
struct parcel {
    const char *name;
    const char *type;
    const void *data; /* NULL: `size` bytes of fd from `from` on */
    int fd;
    int64_t from;
    int64_t size;
    bool last;  /* tried once even when the job is over */
    bool fresh; /* the name must be free: an object there with other bytes is somebody else's */
};

/* Tries again after every failure, for give_up_ms at most and while the job is not over. Returns 0,
 * or -1 with *err; ERR_MISMATCH when a fresh name holds something else (then the job is lost). */
int deliver(struct job *job, const struct parcel *parcel, int64_t give_up_ms, struct err *err);

/* Notes in the job's result which files below `dir` are to be uploaded. */
int deliver_announce(struct job *job, const char *dir, struct err *err);
/* Uploads all files below `dir`, which may be missing, and notes them in the job's result. */
int deliver_outputs(struct job *job, const char *dir, struct err *err);

#endif
