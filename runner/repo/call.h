/*
 * Runs one job in a process of its own (`claude-runner git`), which can be killed and limited and
 * runs as the user that the job needs. The job is sent as JSON through a memory file, and the
 * answer comes back in the same way; secrets are neither in arguments nor in the environment nor on
 * disk.
 *
 * Threads: any. Ownership: everything in struct call is borrowed; the caller frees the answer.
 */
#ifndef REPO_CALL_H
#define REPO_CALL_H

#include "runner/walls/walls.h"
#include "runner/work/work.h"
#include "json/json.h"

#include <sys/types.h>

struct call {
    struct launcher *launcher; /* borrowed, as everything here */
    const char *marker;        /* value of TASK_MARKER */
    const struct buf *job;     /* JSON object; "op" names the work */
    uid_t uid;
    gid_t gid;
    const struct strlist *mounts; /* as a plan's, or NULL */
    const struct walls *walls;    /* its jail, in which it sees `dir`; NULL: none */
    const char *dir;
    const char *reads; /* a path that it sees as well, read-only; NULL: none */
    int timeout_ms;
    int file_mb_max;
    int memory_mb; /* 0: no limit */
    struct work_stop stop;
};

/* Runs the job and returns the object of its answer, which the caller frees. The error is the
 * helper's own, or ERR_TIMEOUT, or ERR_BUSY when it was stopped. */
struct json *call_run(const struct call *call, struct err *err);

/* Runs a job whose answer is not JSON: its output is passed to take() as it arrives, as in
 * work_order, and its stderr goes to *words. Returns 0 when it ended by itself, whatever its
 * status. */
int call_stream(const struct call *call, work_take_fn *take, void *arg, struct buf *words,
                struct err *err);

#endif
