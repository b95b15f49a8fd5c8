/* One refresh: the CLI's lock, the request, the file. Private to runner/oauth. */
#ifndef OAUTH_REFRESH_H
#define OAUTH_REFRESH_H

#include "runner/config/config.h"
#include "runner/oauth/login.h"

enum refresh_result {
    REFRESH_DONE,    /* the file holds a new token, ours or somebody else's */
    REFRESH_REFUSED, /* the refresh token is of no use any more */
    REFRESH_FAILED,  /* try again later */
};

/* Refreshes the login in `path` unless its token is no longer `old_token` (NULL: in any case). */
enum refresh_result refresh_login(const struct config *config, const char *path,
                                  const char *old_token, struct err *err);

/* Renews the lock that a refresh_login() on another thread holds: an old one counts as left over.
 */
void refresh_touch_lock(const char *path);

#endif
