/*
 * Mirrors, their holds and the helper's jobs, shared by the files of this room. Private to
 * runner/repo.
 *
 * Threads: any; `_locked` expects the lock of struct repos held. Ownership: struct repos owns its
 * holds; a repo_secret owns only `owned`; the caller frees answers of jobs.
 */
#ifndef REPO_INSIDE_H
#define REPO_INSIDE_H

#include "base/lock.h"
#include "git/mirror.h"
#include "runner/repo/call.h"
#include "runner/repo/repos.h"

/* A mirror, tree or refs directory that a workspace uses. */
struct hold {
    char *name; /* relative to the repos directory */
    int count;
    struct hold *next;
};

struct repos {
    struct repos_config config;
    char *dir;
    char *known_hosts;
    const char *overlay; /* mount options that work here, or NULL */
    bool reflink;        /* when there is no overlay: files can share blocks */
    struct lock lock;    /* guards the fields below; never held across I/O except a rename or
                          * unlink */
    struct hold *holds;
    _Atomic int64_t mirrors, bytes; /* as of the last repos_maintain(); -1: it has not run */
};

int hold_take(struct repos *repos, const char *name, struct err *err);
void hold_drop(struct repos *repos, const char *name);
bool hold_is_taken_locked(const struct repos *repos, const char *name) HOLDS(repos->lock);

struct repos *workspace_repos(const struct workspace *workspace);
const char *workspace_dir(const struct workspace *workspace);    /* the run's directory */
const char *workspace_mirror(const struct workspace *workspace); /* the mirror's directory */

/* Prefixes of temporary names below the repos directory. */
#define REPOS_PUSH "push-"
#define REPOS_GROWING "growing-"

/* Removes such entries of an earlier process. */
void repos_sweep(struct repos *repos);

/* Finds out which overlay options work here, by mounting one as a task would. */
void overlay_probe(struct repos *repos);

/* Finds out whether the file system can make copies that share their blocks. */
void reflink_probe(struct repos *repos);

/* Begins a job: {"op":…,"timeoutMs":…,"uid":…,"gid":…, and leaves the object open. */
void repo_job_begin(const struct repos *repos, struct json_writer *w, struct buf *out,
                    const char *op, int timeout_ms);

/* Choose a remote's credential, and add the remote to a job: URL, credentials, known hosts. */
struct repo_secret {
    const char *token; /* borrowed */
    const char *key;   /* borrowed: the request's or `owned` */
    struct buf owned;
    char name[65]; /* identifies the credential in the mirror's state */
};
int repo_secret_choose(const struct repos *repos, const struct repo_wish *wish,
                       const struct git_url *url, struct repo_secret *secret, struct err *err);
void repo_secret_done(struct repo_secret *secret);
static inline void auto_secret(struct repo_secret *secret)
{
    repo_secret_done(secret);
}
void repo_job_add_remote(const struct repos *repos, struct json_writer *w, const char *url,
                         const struct repo_secret *secret);

/* Runs a job as the runner itself, which owns the mirrors. The caller frees the answer. */
struct json *repo_job_run(const struct repos *repos, struct json_writer *w, int timeout_ms,
                          const struct work_stop *stop, struct err *err);

#endif
