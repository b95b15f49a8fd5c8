#include "runner/access/jwt.h"

#include "base/check.h"
#include "base/str.h"
#include "json/json.h"

#include <string.h>

#define ALG "RS256"

static int refuse(struct err *err, const char *reason)
{
    return err_set(err, ERR_FORBIDDEN, "%s", reason);
}

void jwt_done(struct jwt *jwt)
{
    buf_done(&jwt->claims);
    buf_done(&jwt->signature);
}

static int read_header(const char *text, size_t len, struct jwt *jwt, struct err *err)
{
    struct err ignored;
    AUTO(buf) struct buf plain = BUF_INIT(JWT_BYTES_MAX);
    if (str_read_base64url(text, len, &plain))
        return refuse(err, "the token's header is not base64url");
    AUTO(json) struct json *header = json_parse(buf_str(&plain), plain.len, &ignored);
    const char *alg = json_text(json_get(header, "alg"));
    const char *kid = json_text(json_get(header, "kid"));
    const struct json *type = json_get(header, "typ");
    if (!header)
        return refuse(err, "the token's header is not JSON");
    if (!alg || strcmp(alg, ALG) != 0)
        return refuse(err, "the token is not signed by " ALG);
    if (type && (!json_text(type) || !str_equal_nocase(json_text(type), "JWT")))
        return refuse(err, "the token is of another type");
    if (json_get(header, "crit"))
        return refuse(err, "the token asks for an extension");
    if (!kid || !*kid || strlen(kid) >= sizeof(jwt->kid))
        return refuse(err, "the token names no key");
    memcpy(jwt->kid, kid, strlen(kid) + 1);
    return 0;
}

int jwt_parse(const char *token, struct jwt *ret_jwt, struct err *err)
{
    size_t len = strnlen(token, JWT_BYTES_MAX + 1);
    *ret_jwt =
        (struct jwt){.claims = BUF_INIT(JWT_BYTES_MAX), .signature = BUF_INIT(JWT_BYTES_MAX)};
    if (len > JWT_BYTES_MAX)
        return refuse(err, "the token is too long");
    const char *claims = strchr(token, '.');
    const char *signature = claims ? strchr(claims + 1, '.') : NULL;
    if (!signature || strchr(signature + 1, '.'))
        return refuse(err, "the token has not three parts");
    size_t header_len = (size_t)(claims - token);
    ret_jwt->signed_len = (size_t)(signature - token);
    claims++, signature++;
    if (read_header(token, header_len, ret_jwt, err))
        return -1;
    if (str_read_base64url(claims, (size_t)(signature - 1 - claims), &ret_jwt->claims) ||
        str_read_base64url(signature, strlen(signature), &ret_jwt->signature))
        return refuse(err, "the token is not base64url");
    return 0;
}

static bool names_us(const struct json *aud, const char *us)
{
    if (json_text(aud))
        return strcmp(json_text(aud), us) == 0;
    if (!aud || json_type(aud) != JSON_ARRAY)
        return false;
    for (const struct json *at = json_first(aud); at; at = json_next(at))
        if (json_text(at) && strcmp(json_text(at), us) == 0)
            return true;
    return false;
}

/* True when a time that may be absent has passed. */
static bool has_come(const struct json *time, double now_s)
{
    double value;
    return !time || (json_number(time, &value) == 0 && value <= now_s + JWT_LEEWAY_S);
}

int jwt_check_claims(const char *claims, size_t len, const char *iss, const char *aud,
                     int64_t now_ms, struct err *err)
{
    REQUIRE(claims && iss && aud);
    struct err ignored;
    double exp, now_s = (double)now_ms / 1000;
    AUTO(json) struct json *root = json_parse(claims, len, &ignored);
    const char *issuer = json_text(json_get(root, "iss"));
    if (!root)
        return refuse(err, "the token's claims are not JSON");
    if (!issuer || strcmp(issuer, iss) != 0)
        return refuse(err, "the token is from another team");
    if (!names_us(json_get(root, "aud"), aud))
        return refuse(err, "the token is for another application");
    if (json_number(json_get(root, "exp"), &exp))
        return refuse(err, "the token says not when it ends");
    if (!(now_s < exp + JWT_LEEWAY_S))
        return refuse(err, "the token has expired");
    if (!has_come(json_get(root, "nbf"), now_s) || !has_come(json_get(root, "iat"), now_s))
        return refuse(err, "the token is of the future");
    return 0;
}
