/*
 * Who we are at Google: credentials, and the access token that they give at the moment. Private to
 * shared/google.
 *
 * Theory of operation. A token is asked for by the first who needs one; all others wait for the
 * same answer. From TOKEN_EARLY_MS before its end the next caller fetches a new one, while the
 * others go on with the old one as long as it lives.
 *
 *     none ── first caller fetches, others wait ──> fresh ──> early: one fetches, others go on
 *       ^                                            ^  │                │
 *       └────────── 401: dropped, end of life ───────┼──┘                │
 *                                                    └───────────────────┘
 *
 * Threads: any, once made.
 * Ownership: the caller frees an identity by identity_free(); an impersonating one owns its source.
 */
#ifndef GOOGLE_IDENTITY_H
#define GOOGLE_IDENTITY_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/strlist.h"
#include "crypto/crypto.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum identity_kind {
    IDENTITY_KEY,          /* a service account's private key */
    IDENTITY_USER,         /* a person's refresh token */
    IDENTITY_METADATA,     /* the machine's service account */
    IDENTITY_IMPERSONATED, /* a service account as which `source` may act */
    IDENTITY_TOKEN,        /* an access token that was given to us */
};

struct token_cache {
    struct lock lock;
    pthread_cond_t changed;
    char *text;               /* or NULL */
    int64_t early_ms, end_ms; /* mono */
    bool asking;
    unsigned round;     /* counts the answers */
    struct err failure; /* of the last round; ERR_NONE: it returned a token */
};

struct identity {
    enum identity_kind kind;
    char *name;          /* for a person */
    char *project;       /* or NULL */
    char *quota_project; /* who pays for a person's calls, or NULL */
    char *token_url;
    char *email, *key_id; /* key_id: of the key; email: of the key or of the impersonated account */
    struct crypto_rsa *key;
    char *client_id, *client_secret, *refresh_token; /* user */
    struct strlist delegates;                        /* impersonated */
    struct identity *source;
    char *given_token;         /* token */
    char *metadata_host;       /* as configured, or NULL for Google's */
    int patience_ms;           /* time to wait for a metadata server that certainly exists; 0: there
                                * may be none */
    _Atomic int64_t absent_ms; /* mono: when no metadata server was found; 0: never asked */
    struct token_cache cache;
};

/* Reads a credentials file. `iam` is the endpoint of the IAM Credentials API. NULL with ERR_CONFIG
 * (ERR_NOT_FOUND: no such file); messages hold no secret. The caller of these functions frees the
 * result by identity_free(). */
struct identity *identity_from_file(const char *path, const char *iam, struct err *err);
struct identity *identity_from_token(const char *token, struct err *err);
struct identity *identity_from_metadata(const char *host, struct err *err);
/* Takes ownership of `source`, also on failure. */
struct identity *identity_impersonate(struct identity *source, const char *email, const char *iam,
                                      struct err *err);
void identity_free(struct identity *identity);
DEFINE_AUTO(identity, struct identity *, identity_free)

/* Appends a valid token. */
int identity_token(struct identity *identity, struct buf *out, struct err *err);
/* Drops a token that was refused: no caller gets it again. */
void identity_drop(struct identity *identity, const char *token);

/* Asks Google for a token (grant.c), for at most total_ms. *ret_life_ms is its life from now on. */
int identity_ask(struct identity *identity, int total_ms, struct buf *ret_token,
                 int64_t *ret_life_ms, struct err *err);

#endif
