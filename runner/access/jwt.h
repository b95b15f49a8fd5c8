/*
 * Parses and checks a JSON Web Token. RS256 only: the algorithm is never taken from the token, and
 * keys or key addresses in its header are ignored.
 *
 * Threads: no shared state. Ownership: a token owns its buffers; end it by jwt_done().
 */
#ifndef ACCESS_JWT_H
#define ACCESS_JWT_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define JWT_BYTES_MAX 16384
#define JWT_KID_SIZE 128
#define JWT_LEEWAY_S 60 /* allowed difference of clocks */

struct jwt {
    char kid[JWT_KID_SIZE]; /* the key that the token claims to be signed with */
    size_t signed_len;      /* how many bytes of the token are signed */
    struct buf claims;      /* JSON; do not trust it before the signature is checked */
    struct buf signature;
};

/* Parses a token. ERR_FORBIDDEN with the reason, which contains nothing of the token. Call
 * jwt_done() in any case. */
int jwt_parse(const char *token, struct jwt *ret_jwt, struct err *err);
void jwt_done(struct jwt *jwt);
static inline void auto_jwt(struct jwt *jwt)
{
    jwt_done(jwt);
}

/* Checks that the claims are for us (`aud`), from them (`iss`), and valid now: exp is required, nbf
 * and iat are checked when present. Returns 0, or ERR_FORBIDDEN with the reason. */
int jwt_check_claims(const char *claims, size_t len, const char *iss, const char *aud,
                     int64_t now_ms, struct err *err);

#endif
