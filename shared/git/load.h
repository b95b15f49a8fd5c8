/*
 * libgit2, loaded when it is first needed: only the helper process uses it, and with its own
 * libraries it would burden the daemon and every start. Private to shared/git. Files that include
 * this call libgit2's functions by their usual names; a function that is not in the list below does
 * not link.
 *
 * Threads: call git_load() while there is one thread; the functions from any.
 */
#ifndef GIT_LOAD_H
#define GIT_LOAD_H

#include "base/err.h"

#include <git2.h>

/* clang-format off */
#define GIT_FUNCTIONS(X) \
    X(git_blob_create_from_workdir) \
    X(git_buf_dispose) \
    X(git_cherrypick_commit) \
    X(git_commit_author) \
    X(git_commit_committer) \
    X(git_commit_create) \
    X(git_commit_free) \
    X(git_commit_id) \
    X(git_commit_lookup) \
    X(git_commit_message) \
    X(git_commit_message_encoding) \
    X(git_commit_parent) \
    X(git_commit_parentcount) \
    X(git_commit_time) \
    X(git_commit_tree) \
    X(git_commit_tree_id) \
    X(git_config_free) \
    X(git_config_get_string) \
    X(git_config_open_ondisk) \
    X(git_config_snapshot) \
    X(git_diff_free) \
    X(git_diff_get_delta) \
    X(git_diff_num_deltas) \
    X(git_diff_options_init) \
    X(git_diff_tree_to_workdir_with_index) \
    X(git_error_last) \
    X(git_index_add) \
    X(git_index_conflict_iterator_free) \
    X(git_index_conflict_iterator_new) \
    X(git_index_conflict_next) \
    X(git_index_conflict_remove) \
    X(git_index_free) \
    X(git_index_has_conflicts) \
    X(git_index_new) \
    X(git_index_read_tree) \
    X(git_index_remove) \
    X(git_index_write_tree_to) \
    X(git_libgit2_init) \
    X(git_libgit2_opts) \
    X(git_merge_options_init) \
    X(git_object_free) \
    X(git_object_id) \
    X(git_object_peel) \
    X(git_oid_equal) \
    X(git_oid_fromstr) \
    X(git_oid_is_zero) \
    X(git_oid_tostr) \
    X(git_packbuilder_foreach) \
    X(git_packbuilder_free) \
    X(git_packbuilder_insert) \
    X(git_packbuilder_insert_walk) \
    X(git_packbuilder_new) \
    X(git_packbuilder_object_count) \
    X(git_patch_free) \
    X(git_patch_from_diff) \
    X(git_patch_get_delta) \
    X(git_patch_line_stats) \
    X(git_patch_to_buf) \
    X(git_reference_create) \
    X(git_reference_free) \
    X(git_reference_lookup) \
    X(git_reference_name_to_id) \
    X(git_reference_peel) \
    X(git_reference_symbolic_target) \
    X(git_reference_type) \
    X(git_repository_config) \
    X(git_repository_free) \
    X(git_repository_init) \
    X(git_repository_open_bare) \
    X(git_repository_open_ext) \
    X(git_revparse_single) \
    X(git_revwalk_add_hide_cb) \
    X(git_revwalk_free) \
    X(git_revwalk_hide) \
    X(git_revwalk_new) \
    X(git_revwalk_next) \
    X(git_revwalk_push_head) \
    X(git_signature_free) \
    X(git_signature_now) \
    X(git_tree_entry_byindex) \
    X(git_tree_entry_byname) \
    X(git_tree_entry_id) \
    X(git_tree_entry_name) \
    X(git_tree_entry_type) \
    X(git_tree_entrycount) \
    X(git_tree_free) \
    X(git_tree_id) \
    X(git_tree_lookup)
/* clang-format on */

struct git_functions {
#define GIT_MEMBER(name) __typeof__(&(name)) name;
    GIT_FUNCTIONS(GIT_MEMBER)
#undef GIT_MEMBER
};

extern struct git_functions git_functions;

/* Once per process, before any other call. */
int git_load(struct err *err);

