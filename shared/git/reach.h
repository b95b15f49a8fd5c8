/*
 * Makes files committable that their owner has made unreadable, and removes what would block a
 * reader.
 *
 * Threads: one at a time.
 */
#ifndef GIT_REACH_H
#define GIT_REACH_H

#include <stdbool.h>

/* True when a directory on the way to the path is closed, so that the path's state is unknown. */
bool reach_is_hidden(const char *dir, const char *path);

/* Gives the owner (the calling user) the right to read files and enter directories, in `dir` and
 * below; of .git only the directory itself. No link is followed. Returns how many entries were
 * closed before. */
int reach_open(const char *dir);

/* Removes what would block a reader of git's own files for ever: fifos, sockets and devices below
 * `dir` whose names, or the name of a directory on the way, begin with ".git", and links to such
 * things. None of them can be in a commit. Returns how many there were. */
int reach_unblock(const char *dir);

#endif
