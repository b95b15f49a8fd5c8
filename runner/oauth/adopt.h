/*
 * Puts a new login in the place of the old one. Private to runner/oauth.
 *
 * The CLI forgets the old login as soon as it has a token, and only then finds out what else it
 * needs: what fails in between, or is killed, leaves nobody logged in. So it logs in at a place of
 * its own, and what it wrote there is taken over whole.
 *
 * Threads: any; the CLI's lock lets one at a time through.
 */
#ifndef OAUTH_ADOPT_H
#define OAUTH_ADOPT_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Makes the login in the file `from` that of the credentials in `to`, whose other members and owner
 * stay; under the CLI's lock. *stop ends the wait for that. ERR_UPSTREAM when there is none. */
int adopt_login(const char *from, const char *to, const _Atomic bool *stop, struct err *err);

#endif