#ifndef GIT_LOAD_ITSELF
/* clang-format off */
#define git_blob_create_from_workdir git_functions.git_blob_create_from_workdir
#define git_buf_dispose git_functions.git_buf_dispose
#define git_cherrypick_commit git_functions.git_cherrypick_commit
#define git_commit_author git_functions.git_commit_author
#define git_commit_committer git_functions.git_commit_committer
#define git_commit_create git_functions.git_commit_create
#define git_commit_free git_functions.git_commit_free
#define git_commit_id git_functions.git_commit_id
#define git_commit_lookup git_functions.git_commit_lookup
#define git_commit_message git_functions.git_commit_message
#define git_commit_message_encoding git_functions.git_commit_message_encoding
#define git_commit_parent git_functions.git_commit_parent
#define git_commit_parentcount git_functions.git_commit_parentcount
#define git_commit_time git_functions.git_commit_time
#define git_commit_tree git_functions.git_commit_tree
#define git_commit_tree_id git_functions.git_commit_tree_id
#define git_config_free git_functions.git_config_free
#define git_config_get_string git_functions.git_config_get_string
#define git_config_open_ondisk git_functions.git_config_open_ondisk
#define git_config_snapshot git_functions.git_config_snapshot
#define git_diff_free git_functions.git_diff_free
#define git_diff_get_delta git_functions.git_diff_get_delta
#define git_diff_num_deltas git_functions.git_diff_num_deltas
#define git_diff_options_init git_functions.git_diff_options_init
#define git_diff_tree_to_workdir_with_index git_functions.git_diff_tree_to_workdir_with_index
#define git_error_last git_functions.git_error_last
#define git_index_add git_functions.git_index_add
#define git_index_conflict_iterator_free git_functions.git_index_conflict_iterator_free
#define git_index_conflict_iterator_new git_functions.git_index_conflict_iterator_new
#define git_index_conflict_next git_functions.git_index_conflict_next
#define git_index_conflict_remove git_functions.git_index_conflict_remove
#define git_index_free git_functions.git_index_free
#define git_index_has_conflicts git_functions.git_index_has_conflicts
#define git_index_new git_functions.git_index_new
#define git_index_read_tree git_functions.git_index_read_tree
#define git_index_remove git_functions.git_index_remove
#define git_index_write_tree_to git_functions.git_index_write_tree_to
#define git_libgit2_init git_functions.git_libgit2_init
#define git_libgit2_opts git_functions.git_libgit2_opts
#define git_merge_options_init git_functions.git_merge_options_init
#define git_object_free git_functions.git_object_free
#define git_object_id git_functions.git_object_id
#define git_object_peel git_functions.git_object_peel
#define git_oid_equal git_functions.git_oid_equal
#define git_oid_fromstr git_functions.git_oid_fromstr
#define git_oid_is_zero git_functions.git_oid_is_zero
#define git_oid_tostr git_functions.git_oid_tostr
#define git_packbuilder_foreach git_functions.git_packbuilder_foreach
#define git_packbuilder_free git_functions.git_packbuilder_free
#define git_packbuilder_insert git_functions.git_packbuilder_insert
#define git_packbuilder_insert_walk git_functions.git_packbuilder_insert_walk
#define git_packbuilder_new git_functions.git_packbuilder_new
#define git_packbuilder_object_count git_functions.git_packbuilder_object_count
#define git_patch_free git_functions.git_patch_free
#define git_patch_from_diff git_functions.git_patch_from_diff
#define git_patch_get_delta git_functions.git_patch_get_delta
#define git_patch_line_stats git_functions.git_patch_line_stats
#define git_patch_to_buf git_functions.git_patch_to_buf
#define git_reference_create git_functions.git_reference_create
#define git_reference_free git_functions.git_reference_free
#define git_reference_lookup git_functions.git_reference_lookup
#define git_reference_name_to_id git_functions.git_reference_name_to_id
#define git_reference_peel git_functions.git_reference_peel
#define git_reference_symbolic_target git_functions.git_reference_symbolic_target
#define git_reference_type git_functions.git_reference_type
#define git_repository_config git_functions.git_repository_config
#define git_repository_free git_functions.git_repository_free
#define git_repository_init git_functions.git_repository_init
#define git_repository_open_bare git_functions.git_repository_open_bare
#define git_repository_open_ext git_functions.git_repository_open_ext
#define git_revparse_single git_functions.git_revparse_single
#define git_revwalk_add_hide_cb git_functions.git_revwalk_add_hide_cb
#define git_revwalk_free git_functions.git_revwalk_free
#define git_revwalk_hide git_functions.git_revwalk_hide
#define git_revwalk_new git_functions.git_revwalk_new
#define git_revwalk_next git_functions.git_revwalk_next
#define git_revwalk_push_head git_functions.git_revwalk_push_head
#define git_signature_free git_functions.git_signature_free
#define git_signature_now git_functions.git_signature_now
#define git_tree_entry_byindex git_functions.git_tree_entry_byindex
#define git_tree_entry_byname git_functions.git_tree_entry_byname
#define git_tree_entry_id git_functions.git_tree_entry_id
#define git_tree_entry_name git_functions.git_tree_entry_name
#define git_tree_entry_type git_functions.git_tree_entry_type
#define git_tree_entrycount git_functions.git_tree_entrycount
#define git_tree_free git_functions.git_tree_free
#define git_tree_id git_functions.git_tree_id
#define git_tree_lookup git_functions.git_tree_lookup
/* clang-format on */
#endif

#endif
