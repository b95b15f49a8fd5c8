/*
 * A JSON Web Token, taken apart and judged. RS256 only: the algorithm is never taken from the
 * token, and keys or addresses of keys in its header are not looked at.
 *
 * Threads: no shared state.
 */
#ifndef ACCESS_JWT_H
#define ACCESS_JWT_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define JWT_BYTES_MAX 16384
#define JWT_KID_SIZE 128
#define JWT_LEEWAY_S 60 /* clocks differ */

struct jwt {
    char kid[JWT_KID_SIZE]; /* which key signed it, or so it says */
    size_t signed_len;      /* the signature is over so many bytes of the token */
    struct buf claims;      /* JSON: not to be believed before the signature is checked */
    struct buf signature;
};

/* Takes a token apart. ERR_FORBIDDEN with the reason, which holds nothing of the token. Done with
 * jwt_done() in any case. */
int jwt_parse(const char *token, struct jwt *ret_jwt, struct err *err);
void jwt_done(struct jwt *jwt);
static inline void auto_jwt(struct jwt *jwt)
{
    jwt_done(jwt);
}

/* Whether the claims are for us (`aud`), from them (`iss`), and of this time: exp is asked for, nbf
 * and iat are checked when there. 0, or ERR_FORBIDDEN with the reason. */
int jwt_check_claims(const char *claims, size_t len, const char *iss, const char *aud,
                     int64_t now_ms, struct err *err);

#endif
