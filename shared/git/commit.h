/*
 * Commits of what somebody changed in a workspace that is not to be trusted: no hook, filter,
 * fsmonitor or external program runs, whatever its .git says; to be called as the workspace's own
 * user all the same.
 *
 * Threads: one at a time.
 */
#ifndef GIT_COMMIT_H
#define GIT_COMMIT_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stdint.h>

struct commit_job {
    const char *work; /* the workspace */
    const char *base; /* the commit it was made of, or "" */
    bool commit;      /* false: take HEAD as it is */
    const char *message;
    const struct strlist *files;  /* only these files and directories; empty: all */
    const struct strlist *except; /* never these: the runner's own */
    const char *branch;           /* to be pushed to, or NULL */
    const char *bundle;           /* path of a bundle to write: base..HEAD, as the branch or HEAD */
};

struct commit_result {
    char sha[65];     /* HEAD now; "" when there is no commit */
    char branch[256]; /* the job's, "" for none */
    bool committed;   /* a commit was made */
    bool bundled;     /* there is something beyond base */
    int64_t files;    /* changed in the commit made */
};

int commit_make(const struct commit_job *job, struct commit_result *ret_result, struct err *err);

#endif
