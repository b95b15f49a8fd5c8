#include "git/commit.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "git/lib.h"
#include "git/reach.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIT_MODE_SUBMODULE 0160000
#define SHALLOW_MAX (16u << 20)

DEFINE_AUTO(git_diff, git_diff *, git_diff_free)

/* --- who ----------------------------------------------------------------------------------- */

static bool read_identity(git_config *config, char *name, char *email, size_t size)
{
    const char *text;
    AUTO(git_config) git_config *snapshot = NULL;
    if (!config || git_config_snapshot(&snapshot, config))
        return false;
    if (git_config_get_string(&text, snapshot, "user.name") || !*text)
        return false;
    snprintf(name, size, "%s", text);
    if (git_config_get_string(&text, snapshot, "user.email") || !*text)
        return false;
    snprintf(email, size, "%s", text);
    return true;
}

/* The identity of the repository's own configuration, else one in a .gitconfig that it contains,
 * else Claude's. */
static git_signature *make_signature(git_repository *repo, const char *work)
{
    char name[256] = "", email[256] = "";
    git_signature *signature = NULL;
    AUTO(git_config) git_config *own = NULL;
    AUTO(git_config) git_config *carried = NULL;
    AUTO(str) char *path = path_join(work, ".gitconfig");
    git_repository_config(&own, repo);
    if (path && access(path, R_OK) == 0)
        git_config_open_ondisk(&carried, path);
    bool known = read_identity(own, name, email, sizeof(name)) ||
                 read_identity(carried, name, email, sizeof(name));
    if (!known || git_signature_now(&signature, name, email))
        git_signature_now(&signature, "Claude Code", "noreply@anthropic.com");
    return signature;
}

/* --- what ---------------------------------------------------------------------------------- */

static bool is_excepted(const struct commit_job *job, const char *path)
{
    for (size_t i = 0; i < job->except->count; i++) {
        const char *name = job->except->items[i];
        size_t n = strlen(name);
        if (strncmp(path, name, n) == 0 && (path[n] == '\0' || path[n] == '/'))
            return true;
    }
    return false;
}

/* Updates one changed path in the index to what the workspace has now. */
static int take_delta(git_repository *repo, git_index *index, const git_diff_delta *delta,
                      struct err *err)
{
    git_index_entry entry = {0};
    const char *path = delta->new_file.path;
    if (delta->status == GIT_DELTA_DELETED) {
        int rc = git_index_remove(index, delta->old_file.path, 0);
        /* A file that took the place of a directory has taken out what was in that already. */
        return rc && rc != GIT_ENOTFOUND ? lib_err(err, "cannot take a file out") : 0;
    }
    entry.path = path;
    entry.mode = delta->new_file.mode;
    if (entry.mode == GIT_MODE_SUBMODULE)
        entry.id = delta->new_file.id;
    else if (git_blob_create_from_workdir(&entry.id, repo, path))
        return lib_err(err, "cannot read a changed file");
    return git_index_add(index, &entry) ? lib_err(err, "cannot add a changed file") : 0;
}

/* True for what goes into the commit: no other repository inside the workspace, and nothing that
 * could not be read. */
static bool is_taken(const struct commit_job *job, const git_diff_delta *delta)
{
    size_t len = strlen(delta->new_file.path);
    if (delta->status == GIT_DELTA_UNMODIFIED || delta->status == GIT_DELTA_IGNORED ||
        delta->status == GIT_DELTA_UNREADABLE || is_excepted(job, delta->new_file.path))
        return false;
    if (delta->status != GIT_DELTA_DELETED && (len == 0 || delta->new_file.path[len - 1] == '/' ||
                                               delta->new_file.mode == GIT_FILEMODE_TREE))
        return false;
    return delta->new_file.mode != GIT_MODE_SUBMODULE || delta->status == GIT_DELTA_DELETED ||
           !git_oid_is_zero(&delta->new_file.id);
}

/* Lists what differs from HEAD in the files that the job names, staged or not. The caller frees the
 * result. */
static git_diff *find_changes(git_repository *repo, git_tree *head, const struct commit_job *job,
                              struct err *err)
{
    git_diff *diff = NULL;
    git_diff_options options;
    git_diff_options_init(&options, GIT_DIFF_OPTIONS_VERSION);
    options.flags = GIT_DIFF_INCLUDE_UNTRACKED | GIT_DIFF_RECURSE_UNTRACKED_DIRS |
                    GIT_DIFF_DISABLE_PATHSPEC_MATCH | GIT_DIFF_INCLUDE_TYPECHANGE |
                    GIT_DIFF_SKIP_BINARY_CHECK | GIT_DIFF_INCLUDE_UNREADABLE;
    options.ignore_submodules = GIT_SUBMODULE_IGNORE_DIRTY;
    options.pathspec = (git_strarray){job->files->items, job->files->count};
    if (git_diff_tree_to_workdir_with_index(&diff, repo, head, &options))
        lib_err(err, "cannot see what has changed");
    return diff;
}

