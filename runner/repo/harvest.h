/*
 * What happens to a workspace after a success: commit, bundle, push, files to keep. Each step is a
 * helper process of its own: the task's user for what reads the workspace, the runner for what
 * holds credentials, and never both in one.
 *
 * Threads: the task's own.
 */
#ifndef REPO_HARVEST_H
#define REPO_HARVEST_H

#include "base/redact.h"
#include "runner/repo/repos.h"

struct harvest_commit {
    bool commit;
    const char *message;          /* or NULL */
    const struct strlist *files;  /* or NULL */
    const struct strlist *except; /* the runner's own */
    const char *branch;           /* to be pushed to, or NULL */
};

struct harvested_commit {
    char sha[65];
    char branch[256];
    bool committed;
    bool bundled; /* `bundle` was written */
    int64_t files;
};

/* Commits in the workspace and writes what is new since it was made to `bundle`, a path in a
 * directory of the runner's own. */
int harvest_commit(struct workspace *workspace, const struct harvest_commit *wish,
                   const char *bundle, const struct work_stop *stop,
                   struct harvested_commit *ret_kept, struct err *err);

/* Pushes a bundle with the wish's credentials. Returns the helper's answer:
 * {"sha"[,"method","remoteSha","conflictFiles"]}. */
struct json *harvest_push(struct workspace *workspace, const struct repo_wish *wish,
                          const struct harvested_commit *kept, const char *bundle, bool recover,
                          const struct work_stop *stop, struct err *err);

/* The folder of a workspace whose files are a task's outputs. */
#define HARVEST_OUTPUT "output"

/* Makes that folder for the run in `dir` (workspace may be NULL), before its first program, unless
 * the workspace has something there. */
int harvest_make_output(struct repos *repos, struct workspace *workspace, const char *dir,
                        struct err *err);
/* Whether there may be something in the one of this workspace, or (NULL) of the directory `work`.
 * Cheap. */
bool harvest_has_output(struct workspace *workspace, const char *work);

struct harvest_files {
    const struct strlist *patterns; /* of the workspace's files, by their paths; NULL: none */
    bool output;                    /* and all in HARVEST_OUTPUT, by their paths below it … */
    int64_t since_ms;               /* … that changed since (real; 0: all) */
};

/* Copies those files of `work` (a run's; workspace may be NULL) to `to`, which must not exist;
 * `dir` is the run's own. Returns
 * {"files":[{"path","size"}],"skipped"[,"output":{"files":N,"bytes":N,"skipped":N}]}. */
struct json *harvest_files(struct repos *repos, struct workspace *workspace, const char *dir,
                           const char *work, const struct harvest_files *wish, const char *to,
                           const struct work_stop *stop, struct err *err);

/* Appends what the answer says of the output folder, as an object; nothing when nothing was kept or
 * skipped. */
void harvest_print_output(const struct json *answer, struct buf *out);

/* Files beside a task's events: what it changed in its repository as a patch, and the list of its
 * files, {"files":[…],"truncated"} as in git/diff.h, with "bytes" as the patch kept here has them.
 */
#define HARVEST_PATCH "changes.patch"
#define HARVEST_CHANGES "changes.json"

/* Writes both to `keep_dir`, a directory of the runner's own, without the secrets of `redact`.
 * `except` are the runner's own files in the workspace. */
int harvest_diff(struct workspace *workspace, const struct strlist *except, const char *keep_dir,
                 struct redact_set *redact, const struct work_stop *stop, struct err *err);

#endif
