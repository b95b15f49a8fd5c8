#include "access_scene.h"

#include "base/fd.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

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
        token[i] = '\0'; /* every truncation of the token */
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
    /* The server's own configured address of the keys counts; the one in the token is ignored. */
    assert_int_equal(check_made(w, one,
                                "{\"alg\":\"RS256\",\"kid\":\"k1\",\"jku\":\"https://x/\","
                                "\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"}}",
                                GOOD),
                     0);
    world_free(w);
}

/* The public key is used as an HMAC key, the classic confusion of algorithms. */
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
    assert_int_equal(check_made(w, one, K1, huge), -1); /* the token is valid, but longer than the
                                                         * maximum */
    snprintf(huge, 40000,
             "{\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"exp\":1800000600,\"x\":\"%0*d\"}", 8000,
             0);
    assert_int_equal(check_made(w, one, K1, huge), 0);
    world_free(w);
}

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

/* --- somebody else's code ------------------------------------------------------------------ */

/* Runs `node -e script` with its output in `out`; false where Node is missing. */
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
    EVENTUALLY(20000, check(w, token) == 0); /* a fetch from before may still be on its way */
    token[0] ^= 1;
    assert_int_equal(check(w, token), -1);
    world_free(w);
}

/* Checks the tokens with Node too, so that the tests and the code do not share a mistake. */
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
        cmocka_unit_test(what_node_signs_passes),
        cmocka_unit_test(what_passes_here_passes_in_node),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
