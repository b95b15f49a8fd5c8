#include "crypto/crypto.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const unsigned char key[CRYPTO_KEY_SIZE] = "0123456789abcdef0123456789abcde";

static void assert_hex(const unsigned char digest[CRYPTO_SHA256_SIZE], const char *want)
{
    AUTO(buf) struct buf hex = BUF_INIT(128);
    str_add_hex(&hex, digest, CRYPTO_SHA256_SIZE);
    assert_string_equal(buf_str(&hex), want);
}

/* FIPS 180-2's examples, and the empty text. */
static void digests_are_what_the_standard_says(void **state)
{
    (void)state;
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned char digest[CRYPTO_SHA256_SIZE];
        size_t len = strlen(cases[i].text);
        crypto_sha256(cases[i].text, len, digest);
        assert_hex(digest, cases[i].digest);
        AUTO(crypto_hash) struct crypto_hash *hash = crypto_hash_new();
        assert_non_null(hash);
        for (size_t at = 0; at < len; at++)
            crypto_hash_add(hash, cases[i].text + at, 1);
        crypto_hash_end(hash, digest);
        assert_hex(digest, cases[i].digest);
    }
}

/* RFC 4231, cases 1, 2 and 6, and an empty key. */
static void macs_are_what_the_standard_says(void **state)
{
    (void)state;
    unsigned char mac[CRYPTO_SHA256_SIZE], bytes[131];
    memset(bytes, 0x0b, 20);
    crypto_hmac_sha256(bytes, 20, "Hi There", 8, mac);
    assert_hex(mac, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    crypto_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
    assert_hex(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(bytes, 0xaa, sizeof(bytes));
    crypto_hmac_sha256(bytes, sizeof(bytes),
                       "Test Using Larger Than Block-Size Key - Hash Key First", 54, mac);
    assert_hex(mac, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    crypto_hmac_sha256(NULL, 0, "", 0, mac);
    assert_hex(mac, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void equal_means_same_length_and_bytes(void **state)
{
    (void)state;
    assert_true(crypto_equal("abc", 3, "abc", 3));
    assert_true(crypto_equal("", 0, "x", 0));
    assert_false(crypto_equal("abc", 3, "abd", 3));
    assert_false(crypto_equal("abc", 3, "abcd", 4));
    assert_false(crypto_equal("a\0b", 3, "a\0c", 3));
}

static void what_is_sealed_opens_again_at_every_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 100000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf plain = BUF_INIT(200000);
        AUTO(buf) struct buf sealed = BUF_INIT(200000);
        AUTO(buf) struct buf opened = BUF_INIT(200000);
        assert_non_null(buf_room(&plain, sizes[i]));
        memset(plain.data, 'x', sizes[i]);
        buf_grew(&plain, sizes[i]);
        buf_adds(&sealed, "before");
        assert_int_equal(crypto_seal(key, "task 1", plain.data, plain.len, &sealed, &err), 0);
        assert_int_equal(sealed.len, 6 + 12 + sizes[i] + 16);
        assert_int_equal(crypto_open(key, "task 1", sealed.data + 6, sealed.len - 6, &opened, &err),
                         0);
        assert_int_equal(opened.len, plain.len);
        assert_memory_equal(opened.data, plain.data, plain.len);
    }
}

static void refuses_another_key_aad_or_a_single_changed_bit(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    unsigned char other[CRYPTO_KEY_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(1024);
    AUTO(buf) struct buf opened = BUF_INIT(1024);
    assert_int_equal(crypto_seal(key, "task 1", "secret", 6, &sealed, &err), 0);
    for (size_t bit = 0; bit < sealed.len * 8; bit++) {
        sealed.data[bit / 8] = (char)(sealed.data[bit / 8] ^ (1 << bit % 8));
        assert_int_equal(crypto_open(key, "task 1", sealed.data, sealed.len, &opened, &err), -1);
        assert_int_equal(err.code, ERR_MISMATCH);
        sealed.data[bit / 8] = (char)(sealed.data[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t len = 0; len < sealed.len; len++)
        assert_int_equal(crypto_open(key, "task 1", sealed.data, len, &opened, &err), -1);
    memcpy(other, key, sizeof(other));
    other[31] ^= 1;
    assert_int_equal(crypto_open(other, "task 1", sealed.data, sealed.len, &opened, &err), -1);
    assert_int_equal(crypto_open(key, "task 2", sealed.data, sealed.len, &opened, &err), -1);
    assert_int_equal(crypto_open(key, "", sealed.data, sealed.len, &opened, &err), -1);
    assert_int_equal(opened.len, 0);
    assert_int_equal(crypto_open(key, "task 1", sealed.data, sealed.len, &opened, &err), 0);
}

/* McGrew and Viega's case 14: zero key, zero nonce, one zero block, no aad. */
static void opens_what_another_implementation_sealed(void **state)
{
    (void)state;
    static const unsigned char zero_key[CRYPTO_KEY_SIZE];
    static const unsigned char sealed[12 + 16 + 16] = {
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0xce, 0xa7, 0x40,
        0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18, 0xd0, 0xd1,
        0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    static const char zeros[16];
    struct err err = ERR_INIT;
    AUTO(buf) struct buf opened = BUF_INIT(64);
    if (crypto_open(zero_key, "", sealed, sizeof(sealed), &opened, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(opened.len, 16);
    assert_memory_equal(opened.data, zeros, 16);
}

static void two_seals_of_the_same_differ(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf one = BUF_INIT(1024);
    AUTO(buf) struct buf two = BUF_INIT(1024);
    assert_int_equal(crypto_seal(key, "", "secret", 6, &one, &err), 0);
    assert_int_equal(crypto_seal(key, "", "secret", 6, &two, &err), 0);
    assert_int_equal(one.len, two.len);
    assert_true(memcmp(one.data, two.data, one.len) != 0);
}

static void a_full_buffer_is_an_error_and_holds_nothing_more(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf small = BUF_INIT(33);
    assert_int_equal(crypto_seal(key, "", "secret", 6, &small, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(small.len, 0);
}

/* `openssl dgst -sha256 -sign`. */
static const char their_n[] =
    "jCOGlvj-tbVm1EsVy571IuzuQbKoAgHc44u69CmkSmGC0KhcmkS5nPK5sd08LhTr9wEJuqEUufecN7LuASiZy0cx0OPao7"
    "NnUAeFZJC3_SRdYfE23J8iD95hcaSq55xXNLOW37xRwBgXvyOb4m1owA9EJxKMNdz3mZi5zjyWtq8fy7ljiLiq3dPUbXfr"
    "NdPR1-"
    "QeQA3HCoOknxSegQ4pRIjdpGiv0y00pWPjLIi5VZbC8byRClFZEFO528UbWCn5l4nr__AWAPMSWyl2fdXXypGLUPX5iy5S"
    "_TMgammt9joU3HuN5ennGNpz1L3-OU9KejXjDzAOJoz1p50fPaDmQw";
static const char their_text[] = "signed by the openssl program";
static const char their_signature[] =
    "WpgA6QpUI2Dt0Z481gRXmK6au-DOqUmbk7mVDtaknnaBFYQTpiQ6-"
    "fE0GY1z0qW327NMYuCj3Vnw5VYI3QFCjAVdVJ4v5hBsct05qzmPAjZ3KNt9wrbgLXiMzrqvBA_HvF4msBhUzHMbwPjLJUp"
    "EJKj6DP5jYzv6aiu3Mz36cIOJPKcCGPmBSA1pzQboG7c0Az5nAroj37FkQ0X-"
    "xYpHqJSIJY66AIhS4g54FEsIVizEnNjfsmre-PqGZs_1VleNEyjaI3BR4phntavFRqnaj2ZjI6Ke5F-"
    "85f5VAz7u4KA_bUMlhiOisyuOwxzwEwW5s4wYRZSgEJaY8vJm0Tn84Q";

static void a_signature_by_somebody_else_is_valid_and_no_other(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf n = BUF_INIT(1024), signature = BUF_INIT(1024);
    assert_int_equal(str_read_base64url(their_n, strlen(their_n), &n), 0);
    assert_int_equal(str_read_base64url(their_signature, strlen(their_signature), &signature), 0);
    AUTO(crypto_rsa)
    struct crypto_rsa *rsa = crypto_rsa_new(n.data, n.len, "\1\0\1", 3, &err);
    assert_non_null(rsa);
    size_t len = strlen(their_text);
    assert_true(crypto_rs256_is_valid(rsa, their_text, len, signature.data, signature.len));
    assert_false(crypto_rs256_is_valid(rsa, their_text, len - 1, signature.data, signature.len));
    assert_false(crypto_rs256_is_valid(rsa, their_text, len, signature.data, signature.len - 1));
    assert_false(crypto_rs256_is_valid(rsa, their_text, len, "", 0));
    for (size_t i = 0; i < signature.len; i++) {
        signature.data[i] ^= 1;
        assert_false(crypto_rs256_is_valid(rsa, their_text, len, signature.data, signature.len));
        signature.data[i] ^= 1;
    }
}

static void weak_and_odd_keys_are_none(void **state)
{
    (void)state;
    static unsigned char n[2000];
    static const struct {
        size_t n_len, e_len;
        const char *e;
        unsigned char first, last;
        bool good;
    } cases[] = {
        {256, 3, "\1\0\1", 0x80, 1, true},
        {255, 3, "\1\0\1", 0xff, 1, false},
        {256, 3, "\1\0\1", 0x7f, 1, false},
        {256, 3, "\1\0\1", 0x80, 2, false},
        {257, 3, "\1\0\1", 0x00, 1, true},
        {1024, 3, "\1\0\1", 0x80, 1, true},
        {1025, 3, "\1\0\1", 0x80, 1, false},
        {0, 3, "\1\0\1", 0, 0, false},
        {256, 1, "\3", 0x80, 1, true},
        {256, 1, "\1", 0x80, 1, false},
        {256, 1, "\2", 0x80, 1, false},
        {256, 0, "", 0x80, 1, false},
        {256, 9, "\1\0\0\0\0\0\0\0\1", 0x80, 1, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        memset(n, 0x55, sizeof(n));
        n[0] = cases[i].first;
        n[1] |= 0x80; /* a number with a leading zero byte */
        if (cases[i].n_len > 0)
            n[cases[i].n_len - 1] = cases[i].last;
        AUTO(crypto_rsa)
        struct crypto_rsa *rsa =
            crypto_rsa_new(n, cases[i].n_len, cases[i].e, cases[i].e_len, &err);
        if (!rsa != !cases[i].good)
            fail_msg("case %zu: %s", i, err.msg);
    }
}

/* --- signing, checked by the openssl program ------------------------------------------------- */

static int run(const char *a, const char *b, const char *c, const char *d, const char *e,
               const char *f, const char *g)
{
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_t files;
    const char *words[] = {"openssl", a, b, c, d, e, f, g, NULL};
    char *argv[COUNT_OF(words)];
    memcpy(argv, words, sizeof(argv));
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    assert_int_equal(posix_spawnp(&pid, "openssl", &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static struct crypto_rsa *read_key(const char *path, struct err *err)
{
    AUTO(buf) struct buf pem = BUF_INIT(65536);
    assert_int_equal(file_read(path, &pem, err), 0);
    return crypto_rsa_new_pem(buf_str(&pem), err);
}

static void what_is_signed_is_valid_to_the_openssl_program(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char dir[] = "/tmp/unit-crypto-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(run("genrsa", "-out", "pkcs8.pem", "2048", NULL, NULL, NULL), 0);
    assert_int_equal(run("rsa", "-in", "pkcs8.pem", "-traditional", "-out", "pkcs1.pem", NULL), 0);
    static const char *const keys[] = {"pkcs8.pem", "pkcs1.pem"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        AUTO(buf) struct buf signature = BUF_INIT(1024);
        AUTO(buf) struct buf small = BUF_INIT(100);
        AUTO(crypto_rsa) struct crypto_rsa *key_pair = read_key(keys[i], &err);
        if (!key_pair)
            fail_msg("%s: %s", keys[i], err.msg);
        assert_int_equal(crypto_rs256_sign(key_pair, "some words", 10, &signature, &err), 0);
        assert_int_equal(signature.len, 256);
        assert_true(
            crypto_rs256_is_valid(key_pair, "some words", 10, signature.data, signature.len));
        assert_int_equal(file_replace("words", "some words", 10, 0600, &err), 0);
        assert_int_equal(file_replace("signature", signature.data, signature.len, 0600, &err), 0);
        assert_int_equal(
            run("dgst", "-sha256", "-prverify", "pkcs8.pem", "-signature", "signature", "words"),
            0);
        assert_int_equal(file_replace("words", "other words", 11, 0600, &err), 0);
        assert_true(run("dgst", "-sha256", "-prverify", "pkcs8.pem", "-signature", "signature",
                        "words") != 0);
        assert_int_equal(crypto_rs256_sign(key_pair, "some words", 10, &small, &err), -1);
        assert_int_equal(err.code, ERR_TOO_LARGE);
    }
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(path_remove_tree(dir, &err), 0);
}

static void what_is_no_plain_rsa_key_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char dir[] = "/tmp/unit-crypto-XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(run("genrsa", "-out", "small.pem", "1024", NULL, NULL, NULL), 0);
    assert_int_equal(run("genpkey", "-algorithm", "ed25519", "-out", "ed.pem", NULL, NULL), 0);
    assert_int_equal(
        run("genrsa", "-aes128", "-passout", "pass:hunter2", "-out", "locked.pem", "2048"), 0);
    static const char *const keys[] = {"small.pem", "ed.pem", "locked.pem"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        assert_null(read_key(keys[i], &err));
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_null(crypto_rsa_new_pem("", &err));
    assert_null(
        crypto_rsa_new_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &err));
    assert_string_equal(err.msg, "no unencrypted RSA private key of 2048 to 8192 bits in PEM");
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(path_remove_tree(dir, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_what_the_standard_says),
        cmocka_unit_test(macs_are_what_the_standard_says),
        cmocka_unit_test(equal_means_same_length_and_bytes),
        cmocka_unit_test(what_is_sealed_opens_again_at_every_size),
        cmocka_unit_test(refuses_another_key_aad_or_a_single_changed_bit),
        cmocka_unit_test(opens_what_another_implementation_sealed),
        cmocka_unit_test(two_seals_of_the_same_differ),
        cmocka_unit_test(a_full_buffer_is_an_error_and_holds_nothing_more),
        cmocka_unit_test(a_signature_by_somebody_else_is_valid_and_no_other),
        cmocka_unit_test(weak_and_odd_keys_are_none),
        cmocka_unit_test(what_is_signed_is_valid_to_the_openssl_program),
        cmocka_unit_test(what_is_no_plain_rsa_key_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
