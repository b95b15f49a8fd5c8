/* Push messages, against the vector of RFC 8291 (appendix A). */
#include "runner/webpush/encrypt.h"

#include "base/str.h"
#include "testbase.h"

#include <stdlib.h>
#include <string.h>

static void read_text(const char *text, void *to, size_t size)
{
    AUTO(buf) struct buf bytes = BUF_INIT(1024);
    assert_int_equal(str_read_base64url(text, strlen(text), &bytes), 0);
    assert_int_equal(bytes.len, size);
    memcpy(to, bytes.data, size);
}

#define UA_PUBLIC \
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
#define AS_PUBLIC \
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
#define AS_PRIVATE "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
#define AUTH "BTBZMqHH6r4Tts7J_aSIgg"
#define SALT "DGv6ra1nlYgDCS1FRnbzlw"
#define BODY                                                                                       \
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS" \
    "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_"   \
    "Qul"                                                                                          \
    "cy4a-fN"

static struct crypto_p256 *sender(void)
{
    struct err err = ERR_INIT;
    unsigned char secret[CRYPTO_KEY_SIZE], point[CRYPTO_P256_POINT_SIZE];
    read_text(AS_PRIVATE, secret, sizeof(secret));
    read_text(AS_PUBLIC, point, sizeof(point));
    struct crypto_p256 *key = crypto_p256_load(secret, point, &err);
    OK(key != NULL, &err);
    return key;
}

static struct push_peer receiver(void)
{
    struct push_peer peer;
    read_text(UA_PUBLIC, peer.point, sizeof(peer.point));
    read_text(AUTH, peer.auth, sizeof(peer.auth));
    return peer;
}

static void encrypts_as_the_rfc_does(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct push_peer peer = receiver();
    unsigned char salt[PUSH_SALT_SIZE];
    static const char text[] = "When I grow up, I want to be a watermelon";
    AUTO(crypto_p256) struct crypto_p256 *key = sender();
    AUTO(buf) struct buf body = BUF_INIT(8192), written = BUF_INIT(8192);
    read_text(SALT, salt, sizeof(salt));
    OK(webpush_encrypt(&peer, key, salt, text, strlen(text), &body, &err) == 0, &err);
    str_add_base64(&written, BASE64_URL, body.data, body.len);
    assert_string_equal(buf_str(&written), BODY);
}

static void refuses_what_is_too_long_or_no_point(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct push_peer peer = receiver();
    unsigned char salt[PUSH_SALT_SIZE] = {0};
    static char text[PUSH_TEXT_MAX + 1];
    AUTO(crypto_p256) struct crypto_p256 *key = sender();
    AUTO(buf) struct buf body = BUF_INIT(8192);
    memset(text, 'x', sizeof(text));
    OK(webpush_encrypt(&peer, key, salt, text, PUSH_TEXT_MAX, &body, &err) == 0, &err);
    assert_true(body.len <= 4096);
    assert_int_equal(webpush_encrypt(&peer, key, salt, text, sizeof(text), &body, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    peer.point[64] ^= 1; /* the point is no longer on the curve */
    assert_false(crypto_p256_is_point(peer.point, sizeof(peer.point)));
    assert_int_equal(webpush_encrypt(&peer, key, salt, text, 1, &body, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    peer.point[64] ^= 1;
    assert_true(crypto_p256_is_point(peer.point, sizeof(peer.point)));
    peer.point[0] = 2;
    assert_false(crypto_p256_is_point(peer.point, sizeof(peer.point)));
    assert_false(crypto_p256_is_point(peer.point, 0));
}

static void a_key_is_the_same_after_it_was_kept(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    unsigned char secret[CRYPTO_KEY_SIZE], point[CRYPTO_P256_POINT_SIZE], again[sizeof(point)];
    unsigned char one[CRYPTO_KEY_SIZE], two[CRYPTO_KEY_SIZE];
    AUTO(crypto_p256) struct crypto_p256 *key = crypto_p256_new(&err);
    AUTO(crypto_p256) struct crypto_p256 *other = crypto_p256_new(&err);
    OK(crypto_p256_export(key, secret, point, &err) == 0, &err);
    AUTO(crypto_p256) struct crypto_p256 *copy = crypto_p256_load(secret, point, &err);
    OK(copy != NULL, &err);
    OK(crypto_p256_export(other, NULL, again, &err) == 0, &err);
    OK(crypto_p256_agree(copy, again, one, &err) == 0, &err);
    OK(crypto_p256_agree(other, point, two, &err) == 0, &err);
    assert_memory_equal(one, two, sizeof(one));
    assert_null(crypto_p256_load(secret, again, &err)); /* the halves belong to two keys */
    memset(secret, 0, sizeof(secret));
    assert_null(crypto_p256_load(secret, point, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encrypts_as_the_rfc_does),
        cmocka_unit_test(refuses_what_is_too_long_or_no_point),
        cmocka_unit_test(a_key_is_the_same_after_it_was_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
