#include "git/diff.h"

#include "base/check.h"
#include "base/fd.h"
#include "git/lib.h"
#include "git/reach.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

DEFINE_AUTO(git_diff, git_diff *, git_diff_free)
DEFINE_AUTO(git_patch, git_patch *, git_patch_free)

struct writing {
    const struct diff_job *job;
    struct json_writer *w;
    int fd;
    size_t files, bytes;
};

static const char *status_name(git_delta_t status)
{
    switch ((int)status) {
    case GIT_DELTA_ADDED:
    case GIT_DELTA_UNTRACKED:
        return "added";
    case GIT_DELTA_DELETED:
        return "deleted";
    case GIT_DELTA_RENAMED:
        return "renamed";
    default:
        return "modified";
    }
}

/* True for what goes into the patch: no other repository inside the workspace, and nothing that
 * could not be read. */
static bool is_told(const struct diff_job *job, const git_diff_delta *delta)
{
    const char *path = delta->new_file.path;
    size_t len = strlen(path);
    for (size_t i = 0; i < job->except->count; i++)
        if (strcmp(path, job->except->items[i]) == 0)
            return false;
    if (delta->status == GIT_DELTA_DELETED)
        return !reach_is_hidden(job->work, delta->old_file.path);
    return delta->status != GIT_DELTA_UNMODIFIED && delta->status != GIT_DELTA_IGNORED &&
           delta->status != GIT_DELTA_UNREADABLE && len > 0 && path[len - 1] != '/' &&
           delta->new_file.mode != GIT_FILEMODE_TREE;
}

static void print_file(struct json_writer *w, const git_diff_delta *delta, git_patch *patch,
                       size_t bytes)
{
    size_t added = 0, removed = 0;
    git_patch_line_stats(NULL, &added, &removed, patch);
    json_open_object(w, NULL);
    json_add_text(w, "path", delta->new_file.path);
    if (delta->status == GIT_DELTA_RENAMED)
        json_add_text(w, "oldPath", delta->old_file.path);
    json_add_text(w, "status", status_name(delta->status));
    json_add_int(w, "additions", (int64_t)added);
    json_add_int(w, "deletions", (int64_t)removed);
    json_add_bool(w, "binary", (git_patch_get_delta(patch)->flags & GIT_DIFF_FLAG_BINARY) != 0);
    json_add_int(w, "bytes", (int64_t)bytes);
    json_close(w);
}

/* Writes one file's part. Returns 1 when it was written, 0 when there is no more room. */
static int write_file(struct writing *writing, git_diff *diff, size_t index, struct err *err)
{
    AUTO(git_patch) git_patch *patch = NULL;
    git_buf text = {0};
    int rc = 0;
    if (git_patch_from_diff(&patch, diff, index) || (patch && git_patch_to_buf(&text, patch)))
        return lib_err(err, "cannot show a changed file");
    if (!patch)
        return 1; /* The file turned out to be unchanged. */
    if (writing->files < DIFF_FILES_MAX && text.size <= DIFF_BYTES_MAX - writing->bytes) {
        rc = fd_write_all(writing->fd, text.ptr, text.size) ? err_sys(err, "cannot write the diff")
                                                            : 1;
        print_file(writing->w, git_diff_get_delta(diff, index), patch, text.size);
        writing->files++;
        writing->bytes += text.size;
    }
    git_buf_dispose(&text);
    return rc;
}

static int write_all(struct writing *writing, git_diff *diff, struct err *err)
{
    bool truncated = false;
    json_open_array(writing->w, "files");
    for (size_t i = 0; i < git_diff_num_deltas(diff) && !truncated; i++) {
        if (!is_told(writing->job, git_diff_get_delta(diff, i)))
            continue;
        int rc = write_file(writing, diff, i, err);
        if (rc < 0)
            return -1;
        truncated = rc == 0;
    }
    json_close(writing->w);
    json_add_bool(writing->w, "truncated", truncated);
    return 0;
}

static git_diff *find_changes(git_repository *repo, const char *base, struct err *err)
{
    git_oid id;
    git_diff *diff = NULL;
    git_diff_options options;
    AUTO(git_commit) git_commit *commit = NULL;
    AUTO(git_tree) git_tree *tree = NULL;
    git_diff_options_init(&options, GIT_DIFF_OPTIONS_VERSION);
    options.flags = GIT_DIFF_INCLUDE_UNTRACKED | GIT_DIFF_RECURSE_UNTRACKED_DIRS |
                    GIT_DIFF_SHOW_UNTRACKED_CONTENT | GIT_DIFF_INCLUDE_TYPECHANGE |
                    GIT_DIFF_INCLUDE_UNREADABLE;
    options.ignore_submodules = GIT_SUBMODULE_IGNORE_DIRTY;
    options.max_size = DIFF_FILE_BYTES_MAX;
    if (*base && (git_oid_fromstr(&id, base) || git_commit_lookup(&commit, repo, &id) ||
                  git_commit_tree(&tree, commit))) {
        lib_err(err, "cannot read the commit that the workspace was made of");
        return NULL;
    }
    if (git_diff_tree_to_workdir_with_index(&diff, repo, tree, &options))
        lib_err(err, "cannot see what has changed");
    return diff;
}

int diff_write(const struct diff_job *job, struct json_writer *w, struct err *err)
{
    REQUIRE(job->work && job->base && job->patch);
    AUTO(git_repository) git_repository *repo = NULL;
    if (lib_start(err))
        return -1;
    reach_unblock(job->work);
    if (git_repository_open_ext(&repo, job->work, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL))
        return lib_err(err, "the workspace is no repository any more");
    AUTO(git_diff) git_diff *diff = find_changes(repo, job->base, err);
    AUTO(fd) int fd = open(job->patch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (!diff || fd < 0)
        return diff ? err_sys(err, "cannot make the diff") : -1;
    struct writing writing = {.job = job, .w = w, .fd = fd};
    return write_all(&writing, diff, err);
}