/* True for a file below an unreadable directory: it looks deleted, but is not. */
static bool is_hidden(const struct commit_job *job, const git_diff_delta *delta)
{
    return delta->status == GIT_DELTA_UNREADABLE ||
           (delta->status == GIT_DELTA_DELETED && reach_is_hidden(job->work, delta->old_file.path));
}

/* Makes the tree of HEAD with the changes. *ret_files counts the changed files, *ret_hidden those
 * that could not be read. */
static int try_tree(git_repository *repo, git_tree *head, const struct commit_job *job,
                    git_oid *ret_tree, int64_t *ret_files, int64_t *ret_hidden, struct err *err)
{
    AUTO(git_index) git_index *index = NULL;
    AUTO(git_diff) git_diff *diff = find_changes(repo, head, job, err);
    if (!diff)
        return -1;
    if (git_index_new(&index) || (head && git_index_read_tree(index, head)))
        return lib_err(err, "cannot read HEAD");
    for (size_t i = 0; i < git_diff_num_deltas(diff); i++) {
        const git_diff_delta *delta = git_diff_get_delta(diff, i);
        bool hidden = is_hidden(job, delta);
        *ret_hidden += hidden;
        if (hidden || !is_taken(job, delta))
            continue;
        if (take_delta(repo, index, delta, err))
            return -1;
        ++*ret_files;
    }
    return git_index_write_tree_to(ret_tree, index, repo) ? lib_err(err, "cannot write a tree") : 0;
}

/* Makes the tree; when that fails on files or directories that Claude made unreadable, opens them
 * and tries again. */
static int write_tree(git_repository *repo, git_tree *head, const struct commit_job *job,
                      git_oid *ret_tree, int64_t *ret_files, struct err *err)
{
    int64_t hidden = 0;
    int rc = try_tree(repo, head, job, ret_tree, ret_files, &hidden, err);
    if ((rc == 0 && hidden == 0) || reach_open(job->work) == 0)
        return rc;
    *ret_files = 0;
    return try_tree(repo, head, job, ret_tree, ret_files, &hidden, err);
}

/* --- the commit ---------------------------------------------------------------------------- */

static git_commit *head_commit(git_repository *repo)
{
    git_oid oid;
    git_commit *commit = NULL;
    if (git_reference_name_to_id(&oid, repo, "HEAD") || git_commit_lookup(&commit, repo, &oid))
        return NULL;
    return commit;
}

static int add_commit(git_repository *repo, const struct commit_job *job,
                      struct commit_result *result, struct err *err)
{
    git_oid tree_id, id;
    int64_t files = 0;
    AUTO(git_commit) git_commit *parent = head_commit(repo);
    AUTO(git_tree) git_tree *before = NULL;
    AUTO(git_tree) git_tree *after = NULL;
    AUTO(git_signature) git_signature *who = make_signature(repo, job->work);
    const git_commit *parents[1] = {parent};
    if (parent && git_commit_tree(&before, parent))
        return lib_err(err, "cannot read HEAD");
    if (write_tree(repo, before, job, &tree_id, &files, err))
        return -1;
    if (before ? git_oid_equal(&tree_id, git_tree_id(before)) : files == 0)
        return 0; /* There is nothing to commit. */
    if (!who || git_tree_lookup(&after, repo, &tree_id) ||
        git_commit_create(&id, repo, "HEAD", who, who, NULL, job->message, after, parent ? 1 : 0,
                          parents))
        return lib_err(err, "cannot commit");
    result->committed = true;
    result->files = files;
    return 0;
}

/* --- the bundle ---------------------------------------------------------------------------- */

static int write_chunk(void *data, size_t len, void *arg)
{
    return fd_write_all(*(int *)arg, data, len);
}

/* The commits before the start of a workspace's history, and those that the remote certainly
 * has. */
struct known {
    const char *base;
    struct buf shallow; /* one id per line */
};

/* True for a commit at which the walk must stop: libgit2 does not know shallow histories and would
 * go past their ends. */
static int is_known(const git_oid *id, void *arg)
{
    char text[65];
    struct known *known = arg;
    git_oid_tostr(text, sizeof(text), id);
    return strcmp(text, known->base) == 0 || strstr(buf_str(&known->shallow), text) != NULL;
}

/* Adds the objects of `tree` that the other tree (NULL: an empty one) lacks at the same path. */
static int insert_difference(git_packbuilder *pack, git_repository *repo, const git_oid *id,
                             const git_tree *before)
{
    AUTO(git_tree) git_tree *tree = NULL;
    size_t count = git_packbuilder_object_count(pack);
    int rc = git_packbuilder_insert(pack, id, NULL) || git_tree_lookup(&tree, repo, id) ? -1 : 0;
    if (rc == 0 && git_packbuilder_object_count(pack) == count)
        return 0; /* The same tree at another place. */
    for (size_t i = 0; rc == 0 && i < git_tree_entrycount(tree); i++) {
        const git_tree_entry *now = git_tree_entry_byindex(tree, i);
        const git_tree_entry *was =
            before ? git_tree_entry_byname(before, git_tree_entry_name(now)) : NULL;
        if (git_tree_entry_type(now) == GIT_OBJECT_COMMIT ||
            (was && git_oid_equal(git_tree_entry_id(now), git_tree_entry_id(was))))
            continue;
        AUTO(git_tree) git_tree *below = NULL;
        if (git_tree_entry_type(now) != GIT_OBJECT_TREE)
            rc = git_packbuilder_insert(pack, git_tree_entry_id(now), NULL);
        else if (was && git_tree_entry_type(was) == GIT_OBJECT_TREE &&
                 git_tree_lookup(&below, repo, git_tree_entry_id(was)))
            rc = -1;
        else
            rc = insert_difference(pack, repo, git_tree_entry_id(now), below);
    }
    return rc;
}

