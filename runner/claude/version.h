/*
 * The installed Claude Code: the program that CLAUDE_BIN names, and its version.
 *
 * Threads: any. Ownership: the caller frees the path of claude_version() and stops a watch by
 * claude_watch_stop().
 */
#ifndef CLAUDE_VERSION_H
#define CLAUDE_VERSION_H

#include "runner/claude/claude.h"

#define CLAUDE_VERSION_SIZE 64

/* The versions that the tests run with: tests/cli/2.1.197 and tests/cli. */
#define CLAUDE_OLDEST_TESTED "2.1.197"
#define CLAUDE_NEWEST_TESTED "2.1.332"

#define CLAUDE_WORDS_SIZE 200

/* The program's path, which the caller frees, or NULL when there is none; and its version, "" when
 * it does not print one within a few seconds, in a jail like that of tasks. It is asked again when
 * its file has changed, or a while after it did not answer, by one caller at a time; others get the
 * last answer. */
char *claude_version(const struct claude *claude, char ret_version[CLAUDE_VERSION_SIZE]);

enum claude_cli_state {
    CLAUDE_CLI_UNKNOWN, /* it was not asked yet */
    CLAUDE_CLI_MISSING, /* CLAUDE_BIN names no executable program */
    CLAUDE_CLI_BROKEN,  /* it did not print its version when it was last asked */
    CLAUDE_CLI_WORKS,
};

/* The last answer; the CLI is not started for this. */
enum claude_cli_state claude_cli_state(const struct claude *claude);

/* What the CLI, or the launcher in its place, said when it last did not print its version: one
 * line, "" for nothing. */
void claude_cli_words(char ret_words[CLAUDE_WORDS_SIZE]);

/* Asks the CLI from time to time: when its file has changed, and again while it does not start. */
struct claude_watch;
struct claude_watch *claude_watch_start(const struct claude *claude, struct err *err);
void claude_watch_stop(struct claude_watch *watch);

/* True for a version that keeps a conversation's first system prompt unless it is told not to, by
 * --system-prompt-snapshot. */
bool claude_version_keeps_prompts(const char *version);

/* False for no version, and for one before the oldest or after the newest that is tested. */
bool claude_version_is_tested(const char *version);

#endif
