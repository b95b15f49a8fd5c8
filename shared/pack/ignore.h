/*
 * Decides which files a tree's .gitignore files leave out, by git's rules: the deepest file and the
 * last pattern that match decide, "!" includes again, "/" at the end means directories only, a "/"
 * elsewhere ties the pattern to the file's own directory. `.git` itself is always left out.
 *
 * Threads: one at a time.
 */
#ifndef PACK_IGNORE_H
#define PACK_IGNORE_H

#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>

struct ignore {
    struct strlist patterns; /* "path of the directory", NUL-free, then the pattern: in pairs */
};

void ignore_done(struct ignore *ignore);

/* Reads the .gitignore of the open directory whose path in the tree is `path` ("" for the root). A
 * missing file is no error. */
int ignore_enter(struct ignore *ignore, int dir, const char *path, struct err *err);
/* Forgets the patterns that were read after there were `count` strings. */
void ignore_leave(struct ignore *ignore, size_t count);

/* True when the file or directory of that path in the tree is left out. */
bool ignore_match(const struct ignore *ignore, const char *path, bool is_directory);

#endif
