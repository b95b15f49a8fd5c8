/*
 * Checked-out trees that many workspaces share, and workspaces for hosts where nothing can be
 * shared.
 *
 * Threads: one at a time.
 */
#ifndef GIT_WORKTREE_H
#define GIT_WORKTREE_H

#include "base/err.h"
#include "git/report.h"

#include <stdint.h>
#include <sys/types.h>

struct tree_job {
    const char *git_dir; /* the repository */
    const char *objects; /* where its objects are; NULL: in it */
    const char *commit;
    const char *path; /* where the files go: a directory that nobody else can enter yet */
    uid_t uid;        /* owner of the files */
    gid_t gid;
    int64_t deadline_ms; /* mono */
};

/* Checks a commit out: the files, and a .git/index that lists them, so that git need not read a
 * file to see that nothing has changed. `path` is made unless it exists and is empty. ERR_MISMATCH
 * when objects are damaged or missing, ERR_INVALID when the tree holds names that git refuses. */
int worktree_build(const struct tree_job *job, struct tree_report *report, struct err *err);

/* Copies a tree that worktree_build() made: `path` becomes a copy with its own index, which shares
 * blocks where the file system can. */
int worktree_copy(const char *from, const char *path, uid_t uid, gid_t gid, struct err *err);

/* Makes hard links (or copies, where that is impossible) of a repository's objects, below
 * to_git/objects. The directories belong to uid. */
int worktree_link_objects(const char *git_dir, const char *to_git, uid_t uid, gid_t gid,
                          struct err *err);

#endif
