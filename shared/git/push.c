#include "git/push.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "git/lib.h"
#include "git/refs.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REBASES_MAX 30
#define CONFLICTS_LISTED 200

struct push {
    const struct push_job *job;
    struct push_result *result;
    struct remote remote;
};

void push_result_done(struct push_result *result)
{
    strlist_done(&result->conflict_files);
}

static int run(const struct push *push, const char *const words[], struct buf *out, struct err *err)
{
    AUTO(program) struct program program = {.secret_fd = -1};
    remote_program(&push->remote, push->job->place, &program);
    for (; *words; words++)
        strlist_add(&program.argv, *words);
    return program_run(&program, out, err);
}

static int run_quietly(const struct push *push, const char *const words[], struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(PROGRAM_OUTPUT_MAX);
    return run(push, words, &out, err);
}

/* --- our repository ------------------------------------------------------------------------ */

int push_make_place(const char *mirror, const char *place, struct err *err)
{
    char path[4300], git_dir[4200];
    git_repository *repo = NULL;
    AUTO(buf) struct buf text = BUF_INIT(8192);
    snprintf(git_dir, sizeof(git_dir), "%s/git", mirror);
    if (path_make_dirs(place, 0700, err))
        return -1;
    if (git_repository_init(&repo, place, 1))
        return lib_err(err, "cannot make a repository to push from");
    git_repository_free(repo);
    buf_addf(&text, "%s/objects\n", git_dir);
    snprintf(path, sizeof(path), "%s/objects/info/alternates", place);
    return file_replace(path, buf_str(&text), text.len, 0600, err) ||
                   refs_copy_shallow(git_dir, place, geteuid(), getegid(), err)
               ? -1
               : 0;
}

static int unbundle(const struct push *push, struct err *err)
{
    char spec[600];
    snprintf(spec, sizeof(spec), "+refs/heads/%s:refs/heads/ours", push->job->branch);
    const char *const words[] = {
        "fetch",           "--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options",
        push->job->bundle, spec,      NULL};
    return run_quietly(push, words, err);
}

/* --- pushing ------------------------------------------------------------------------------- */

static int push_ours(const struct push *push, const char *lease, struct err *err)
{
    char spec[600], option[700];
    snprintf(spec, sizeof(spec), "refs/heads/ours:refs/heads/%s", push->job->branch);
    snprintf(option, sizeof(option), "--force-with-lease=refs/heads/%s:%s", push->job->branch,
             lease ? lease : "");
    const char *const words[] = {"push",
                                 "--quiet",
                                 "--no-verify",
                                 lease ? option : "--no-force",
                                 "--no-follow-tags",
                                 "--end-of-options",
                                 push->remote.text,
                                 spec,
                                 NULL};
    return run_quietly(push, words, err);
}

/* True when the push was refused because the remote has new commits or is locked right now; false
 * for a protected branch or a hook's refusal. */
static bool was_overtaken(const struct err *err)
{
    static const char *const races[] = {"cannot lock ref", "failed to update ref", "failed to lock",
                                        "incorrect old value"};
    for (size_t i = 0; i < COUNT_OF(races); i++)
        if (strstr(err->msg, races[i]))
            return true;
    return err->code == ERR_CONFLICT && !strstr(err->msg, "remote rejected");
}

static int fetch_theirs(struct push *push, struct err *err)
{
    char spec[600];
    git_oid oid;
    AUTO(git_repository) git_repository *repo = NULL;
    snprintf(spec, sizeof(spec), "+refs/heads/%s:refs/heads/theirs", push->job->branch);
    const char *const words[] = {
        "fetch",           "--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options",
        push->remote.text, spec,      NULL};
    if (run_quietly(push, words, err))
        return -1;
    if (git_repository_open_bare(&repo, push->job->place) ||
        git_reference_name_to_id(&oid, repo, "refs/heads/theirs"))
        return lib_err(err, "cannot read what was fetched");
    git_oid_tostr(push->result->remote_sha, sizeof(push->result->remote_sha), &oid);
    return 0;
}

/* --- rebasing ------------------------------------------------------------------------------ */

static void note_conflict(struct push *push, const char *path)
{
    struct strlist *list = &push->result->conflict_files;
    if (list->count < CONFLICTS_LISTED && !strlist_has(list, path))
        strlist_add(list, path);
}

