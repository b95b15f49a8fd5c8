/*
 * Checked-out trees that many workspaces share, and workspaces where nothing can be shared.
 *
 * Threads: one at a time.
 */
#ifndef GIT_TREE_H
#define GIT_TREE_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tree_report {
    int64_t files;
    int64_t lfs_pointers;      /* files whose content is elsewhere */
    struct strlist submodules; /* their paths; they are empty directories */
    bool submodules_more;      /* there were more than are listed */
};

void tree_report_done(struct tree_report *report);
static inline void auto_tree_report(struct tree_report *report)
{
    tree_report_done(report);
}

/* Checks a commit of the repository `git_dir` out into `path`, which must not exist: the files, and
 * .git/index that knows them, so that git need not read a file to see that nothing has changed.
 * Everything belongs to uid. ERR_MISMATCH when objects are damaged or missing. */
int tree_build(const char *git_dir, const char *commit, const char *path, uid_t uid, gid_t gid,
               struct tree_report *report, struct err *err);

/* Hard links (or copies, where that is impossible) of a repository's objects, below to_git/objects.
 * Directories belong to uid. */
int tree_link_objects(const char *git_dir, const char *to_git, uid_t uid, gid_t gid,
                      struct err *err);

#endif
