/*
 * The refs of a mirror. Private to shared/git, except for mirror_resolve().
 *
 * Threads: no shared state; to change a mirror its lock must be held.
 */
#ifndef GIT_REFS_H
#define GIT_REFS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define REFS_BYTES_MAX (256u << 20)
#define REFS_ORIGIN "refs/remotes/origin"

/* Appends the mirror's branches, as a clone would name them (refs/remotes/origin/…), and tags, in
 * the format of a packed-refs file. */
int refs_list(const char *git_dir, int64_t deadline_ms, struct buf *out, struct err *err);

/* Appends what origin/HEAD says in a clone with those refs: nothing when they lack that default
 * branch. */
void refs_print_head(const struct buf *refs, const char *head, struct buf *out);

/* Writes packed-refs and origin/HEAD into the repository of a workspace. */
int refs_write(const char *git_dir, const struct buf *refs, const char *head, uid_t uid, gid_t gid,
               struct err *err);

/* True when the commit that was fetched as the remote's HEAD is that branch's. */
bool refs_head_is(const char *git_dir, const char *branch);

/* True when text is a full commit id. */
bool refs_is_id(const char *text);

/* True when the repository has only a part of its history. */
bool refs_are_shallow(const char *git_dir);

/* Copies the file that says where a shallow history ends, if there is one. */
int refs_copy_shallow(const char *from, const char *to, uid_t uid, gid_t gid, struct err *err);

/* Finds the commit to check out: of `ref` (branch, tag, full or short commit id), else of `branch`,
 * else of `head`. */
int refs_resolve(const char *git_dir, const char *head, const char *branch, const char *ref,
                 char ret_commit[65], char ret_branch[256], struct err *err);

#endif
