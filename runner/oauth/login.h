/*
 * The owner's Claude login, as the CLI keeps it in $CLAUDE_CONFIG_DIR/.credentials.json.
 *
 * The file is looked at again when it has changed, so a login made elsewhere counts at once.
 *
 * Threads: any.
 */
#ifndef OAUTH_LOGIN_H
#define OAUTH_LOGIN_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, wire name, sentence): what can be the matter with a login. */
#define LOGIN_STATES(X)                                                                            \
    X(LOGIN_OK, "", "")                                                                            \
    X(LOGIN_MISSING, "missing", "OAuth login needed: there is no credentials file")                \
    X(LOGIN_UNREADABLE, "unreadable", "OAuth login unusable: the credentials file cannot be read") \
    X(LOGIN_MALFORMED, "malformed", "OAuth login unusable: the credentials file is malformed")     \
    X(LOGIN_EXPIRED, "expired", "OAuth login needed: the token has expired")

enum login_state {
#define LOGIN_STATE_ENUM(name, wire, sentence) name,
    LOGIN_STATES(LOGIN_STATE_ENUM)
#undef LOGIN_STATE_ENUM
};

const char *login_state_name(enum login_state state);
const char *login_state_sentence(enum login_state state);

struct login_status {
    enum login_state state;
    bool configured; /* there is a token, whatever its age */
    bool refreshable;
    bool token_expired; /* the access token's time is over; with `refreshable` that is curable */
    int64_t expires_ms; /* 0: not said */
    char subscription[32];
};

/* What a credentials file's text holds. `ret_token` may be NULL. For any bytes. */
void login_parse(const char *text, size_t len, int64_t now_ms, struct login_status *ret_status,
                 struct buf *ret_token);

struct login;

struct login *login_new(const char *config_dir);
void login_free(struct login *login);
void login_status(struct login *login, struct login_status *ret_status);

/* Appends the access token; ERR_LOGIN with a message that begins with "OAuth" when none is usable.
 */
int login_token(struct login *login, struct buf *out, struct err *err);

/* Appends the members of api.md's `oauth` object (without braces). */
void login_print(const struct login_status *status, int64_t now_ms, struct buf *out);

#endif
