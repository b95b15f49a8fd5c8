/* Tokens as Cloudflare Access signs them, and a server that publishes the keys, for the tests of
 * access. */
#ifndef TESTS_ACCESS_SCENE_H
#define TESTS_ACCESS_SCENE_H

#include "runner/access/access.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "loopback.h"
#include "runner/access/jwt.h"
#include "testbase.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ISS "https://team.cloudflareaccess.com"
#define AUD "0123456789abcdef"
#define NOW_MS INT64_C(1800000000000)

/* --- time: the tests set it --------------------------------------------------------------- */

static _Atomic int64_t mono_moved_ms, real_now_ms = NOW_MS;

static inline int64_t moved_mono_us(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + mono_moved_ms * 1000;
}

static inline int64_t put_real_ms(void *arg)
{
    (void)arg;
    return real_now_ms;
}

static const struct clock put_clock = {moved_mono_us, put_real_ms, NULL};

/* --- keys and tokens ----------------------------------------------------------------------- */

static EVP_PKEY *one, *two, *small;

static inline int make_keys(void **state)
{
    (void)state;
    one = EVP_RSA_gen(2048);
    two = EVP_RSA_gen(3072);
    small = EVP_RSA_gen(1024);
    clock_use(&put_clock);
    log_set_level(LOG_ERROR);
    return one && two && small ? 0 : -1;
}

static inline int free_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(one);
    EVP_PKEY_free(two);
    EVP_PKEY_free(small);
    return 0;
}

static inline void add_number(EVP_PKEY *key, const char *name, struct buf *out)
{
    BIGNUM *number = NULL;
    unsigned char bytes[1024];
    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    int len = BN_bn2bin(number, bytes);
    str_add_base64(out, BASE64_URL, bytes, (size_t)len);
    BN_free(number);
}

static inline void add_jwk(struct buf *out, EVP_PKEY *key, const char *kid, const char *more)
{
    buf_addf(out, "%s{\"kty\":\"RSA\"%s,\"kid\":\"%s\",\"e\":\"",
             out->len > 0 && out->data[out->len - 1] == '}' ? "," : "", more, kid);
    add_number(key, OSSL_PKEY_PARAM_RSA_E, out);
    buf_adds(out, "\",\"n\":\"");
    add_number(key, OSSL_PKEY_PARAM_RSA_N, out);
    buf_adds(out, "\"}");
}

static const char fine[] = ",\"alg\":\"RS256\",\"use\":\"sig\"";

/* A set of up to two keys: "k1" and "k2". */
static inline char *make_set(bool first, bool second)
{
    struct buf out = BUF_INIT(65536);
    buf_adds(&out, "{\"keys\":[");
    if (first)
        add_jwk(&out, one, "k1", fine);
    if (second)
        add_jwk(&out, two, "k2", fine);
    buf_adds(&out, "],\"public_cert\":{\"kid\":\"k1\",\"cert\":\"-----\"}}");
    return buf_steal(&out);
}

static inline void sign(EVP_PKEY *key, const EVP_MD *md, const struct buf *text, struct buf *out)
{
    unsigned char signature[1024];
    size_t len = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, md, NULL, key), 1);
    assert_int_equal(
        EVP_DigestSign(ctx, signature, &len, (const unsigned char *)text->data, text->len), 1);
    EVP_MD_CTX_free(ctx);
    str_add_base64(out, BASE64_URL, signature, len);
}

static inline char *make_token_by(EVP_PKEY *key, const EVP_MD *md, const char *header,
                                  const char *claims)
{
    struct buf out = BUF_INIT(65536);
    AUTO(buf) struct buf signature = BUF_INIT(4096);
    str_add_base64(&out, BASE64_URL, header, strlen(header));
    buf_addc(&out, '.');
    str_add_base64(&out, BASE64_URL, claims, strlen(claims));
    sign(key, md, &out, &signature);
    buf_addf(&out, ".%s", buf_str(&signature));
    return buf_steal(&out);
}

static inline char *make_token(EVP_PKEY *key, const char *header, const char *claims)
{
    return make_token_by(key, EVP_sha256(), header, claims);
}

#define K1 "{\"alg\":\"RS256\",\"kid\":\"k1\",\"typ\":\"JWT\"}"
#define K2 "{\"alg\":\"RS256\",\"kid\":\"k2\"}"

#define GOOD                                                                                    \
    "{\"aud\":[\"" AUD "\"],\"email\":\"a@example.com\",\"exp\":1800000600,\"iat\":1800000000," \
    "\"nbf\":1800000000,\"iss\":\"" ISS "\",\"type\":\"app\",\"sub\":\"x\"}"

/* --- the world ----------------------------------------------------------------------------- */

