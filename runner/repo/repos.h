/*
 * Repositories: mirrors that are kept warm, and workspaces made of them.
 *
 * Theory of operation. A mirror (shared/git/mirror.h) is named by a hash of its canonical URL. A
 * workspace takes the cheapest form that the host allows, found out at start by trying it:
 *
 *   overlay  the run's own upper directory over a shared tree and a shared refs directory; made in
 *            the task's own mount namespace, so it costs two mounts and no files
 *   reflink  a directory of its own: hard-linked objects, and files that are copies of a shared
 *            tree's and share their blocks
 *   copy     the same with a checkout
 *
 * To git and to Claude they look the same.
 *
 * When the mirror is fresh enough nothing is started and nothing is copied: reading `state` and
 * the refs file, writing four small files. Else a helper process (call.h) asks the remote.
 * What a workspace stands on is held, so that neither the janitor nor DELETE /repos takes it.
 *
 * Threads: any; a workspace belongs to its task's.
 */
#ifndef REPO_REPOS_H
#define REPO_REPOS_H

#include "base/auto.h"
#include "proc/launch.h"
#include "runner/config/in_force.h"
#include "runner/repo/call.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct repos;

struct repos_config {
    struct config_in_force *config; /* borrowed, as all here */
    struct launcher *launcher;
    const char *state_dir;
    const char *marker; /* TASK_MARKER's value */
    uid_t uid;          /* who tasks run as */
    gid_t gid;
    bool one_task; /* no later task will want more history than this one asks for */
};

struct repos *repos_new(const struct repos_config *config, struct err *err);
/* Finds out how this host can make workspaces, by making some: once, before anybody wants one.
 * ERR_INVALID when it can't as WORKSPACES asks. */
int repos_probe(struct repos *repos, struct err *err);
void repos_free(struct repos *repos);

/* "overlay", "reflink" or "copy". */
const char *repos_method(const struct repos *repos);

/* What a task asks for; all borrowed, NULL for not given. */
struct repo_wish {
    const char *url;
    const char *branch;
    const char *ref;
    const char *key;
    const char *token;
    int timeout_ms; /* 0: GIT_TIMEOUT_SECONDS alone */
    int depth;      /* so many commits would do; 0: all */
    bool stale_ok;
};

/* ERR_FORBIDDEN for a repository that GIT_ALLOW does not let us go to, as far as its URL says; a
 * name that leads to a private address is refused when it is connected to. */
int repos_check_url(struct repos *repos, const char *url, struct err *err);

/* Appends {"repos":[…]}: the mirrors there are. */
void repos_print(struct repos *repos, struct buf *out);

/* Removes a mirror, or all with NULL. Returns how many; ERR_CONFLICT when a task works on it (all
 * others are gone then), ERR_NOT_FOUND. */
int repos_delete(struct repos *repos, const char *id, struct err *err);

/* Calls use() with the credential that the wish's repository is reached with, the owner's where the
 * wish has none (both NULL: none at all): for who does the work elsewhere. */
int repos_lend(struct repos *repos, const struct repo_wish *wish,
               void (*use)(const char *key, const char *token, void *arg), void *arg,
               struct err *err);

/* The janitor's round: repacks, removes what nobody needs, keeps to REPO_CACHE_MAX_MB. */
void repos_maintain(struct repos *repos);

/* Prints what is counted, for a page of metrics; arg is a struct repos. */
struct metric_page;
void repos_metrics(struct metric_page *page, void *arg);

struct workspace;

/* Makes a workspace for the run in `dir`: its files appear at dir/work, for who has its mounts.
 * ERR_NOT_FOUND: no such repository, branch or ref. ERR_FORBIDDEN: a host, a credential or a host
 * key. ERR_UPSTREAM, ERR_TIMEOUT: the remote. ERR_BUSY: stopped. */
struct workspace *workspace_open(struct repos *repos, const struct repo_wish *wish, const char *dir,
                                 const struct work_stop *stop, struct err *err);
/* Releases the mirror and the tree that it uses; the files are removed with the run's
 * directory. */
void workspace_close(struct workspace *workspace);
DEFINE_AUTO(workspace, struct workspace *, workspace_close)

/* Appends the mounts that show it (for struct plan): anew for each process tree, one at a time. */
int workspace_mounts(struct workspace *workspace, struct strlist *mounts, struct err *err);

/* Where a file of the workspace is written before anybody has mounted it. */
const char *workspace_upper(const struct workspace *workspace);

/* Appends a JSON object for the task's events and answer. */
void workspace_print(const struct workspace *workspace, struct buf *out);

const char *workspace_commit(const struct workspace *workspace); /* "" without commits */
const char *workspace_branch(const struct workspace *workspace); /* "" when detached */

#endif
