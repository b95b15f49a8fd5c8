#include "runner/access/access.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "loopback.h"
#include "runner/access/jwks.h"
#include "runner/access/jwt.h"
#include "testbase.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ISS "https://team.cloudflareaccess.com"
#define AUD "0123456789abcdef"
#define NOW_MS INT64_C(1800000000000)

/* --- time: stands where it is put ---------------------------------------------------------- */

static _Atomic int64_t mono_moved_ms, real_now_ms = NOW_MS;

static int64_t moved_mono_us(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + mono_moved_ms * 1000;
}

static int64_t put_real_ms(void *arg)
{
    (void)arg;
    return real_now_ms;
}

static const struct clock put_clock = {moved_mono_us, put_real_ms, NULL};

/* --- keys and tokens ----------------------------------------------------------------------- */

static EVP_PKEY *one, *two, *small;

static int make_keys(void **state)
{
    (void)state;
    one = EVP_RSA_gen(2048);
    two = EVP_RSA_gen(3072);
    small = EVP_RSA_gen(1024);
    clock_use(&put_clock);
    log_set_level(LOG_ERROR);
    return one && two && small ? 0 : -1;
}

static int free_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(one);
    EVP_PKEY_free(two);
    EVP_PKEY_free(small);
    return 0;
}

static void add_number(EVP_PKEY *key, const char *name, struct buf *out)
{
    BIGNUM *number = NULL;
    unsigned char bytes[1024];
    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    int len = BN_bn2bin(number, bytes);
    str_add_base64(out, BASE64_URL, bytes, (size_t)len);
    BN_free(number);
}

static void add_jwk(struct buf *out, EVP_PKEY *key, const char *kid, const char *more)
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
static char *make_set(bool first, bool second)
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

static void sign(EVP_PKEY *key, const EVP_MD *md, const struct buf *text, struct buf *out)
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

static char *make_token_by(EVP_PKEY *key, const EVP_MD *md, const char *header, const char *claims)
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

static char *make_token(EVP_PKEY *key, const char *header, const char *claims)
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

static bool publish(struct loopback_call *call, void *arg)
{
    struct world *w = arg;
    const char *set = w->set;
    loopback_await_close(call, w->delay_ms);
    return loopback_answer(call, set ? 200 : 500, "", set ? set : "");
}

static void open_access(struct world *w, bool start)
{
    const struct access_config config = {
        .team_domain = "team", .aud = AUD, .certs_url = w->url, .state_dir = w->dir};
    struct err err = ERR_INIT;
    w->access = access_new(&config, &err);
    assert_non_null(w->access);
    if (start)
        assert_int_equal(access_start(w->access, &err), 0);
}

static void reopen_access(struct world *w)
{
    access_free(w->access);
    open_access(w, true);
}

static struct world *world_new(const char *set)
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
    return w;
}

static void world_free(struct world *w)
{
    struct err err;
    access_free(w->access);
    loopback_stop(w->http);
    path_remove_tree(w->dir, &err);
    free(w->url);
    free(w);
}

static int check(struct world *w, const char *token)
{
    struct err err = ERR_INIT;
    int rc = access_check(w->access, token, &err);
    if (rc)
        assert_int_equal(err.code, ERR_FORBIDDEN);
    return rc;
}

static int check_made(struct world *w, EVP_PKEY *key, const char *header, const char *claims)
{
    AUTO(str) char *token = make_token(key, header, claims);
    return check(w, token);
}

/* --- tokens -------------------------------------------------------------------------------- */

static void a_good_token_passes_again_and_again(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(check_made(w, one, K1, GOOD), 0);
        assert_int_equal(check_made(w, two, K2, GOOD), 0);
    }
    assert_int_equal(loopback_requests(w->http), 1);
    world_free(w);
}

