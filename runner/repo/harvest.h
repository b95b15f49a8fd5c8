/*
 * The steps after a success in a workspace: commit, bundle, push, files to keep. Each is a helper
 * process of its own: as the task's user when it reads the workspace, as the runner when it holds
 * credentials, and never both in one.
 *
 * Threads: the task's own. Ownership: wishes and workspaces are borrowed; the caller frees the
 * answers.
 */
#ifndef REPO_HARVEST_H
#define REPO_HARVEST_H

#include "base/redact.h"
#include "runner/repo/repos.h"

struct harvest_commit {
    bool commit;
    const char *message;          /* or NULL */
    const struct strlist *files;  /* or NULL */
    const struct strlist *except; /* files of the runner's own */
    const char *branch;           /* to be pushed to, or NULL */
};

struct harvested_commit {
    char sha[65];
    char branch[256];
    bool committed;
    bool bundled; /* `bundle` was written */
    int64_t files;
};

/* Commits in the workspace, and writes the commits since it was made to `bundle`, a path in a
 * directory of the runner's own. */
int harvest_commit(struct workspace *workspace, const struct harvest_commit *wish,
                   const char *bundle, const struct work_stop *stop,
                   struct harvested_commit *ret_kept, struct err *err);

/* Pushes a bundle with the wish's credentials. Returns the helper's answer:
 * {"sha"[,"method","remoteSha","conflictFiles"]}, which the caller frees. */
struct json *harvest_push(struct workspace *workspace, const struct repo_wish *wish,
                          const struct harvested_commit *kept, const char *bundle, bool recover,
                          const struct work_stop *stop, struct err *err);

/* The folder of a workspace whose files are the task's outputs. */
#define HARVEST_OUTPUT "output"

/* Makes that folder for the run in `dir` (workspace may be NULL), unless the workspace has
 * something of that name. Call before the run's first program. */
int harvest_make_output(struct repos *repos, struct workspace *workspace, const char *dir,
                        struct err *err);
/* True when the output folder of this workspace, or (NULL) of the directory `work`, may hold
 * something. Cheap. */
bool harvest_has_output(struct workspace *workspace, const char *work);

struct harvest_files {
    const struct strlist *patterns; /* of paths in the workspace; NULL: none */
    bool output;                    /* also everything in HARVEST_OUTPUT, by paths below it, */
    int64_t since_ms;               /* that changed since (real; 0: all) */
};

/* Copies those files of `work` (a run's; workspace may be NULL) to `to`, which must not exist;
 * `dir` is the run's own directory. Returns
 * {"files":[{"path","size"}],"skipped"[,"output":{"files":N,"bytes":N,"skipped":N}]}, which the
 * caller frees. */
struct json *harvest_files(struct repos *repos, struct workspace *workspace, const char *dir,
                           const char *work, const struct harvest_files *wish, const char *to,
                           const struct work_stop *stop, struct err *err);

/* Appends the answer's numbers about the output folder, as an object; nothing when no file was kept
 * or skipped. */
void harvest_print_output(const struct json *answer, struct buf *out);

/* Files beside a task's events: its changes in the repository as a patch, and the list of changed
 * files, {"files":[…],"truncated"} as in git/diff.h, with "bytes" of the patch that is kept
 * here. */
#define HARVEST_PATCH "changes.patch"
#define HARVEST_CHANGES "changes.json"

/* Writes both to `keep_dir`, a directory of the runner's own, without the secrets of `redact`.
 * `except` are the runner's own files in the workspace. */
int harvest_diff(struct workspace *workspace, const struct strlist *except, const char *keep_dir,
                 struct redact_set *redact, const struct work_stop *stop, struct err *err);

#endif
