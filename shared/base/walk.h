/*
 * Every file below a directory that others may have written: no link is followed.
 *
 * Threads: no shared state.
 */
#ifndef BASE_WALK_H
#define BASE_WALK_H

#include <sys/stat.h>

#define WALK_DEPTH_MAX 100
#define WALK_PATH_BYTES_MAX 4096

/* A regular file: `name` in the open directory `dir`, `path` from where the walk began. Non-zero
 * ends the walk. */
typedef int walk_fn(int dir, const char *name, const char *path, const struct stat *st, void *arg);

/* Calls fn for every regular file below the open directory, which it takes over. Deeper and longer
 * than the maximum is passed over. Returns what fn returned last, or -1 when the directory cannot
 * be read. */
int walk_files(int dir, walk_fn *fn, void *arg);
/* The same for directories, before what is in them, and for links, too. */
int walk_tree(int dir, walk_fn *fn, void *arg);

#endif