/* Resolves the first conflict with our side. */
static int settle_first(git_index *index)
{
    git_index_conflict_iterator *at = NULL;
    const git_index_entry *base, *onto, *ours;
    git_index_entry entry = {0};
    if (git_index_conflict_iterator_new(&at, index))
        return -1;
    int rc = git_index_conflict_next(&base, &onto, &ours, at);
    const char *path = rc ? "" : ours ? ours->path : onto ? onto->path : base->path;
    bool stays = rc == 0 && ours;
    if (stays) {
        entry.id = ours->id;
        entry.mode = ours->mode;
    }
    AUTO(str) char *name = strdup(path); /* The index frees its own copy. */
    git_index_conflict_iterator_free(at);
    entry.path = name;
    if (rc || !name || git_index_conflict_remove(index, name))
        return -1;
    return stays ? git_index_add(index, &entry) : 0;
}

/* Resolves conflicts without lines to merge, as when one side deleted what the other changed. True
 * when there were such. */
static int settle_conflicts(git_index *index, struct err *err)
{
    while (git_index_has_conflicts(index))
        if (settle_first(index))
            return lib_err(err, "cannot settle a conflict");
    return 0;
}

static int list_conflicts(struct push *push, git_repository *repo, git_commit *commit,
                          git_commit *onto, struct err *err)
{
    git_merge_options options;
    git_index_conflict_iterator *at = NULL;
    const git_index_entry *base, *theirs, *ours;
    AUTO(git_index) git_index *index = NULL;
    git_merge_options_init(&options, GIT_MERGE_OPTIONS_VERSION);
    if (git_cherrypick_commit(&index, repo, commit, onto, 0, &options))
        return lib_err(err, "cannot rebase");
    if (!git_index_has_conflicts(index) || git_index_conflict_iterator_new(&at, index))
        return 0;
    while (git_index_conflict_next(&base, &theirs, &ours, at) == 0)
        note_conflict(push, ours ? ours->path : theirs ? theirs->path : base->path);
    git_index_conflict_iterator_free(at);
    return 0;
}

/* Applies one commit on top of another; *ret is the id of the new commit. */
static int replay(struct push *push, git_repository *repo, git_commit *commit, git_commit *onto,
                  git_oid *ret, struct err *err)
{
    git_oid tree_id;
    git_merge_options options;
    AUTO(git_index) git_index *index = NULL;
    AUTO(git_tree) git_tree *tree = NULL;
    const git_commit *parents[] = {onto};
    git_merge_options_init(&options, GIT_MERGE_OPTIONS_VERSION);
    options.file_favor = GIT_MERGE_FILE_FAVOR_THEIRS; /* "theirs" of a cherry-pick is the commit */
    if (list_conflicts(push, repo, commit, onto, err))
        return -1;
    if (git_cherrypick_commit(&index, repo, commit, onto, 0, &options))
        return lib_err(err, "cannot rebase");
    if (git_index_has_conflicts(index) && settle_conflicts(index, err))
        return -1;
    if (git_index_write_tree_to(&tree_id, index, repo) || git_tree_lookup(&tree, repo, &tree_id) ||
        git_commit_create(ret, repo, NULL, git_commit_author(commit), git_commit_committer(commit),
                          git_commit_message_encoding(commit), git_commit_message(commit), tree, 1,
                          parents))
        return lib_err(err, "cannot rebase");
    return 0;
}

/* Applies the commits of a list with one id per line. */
static int replay_all(struct push *push, git_repository *repo, char *commits, git_oid *top,
                      struct err *err)
{
    git_oid id;
    for (char *line; (line = strsep(&commits, "\n")) && *line;) {
        AUTO(git_commit) git_commit *commit = NULL;
        AUTO(git_commit) git_commit *onto = NULL;
        if (git_oid_fromstr(&id, line) || git_commit_lookup(&commit, repo, &id) ||
            git_commit_lookup(&onto, repo, top))
            return lib_err(err, "cannot rebase");
        if (git_commit_parentcount(commit) != 1)
            return err_set(err, ERR_CONFLICT, "a merge cannot be rebased");
        if (replay(push, repo, commit, onto, top, err))
            return -1;
    }
    return 0;
}

/* Lists the commits that we have and the remote lacks, oldest first. The git program does it,
 * because it understands shallow histories. */
