/*
 * The system prompt of SYSTEM_PROMPT_SECRET: Secret Manager is asked now and then for the newest
 * version, whose text is kept as a file and read as SYSTEM_PROMPT_FILE would be. What cannot be
 * had, or is no text, is told in the log, once; the last good one stays, over restarts too.
 *
 * Threads: one of its own; the functions are for the daemon's.
 */
#ifndef OVERFLOW_PROMPT_H
#define OVERFLOW_PROMPT_H

#include "runner/overflow/folder.h"

struct prompt_watch;

/* The name of the secret is whole or within the project of the configuration, or of the
 * credentials. Asks once before it returns, for a moment at most. */
struct prompt_watch *prompt_watch_start(const struct config *config, struct err *err);
void prompt_watch_stop(struct prompt_watch *watch);

/* Where the text is, or will be. */
const char *prompt_watch_path(const struct prompt_watch *watch);
/* True once there is one, of this start or an earlier one. */
bool prompt_watch_has_text(const struct prompt_watch *watch);
/* True when Secret Manager did not give a usable one when it was last asked. */
bool prompt_watch_fails(struct prompt_watch *watch);

#endif
