/*
 * What all of shared/git that uses libgit2 shares. Private to shared/git.
 *
 * Threads: any, after lib_start().
 */
#ifndef GIT_LIB_H
#define GIT_LIB_H

#include "base/auto.h"
#include "base/err.h"
#include "git/load.h"

#include <stdint.h>
#include <sys/types.h>

/* Once per process: no configuration but a repository's own, repositories of any owner. */
int lib_start(struct err *err);

/* Copies libgit2's error. A damaged repository is ERR_MISMATCH. Returns -1. */
int lib_err(struct err *err, const char *what);

/* Files made from here on belong to that user, while root's rights to read stay; 0 ends it. Does
 * nothing when we are not root. */
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
