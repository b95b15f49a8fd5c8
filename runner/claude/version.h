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
 * say it within a few seconds. It is asked again when its file has changed, or a while after it did
 * not say it, by one caller at a time; others get what is known. */
char *claude_version(const struct claude *claude, char ret_version[CLAUDE_VERSION_SIZE]);

enum claude_cli_state {
    CLAUDE_CLI_UNKNOWN, /* it was not asked yet */
    CLAUDE_CLI_MISSING, /* CLAUDE_BIN means no program that may be run */
    CLAUDE_CLI_BROKEN,  /* it did not say its version when it was last asked */
    CLAUDE_CLI_WORKS,
};

/* What is known; the CLI is not started for this. */
enum claude_cli_state claude_cli_state(const struct claude *claude);

/* Asks the CLI from time to time: when its file has changed, and again while it does not start. */
struct claude_watch;
struct claude_watch *claude_watch_start(const struct claude *claude, struct err *err);
void claude_watch_stop(struct claude_watch *watch);

/* True for a version that keeps a conversation's first system prompt unless it is told not to, by
 * --system-prompt-snapshot. */
bool claude_version_keeps_prompts(const char *version);

/* False for a version before the oldest or after the newest one that is tested, or for no version.
 */
bool claude_version_is_tested(const char *version);

#endif
