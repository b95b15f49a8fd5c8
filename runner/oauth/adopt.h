/*
 * Replaces the old login by a new one. Private to runner/oauth.
 *
 * The CLI drops the old login as soon as it has a token, and only then finds out what else it
 * needs: a failure or a kill in between would leave nobody logged in. So it logs in with a
 * directory of its own, and the complete login is then taken over from there.
 *
 * Threads: any; the CLI's lock admits one at a time.
 */
#ifndef OAUTH_ADOPT_H
#define OAUTH_ADOPT_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Copies the login in the file `from` into the credentials in `to`, whose other members and owner
 * stay; holds the CLI's lock meanwhile. *stop ends the wait for that lock. ERR_UPSTREAM when `from`
 * holds no login. */
int adopt_login(const char *from, const char *to, const _Atomic bool *stop, struct err *err);

#endif