static void no_token_and_no_real_token_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",        ".",        "..",          "...",
                                        "a.b.c",   "e30.e30.", "e30.",        "e30",
                                        "e30.e30", ". . ",     "e30.e30.e30", "\xff.\x80."};
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check(w, NULL), -1);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        assert_int_equal(check(w, texts[i]), -1);
    world_free(w);
}

static void one_changed_byte_anywhere_is_one_too_many(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    AUTO(str) char *token = make_token(one, K1, GOOD);
    size_t len = strlen(token);
    for (size_t i = 0; i < len; i++) {
        char kept = token[i];
        const char *others = i % 7 ? "A" : "A.z=+/ \x80";
        for (const char *p = others; *p; p++) {
            token[i] = *p == kept ? (char)(*p ^ 1) : *p;
            if (check(w, token) == 0)
                fail_msg("byte %zu: %s", i, token);
        }
        token[i] = '\0'; /* and every cut */
        assert_int_equal(check(w, token), -1);
        token[i] = kept;
    }
    assert_int_equal(check(w, token), 0);
    AUTO(str) char *longer = calloc(1, len + 2);
    snprintf(longer, len + 2, "%sA", token);
    assert_int_equal(check(w, longer), -1);
    world_free(w);
}

static void only_rs256_by_a_named_key_counts(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"alg\":\"none\",\"kid\":\"k1\"}",
        "{\"alg\":\"None\",\"kid\":\"k1\"}",
        "{\"alg\":\"HS256\",\"kid\":\"k1\"}",
        "{\"alg\":\"RS384\",\"kid\":\"k1\"}",
        "{\"alg\":\"PS256\",\"kid\":\"k1\"}",
        "{\"alg\":\"ES256\",\"kid\":\"k1\"}",
        "{\"alg\":\"rs256\",\"kid\":\"k1\"}",
        "{\"alg\":\"RS256 \",\"kid\":\"k1\"}",
        "{\"alg\":[\"RS256\"],\"kid\":\"k1\"}",
        "{\"alg\":null,\"kid\":\"k1\"}",
        "{\"kid\":\"k1\"}",
        "{\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"kid\":\"\"}",
        "{\"alg\":\"RS256\",\"kid\":null}",
        "{\"alg\":\"RS256\",\"kid\":[\"k1\"]}",
        "{\"alg\":\"RS256\",\"kid\":\"k2\"}",
        "{\"alg\":\"RS256\",\"kid\":\"K1\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k1 \"}",
        "{\"alg\":\"RS256\",\"kid\":\"../k1\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k1' OR '1'='1\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k1\\u0000\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k2\",\"kid\":\"k1\"}",
        "{\"alg\":\"none\",\"alg\":\"RS256\",\"kid\":\"k1\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k1\",\"crit\":[\"b64\"],\"b64\":false}",
        "{\"alg\":\"RS256\",\"kid\":\"k1\",\"crit\":[]}",
        "{\"alg\":\"RS256\",\"kid\":\"k1\",\"typ\":\"JWE\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k1\",\"typ\":7}",
        "{\"alg\":\"RS256\",\"kid\":\"k1\"} x",
        "[\"RS256\",\"k1\"]",
        "null",
        "",
    };
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        if (check_made(w, one, headers[i], GOOD) == 0)
            fail_msg("%s passes", headers[i]);
    AUTO(str) char *longest = calloc(1, 20000);
    snprintf(longest, 20000, "{\"alg\":\"RS256\",\"kid\":\"%0*d\"}", 5000, 1);
    assert_int_equal(check_made(w, one, longest, GOOD), -1);
    /* Where the keys are said to be is not looked at. */
    assert_int_equal(check_made(w, one,
                                "{\"alg\":\"RS256\",\"kid\":\"k1\",\"jku\":\"https://x/\","
                                "\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"}}",
                                GOOD),
                     0);
    world_free(w);
}

