/*
 * What the files that make a mirror share. Private to shared/git.
 *
 * Threads: one at a time for each mirror.
 */
#ifndef GIT_INSIDE_H
#define GIT_INSIDE_H

#include "git/mirror.h"

/* All with the lock held. */
int mirror_save(const char *dir, const struct mirror_state *state, struct err *err);
int mirror_make_generation(const struct mirror_job *job, const char *git_dir,
                           const struct buf *refs, struct mirror_state *state, struct err *err);

/* Asks the remote: git_dir gets the refs that it has now, or of a new mirror those that the job's
 * depth, branch and ref make do with; and *state the name of its default branch. */
int fetch_refs(const struct mirror_job *job, const struct remote *remote, const char *git_dir,
               bool is_new, struct mirror_state *state, struct err *err);
/* A commit that no ref may reach. */
int fetch_commit(const struct remote *remote, const char *git_dir, const char *id, struct err *err);

/* False when a pack is not what its index was made of. */
bool packs_are_whole(const char *git_dir);

/* False when a generation of refs has not all of the repository's packs. */
bool packs_are_linked(const char *git_dir, const char *dir, const char *generation);

/* A workspace that stands alone, in two steps: the objects and refs, with the lock held; then the
 * files, which take longest, without it. It grows in job->place and is renamed to job->into. */
int own_begin(const struct mirror_job *job, const char *git_dir, const struct mirror_result *result,
              struct err *err);
int own_finish(const struct mirror_job *job, const char *git_dir, struct mirror_result *result,
               struct err *err);

#endif
