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
#include "runner/work/work.h"
#include "json/json.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct repos;

struct repos_config {
    struct config_in_force *config; /* borrowed, as all here */
    struct launcher *launcher;
    const struct walls *walls; /* of helpers that read what tasks have written */
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

/* The options of an overlay that works here, after its directories; NULL when WORKSPACES are none.
 */
const char *repos_overlay(const struct repos *repos);
/* Appends a path as an overlay option's value. */
void repos_add_overlay_path(struct buf *out, const char *path);

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
    bool own_files; /* all files in dir/work, also where they could be laid over shared ones */
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

/* The same, to be seen at `place` instead of dir/work. */
int workspace_mounts_at(struct workspace *workspace, const char *place, struct strlist *mounts,
                        struct err *err);
/* True when its files are what it stands on and its own ones together: who keeps the latter, and
 * what workspace_save() adds to the open object, has all of it. Else they are all in dir/work. */
bool workspace_is_layered(const struct workspace *workspace);
void workspace_save(const struct workspace *workspace, struct json_writer *w);
/* Stands on the same again, for the own files in dir/upper, which are the caller's to fill. Never
 * asks the remote. ERR_NOT_FOUND: what it stood on is gone. */
struct workspace *workspace_load(struct repos *repos, const struct json *saved, const char *dir,
                                 struct err *err);

/* Where a file of the workspace is written before anybody has mounted it. */
const char *workspace_upper(const struct workspace *workspace);

/* The shared tree that it stands on, read only; NULL when it has copies or nothing. */
const char *workspace_tree(const struct workspace *workspace);
/* Its URL, as git and people see it, without secrets. */
const char *workspace_url(const struct workspace *workspace);

/* Before anybody has mounted it: git in the workspace goes to `url`, below `origin`, for its
 * repository, with this token. */
int workspace_lead(struct workspace *workspace, const char *origin, const char *url,
                   const char *token, struct err *err);

/* A request of a client of git in the workspace, for its repository; all borrowed. */
struct passage_request {
    const struct repo_wish *wish;
    bool push;            /* else it fetches */
    const char *protocol; /* its Git-Protocol header, or NULL */
    const char *body;     /* a file with its body; NULL: it asks for the refs */
    bool cut;             /* push: the body was longer than it may be */
    int64_t most_mb;      /* what it may be */
    const char *place;    /* push: a directory to be made, and removed */
    bool any, force;      /* push: rules as in git/wishes.h */
    const struct strlist *branches;
};

/* Passes it on in a helper process, with the credentials of this moment. take() gets the answer as
 * it comes: a line with the status and the type, then the body; *words what became of each ref that
 * was to be pushed, a JSON object a line. */
int workspace_serve(struct workspace *workspace, const struct passage_request *request,
                    const struct work_stop *stop, work_take_fn *take, void *arg, struct buf *words,
                    struct err *err);

/* A new name below the repositories' directory, for such a body or place: what an earlier life left
 * there is removed. */
void workspace_new_place(const struct workspace *workspace, char *path, size_t size);

/* Appends a JSON object for the task's events and answer. */
void workspace_print(const struct workspace *workspace, struct buf *out);

const char *workspace_commit(const struct workspace *workspace); /* "" without commits */
const char *workspace_branch(const struct workspace *workspace); /* "" when detached */

#endif
