/* Whatever an assertion or a set of keys holds: no token passes without a signature, and what the
 * parser promises of one holds. Input that begins with '{' is also read as claims and as keys. */
#include "runner/access/jwt.h"
#include "runner/access/jwks.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* RFC 7515, appendix A.2. */
static const char keys[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k1\",\"n\":"
    "\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4"
    "d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexM"
    "dbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK"
    "-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"}]}";

static void check_token(const char *text)
{
    struct err err = ERR_INIT;
    AUTO(jwt) struct jwt jwt;
    AUTO(jwks) struct jwks *set = jwks_parse(keys, strlen(keys), &err);
    must(set);
    int rc = jwt_parse(text, &jwt, &err);
    must(rc == 0 || err.code == ERR_FORBIDDEN);
    if (rc)
        return;
    must(strlen(text) <= JWT_BYTES_MAX && jwt.kid[0] && jwt.signed_len < strlen(text));
    must(text[jwt.signed_len] == '.');
    must(!crypto_rs256_is_valid(jwks_find(set, "k1"), text, jwt.signed_len, buf_str(&jwt.signature),
                                jwt.signature.len));
    jwt_check_claims(buf_str(&jwt.claims), jwt.claims.len, "i", "a", 0, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_token(text);
    if (size > 0 && text[0] == '{') {
        AUTO(jwks) struct jwks *set = jwks_parse(text, size, &err);
        must(jwks_count(set) <= JWKS_KEYS_MAX);
        if (jwt_check_claims(text, size, "i", "a", 1000000, &err) == 0)
            must(memmem(text, size, "\"exp\"", 5) || memchr(text, '\\', size));
    }
    free(text);
    return 0;
}
