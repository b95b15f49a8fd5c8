/*
 * Browsers that have given a secret: each holds a random cookie for half an hour, or while it is
 * used. In memory only; their number is bounded, and a new one replaces the oldest.
 *
 * Threads: any. Ownership: the caller of visits_new() frees it by visits_free().
 */
#ifndef API_VISITS_H
#define API_VISITS_H

#include "base/id.h"
#include "crypto/crypto.h"

#include <stdbool.h>
#include <stdint.h>

#define VISIT_MS (30 * 60000)
#define VISITS_MAX 64
#define SESSION_COOKIE "runner_session" /* of the console */
#define LINK_MS (5 * 60000)
#define LINKS_MAX 8

struct visit {
    char cookie[ID_TOKEN_SIZE];
    char csrf[ID_TOKEN_SIZE];                 /* for its forms */
    unsigned char secret[CRYPTO_SHA256_SIZE]; /* digest of its secret, which may be removed */
    int64_t until_ms;                         /* mono */
    int64_t idle_ms; /* it ends when unused for this long; 0: at until_ms */
};

struct visits;
struct visits *visits_new(void);
void visits_free(struct visits *visits);

/* Adds a visit for VISIT_MS, or one that each visits_find() extends by idle_ms. */
void visits_add(struct visits *visits, const char *secret, int64_t idle_ms,
                struct visit *ret_visit);
/* As visits_add(), by the secret's digest. */
void visits_add_digest(struct visits *visits, const unsigned char secret[CRYPTO_SHA256_SIZE],
                       int64_t idle_ms, struct visit *ret_visit);

/* Makes a token that stands for the secret once, within LINK_MS; of more than LINKS_MAX the oldest
 * ends. */
void visits_link(struct visits *visits, const char *secret, char ret_token[ID_TOKEN_SIZE]);
/* Uses a token up and returns the digest of its secret; false when it is unknown or has expired. */
bool visits_take_link(struct visits *visits, const char *token,
                      unsigned char ret_secret[CRYPTO_SHA256_SIZE]);

/* Finds a visit; false when it is unknown or has ended. */
bool visits_find(struct visits *visits, const char *cookie, struct visit *ret_visit);
void visits_remove(struct visits *visits, const char *cookie);

#endif
