/*
 * The cryptography that the runner needs, from OpenSSL's libcrypto.
 *
 * Threads: any.
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

void crypto_sha256(const void *data, size_t len, unsigned char digest[CRYPTO_SHA256_SIZE]);

/* For formats that have it, such as git's; no protection against anybody. */
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

/* Appends nonce, ciphertext and tag (AES-256-GCM, a fresh random nonce). `aad` is bound, not kept:
 * opening needs the same. */
int crypto_seal(const unsigned char key[CRYPTO_KEY_SIZE], const char *aad, const void *data,
                size_t len, struct buf *out, struct err *err);

/* A key and a nonce that nobody has used yet: for one seal. */
struct crypto_fresh {
    unsigned char key[CRYPTO_KEY_SIZE];
    unsigned char nonce[CRYPTO_NONCE_SIZE];
};
void crypto_fresh_new(struct crypto_fresh *ret_fresh);

/* The same of several pieces, one after the other, without a copy of the long ones. crypto_open()
 * takes the key. */
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

#endif
