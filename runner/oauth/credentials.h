/*
 * A Claude login as the CLI keeps it: the text of .credentials.json, read and rewritten.
 *
 * Threads: no shared state.
 */
#ifndef OAUTH_CREDENTIALS_H
#define OAUTH_CREDENTIALS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGIN_FILE_MAX (1u << 20)

/* X(name, wire name, sentence): what can be the matter with a login. */
#define LOGIN_STATES(X)                                                                            \
    X(LOGIN_OK, "", "")                                                                            \
    X(LOGIN_MISSING, "missing", "OAuth login needed: there is no credentials file")                \
    X(LOGIN_UNREADABLE, "unreadable", "OAuth login unusable: the credentials file cannot be read") \
    X(LOGIN_MALFORMED, "malformed", "OAuth login unusable: the credentials file is malformed")     \
    X(LOGIN_EXPIRED, "expired", "OAuth login needed: the token has expired")                       \
    X(LOGIN_REFUSED, "refused", "OAuth login needed: the login is no longer accepted")

enum login_state {
#define LOGIN_STATE_ENUM(name, wire, sentence) name,
    LOGIN_STATES(LOGIN_STATE_ENUM)
#undef LOGIN_STATE_ENUM
};

const char *login_state_name(enum login_state state);
const char *login_state_sentence(enum login_state state);

/* What a file's text holds. Owned; wiped by login_done(). */
struct login {
    char *access_token; /* NULL: the text is malformed */
    char *refresh_token;
    int64_t expires_ms;       /* 0: not said */
    int64_t login_expires_ms; /* when the login itself ends, with its refresh token; 0: not said */
    char *subscription;
    char *scopes; /* space separated */
};

/* Reads any bytes; a text that is no login gives an empty one. */
void login_parse(const char *text, size_t len, struct login *ret_login);
void login_done(struct login *login);
static inline void auto_login(struct login *login)
{
    login_done(login);
}

/* What a refresh brought. */
struct login_tokens {
    const char *access_token;
    const char *refresh_token; /* NULL: the old one stays */
    int64_t expires_ms;        /* 0: not said */
    int64_t login_expires_ms;  /* 0: not said */
};

/* Appends the text with the new tokens in it and everything else as it was. */
int login_rewrite(const char *text, size_t len, const struct login_tokens *tokens, struct buf *out,
                  struct err *err);

#endif
