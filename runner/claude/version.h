/*
 * Which Claude Code this is: the program that CLAUDE_BIN means, and what it says of its version.
 *
 * Threads: any.
 */
#ifndef CLAUDE_VERSION_H
#define CLAUDE_VERSION_H

#include "runner/claude/claude.h"

#define CLAUDE_VERSION_SIZE 64

/* The versions that the tests run with: tests/cli/2.1.197 and tests/cli. */
#define CLAUDE_OLDEST_TESTED "2.1.197"
#define CLAUDE_NEWEST_TESTED "2.1.332"

/* The program's path (free() it), or NULL when there is none, and its version, "" when it does not
 * say it within a few seconds. It is asked again when its file has changed, by one caller at a
 * time; others get what is known. */
char *claude_version(const struct claude *claude, char ret_version[CLAUDE_VERSION_SIZE]);

/* True when CLAUDE_BIN means a program that may be run; it is not started for this. */
bool claude_is_there(const struct claude *claude);

/* True for a version that keeps a conversation's first system prompt unless it is told not to, by
 * --system-prompt-snapshot. */
bool claude_version_keeps_prompts(const char *version);

/* False for a version before the oldest or after the newest one that is tested, or for no version.
 */
bool claude_version_is_tested(const char *version);

#endif
