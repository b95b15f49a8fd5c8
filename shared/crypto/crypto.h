/*
 * The cryptography that the runner needs, from OpenSSL's libcrypto.
 *
 * Threads: any.
 * Ownership: keys and hashes are freed by the _free function of their name.
 */
#ifndef CRYPTO_CRYPTO_H
#define CRYPTO_CRYPTO_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define CRYPTO_SHA256_SIZE 32
#define CRYPTO_KEY_SIZE 32
#define CRYPTO_NONCE_SIZE 12
#define CRYPTO_TAG_SIZE 16

void crypto_sha256(const void *data, size_t len, unsigned char digest[CRYPTO_SHA256_SIZE]);

/* SHA-1, for formats that require it, such as git's. It protects against nobody. */
#define CRYPTO_SHA1_SIZE 20
void crypto_sha1(const void *data, size_t len, unsigned char digest[CRYPTO_SHA1_SIZE]);

/* A digest over several pieces. */
struct crypto_hash;
struct crypto_hash *crypto_hash_new(void);
void crypto_hash_add(struct crypto_hash *hash, const void *data, size_t len);
void crypto_hash_end(struct crypto_hash *hash, unsigned char digest[CRYPTO_SHA256_SIZE]);
void crypto_hash_free(struct crypto_hash *hash);
DEFINE_AUTO(crypto_hash, struct crypto_hash *, crypto_hash_free)

void crypto_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        unsigned char mac[CRYPTO_SHA256_SIZE]);

/* Compares in time that depends on the lengths only. */
bool crypto_equal(const void *a, size_t a_len, const void *b, size_t b_len);

/* Appends nonce, ciphertext and tag (AES-256-GCM, a fresh random nonce). `aad` is authenticated but
 * not stored: opening needs the same. */
int crypto_seal(const unsigned char key[CRYPTO_KEY_SIZE], const char *aad, const void *data,
                size_t len, struct buf *out, struct err *err);

/* A fresh key and nonce, for one seal only. */
struct crypto_fresh {
    unsigned char key[CRYPTO_KEY_SIZE];
    unsigned char nonce[CRYPTO_NONCE_SIZE];
};
void crypto_fresh_new(struct crypto_fresh *ret_fresh);

/* Seals several pieces as one text, without copying the long ones. crypto_open() takes the key. */
struct crypto_piece {
    const void *data;
    size_t len;
};
int crypto_seal_pieces(const struct crypto_fresh *fresh, const char *aad,
                       const struct crypto_piece *pieces, size_t count, struct buf *out,
                       struct err *err);

/* Appends the plain text; ERR_MISMATCH when the key, the aad or a single bit is not the same. */
int crypto_open(const unsigned char key[CRYPTO_KEY_SIZE], const char *aad, const void *sealed,
                size_t len, struct buf *out, struct err *err);

/* An RSA public key: modulus and exponent as big-endian bytes, as a JWK has them. NULL with
 * ERR_INVALID when it is no key of 2048 to 8192 bits. */
struct crypto_rsa;
struct crypto_rsa *crypto_rsa_new(const void *n, size_t n_len, const void *e, size_t e_len,
                                  struct err *err);
/* An RSA private key from PEM text: PKCS#8 or PKCS#1, not encrypted. NULL with ERR_INVALID, whose
 * message holds nothing of the text. */
struct crypto_rsa *crypto_rsa_new_pem(const char *pem, struct err *err);
void crypto_rsa_free(struct crypto_rsa *key);
DEFINE_AUTO(crypto_rsa, struct crypto_rsa *, crypto_rsa_free)

/* True when it is the key's RS256 signature (RSASSA-PKCS1-v1_5 with SHA-256) of the data. */
bool crypto_rs256_is_valid(const struct crypto_rsa *key, const void *data, size_t len,
                           const void *signature, size_t signature_len);

/* Appends the RS256 signature of the data by a private key. */
int crypto_rs256_sign(const struct crypto_rsa *key, const void *data, size_t len, struct buf *out,
                      struct err *err);

/* A key pair on the curve P-256. Its point, the public half, is 65 bytes that begin with 4. */
#define CRYPTO_P256_POINT_SIZE 65
#define CRYPTO_ES256_SIZE 64
struct crypto_p256;
struct crypto_p256 *crypto_p256_new(struct err *err);
/* Makes a key from its exported halves. ERR_INVALID when they do not belong together. */
struct crypto_p256 *crypto_p256_load(const unsigned char secret[CRYPTO_KEY_SIZE],
                                     const unsigned char point[CRYPTO_P256_POINT_SIZE],
                                     struct err *err);
void crypto_p256_free(struct crypto_p256 *key);
DEFINE_AUTO(crypto_p256, struct crypto_p256 *, crypto_p256_free)

/* Both halves; ret_secret may be NULL. */
int crypto_p256_export(const struct crypto_p256 *key, unsigned char ret_secret[CRYPTO_KEY_SIZE],
                       unsigned char ret_point[CRYPTO_P256_POINT_SIZE], struct err *err);

/* Whether the bytes are a point of the curve. */
bool crypto_p256_is_point(const unsigned char *point, size_t len);

/* The secret that this key shares with the owner of `point` (ECDH). ERR_INVALID when the bytes are
 * no point. */
int crypto_p256_agree(const struct crypto_p256 *key,
                      const unsigned char point[CRYPTO_P256_POINT_SIZE],
                      unsigned char ret_shared[CRYPTO_KEY_SIZE], struct err *err);

/* The ES256 signature (ECDSA with SHA-256) as JWTs have it: both numbers, one after the other. */
int crypto_es256_sign(const struct crypto_p256 *key, const void *data, size_t len,
                      unsigned char ret_signature[CRYPTO_ES256_SIZE], struct err *err);

/* Appends ciphertext and tag by AES-128-GCM. A key and nonce are good for one text. At most 1 MiB.
 */
int crypto_aes128gcm(const unsigned char key[16], const unsigned char nonce[CRYPTO_NONCE_SIZE],
                     const void *data, size_t len, struct buf *out, struct err *err);

#endif
