/*
 * The other side of call.h: `claude-runner git` reads a job from stdin, does it, and writes the
 * answer to stdout. Single-threaded, short-lived, and safe to kill at any time.
 *
 * Threads: none; a program of its own.
 */
#ifndef REPO_HELPER_H
#define REPO_HELPER_H

/* Returns the exit status. */
int helper_serve(void);

#endif
