#include "git/git_private.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "git/refs.h"
#include "git/worktree.h"

#include <stdio.h>
#include <unistd.h>

int own_begin(const struct mirror_job *job, const char *git_dir, const struct mirror_result *result,
              struct err *err)
{
    char tree[4200], git[4300], from[4300];
    AUTO(buf) struct buf text = BUF_INIT(REFS_BYTES_MAX);
    snprintf(tree, sizeof(tree), "%s/tree", job->place);
    snprintf(git, sizeof(git), "%s/.git", tree);
    snprintf(from, sizeof(from), "%s/refs-%s/.git/packed-refs", job->dir, result->state.generation);
    if (path_make_dirs(job->place, 0700, err) || path_make_dirs(git, 0755, err) ||
        path_own(tree, job->uid, job->gid, err) || path_own(git, job->uid, job->gid, err) ||
        file_read(from, &text, err) ||
        refs_write(git, &text, result->state.head, job->uid, job->gid, err) ||
        refs_copy_shallow(git_dir, git, job->uid, job->gid, err))
        return -1;
    return worktree_link_objects(git_dir, git, job->uid, job->gid, err);
}

static int make_files(const struct mirror_job *job, const char *git_dir, const char *path,
                      struct mirror_result *result, struct err *err)
{
    char shared[4200], objects[4300];
    snprintf(shared, sizeof(shared), "%s/tree-%s", job->dir, result->commit);
    snprintf(objects, sizeof(objects), "%s/.git/objects", path);
    if (job->share)
        return worktree_copy(shared, path, job->uid, job->gid, err);
    const struct tree_job tree = {.git_dir = git_dir,
                                  .objects = objects,
                                  .commit = result->commit,
                                  .path = path,
                                  .uid = job->uid,
                                  .gid = job->gid,
                                  .deadline_ms = job->remote.deadline_ms};
    return worktree_build(&tree, &result->report, err);
}

int own_finish(const struct mirror_job *job, const char *git_dir, struct mirror_result *result,
               struct err *err)
{
    char tree[4200];
    snprintf(tree, sizeof(tree), "%s/tree", job->place);
    if (result->commit[0] && make_files(job, git_dir, tree, result, err))
        return -1;
    if (rename(tree, job->into))
        return err_sys(err, "cannot put the workspace in its place");
    rmdir(job->place);
    return 0;
}
