/*
 * git's index file: its record of what stat(2) says about the files of a tree, which git compares
 * before it reads a file.
 *
 * Threads: one at a time.
 */
#ifndef GIT_INDEX_H
#define GIT_INDEX_H

#include "base/err.h"

#include <stdint.h>
#include <sys/stat.h>

#define INDEX_MODE_LINK 0120000
#define INDEX_MODE_SUBMODULE 0160000

/* Looks at one entry. Returns 1 with the entry's new values in *ret_st, 0 to leave it, or -1 with
 * errno. */
typedef int index_visit(const char *path, uint32_t mode, struct stat *ret_st, void *arg);

/* Calls `visit` for every entry, in the index's order (a directory's entries follow each other),
 * and writes the file anew. Version 2 or 3; ERR_MISMATCH for anything else. */
int index_rewrite(const char *file, index_visit *visit, void *arg, struct err *err);

#endif
