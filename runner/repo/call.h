/*
 * One piece of work in a process of its own (`claude-runner git`): killable, limited, as whichever
 * user the work is fit for. The job goes in as JSON through a memory file, the answer comes out the
 * same way; secrets are in neither arguments nor environment nor on disk.
 *
 * Threads: any.
 */
#ifndef REPO_CALL_H
#define REPO_CALL_H

#include "runner/walls/walls.h"
#include "runner/work/work.h"
#include "json/json.h"

#include <sys/types.h>

struct call {
    struct launcher *launcher; /* borrowed, as all here */
    const char *marker;        /* TASK_MARKER's value */
    const struct buf *job;     /* JSON object; "op" names the work */
    uid_t uid;
    gid_t gid;
    const struct strlist *mounts; /* as a plan's, or NULL */
    const struct walls *walls;    /* its jail, which shows it `dir`; NULL: none */
    const char *dir;
    const char *reads; /* shown to it as well, read only; NULL: nothing */
    int timeout_ms;
    int file_mb_max;
    int memory_mb; /* 0: no limit */
    struct work_stop stop;
};

/* Does the work and returns its answer's object. The error is the helper's own, or ERR_TIMEOUT, or
 * ERR_BUSY when it was stopped. */
struct json *call_run(const struct call *call, struct err *err);

/* The same for work whose answer is not JSON: what it prints goes to take() as it comes, as
 * work_order's, and its words (stderr) to *words. 0 when it ended by itself, whatever its status.
 */
int call_stream(const struct call *call, work_take_fn *take, void *arg, struct buf *words,
                struct err *err);

#endif
