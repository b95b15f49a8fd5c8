/*
 * Visits every file below a directory that others may have written. No link is followed.
 *
 * Threads: no shared state.
 */
#ifndef BASE_WALK_H
#define BASE_WALK_H

#include <stdbool.h>
#include <sys/stat.h>

#define WALK_DEPTH_MAX 100
#define WALK_PATH_BYTES_MAX 4096

/* Called for a regular file: `name` in the open directory `dir`, `path` relative to the start of
 * the walk. A result other than 0 ends the walk. */
typedef int walk_fn(int dir, const char *name, const char *path, const struct stat *st, void *arg);

/* Calls fn for every regular file below the open directory `dir`, and closes `dir`. Files that are
 * deeper or have longer paths than the maximum are skipped. Returns what fn returned last, or -1
 * when the directory cannot be read. */
int walk_files(int dir, walk_fn *fn, void *arg);
/* The same for directories, before what is in them, and for links, too. *ret_skipped: something was
 * too deep or had too long a path. */
int walk_tree(int dir, walk_fn *fn, void *arg, bool *ret_skipped);

#endif