static int list_ours(struct push *push, struct buf *commits, struct err *err)
{
    AUTO(buf) struct buf base = BUF_INIT(PROGRAM_OUTPUT_MAX);
    const char *const common[] = {"merge-base", "refs/heads/ours", "refs/heads/theirs", NULL};
    const char *const list[] = {"rev-list",        "--topo-order",       "--reverse",
                                "refs/heads/ours", "^refs/heads/theirs", NULL};
    if (run(push, common, &base, err) || base.len == 0)
        return err_set(err, ERR_CONFLICT, "the two histories have nothing in common");
    return run(push, list, commits, err);
}

/* Finds our commits. In a shallow mirror the histories may have parted before the oldest commit
 * that is here. */
static int find_ours(struct push *push, struct buf *commits, struct err *err)
{
    const char *const words[] = {
        "fetch",       "--quiet",          "--no-tags",       "--no-write-fetch-head",
        "--unshallow", "--end-of-options", push->remote.text, "+refs/heads/*:refs/remotes/origin/*",
        NULL};
    if (list_ours(push, commits, err) == 0)
        return 0;
    if (!refs_are_shallow(push->job->place) || run_quietly(push, words, err))
        return -1;
    buf_clear(commits);
    return list_ours(push, commits, err);
}

static int rebase(struct push *push, struct err *err)
{
    git_oid theirs;
    git_reference *ref = NULL;
    AUTO(git_repository) git_repository *repo = NULL;
    AUTO(buf) struct buf commits = BUF_INIT(PROGRAM_OUTPUT_MAX);
    if (find_ours(push, &commits, err))
        return -1;
    if (git_repository_open_bare(&repo, push->job->place) ||
        git_reference_name_to_id(&theirs, repo, "refs/heads/theirs"))
        return lib_err(err, "cannot rebase");
    if (replay_all(push, repo, commits.data, &theirs, err))
        return -1;
    if (git_reference_create(&ref, repo, "refs/heads/ours", &theirs, 1, NULL))
        return lib_err(err, "cannot rebase");
    git_reference_free(ref);
    git_oid_tostr(push->result->sha, sizeof(push->result->sha), &theirs);
    return 0;
}

static int restore_ours(struct push *push, struct err *err)
{
    git_oid ours;
    git_reference *ref = NULL;
    AUTO(git_repository) git_repository *repo = NULL;
    if (git_repository_open_bare(&repo, push->job->place) ||
        git_oid_fromstr(&ours, push->job->sha) ||
        git_reference_create(&ref, repo, "refs/heads/ours", &ours, 1, NULL))
        return lib_err(err, "cannot go back to our commit");
    git_reference_free(ref);
    snprintf(push->result->sha, sizeof(push->result->sha), "%s", push->job->sha);
    return 0;
}

/* --- all of it ----------------------------------------------------------------------------- */

/* Waits a random moment, because another pusher may keep coming first: so the two do not meet
 * again. */
static void step_aside(int round)
{
    poll(NULL, 0, (int)(clock_mono_us() % (uint64_t)(20 * (round + 1))));
}

/* Fetches and rebases again when the remote has changed again. Commits that cannot be rebased
 * replace only the remote state that was fetched (force-with-lease), nothing newer. */
static int recover(struct push *push, struct err *err)
{
    for (int i = 0; i < REBASES_MAX; i++) {
        if (fetch_theirs(push, err))
            return -1;
        bool rebased = rebase(push, err) == 0;
        push->result->method = rebased ? "rebase" : "force-with-lease";
        if (!rebased && restore_ours(push, err))
            return -1;
        if (push_ours(push, rebased ? NULL : push->result->remote_sha, err) == 0)
            return 0;
        if (!was_overtaken(err) || clock_mono_ms() >= push->job->remote.deadline_ms)
            return -1;
        step_aside(i);
    }
    return -1;
}

static int push_from_place(struct push *push, struct err *err)
{
    if (push_make_place(push->job->mirror, push->job->place, err) || unbundle(push, err))
        return -1;
    if (push_ours(push, NULL, err) == 0)
        return 0;
    if (!push->job->recover || !was_overtaken(err))
        return -1;
    return recover(push, err);
}

int push_run(const struct push_job *job, struct push_result *ret_result, struct err *err)
{
    REQUIRE(job->bundle && job->branch);
    struct err ignored;
    struct push push = {.job = job, .result = ret_result, .remote = REMOTE_INIT};
    snprintf(ret_result->sha, sizeof(ret_result->sha), "%s", job->sha);
    if (lib_start(err))
        return -1;
    int rc = remote_open(&push.remote, &job->remote, err) || push_from_place(&push, err) ? -1 : 0;
    remote_close(&push.remote);
    path_remove_tree(job->place, &ignored);
    return rc;
}
