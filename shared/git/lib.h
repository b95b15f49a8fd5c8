/*
 * What all files of shared/git that use libgit2 share. Private to shared/git.
 *
 * Threads: any, after lib_start(). Ownership: the AUTO kinds below free libgit2's objects.
 */
#ifndef GIT_LIB_H
#define GIT_LIB_H

#include "base/auto.h"
#include "base/err.h"
#include "git/load.h"

#include <stdint.h>
#include <sys/types.h>

/* Call once per process. Sets libgit2 up: it reads no configuration except a repository's own, and
 * opens repositories of any owner. */
int lib_start(struct err *err);

/* Copies libgit2's error. A damaged repository is ERR_MISMATCH. Returns -1. */
int lib_err(struct err *err, const char *what);

/* Makes new files belong to that user from now on, while root's rights to read stay; uid 0 ends
 * that. Does nothing when we are not root. */
int lib_act_for(uid_t uid, gid_t gid, struct err *err);

DEFINE_AUTO(git_repository, git_repository *, git_repository_free)
DEFINE_AUTO(git_object, git_object *, git_object_free)
DEFINE_AUTO(git_commit, git_commit *, git_commit_free)
DEFINE_AUTO(git_tree, git_tree *, git_tree_free)
DEFINE_AUTO(git_index, git_index *, git_index_free)
DEFINE_AUTO(git_reference, git_reference *, git_reference_free)
DEFINE_AUTO(git_config, git_config *, git_config_free)
DEFINE_AUTO(git_signature, git_signature *, git_signature_free)
DEFINE_AUTO(git_revwalk, git_revwalk *, git_revwalk_free)
DEFINE_AUTO(git_packbuilder, git_packbuilder *, git_packbuilder_free)
DEFINE_AUTO(git_status_list, git_status_list *, git_status_list_free)

#endif
