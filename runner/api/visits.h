/*
 * Browsers that gave a secret: each holds a random cookie for half an hour, or while it is used. In
 * memory only; a bounded number, the oldest makes room.
 *
 * Threads: any.
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
    char csrf[ID_TOKEN_SIZE]; /* for its forms */
    unsigned char
        secret[CRYPTO_SHA256_SIZE]; /* digest of what it gave: a secret may be taken back */
    int64_t until_ms;               /* mono */
    int64_t idle_ms;                /* ends after so long without a look; 0: at until_ms */
};

struct visits;
struct visits *visits_new(void);
void visits_free(struct visits *visits);

/* A visit of VISIT_MS, or one that each visits_find() makes last for another idle_ms. */
void visits_add(struct visits *visits, const char *secret, int64_t idle_ms,
                struct visit *ret_visit);
/* The same by the secret's digest. */
void visits_add_digest(struct visits *visits, const unsigned char secret[CRYPTO_SHA256_SIZE],
                       int64_t idle_ms, struct visit *ret_visit);

/* Makes a token that stands for the secret once, within LINK_MS; of more than LINKS_MAX the oldest
 * ends. */
void visits_link(struct visits *visits, const char *secret, char ret_token[ID_TOKEN_SIZE]);
/* Takes a token back and gives the digest of its secret; false when it is none, or is over. */
bool visits_take_link(struct visits *visits, const char *token,
                      unsigned char ret_secret[CRYPTO_SHA256_SIZE]);

/* False when there is none, or its time is over. */
bool visits_find(struct visits *visits, const char *cookie, struct visit *ret_visit);
void visits_remove(struct visits *visits, const char *cookie);

#endif
