/*
 * Pushing a bundle that came out of a workspace, and what to do when the other side has moved on.
 *
 * The bundle is unpacked into a repository of our own that borrows the mirror's objects: nothing of
 * the workspace's configuration is seen by a process that holds credentials.
 *
 *     rejected ─▶ fetch theirs ─▶ rebase, ours winning ─▶ push; overtaken again: once more
 *                               └─▶ cannot be rebased: force-with-lease, over what was fetched only
 *
 * Threads: one at a time.
 */
#ifndef GIT_PUSH_H
#define GIT_PUSH_H

#include "git/remote.h"

#include <stdbool.h>

struct push_job {
    const char *mirror; /* its directory */
    const char *place;  /* a directory that the call makes and leaves behind */
    const char *bundle;
    const char *base;
    const char *sha;
    const char *branch;
    bool recover; /* false: a rejected push is an error */
    struct remote_config remote;
};

struct push_result {
    char sha[65];                  /* what was pushed */
    const char *method;            /* "rebase", "force-with-lease", or NULL when the first try
                                    * succeeded */
    char remote_sha[65];           /* what the branch had before */
    struct strlist conflict_files; /* files that both sides had changed */
};

/* Makes a repository at `place` that borrows the objects of a mirror, and has no refs. Call after
 * lib_start(). */
int push_make_place(const char *mirror, const char *place, struct err *err);

int push_run(const struct push_job *job, struct push_result *ret_result, struct err *err);
void push_result_done(struct push_result *result);
static inline void auto_push_result(struct push_result *result)
{
    push_result_done(result);
}

#endif
