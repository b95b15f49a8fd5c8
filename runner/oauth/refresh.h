/*
 * One refresh of the login: takes the CLI's lock, asks the token server, writes the file. Private
 * to runner/oauth.
 *
 * Threads: one refresh at a time; the keeper sees to that.
 */
#ifndef OAUTH_REFRESH_H
#define OAUTH_REFRESH_H

#include "runner/config/config.h"
#include "runner/oauth/credentials.h"

#include <stdatomic.h>

enum refresh_result {
    REFRESH_DONE,    /* the file holds a new token, ours or somebody else's */
    REFRESH_REFUSED, /* the refresh token is of no use any more */
    REFRESH_FAILED,  /* try again later */
    REFRESH_RESULTS,
};

struct refresh {
    const struct config *config;
    const char *path;         /* of the credentials file */
    const char *old_token;    /* only while the file holds this one; NULL: in any case */
    const _Atomic bool *stop; /* NULL, or: give up waiting for the lock */
};

/* *ret_refused, with REFRESH_REFUSED, is the refresh token that was refused; the caller wipes and
 * frees it. */
enum refresh_result refresh_login(const struct refresh *refresh, char **ret_refused,
                                  struct err *err);

#endif
