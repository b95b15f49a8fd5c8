/*
 * What somebody changed in a workspace since the commit that it was made from, committed or not, as
 * a patch for `git apply`. As in commit.h the workspace is untrusted: no program that its .git
 * names is run.
 *
 * Threads: one at a time. Ownership: a job borrows its strings.
 */
#ifndef GIT_DIFF_H
#define GIT_DIFF_H

#include "base/err.h"
#include "base/strlist.h"
#include "json/json.h"

#include <stdint.h>

#define DIFF_FILES_MAX 5000
#define DIFF_BYTES_MAX (8u << 20)
#define DIFF_FILE_BYTES_MAX \
    (2 << 20) /* a longer file is reported like a binary one: only that it differs */

struct diff_job {
    const char *work;             /* the workspace */
    const char *base;             /* the commit, "" for none: everything is new */
    const struct strlist *except; /* files that are left out: the runner's own */
    const char *patch;            /* path of the patch, which must not exist yet */
};

/* Writes the patch, and adds to the open object of `w`: "files":[{"path","oldPath"?,"status",
 * "additions","deletions","binary","bytes"}],"truncated". The files are in the patch's order, each
 * with the number of bytes of its part; "truncated" is true when more files changed than the bounds
 * above allow. */
int diff_write(const struct diff_job *job, struct json_writer *w, struct err *err);

#endif
