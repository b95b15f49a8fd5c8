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
 * Ownership: the caller of repos_new() frees it by repos_free(); a workspace is freed by
 * workspace_close() and owns the texts that its functions return.
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
    struct config_in_force *config; /* borrowed, as everything here */
    struct launcher *launcher;
    const struct walls *walls; /* jails of helpers that read what tasks have written */
    const char *state_dir;
    const char *marker; /* value of TASK_MARKER */
    uid_t uid;          /* user that tasks run as */
    gid_t gid;
    bool one_task; /* no later task will need more history than the first one */
};

struct repos *repos_new(const struct repos_config *config, struct err *err);
/* Finds out how this host can make workspaces, by making some. Call once, before the first
 * workspace. ERR_INVALID when the host cannot make what WORKSPACES asks for. */
int repos_probe(struct repos *repos, struct err *err);
void repos_free(struct repos *repos);

/* The kind of workspaces: "overlay", "reflink" or "copy". */
const char *repos_method(const struct repos *repos);

/* The options, after its directories, of an overlay that works here; NULL when workspaces are no
 * overlays. */
const char *repos_overlay(const struct repos *repos);
/* Appends a path as an overlay option's value. */
void repos_add_overlay_path(struct buf *out, const char *path);

/* What a task asks for. All of it is borrowed; NULL: not given. */
struct repo_wish {
    const char *url;
    const char *branch;
    const char *ref;
    const char *key;
    const char *token;
    int timeout_ms; /* 0: only GIT_TIMEOUT_SECONDS counts */
    int depth;      /* this many commits are enough; 0: all */
    bool stale_ok;
    bool own_files; /* all files must be in dir/work, also where an overlay could be used */
};

/* ERR_FORBIDDEN for a repository that GIT_ALLOW does not allow, as far as its URL tells; a name of
 * a private address is refused when it is connected to. */
int repos_check_url(struct repos *repos, const char *url, struct err *err);

/* Appends {"repos":[…]}: the existing mirrors. */
void repos_print(struct repos *repos, struct buf *out);

/* Removes a mirror, or all of them with NULL. Returns how many; ERR_CONFLICT when a task uses it
 * (the others are removed then), ERR_NOT_FOUND. */
int repos_delete(struct repos *repos, const char *id, struct err *err);

/* Calls use() with the credential for the wish's repository, the owner's where the wish has none
 * (both NULL: there is none): for code that works on the repository elsewhere. */
int repos_lend(struct repos *repos, const struct repo_wish *wish,
               void (*use)(const char *key, const char *token, void *arg), void *arg,
               struct err *err);

/* The janitor's round: repacks, removes what nobody needs, and keeps to REPO_CACHE_MAX_MB. */
void repos_maintain(struct repos *repos);

/* Prints the counters for a page of metrics; arg is a struct repos. */
struct metric_page;
void repos_metrics(struct metric_page *page, void *arg);

struct workspace;

/* Makes a workspace for the run in `dir`: with its mounts, its files appear at dir/work. The caller
 * ends it by workspace_close(). ERR_NOT_FOUND: no such repository, branch or ref. ERR_FORBIDDEN: a
 * host, a credential or a host key. ERR_UPSTREAM, ERR_TIMEOUT: the remote. ERR_BUSY: stopped. */
struct workspace *workspace_open(struct repos *repos, const struct repo_wish *wish, const char *dir,
                                 const struct work_stop *stop, struct err *err);
/* Releases the mirror and the tree that it uses, and frees it; its files are removed with the run's
 * directory. */
void workspace_close(struct workspace *workspace);
DEFINE_AUTO(workspace, struct workspace *, workspace_close)

/* Appends the workspace's mounts (for struct plan). Call again for each process tree, one at a
 * time. */
int workspace_mounts(struct workspace *workspace, struct strlist *mounts, struct err *err);

/* As workspace_mounts(), for a workspace that appears at `place` instead of dir/work. */
int workspace_mounts_at(struct workspace *workspace, const char *place, struct strlist *mounts,
                        struct err *err);
/* True when its files are layers: shared ones and its own. Its own files, with what
 * workspace_save() adds to the open object, are then enough to restore it. Else all files are in
 * dir/work. */
bool workspace_is_layered(const struct workspace *workspace);
void workspace_save(const struct workspace *workspace, struct json_writer *w);
/* Restores a workspace on the same shared files; the caller fills its own files in dir/upper. Never
 * asks the remote. ERR_NOT_FOUND: the shared files are gone. */
struct workspace *workspace_load(struct repos *repos, const struct json *saved, const char *dir,
                                 struct err *err);

/* The directory in which a file of the workspace can be written before it is mounted. */
const char *workspace_upper(const struct workspace *workspace);

/* The shared, read-only tree below it; NULL when it has copies or nothing. */
const char *workspace_tree(const struct workspace *workspace);
/* Its URL for git and for people, without secrets. */
const char *workspace_url(const struct workspace *workspace);

/* Makes git in the workspace use `url`, below `origin`, for its repository, with this token. Call
 * before the workspace is mounted. */
int workspace_lead(struct workspace *workspace, const char *origin, const char *url,
                   const char *token, struct err *err);

/* A request of a git client in the workspace, for its repository. All of it is borrowed. */
struct passage_request {
    const struct repo_wish *wish;
    bool push;            /* else it is a fetch */
    const char *protocol; /* its Git-Protocol header, or NULL */
    const char *body;     /* file with its body; NULL: it asks for the refs */
    bool cut;             /* push: the body was longer than allowed */
    int64_t most_mb;      /* push: the allowed length */
    const char *place;    /* push: a directory that is made, and removed at the end */
    bool any, force;      /* push: rules as in git/wishes.h */
    const struct strlist *branches;
};

/* Passes the request on in a helper process, with the present credentials. take() receives the
 * answer as it arrives: a line with the status and the type, then the body. *words receives the
 * outcome of each pushed ref, one JSON object per line. */
int workspace_serve(struct workspace *workspace, const struct passage_request *request,
                    const struct work_stop *stop, work_take_fn *take, void *arg, struct buf *words,
                    struct err *err);

/* Makes a new path below the repositories' directory for such a body or place; what an earlier
 * process left there is removed. */
void workspace_new_place(const struct workspace *workspace, char *path, size_t size);

/* Appends a JSON object about it for the task's events and answer. */
void workspace_print(const struct workspace *workspace, struct buf *out);

const char *workspace_commit(const struct workspace *workspace); /* "" in a repository without
                                                                  * commits */
const char *workspace_branch(const struct workspace *workspace); /* "" when HEAD is detached */

#endif
