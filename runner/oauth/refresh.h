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
    REFRESH_DONE,    /* the file holds a new token, from here or from another process */
    REFRESH_REFUSED, /* the refresh token has become useless */
    REFRESH_FAILED,  /* try again later */
    REFRESH_RESULTS,
};

struct refresh {
    const struct config *config;
    const char *path;         /* of the credentials file */
    const char *old_token;    /* refresh only while the file holds this token; NULL: in any case */
    const _Atomic bool *stop; /* when true, stops waiting for the lock; or NULL */
};

/* Refreshes the login. With REFRESH_REFUSED, *ret_refused is the refused refresh token, which the
 * caller wipes and frees. */
enum refresh_result refresh_login(const struct refresh *refresh, char **ret_refused,
                                  struct err *err);

#endif