/* The public key taken for an HMAC key: the classic confusion. */
static void a_mac_by_the_public_key_is_no_signature(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    AUTO(buf) struct buf n = BUF_INIT(4096), token = BUF_INIT(65536);
    unsigned char mac[32];
    unsigned mac_len = sizeof(mac);
    static const char *const headers[] = {"{\"alg\":\"HS256\",\"kid\":\"k1\"}", K1};
    add_number(one, OSSL_PKEY_PARAM_RSA_N, &n);
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        buf_clear(&token);
        str_add_base64(&token, BASE64_URL, headers[i], strlen(headers[i]));
        buf_addc(&token, '.');
        str_add_base64(&token, BASE64_URL, GOOD, strlen(GOOD));
        HMAC(EVP_sha256(), n.data, (int)n.len, (const unsigned char *)token.data, token.len, mac,
             &mac_len);
        buf_addc(&token, '.');
        str_add_base64(&token, BASE64_URL, mac, sizeof(mac));
        assert_int_equal(check(w, buf_str(&token)), -1);
    }
    world_free(w);
}

static void signatures_of_other_keys_and_digests_are_refused(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, two, K1, GOOD), -1);
    assert_int_equal(check_made(w, one, K2, GOOD), -1);
    assert_int_equal(check_made(w, small, K1, GOOD), -1);
    AUTO(str) char *sha1 = make_token_by(one, EVP_sha1(), K1, GOOD);
    AUTO(str) char *sha512 = make_token_by(one, EVP_sha512(), K1, GOOD);
    assert_int_equal(check(w, sha1), -1);
    assert_int_equal(check(w, sha512), -1);
    AUTO(str) char *good = make_token(one, K1, GOOD);
    *strrchr(good, '.') = '\0';
    AUTO(buf) struct buf bare = BUF_INIT(65536);
    buf_addf(&bare, "%s.", good);
    assert_int_equal(check(w, buf_str(&bare)), -1);
    world_free(w);
}

