/*
 * A set of public keys (RFC 7517), as Cloudflare publishes the ones it signs with.
 *
 * Threads: a set does not change; it is counted, so that it can be replaced while it is in use.
 */
#ifndef ACCESS_JWKS_H
#define ACCESS_JWKS_H

#include "base/auto.h"
#include "base/err.h"
#include "crypto/crypto.h"

#include <stddef.h>

#define JWKS_BYTES_MAX (256u << 10)
#define JWKS_KEYS_MAX 32

struct jwks;

/* Reads a set. Keys that are not for RS256 are passed over; of two of one name the first counts.
 * NULL with ERR_INVALID when no key is left. */
struct jwks *jwks_parse(const char *text, size_t len, struct err *err);

struct jwks *jwks_ref(struct jwks *jwks);
void jwks_unref(struct jwks *jwks);
DEFINE_AUTO(jwks, struct jwks *, jwks_unref)

/* NULL when there is none of that name. */
const struct crypto_rsa *jwks_find(const struct jwks *jwks, const char *kid);
size_t jwks_count(const struct jwks *jwks);

#endif