struct world {
    char dir[64], path[128];
    struct loopback *http;
    char *url;
    const char *_Atomic set; /* what is published; NULL: 500 */
    _Atomic int delay_ms;
    struct access *access;
};

static inline bool publish(struct loopback_call *call, void *arg)
{
    struct world *w = arg;
    const char *set = w->set;
    loopback_await_close(call, w->delay_ms);
    return loopback_answer(call, set ? 200 : 500, "", set ? set : "");
}

static inline void open_access(struct world *w, bool start)
{
    const struct access_config config = {
        .team_domain = "team", .aud = AUD, .certs_url = w->url, .state_dir = w->dir};
    struct err err = ERR_INIT;
    w->access = access_new(&config, &err);
    assert_non_null(w->access);
    if (start)
        assert_int_equal(access_start(w->access, &err), 0);
}

static inline struct world *world_new(const char *set)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    mono_moved_ms = 0;
    real_now_ms = NOW_MS;
    snprintf(w->dir, sizeof(w->dir), "/tmp/unit-access-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof(w->path), "%s/access-keys", w->dir);
    w->http = loopback_start(publish, w);
    w->url = loopback_url(w->http, "/cdn-cgi/access/certs");
    w->set = set;
    open_access(w, true);
    if (set)
        EVENTUALLY(20000, access(w->path, F_OK) == 0); /* a check waits for two seconds only */
    return w;
}

static inline void world_free(struct world *w)
{
    struct err err;
    access_free(w->access);
    loopback_stop(w->http);
    path_remove_tree(w->dir, &err);
    free(w->url);
    free(w);
}

static inline int check(struct world *w, const char *token)
{
    struct err err = ERR_INIT;
    int rc = access_check(w->access, token, &err);
    if (rc)
        assert_int_equal(err.code, ERR_FORBIDDEN);
    return rc;
}

static inline int check_made(struct world *w, EVP_PKEY *key, const char *header, const char *claims)
{
    AUTO(str) char *token = make_token(key, header, claims);
    return check(w, token);
}

/* --- claims -------------------------------------------------------------------------------- */

#define OURS "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\""
#define ENDS ",\"exp\":1800000600"

static const struct {
    const char *claims;
    bool good;
} claims[] = {
    {GOOD, true},
    {"{" OURS ENDS "}", true},
    {"{\"iss\":\"" ISS "\",\"aud\":[\"x\",\"" AUD "\"]" ENDS "}", true},
    {"{\"iss\":\"" ISS "\",\"aud\":[]" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":\"\"" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":\"" AUD "0\"" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":\"0123456789ABCDEF\"" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":{\"" AUD "\":1}" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":[[\"" AUD "\"]]" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":{\"x\":\"" AUD "\"}" ENDS "}", false},
    {"{\"iss\":\"" ISS "\",\"aud\":null" ENDS "}", false},
    {"{\"iss\":\"" ISS "\"" ENDS "}", false},
    {"{\"aud\":\"" AUD "\"" ENDS "}", false},
    {"{\"iss\":\"" ISS "/\",\"aud\":\"" AUD "\"" ENDS "}", false},
    {"{\"iss\":\"https://other.cloudflareaccess.com\",\"aud\":\"" AUD "\"" ENDS "}", false},
    {"{\"iss\":\"team.cloudflareaccess.com\",\"aud\":\"" AUD "\"" ENDS "}", false},
    {"{\"iss\":[\"" ISS "\"],\"aud\":\"" AUD "\"" ENDS "}", false},
    {"{" OURS "}", false},
    {"{" OURS ",\"exp\":null}", false},
    {"{" OURS ",\"exp\":\"1800000600\"}", false},
    {"{" OURS ",\"exp\":true}", false},
    {"{" OURS ",\"exp\":0}", false},
    {"{" OURS ",\"exp\":-1}", false},
    {"{" OURS ",\"exp\":1799999940}", false}, /* a minute ago: the tolerance has ended */
    {"{" OURS ",\"exp\":1799999941}", true},
    {"{" OURS ",\"exp\":1799999940.5}", true},
    {"{" OURS ",\"exp\":1e308}", true},
    {"{" OURS ",\"exp\":1e309}", false},
    {"{" OURS ENDS ",\"nbf\":1800000060}", true},
    {"{" OURS ENDS ",\"nbf\":1800000061}", false},
    {"{" OURS ENDS ",\"nbf\":\"0\"}", false},
    {"{" OURS ENDS ",\"nbf\":null}", false},
    {"{" OURS ENDS ",\"iat\":1800000060}", true},
    {"{" OURS ENDS ",\"iat\":1800000061}", false},
    {"{" OURS ENDS ",\"exp\":1900000000}", false}, /* twice */
    {"[" OURS "]", false},
    {"", false},
};

#endif
