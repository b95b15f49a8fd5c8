/*
 * What our long-lived programs have in common as processes.
 *
 * Threads: called from main() before there are any; process_signal() later too, by the same thread.
 */
#ifndef PARTS_PROCESS_H
#define PARTS_PROCESS_H

#include "base/redact.h"
#include "runner/config/config.h"

/* Sets limits, memory and the umask; from now on SIGTERM, SIGINT and SIGHUP wait for
 * process_signal(). */
void process_settle(void);

/* The next of those signals within timeout_ms (-1: no limit), or 0. */
int process_signal(int timeout_ms);

/* Opens the log on stderr, in the configured form or the one that fits its reader: text on a
 * terminal, text with priorities for journald, else JSON. */
void process_open_log(const struct config *config, struct redact_set *secrets);

#define PROCESS_LOG_BYTES (16 << 20)
/* Rotates the log when stderr is a file that is appended to and is larger than `max_bytes`: renames
 * it to "NAME.1", which replaces an earlier one, and begins a new file. Nobody else rotates it. */
void process_rotate_log(int64_t max_bytes);

#endif