static void huge_tokens_are_refused(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    AUTO(str) char *huge = malloc(1000001);
    assert_non_null(huge);
    memset(huge, 'A', 1000000);
    huge[1000000] = '\0';
    assert_int_equal(check(w, huge), -1);
    memset(huge, '.', 1000000);
    assert_int_equal(check(w, huge), -1);
    snprintf(huge, 40000,
             "{\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"exp\":1800000600,\"x\":\"%0*d\"}", 12000,
             0);
    assert_int_equal(check_made(w, one, K1, huge), -1); /* good, but over the maximum */
    snprintf(huge, 40000,
             "{\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"exp\":1800000600,\"x\":\"%0*d\"}", 8000,
             0);
    assert_int_equal(check_made(w, one, K1, huge), 0);
    world_free(w);
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
    {"{" OURS ",\"exp\":1799999940}", false}, /* a minute ago: the leeway is over */
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

static void claims_must_be_ours_and_of_now(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    for (size_t i = 0; i < COUNT_OF(claims); i++)
        if ((check_made(w, one, K1, claims[i].claims) == 0) != claims[i].good)
            fail_msg("%s: not %s", claims[i].claims, claims[i].good ? "good" : "refused");
    world_free(w);
}

static void a_token_ends_when_its_time_has_come(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    AUTO(str) char *token = make_token(one, K1, GOOD);
    assert_int_equal(check(w, token), 0);
    real_now_ms = NOW_MS + 659999;
    assert_int_equal(check(w, token), 0);
    real_now_ms = NOW_MS + 660000;
    assert_int_equal(check(w, token), -1);
    real_now_ms = NOW_MS - 60000;
    assert_int_equal(check(w, token), 0);
    real_now_ms = NOW_MS - 60001;
    assert_int_equal(check(w, token), -1);
    world_free(w);
}

/* --- keys ---------------------------------------------------------------------------------- */

static void sets_are_read_strictly(void **state)
{
    (void)state;
    static const char *const none[] = {"",
                                       "{}",
                                       "[]",
                                       "{\"keys\":{}}",
                                       "{\"keys\":[]}",
                                       "{\"keys\":[null,7,\"x\",[]]}",
                                       "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"a\"}]}",
                                       "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AA\"}]}"};
    struct err err;
    for (size_t i = 0; i < COUNT_OF(none); i++)
        assert_null(jwks_parse(none[i], strlen(none[i]), &err));
    AUTO(buf) struct buf set = BUF_INIT(65536);
    buf_adds(&set, "{\"keys\":[");
    add_jwk(&set, small, "small", fine);
    add_jwk(&set, one, "enc", ",\"alg\":\"RS256\",\"use\":\"enc\"");
    add_jwk(&set, one, "ps", ",\"alg\":\"PS256\"");
    add_jwk(&set, one, "", fine);
    add_jwk(&set, one, "twice", fine);
    add_jwk(&set, two, "twice", fine);
    add_jwk(&set, two, "bare", "");
    buf_adds(&set, ",{\"kty\":\"RSA\",\"kid\":\"bad\",\"e\":\"AQAB\",\"n\":\"not+base64url\"}"
                   ",{\"kty\":\"RSA\",\"kid\":\"zero\",\"e\":\"AQAB\",\"n\":\"AA\"}]}");
    AUTO(jwks) struct jwks *jwks = jwks_parse(set.data, set.len, &err);
    assert_int_equal(jwks_count(jwks), 2);
    assert_non_null(jwks_find(jwks, "twice"));
    assert_non_null(jwks_find(jwks, "bare"));
    assert_null(jwks_find(jwks, "small"));
    assert_null(jwks_find(jwks, "twice "));
    assert_null(jwks_find(NULL, "twice"));
}

static void many_keys_are_cut_off(void **state)
{
    (void)state;
    struct err err;
    AUTO(buf) struct buf set = BUF_INIT(JWKS_BYTES_MAX);
    buf_adds(&set, "{\"keys\":[");
    for (int i = 0; i < JWKS_KEYS_MAX + 10; i++) {
        char kid[16];
        snprintf(kid, sizeof(kid), "k%d", i);
        add_jwk(&set, one, kid, fine);
    }
    buf_adds(&set, "]}");
    AUTO(jwks) struct jwks *jwks = jwks_parse(set.data, set.len, &err);
    assert_int_equal(jwks_count(jwks), JWKS_KEYS_MAX);
}

static void a_new_key_is_fetched_when_a_token_names_it(void **state)
{
    (void)state;
    AUTO(str) char *old = make_set(true, false);
    AUTO(str) char *both = make_set(true, true);
    AUTO(str) char *new = make_set(false, true);
    struct world *w = world_new(old);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->set = both;
    assert_int_equal(check_made(w, two, K2, GOOD), 0);
    assert_int_equal(check_made(w, one, K1, GOOD), 0); /* the old one goes on */
    assert_int_equal(loopback_requests(w->http), 2);
    w->set = new;
    mono_moved_ms += 7 * 3600000; /* without being asked */
    EVENTUALLY(5000, loopback_requests(w->http) == 3);
    EVENTUALLY(5000, check_made(w, one, K1, GOOD) != 0);
    assert_int_equal(check_made(w, two, K2, GOOD), 0);
    world_free(w);
}

static void unknown_keys_do_not_make_it_hammer_or_wait(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    int64_t began = now_ms();
    for (int i = 0; i < 100; i++)
        assert_int_equal(check_made(w, one, "{\"alg\":\"RS256\",\"kid\":\"k9\"}", GOOD), -1);
    assert_int_equal(loopback_requests(w->http), 2);
    assert_true(now_ms() - began < 2000);
    mono_moved_ms += 31000;
    for (int i = 0; i < 100; i++)
        assert_int_equal(check_made(w, one, "{\"alg\":\"RS256\",\"kid\":\"k9\"}", GOOD), -1);
    assert_int_equal(loopback_requests(w->http), 3);
    world_free(w);
}

struct caller {
    pthread_t thread;
    struct world *world;
    const char *token;
    int rc;
    int64_t took_ms;
};

static void *call(void *arg)
{
    struct caller *caller = arg;
    struct err err;
    int64_t began = now_ms();
    caller->rc = access_check(caller->world->access, caller->token, &err);
    caller->took_ms = now_ms() - began;
    return NULL;
}

static void a_slow_cloudflare_holds_few_and_not_for_long(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    AUTO(str) char *token = make_token(one, "{\"alg\":\"RS256\",\"kid\":\"k9\"}", GOOD);
    struct world *w = world_new(set);
    struct caller callers[32];
    int waited = 0;
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->delay_ms = 4000;
    for (size_t i = 0; i < COUNT_OF(callers); i++) {
        callers[i] = (struct caller){.world = w, .token = token};
        pthread_create(&callers[i].thread, NULL, call, &callers[i]);
    }
    assert_int_equal(check_made(w, one, K1, GOOD), 0); /* known keys need nobody */
    for (size_t i = 0; i < COUNT_OF(callers); i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].rc, -1);
        assert_true(callers[i].took_ms < 3500);
        waited += callers[i].took_ms > 1000;
    }
    assert_true(waited <= 4);
    assert_int_equal(loopback_requests(w->http), 2);
    world_free(w);
}

