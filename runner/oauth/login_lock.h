/*
 * The lock by which Claude Code's CLIs agree who refreshes a login: the directory
 * .oauth_refresh.lock beside the credentials. The process that makes it holds it, renews its time
 * stamp every few seconds, and removes it; one that is not renewed was left by a dead process.
 * Private to runner/oauth.
 *
 * Threads: any; a lock is used by the thread that took it. A thread of its own renews it.
 * Ownership: login_lock_drop() frees a lock.
 */
#ifndef OAUTH_LOGIN_LOCK_H
#define OAUTH_LOGIN_LOCK_H

#include "base/auto.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

struct login_lock;

/* Takes the lock that guards the file `path`; waits about 40 s for its holder. NULL with ERR_BUSY
 * after that time, or when *stop (NULL: none) became true. */
struct login_lock *login_lock_take(const char *path, const _Atomic bool *stop, struct err *err);

/* False when another process took it for abandoned and removed it. */
bool login_lock_is_ours(const struct login_lock *lock);

void login_lock_drop(struct login_lock *lock);
DEFINE_AUTO(login_lock, struct login_lock *, login_lock_drop)

#endif
