/*
 * What the files of shared/git share. Private to shared/git.
 *
 * Threads: one at a time for each mirror.
 */
#ifndef GIT_INSIDE_H
#define GIT_INSIDE_H

#include "base/buf.h"
#include "git/mirror.h"

/* Call all of these with the mirror's lock held. */
int mirror_save(const char *dir, const struct mirror_state *state, struct err *err);
int mirror_make_generation(const struct mirror_job *job, const char *git_dir,
                           const struct buf *refs, struct mirror_state *state, struct err *err);

/* Fetches from the remote. git_dir gets the remote's current refs; a new mirror gets only those
 * that the job's depth, branch and ref need. *state gets the name of the default branch. */
int fetch_refs(const struct mirror_job *job, const struct remote *remote, const char *git_dir,
               bool is_new, struct mirror_state *state, struct err *err);
/* Fetches a commit that no ref may reach. */
int fetch_commit(const struct remote *remote, const char *git_dir, const char *id, struct err *err);

/* False when a pack does not match its index. */
bool packs_are_whole(const char *git_dir);

/* False when a generation of refs lacks a pack of the repository. */
bool packs_are_linked(const char *git_dir, const char *dir, const char *generation);

/* Makes a workspace that stands alone, in two steps: first the objects and refs, with the lock
 * held; then the files, which take longest, without it. It is built in job->place and renamed to
 * job->into. */
int own_begin(const struct mirror_job *job, const char *git_dir, const struct mirror_result *result,
              struct err *err);
int own_finish(const struct mirror_job *job, const char *git_dir, struct mirror_result *result,
               struct err *err);

/* remote.c. Appends the text in single quotes, for a shell: the server's, or the one to which git
 * passes the ssh command. */
void git_add_quoted(struct buf *out, const char *text);

#endif
