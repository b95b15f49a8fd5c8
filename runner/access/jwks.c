#include "runner/access/jwks.h"

#include "base/check.h"
#include "base/str.h"
#include "json/json.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct key {
    char *kid;
    struct crypto_rsa *rsa;
};

struct jwks {
    _Atomic int refs;
    size_t count;
    struct key keys[JWKS_KEYS_MAX];
};

struct jwks *jwks_ref(struct jwks *jwks)
{
    if (jwks)
        atomic_fetch_add(&jwks->refs, 1);
    return jwks;
}

void jwks_unref(struct jwks *jwks)
{
    REQUIRE(!jwks || jwks->refs > 0);
    if (!jwks || atomic_fetch_sub(&jwks->refs, 1) > 1)
        return;
    for (size_t i = 0; i < jwks->count; i++) {
        free(jwks->keys[i].kid);
        crypto_rsa_free(jwks->keys[i].rsa);
    }
    free(jwks);
}

/* True when the member is absent or this text. */
static bool may_be(const struct json *jwk, const char *name, const char *text)
{
    const struct json *member = json_get(jwk, name);
    return !member || (json_text(member) && strcmp(json_text(member), text) == 0);
}

static struct crypto_rsa *read_key(const struct json *jwk, struct err *err)
{
    AUTO(buf) struct buf n = BUF_INIT(4096);
    AUTO(buf) struct buf e = BUF_INIT(4096);
    const char *modulus = json_text(json_get(jwk, "n"));
    const char *exponent = json_text(json_get(jwk, "e"));
    const char *type = json_text(json_get(jwk, "kty"));
    if (!type || strcmp(type, "RSA") != 0 || !may_be(jwk, "use", "sig") ||
        !may_be(jwk, "alg", "RS256") || !modulus || !exponent)
        return NULL;
    if (str_read_base64url(modulus, strlen(modulus), &n) ||
        str_read_base64url(exponent, strlen(exponent), &e))
        return NULL;
    return crypto_rsa_new(buf_str(&n), n.len, buf_str(&e), e.len, err);
}

static void add_key(struct jwks *jwks, const struct json *jwk)
{
    struct err ignored;
    const char *kid = json_text(json_get(jwk, "kid"));
    if (jwks->count == JWKS_KEYS_MAX || !kid || !*kid || jwks_find(jwks, kid))
        return;
    AUTO(crypto_rsa) struct crypto_rsa *rsa = read_key(jwk, &ignored);
    char *name = rsa ? strdup(kid) : NULL;
    if (name)
        jwks->keys[jwks->count++] = (struct key){.kid = name, .rsa = STEAL_PTR(rsa)};
}

struct jwks *jwks_parse(const char *text, size_t len, struct err *err)
{
    AUTO(json) struct json *root = json_parse(text, len, err);
    if (!root)
        return NULL;
    AUTO(jwks) struct jwks *jwks = calloc(1, sizeof(*jwks));
    if (!jwks) {
        err_sys(err, "keys");
        return NULL;
    }
    jwks->refs = 1;
    const struct json *keys = json_get(root, "keys");
    for (const struct json *at = json_first(keys); at; at = json_next(at))
        add_key(jwks, at);
    if (jwks->count > 0)
        return STEAL_PTR(jwks);
    err_set(err, ERR_INVALID, "there is no RS256 key in it");
    return NULL;
}

const struct crypto_rsa *jwks_find(const struct jwks *jwks, const char *kid)
{
    for (size_t i = 0; jwks && i < jwks->count; i++)
        if (strcmp(jwks->keys[i].kid, kid) == 0)
            return jwks->keys[i].rsa;
    return NULL;
}

size_t jwks_count(const struct jwks *jwks)
{
    return jwks ? jwks->count : 0;
}
