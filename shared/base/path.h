/*
 * Paths: joining, checking, making and removing trees.
 *
 * Threads: no shared state.
 * Ownership: the caller frees returned paths.
 */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* dir + "/" + name in fresh memory, or NULL when memory ran out. */
char *path_join(const char *dir, const char *name);

/* True for a relative path that stays where it starts: no empty, '.' or '..' parts, no leading
 * '/', no control characters. Says nothing of symbolic links. */
bool path_is_inside(const char *path);

/* Makes a directory and its missing parents. An existing one is fine and keeps its mode. */
int path_make_dirs(const char *path, mode_t mode, struct err *err);

/* Tells the file system that the directories in this one have nothing to do with each other, so
 * that ext4 spreads them over the disk. Useful where many are made and removed again: ext4 without
 * a journal does not reuse an inode for a minute, and passes over all those in the same region, one
 * by one, for each new file. Other file systems ignore it. */
void path_spread(const char *path);

/* Removes a tree and what it holds: directories without permissions, paths longer than PATH_MAX,
 * thousands of levels; links are removed, never followed; mount points are not crossed.
 * A missing path is fine. */
int path_remove_tree(const char *path, struct err *err);

/* Exchanges two paths of one file system. Returns 0, or -1 with errno. Where the file system cannot
 * do so in one step (gVisor's), a crash may leave only `fresh`. */
int path_exchange(const char *fresh, const char *place);

/* chown of one path, not following a link. */
int path_own(const char *path, uid_t uid, gid_t gid, struct err *err);

/* Makes base/below level by level, with mode 0700 and this owner. `base` is a directory that nobody
 * else can reach yet. What exists is left unchanged. */
int path_make_owned(const char *base, const char *below, uid_t uid, gid_t gid, struct err *err);

/* Finds an executable as a shell would: a name with '/' as it is, else along `search` (PATH's
 * form). NULL when there is none. */
char *path_find_program(const char *name, const char *search);

#endif
