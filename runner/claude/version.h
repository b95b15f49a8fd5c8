/*
 * Which Claude Code this is: the program that CLAUDE_BIN means, and what it says of its version.
 *
 * Threads: any.
 */
#ifndef CLAUDE_VERSION_H
#define CLAUDE_VERSION_H

#include "runner/claude/claude.h"

#define CLAUDE_VERSION_SIZE 64

/* The program's path (free() it), or NULL when there is none, and its version, "" when it does not
 * say it within a few seconds. It is asked again when its file has changed, by one caller at a
 * time; others get what is known. */
char *claude_version(const struct claude *claude, char ret_version[CLAUDE_VERSION_SIZE]);

#endif
