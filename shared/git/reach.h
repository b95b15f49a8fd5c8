/*
 * Makes files that their owner has made unreadable committable, and removes what would block a
 * reader.
 *
 * Threads: one at a time.
 */
#ifndef GIT_REACH_H
#define GIT_REACH_H

#include <stdbool.h>

/* True when nothing can be said of the path because a directory on its way is closed. */
bool reach_is_hidden(const char *dir, const char *path);

/* Gives us, who own them, the right to read files and to enter directories below `dir` and `dir`
 * itself; of .git only the directory. No link is followed. Returns how many were closed. */
int reach_open(const char *dir);

/* Removes what would hold a reader of git's own files for ever: fifos, sockets and devices below
 * `dir` whose names, or a directory's on the way, begin with ".git", and links to such things. None
 * of them can be in a commit. Returns how many there were. */
int reach_unblock(const char *dir);

#endif
