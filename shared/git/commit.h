/*
 * Commits what somebody changed in an untrusted workspace. No hook, filter, fsmonitor or external
 * program runs, whatever its .git says; call it as the workspace's own user nevertheless.
 *
 * Threads: one at a time. Ownership: a job borrows its strings; a result owns nothing.
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
    bool commit;      /* false: use HEAD as it is */
    const char *message;
    const struct strlist *files;  /* only these files and directories; empty: all */
    const struct strlist *except; /* never these: the runner's own */
    const char *branch;           /* to be pushed to, or NULL */
    const char *bundle;           /* path of a bundle to write: base..HEAD, as the branch or HEAD */
};

struct commit_result {
    char sha[65];     /* HEAD now; "" when there is no commit */
    char branch[256]; /* the job's; "" when it has none */
    bool committed;   /* a commit was made */
    bool bundled;     /* a bundle was written: there are commits after base */
    int64_t files;    /* files that were changed by the commit */
};

int commit_make(const struct commit_job *job, struct commit_result *ret_result, struct err *err);

#endif
