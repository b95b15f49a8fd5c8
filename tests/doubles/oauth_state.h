/*
 * What the token server of a test knows: codes, tokens, counts, and the faults it shall show.
 *
 * Threads: any. Ownership: returned JSON is the caller's.
 */
#ifndef DOUBLES_OAUTH_STATE_H
#define DOUBLES_OAUTH_STATE_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#define OAUTH_CLIENT_ID "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
#define OAUTH_REDIRECT "https://platform.claude.com/oauth/code/callback"

void oauth_state_init(void);

/* A new code for a checked authorization request: {"code","state","paste":"CODE#STATE"}. With a
 * state of "" one is made up, and the code is good with any. */
cJSON *oauth_grant(const char *challenge, const char *state, const char *scope);

/* Uses up the code. NULL and the OAuth error's description in *ret_fault when it is not good. */
cJSON *oauth_redeem(const cJSON *body, const char **ret_fault);

/* Uses up the refresh token of the body, likewise. */
cJSON *oauth_renew(const cJSON *body, const char **ret_fault);

/* True for a token that was given out (or set) and is the login's last. */
bool oauth_accepts(const char *access_token);

/* The next fault planned for this path and grant type ("" when there is none); NULL when it shall
 * be served as usual. */
cJSON *oauth_fault(const char *path, const char *grant);

/* What /_control takes and shows; see oauth_server.c. */
cJSON *oauth_control(const cJSON *change);

#endif