static int requests_an_hour_later(struct world *w)
{
    mono_moved_ms += 3600000;
    return loopback_requests(w->http);
}

static void a_restart_works_while_the_keys_cannot_be_reached(void **state)
{
    (void)state;
    struct stat st;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->set = NULL;
    reopen_access(w);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    EVENTUALLY(5000, loopback_requests(w->http) == 2);
    assert_int_equal(check_made(w, one, K1, GOOD), 0); /* an error takes nothing away */
    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    w->set = "{\"keys\":[]}";
    /* until its thread sees it: an hour may pass while that one is still at the answer before */
    EVENTUALLY(5000, requests_an_hour_later(w) >= 3);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    world_free(w);
}

static void keys_of_another_place_on_the_disk_are_not_used(void **state)
{
    (void)state;
    struct err err;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->set = NULL;
    free(w->url);
    w->url = loopback_url(w->http, "/other");
    reopen_access(w);
    assert_int_equal(check_made(w, one, K1, GOOD), -1);
    static const char *const spoilt[] = {"", "\n", "x", "{\"keys\":[]}"};
    for (size_t i = 0; i < COUNT_OF(spoilt); i++) {
        AUTO(buf) struct buf text = BUF_INIT(4096);
        buf_addf(&text, "%s%s%s", w->url, i ? "\n" : "", spoilt[i]);
        assert_int_equal(file_replace(w->path, text.data, text.len, 0600, &err), 0);
        reopen_access(w);
        assert_int_equal(check_made(w, one, K1, GOOD), -1);
    }
    world_free(w);
}

static void without_any_key_it_comes_as_soon_as_it_can_be_had(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(NULL);
    assert_int_equal(check_made(w, one, K1, GOOD), -1);
    w->set = set;
    mono_moved_ms += 6000;
    EVENTUALLY(5000, check_made(w, one, K1, GOOD) == 0);
    world_free(w);
}

/* --- somebody else's code ------------------------------------------------------------------ */

