/*
 * A set of public keys (RFC 7517), in the form in which Cloudflare publishes its signing keys.
 *
 * Threads: a set is immutable and reference-counted, so that it can be replaced while it is in use.
 * Ownership: jwks_parse() and jwks_ref() return a reference that the caller gives up by
 * jwks_unref().
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

/* Reads a set. Keys that are not for RS256 are skipped; of two with one name the first counts. NULL
 * with ERR_INVALID when no key is left. */
struct jwks *jwks_parse(const char *text, size_t len, struct err *err);

struct jwks *jwks_ref(struct jwks *jwks);
void jwks_unref(struct jwks *jwks);
DEFINE_AUTO(jwks, struct jwks *, jwks_unref)

/* The key of that name, which the set owns; NULL when there is none. */
const struct crypto_rsa *jwks_find(const struct jwks *jwks, const char *kid);
size_t jwks_count(const struct jwks *jwks);

#endif