/* Adds a commit and the objects that its first parent lacks. */
static int insert_commit(git_packbuilder *pack, git_repository *repo, const git_oid *id)
{
    AUTO(git_commit) git_commit *commit = NULL;
    AUTO(git_commit) git_commit *parent = NULL;
    AUTO(git_tree) git_tree *before = NULL;
    if (git_packbuilder_insert(pack, id, NULL) || git_commit_lookup(&commit, repo, id))
        return -1;
    if (git_commit_parentcount(commit) > 0 &&
        (git_commit_parent(&parent, commit, 0) || git_commit_tree(&before, parent)))
        return -1;
    return insert_difference(pack, repo, git_commit_tree_id(commit), before);
}

static int insert_unknown(git_packbuilder *pack, git_repository *repo, git_revwalk *walk,
                          struct known *known)
{
    git_oid id;
    int rc = git_revwalk_add_hide_cb(walk, is_known, known);
    while (rc == 0 && (rc = git_revwalk_next(&id, walk)) == 0)
        rc = is_known(&id, known) ? 0 : insert_commit(pack, repo, &id);
    return rc == GIT_ITEROVER ? 0 : -1;
}

/* Adds the commits that the remote lacks. */
static int insert_commits(git_packbuilder *pack, git_repository *repo, const struct commit_job *job)
{
    struct err ignored;
    git_oid base;
    AUTO(git_revwalk) git_revwalk *walk = NULL;
    AUTO(str) char *shallow = path_join(job->work, ".git/shallow");
    if (!shallow || git_revwalk_new(&walk, repo) || git_revwalk_push_head(walk))
        return -1;
    if (job->base[0] && access(shallow, F_OK) == 0) {
        struct known known = {.base = job->base, .shallow = BUF_INIT(SHALLOW_MAX)};
        int rc = file_read(shallow, &known.shallow, &ignored)
                     ? -1
                     : insert_unknown(pack, repo, walk, &known);
        buf_done(&known.shallow);
        return rc;
    }
    if (job->base[0] && (git_oid_fromstr(&base, job->base) || git_revwalk_hide(walk, &base)))
        return -1;
    return git_packbuilder_insert_walk(pack, walk);
}

static int fill_bundle(git_repository *repo, const struct commit_job *job,
                       const struct commit_result *result, int fd, struct err *err)
{
    AUTO(git_packbuilder) git_packbuilder *pack = NULL;
    AUTO(buf) struct buf head = BUF_INIT(4096);
    buf_adds(&head, "# v2 git bundle\n");
    if (job->base[0])
        buf_addf(&head, "-%s\n", job->base);
    buf_addf(&head, result->branch[0] ? "%s refs/heads/%s\n\n" : "%s HEAD%s\n\n", result->sha,
             result->branch);
    if (fd_write_all(fd, buf_str(&head), head.len))
        return err_sys(err, "cannot write the bundle");
    if (git_packbuilder_new(&pack, repo) || insert_commits(pack, repo, job) ||
        git_packbuilder_foreach(pack, write_chunk, &fd))
        return lib_err(err, "cannot bundle the commits");
    return 0;
}

static int bundle(git_repository *repo, const struct commit_job *job, struct commit_result *result,
                  struct err *err)
{
    if (!result->sha[0] || strcmp(result->sha, job->base) == 0)
        return 0;
    AUTO(fd) int fd = open(job->bundle, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot make the bundle");
    if (fill_bundle(repo, job, result, fd, err))
        return -1;
    result->bundled = true;
    return 0;
}

/* --- all of it ----------------------------------------------------------------------------- */

int commit_make(const struct commit_job *job, struct commit_result *ret_result, struct err *err)
{
    REQUIRE(job->work && (!job->commit || job->message));
    AUTO(git_repository) git_repository *repo = NULL;
    if (lib_start(err))
        return -1;
    reach_unblock(job->work);
    if (git_repository_open_ext(&repo, job->work, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) &&
        (reach_open(job->work) == 0 ||
         git_repository_open_ext(&repo, job->work, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL)))
        return lib_err(err, "the workspace is no repository any more");
    if (job->commit && add_commit(repo, job, ret_result, err))
        return -1;
    AUTO(git_commit) git_commit *head = head_commit(repo);
    if (head)
        git_oid_tostr(ret_result->sha, sizeof(ret_result->sha), git_commit_id(head));
    /* .git/HEAD may hold anything that somebody wrote into it. */
    snprintf(ret_result->branch, sizeof(ret_result->branch), "%s", job->branch ? job->branch : "");
    return bundle(repo, job, ret_result, err);
}
