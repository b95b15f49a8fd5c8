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

/* The log goes to stderr, in the form that the configuration or what reads there asks for. */
void process_open_log(const struct config *config, struct redact_set *secrets);

#endif
