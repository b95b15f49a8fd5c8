/*
 * git's index file, as far as it says what the files of a tree look like to stat(2): what git
 * compares before it reads a file.
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

/* Looks at one entry: 1 and *ret_st what the entry gets, 0 to leave it, -1 with errno. */
typedef int index_visit(const char *path, uint32_t mode, struct stat *ret_st, void *arg);

/* Calls `visit` for every entry, in the index's order (a directory's entries follow each other),
 * and writes the file anew. Version 2 or 3; ERR_MISMATCH for anything else. */
int index_rewrite(const char *file, index_visit *visit, void *arg, struct err *err);

#endif
