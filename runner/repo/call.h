/*
 * Runs one piece of work in a process of its own (`claude-runner git`): killable, limited, and
 * as the user that the work calls for. The job goes in as JSON through a memory file, the answer
 * comes out the same way; secrets are in neither arguments nor environment nor on disk.
 *
 * Threads: any.
 */
#ifndef REPO_CALL_H
#define REPO_CALL_H

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
    int timeout_ms;
    int file_mb_max;
    struct work_stop stop;
};

/* Does the work and returns its answer's object. The error is the helper's own, or ERR_TIMEOUT, or
 * ERR_BUSY when it was stopped. */
struct json *call_run(const struct call *call, struct err *err);

#endif
