/*
 * Encrypts a push message's body by RFC 8291 (aes128gcm of RFC 8188), and makes the header by which
 * a push service identifies the sender (VAPID, RFC 8292). Private to runner/webpush.
 *
 * Threads: no shared state.
 */
#ifndef WEBPUSH_ENCRYPT_H
#define WEBPUSH_ENCRYPT_H

#include "crypto/crypto.h"

#include <stdint.h>

#define PUSH_AUTH_SIZE 16
#define PUSH_SALT_SIZE 16
#define PUSH_TEXT_MAX 3000 /* a push service accepts 4096 bytes in all */

/* The recipient. */
struct push_peer {
    unsigned char point[CRYPTO_P256_POINT_SIZE];
    unsigned char auth[PUSH_AUTH_SIZE];
};

/* Appends the body. Use `key` and `salt` for one message only. */
int webpush_encrypt(const struct push_peer *peer, const struct crypto_p256 *key,
                    const unsigned char salt[PUSH_SALT_SIZE], const void *text, size_t len,
                    struct buf *out, struct err *err);

/* Appends "vapid t=…, k=…": `audience` is the endpoint's origin, `contact` the sender's contact
 * address. */
int webpush_vapid(const struct crypto_p256 *key, const char *audience, const char *contact,
                  int64_t now_s, struct buf *out, struct err *err);

#endif
