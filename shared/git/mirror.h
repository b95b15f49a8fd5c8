/*
 * A mirror: a bare copy of a remote repository, and what workspaces are made of.
 *
 * Theory of operation. One directory for each repository:
 *
 *     git/            the bare repository; only fetches write to it
 *     lock            flock: held for every change of what is here
 *     state           JSON: when and with which credential it was last fetched, default branch
 *     refs-<gen>/     .git/objects (hard links of the packs) and .git/packed-refs as of one fetch
 *     tree-<commit>/  the files of one commit and .git/index
 *     notes/<commit>  what a task should know of that commit
 *
 * A workspace is an overlay over a tree and a refs directory: both never change once they are
 * there, so that neither a fetch nor a gc can be felt in a workspace. A new generation is made when
 * a fetch has brought something. What is made gets a name ending in ".new" first, is renamed when
 * whole, and such left-overs are removed under the lock.
 *
 * Threads: one process holds the lock; within it, one thread.
 */
#ifndef GIT_MIRROR_H
#define GIT_MIRROR_H

#include "git/remote.h"
#include "git/worktree.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MIRROR_PACKS_MAX 24 /* above this number mirror_repack() combines them */

struct mirror_state {
    char url[2600];
    int64_t fetched_ms;  /* real; 0: never */
    char credential[65]; /* identifies the credential of that fetch */
    char generation[40];
    char head[256]; /* default branch; "" when the remote's HEAD names none */
};

/* Reads the state of a mirror. ERR_NOT_FOUND when there is none. */
int mirror_load(const char *dir, struct mirror_state *ret_state, struct err *err);

struct mirror_job {
    const char *dir;
    struct remote_config remote;
    const char *credential; /* identifies the remote's credential; stored in the state */
    int64_t asked_ms;       /* real: a fetch with the same credential after this time is recent
                             * enough */
    int64_t ttl_ms;         /* a fetch that is not older than this is recent enough, too */
    bool stale_ok;          /* when the network fails, the mirror as it is will do */
    const char *branch;     /* or NULL */
    const char *ref;        /* branch, tag or commit; or NULL */
    int depth;              /* a mirror that is not there yet gets only so many commits of what is
                               wanted, if the remote can do that; 0: all */
    bool share;             /* make the tree on which workspaces are mounted or from which they are
                             * copied */
    const char *into;       /* NULL, or where a workspace that stands alone is made */
    const char *place;      /* with into: a directory that only we can enter, in which the workspace
                             * is built */
    uid_t uid;              /* owner of trees */
    gid_t gid;
};

struct mirror_result {
    struct mirror_state state;
    char commit[65];   /* "" in a repository without commits */
    char branch[256];  /* "" when HEAD is detached */
    bool fetched;      /* the remote was asked */
    bool stale;        /* it could not be asked */
    bool repaired;     /* the mirror was damaged and is a new one */
    char host_key[80]; /* fingerprint of a host key that was learnt by this call, or "" */
    struct tree_report report;
};

/* Brings the mirror up to date as far as the job asks, and makes the tree or the workspace of the
 * wanted commit. The lock is not held while a workspace gets its files. The caller ends *ret_result
 * by mirror_result_done(). */
int mirror_prepare(const struct mirror_job *job, struct mirror_result *ret_result, struct err *err);
void mirror_result_done(struct mirror_result *result);
static inline void auto_mirror_result(struct mirror_result *result)
{
    mirror_result_done(result);
}

/* Resolves branch and ref among the refs of refs-<gen>, without opening a repository: branches, the
 * default branch, tags. ERR_NOT_FOUND when that is not enough. */
int mirror_resolve(const char *dir, const struct mirror_state *state, const char *branch,
                   const char *ref, char ret_commit[65], char ret_branch[256], struct err *err);

/* Combines packs when there are many. Slow: call it when no task waits. */
int mirror_repack(const char *dir, uid_t uid, gid_t gid, int64_t deadline_ms, struct err *err);

/* Takes the lock; waits until the deadline (mono). Returns its descriptor, which the caller
 * closes. */
int mirror_lock(const char *dir, int64_t deadline_ms, struct err *err);

#endif
