/* What the files of runner/repo share. Private to runner/repo. */
#ifndef REPO_INSIDE_H
#define REPO_INSIDE_H

#include "git/mirror.h"
#include "runner/repo/call.h"
#include "runner/repo/repos.h"

#include <pthread.h>

/* A mirror, tree or refs directory that somebody stands on. */
struct hold {
    char *name; /* relative to the repos directory */
    int count;
    struct hold *next;
};

struct repos {
    struct repos_config config;
    char *dir;
    char *known_hosts;
    const char *overlay;  /* mount options that work here, or NULL */
    bool reflink;         /* when there is no overlay: files can share blocks */
    pthread_mutex_t lock; /* of what follows; never held across I/O but a rename or unlink */
    struct hold *holds;
    _Atomic int64_t mirrors, bytes; /* as of the last repos_maintain(); -1: there was none yet */
};

int hold_take(struct repos *repos, const char *name, struct err *err);
void hold_drop(struct repos *repos, const char *name);
bool hold_is_taken_locked(const struct repos *repos, const char *name);

struct repos *workspace_repos(const struct workspace *workspace);
const char *workspace_dir(const struct workspace *workspace);    /* the run's */
const char *workspace_mirror(const struct workspace *workspace); /* the mirror's directory */

/* Names below the repos directory of what is made there and goes elsewhere. */
#define REPOS_PUSH "push-"
#define REPOS_GROWING "growing-"

/* Removes what an earlier life left of these. */
void repos_sweep(struct repos *repos);

/* Finds out which overlay options work here, by mounting one as a task would. */
void overlay_probe(struct repos *repos);

/* Finds out whether the file system can make copies that share their blocks. */
void reflink_probe(struct repos *repos);

/* Starts a job: {"op":…,"timeoutMs":…,"uid":…,"gid":… and leaves it open for more. */
void repo_job_begin(const struct repos *repos, struct json_writer *w, struct buf *out,
                    const char *op, int timeout_ms);

/* Adds what a remote needs: URL, credentials, known hosts. */
struct repo_secret {
    const char *token; /* borrowed */
    const char *key;   /* borrowed: the request's or `owned` */
    struct buf owned;
    char name[65]; /* of the credential, for the mirror's state */
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

/* Runs a job as the runner itself, who owns the mirrors. */
struct json *repo_job_run(const struct repos *repos, struct json_writer *w, int timeout_ms,
                          const struct work_stop *stop, struct err *err);

#endif
