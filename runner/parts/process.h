/*
 * What the long-lived programs among our commands have in common as processes.
 *
 * Threads: called from main() before there are any; process_signal() by that thread, then, too.
 */
#ifndef PARTS_PROCESS_H
#define PARTS_PROCESS_H

#include "base/redact.h"
#include "runner/config/config.h"

/* Limits, memory, the mask of new files; SIGTERM, SIGINT and SIGHUP wait for process_signal(). */
void process_settle(void);

/* The next of those signals within timeout_ms (-1: whenever), or 0. */
int process_signal(int timeout_ms);

/* The log goes to stderr, in the form that the configuration or what reads there asks for: text on
 * a terminal, text with priorities to journald, else JSON. */
void process_open_log(const struct config *config, struct redact_set *secrets);

#define PROCESS_LOG_BYTES (16 << 20)
/* Where stderr is a file that is appended to and has grown past `max_bytes`: it becomes "NAME.1",
 * in the place of the one before, and a new one follows it. Nobody else rotates such a file. */
void process_rotate_log(int64_t max_bytes);

#endif
