/*
 * The system prompt of SYSTEM_PROMPT_SECRET. Secret Manager is asked regularly for the newest
 * version, whose text is stored in a file and read as SYSTEM_PROMPT_FILE would be. When it cannot
 * be read, or is not text, the log says so once; the last valid text stays, also over restarts.
 *
 * Threads: one of its own; the functions are for the daemon's. Ownership: prompt_watch_stop() frees
 * the watch.
 */
#ifndef OVERFLOW_PROMPT_H
#define OVERFLOW_PROMPT_H

#include "runner/overflow/folder.h"

struct prompt_watch;

/* Starts the watch. The name of the secret is full, or within the project of the configuration or
 * the credentials. Asks once before it returns, for a moment at most. */
struct prompt_watch *prompt_watch_start(const struct config *config, struct err *err);
void prompt_watch_stop(struct prompt_watch *watch);

/* The path of the text's file, which may not exist yet. */
const char *prompt_watch_path(const struct prompt_watch *watch);
/* True once there is a text, from this start or an earlier one. */
bool prompt_watch_has_text(const struct prompt_watch *watch);
/* True when Secret Manager gave no usable text when it was last asked. */
bool prompt_watch_fails(struct prompt_watch *watch);

#endif
