/*
 * The lock by which Claude Code's CLIs agree who refreshes a login: the directory
 * .oauth_refresh.lock beside the credentials. Whoever makes it holds it, renews its time stamp
 * every few seconds, and removes it; one that nobody renews was left by a process that died.
 * Private to runner/oauth.
 *
 * Threads: any; a lock belongs to one. A thread of its own renews it.
 */
#ifndef OAUTH_CLI_LOCK_H
#define OAUTH_CLI_LOCK_H

#include "base/auto.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

struct cli_lock;

/* Takes the lock that guards the file `path`, waiting some 40 s for who holds it. NULL with
 * ERR_BUSY when that was not enough, or when *stop (NULL: none) became true. */
struct cli_lock *cli_lock_take(const char *path, const _Atomic bool *stop, struct err *err);

/* False when somebody took it for left over and removed it. */
bool cli_lock_is_ours(const struct cli_lock *lock);

void cli_lock_drop(struct cli_lock *lock);
DEFINE_AUTO(cli_lock, struct cli_lock *, cli_lock_drop)

#endif
