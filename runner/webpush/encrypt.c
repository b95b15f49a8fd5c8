#include "runner/webpush/encrypt.h"

#include "base/check.h"
#include "base/str.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>

#define RECORD_SIZE 4096
#define TOKEN_LIFE_S (12 * 3600)

/* HKDF with SHA-256 (RFC 5869), up to one block: `info` is followed by the byte 1. */
static void derive(const unsigned char *salt, size_t salt_len, const unsigned char *secret,
                   size_t secret_len, const void *info, size_t info_len, unsigned char *to,
                   size_t len)
{
    unsigned char key[CRYPTO_SHA256_SIZE], block[CRYPTO_SHA256_SIZE], text[256];
    crypto_hmac_sha256(salt, salt_len, secret, secret_len, key);
    memcpy(text, info, info_len);
    text[info_len] = 1;
    crypto_hmac_sha256(key, sizeof(key), text, info_len + 1, block);
    memcpy(to, block, len);
    explicit_bzero(key, sizeof(key));
    explicit_bzero(block, sizeof(block));
}

/* The shared secret of both keys and the browser's auth, from which the keys are derived. */
static int agree(const struct push_peer *peer, const struct crypto_p256 *key,
                 unsigned char ret_point[CRYPTO_P256_POINT_SIZE],
                 unsigned char ret_secret[CRYPTO_SHA256_SIZE], struct err *err)
{
    static const char label[] = "WebPush: info"; /* including its NUL */
    unsigned char shared[CRYPTO_KEY_SIZE];
    unsigned char info[sizeof(label) + 2 * (size_t)CRYPTO_P256_POINT_SIZE];
    if (crypto_p256_export(key, NULL, ret_point, err) ||
        crypto_p256_agree(key, peer->point, shared, err))
        return -1;
    memcpy(info, label, sizeof(label));
    memcpy(info + sizeof(label), peer->point, CRYPTO_P256_POINT_SIZE);
    memcpy(info + sizeof(label) + CRYPTO_P256_POINT_SIZE, ret_point, CRYPTO_P256_POINT_SIZE);
    derive(peer->auth, PUSH_AUTH_SIZE, shared, sizeof(shared), info, sizeof(info), ret_secret,
           CRYPTO_SHA256_SIZE);
    explicit_bzero(shared, sizeof(shared));
    return 0;
}

int webpush_encrypt(const struct push_peer *peer, const struct crypto_p256 *key,
                    const unsigned char salt[PUSH_SALT_SIZE], const void *text, size_t len,
                    struct buf *out, struct err *err)
{
    REQUIRE(peer && key && salt);
    static const char key_label[] = "Content-Encoding: aes128gcm"; /* both including their NUL */
    static const char nonce_label[] = "Content-Encoding: nonce";
    static const unsigned char size[] = {0, 0, RECORD_SIZE >> 8, RECORD_SIZE & 0xff,
                                         CRYPTO_P256_POINT_SIZE};
    unsigned char point[CRYPTO_P256_POINT_SIZE], secret[CRYPTO_SHA256_SIZE];
    unsigned char content_key[16], nonce[CRYPTO_NONCE_SIZE], padded[PUSH_TEXT_MAX + 1];
    if (len > PUSH_TEXT_MAX)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes are too many for a push message", len);
    if (agree(peer, key, point, secret, err))
        return -1;
    derive(salt, PUSH_SALT_SIZE, secret, sizeof(secret), key_label, sizeof(key_label), content_key,
           sizeof(content_key));
    derive(salt, PUSH_SALT_SIZE, secret, sizeof(secret), nonce_label, sizeof(nonce_label), nonce,
           sizeof(nonce));
    memcpy(padded, text, len);
    padded[len] = 2; /* Marks the last record. */
    buf_add(out, salt, PUSH_SALT_SIZE);
    buf_add(out, size, sizeof(size));
    buf_add(out, point, sizeof(point));
    int rc = crypto_aes128gcm(content_key, nonce, padded, len + 1, out, err);
    explicit_bzero(secret, sizeof(secret));
    explicit_bzero(content_key, sizeof(content_key));
    return rc ? -1 : buf_check(out, "the push message", err);
}

int webpush_vapid(const struct crypto_p256 *key, const char *audience, const char *contact,
                  int64_t now_s, struct buf *out, struct err *err)
{
    static const char head[] = "{\"typ\":\"JWT\",\"alg\":\"ES256\"}";
    struct json_writer w;
    unsigned char signature[CRYPTO_ES256_SIZE], point[CRYPTO_P256_POINT_SIZE];
    AUTO(buf) struct buf claims = BUF_INIT(4096), token = BUF_INIT(16384);
    json_write(&w, &claims);
    json_open_object(&w, NULL);
    json_add_text(&w, "aud", audience);
    json_add_int(&w, "exp", now_s + TOKEN_LIFE_S);
    json_add_text(&w, "sub", contact);
    json_close(&w);
    str_add_base64(&token, BASE64_URL, head, sizeof(head) - 1);
    buf_addc(&token, '.');
    str_add_base64(&token, BASE64_URL, claims.data, claims.len);
    if (buf_check(&claims, "a token", err) || buf_check(&token, "a token", err) ||
        crypto_es256_sign(key, token.data, token.len, signature, err) ||
        crypto_p256_export(key, NULL, point, err))
        return -1;
    buf_addf(out, "vapid t=%s.", buf_str(&token));
    str_add_base64(out, BASE64_URL, signature, sizeof(signature));
    buf_adds(out, ", k=");
    str_add_base64(out, BASE64_URL, point, sizeof(point));
    return buf_check(out, "a header", err);
}