/* Runs `node -e script` with its output in `out`; false where there is no Node. */
static bool run_node(const char *dir, const char *script, struct buf *out)
{
    char path[128];
    struct err err;
    pid_t pid;
    int status;
    char *text = strdup(script);
    char *argv[] = {(char[]){"node"}, (char[]){"-e"}, text, NULL};
    posix_spawn_file_actions_t files;
    snprintf(path, sizeof(path), "%s/out", dir);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int rc = posix_spawnp(&pid, "node", &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    free(text);
    if (rc)
        return false;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    buf_clear(out);
    return file_read(path, out, &err) == 0;
}

static const char node_signs[] =
    "const c=require('crypto');const k=c.generateKeyPairSync('rsa',{modulusLength:2048});"
    "const b=o=>Buffer.from(JSON.stringify(o)).toString('base64url');"
    "const h=b({alg:'RS256',kid:'n',typ:'JWT'})+'.'+b({aud:['" AUD "'],iss:'" ISS
    "',exp:1800000600,nbf:1800000000,iat:1800000000});"
    "const s=c.sign('RSA-SHA256',Buffer.from(h),k.privateKey).toString('base64url');"
    "console.log(JSON.stringify({keys:[{...k.publicKey.export({format:'jwk'}),kid:'n',"
    "alg:'RS256',use:'sig'}]}));console.log(h+'.'+s)";

static void what_node_signs_passes(void **state)
{
    (void)state;
    struct world *w = world_new(NULL);
    AUTO(buf) struct buf out = BUF_INIT(65536);
    if (!run_node(w->dir, node_signs, &out)) {
        world_free(w);
        SKIP_BECAUSE("no Node here");
    }
    char *token = strchr(out.data, '\n');
    *token++ = '\0';
    token[strcspn(token, "\n")] = '\0';
    w->set = out.data;
    mono_moved_ms += 31000;
    assert_int_equal(check(w, token), 0);
    token[0] ^= 1;
    assert_int_equal(check(w, token), -1);
    world_free(w);
}

/* So that both ends of these tests are not the same mistake. */
static void what_passes_here_passes_in_node(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    AUTO(str) char *token = make_token(one, K1, GOOD);
    struct world *w = world_new(set);
    AUTO(buf) struct buf out = BUF_INIT(65536), script = BUF_INIT(65536);
    buf_addf(&script,
             "const c=require('crypto');const s=%s;const t='%s'.split('.');"
             "const k=c.createPublicKey({key:s.keys.find(k=>k.kid=='k1'),format:'jwk'});"
             "console.log(c.verify('RSA-SHA256',Buffer.from(t[0]+'.'+t[1]),k,"
             "Buffer.from(t[2],'base64url')))",
             set, token);
    if (!run_node(w->dir, buf_str(&script), &out)) {
        world_free(w);
        SKIP_BECAUSE("no Node here");
    }
    assert_string_equal(buf_str(&out), "true\n");
    assert_int_equal(check(w, token), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_token_passes_again_and_again),
        cmocka_unit_test(no_token_and_no_real_token_are_refused),
        cmocka_unit_test(one_changed_byte_anywhere_is_one_too_many),
        cmocka_unit_test(only_rs256_by_a_named_key_counts),
        cmocka_unit_test(a_mac_by_the_public_key_is_no_signature),
        cmocka_unit_test(signatures_of_other_keys_and_digests_are_refused),
        cmocka_unit_test(huge_tokens_are_refused),
        cmocka_unit_test(claims_must_be_ours_and_of_now),
        cmocka_unit_test(a_token_ends_when_its_time_has_come),
        cmocka_unit_test(sets_are_read_strictly),
        cmocka_unit_test(many_keys_are_cut_off),
        cmocka_unit_test(a_new_key_is_fetched_when_a_token_names_it),
        cmocka_unit_test(unknown_keys_do_not_make_it_hammer_or_wait),
        cmocka_unit_test(a_slow_cloudflare_holds_few_and_not_for_long),
        cmocka_unit_test(a_restart_works_while_the_keys_cannot_be_reached),
        cmocka_unit_test(keys_of_another_place_on_the_disk_are_not_used),
        cmocka_unit_test(without_any_key_it_comes_as_soon_as_it_can_be_had),
        cmocka_unit_test(what_node_signs_passes),
        cmocka_unit_test(what_passes_here_passes_in_node),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
