/*
 * Connects this terminal to one of a session's, over a WebSocket.
 *
 * Threads: one; changes the terminal's mode and the handling of signals while it runs.
 */
#ifndef CLIENT_SESSION_ATTACH_H
#define CLIENT_SESSION_ATTACH_H

#include "base/err.h"
#include "runner/client/settings.h"

/* Runs until the terminal's shell ends (returns its exit status), or the user leaves (0). `shell`
 * may be NULL. -1 with err. */
int attach_terminal(const struct settings *to, const char *session, const char *shell,
                    struct err *err);

#endif
