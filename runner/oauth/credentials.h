/*
 * A Claude login as the CLI stores it: reads and rewrites the text of .credentials.json.
 *
 * Threads: no shared state. Ownership: struct login owns its texts; login_done() wipes and frees
 * them.
 */
#ifndef OAUTH_CREDENTIALS_H
#define OAUTH_CREDENTIALS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGIN_FILE_MAX (1u << 20)

/* X(name, wire name, sentence): states of a login. */
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

/* The content of a file. */
struct login {
    char *access_token; /* NULL: the text is malformed */
    char *refresh_token;
    int64_t expires_ms;       /* 0: not given */
    int64_t login_expires_ms; /* when the login itself ends, with its refresh token; 0: not given */
    char *subscription;
    char *scopes; /* space separated */
};

/* Reads any bytes; text without a login gives an empty one. */
void login_parse(const char *text, size_t len, struct login *ret_login);
void login_done(struct login *login);
static inline void auto_login(struct login *login)
{
    login_done(login);
}

/* The result of a refresh. */
struct login_tokens {
    const char *access_token;
    const char *refresh_token; /* NULL: the old one stays */
    int64_t expires_ms;        /* 0: not given */
    int64_t login_expires_ms;  /* 0: not given */
};

/* Appends the text with the new tokens and everything else unchanged. */
int login_rewrite(const char *text, size_t len, const struct login_tokens *tokens, struct buf *out,
                  struct err *err);

#endif
