#include "crypto/crypto.h"

#include "crypto/crypto_private.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#define BITS_MIN 2048
#define BITS_MAX 8192
#define EXPONENT_BYTES_MAX 8 /* Exponents in use are 3 and 65537; long ones only cost time. */
#define PEM_BYTES_MAX 65536

struct crypto_rsa {
    EVP_PKEY *pkey;
    size_t size; /* bytes of a signature */
};

static void free_bio(BIO *bio)
{
    BIO_free(bio);
}
DEFINE_AUTO(bio, BIO *, free_bio)

static EVP_PKEY *make_pkey(const BIGNUM *n, const BIGNUM *e)
{
    EVP_PKEY *pkey = NULL;
    AUTO(builder) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (!builder || OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) != 1)
        return NULL;
    AUTO(params) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    AUTO(pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        return NULL;
    return pkey;
}

struct crypto_rsa *crypto_rsa_new(const void *n, size_t n_len, const void *e, size_t e_len,
                                  struct err *err)
{
    AUTO(number) BIGNUM *modulus = NULL;
    AUTO(number) BIGNUM *exponent = NULL;
    AUTO(crypto_rsa) struct crypto_rsa *key = NULL;
    if (n_len > BITS_MAX / 8 || e_len > EXPONENT_BYTES_MAX ||
        !(modulus = BN_bin2bn(n, (int)n_len, NULL)) ||
        !(exponent = BN_bin2bn(e, (int)e_len, NULL)) || BN_num_bits(modulus) < BITS_MIN ||
        !BN_is_odd(modulus) || !BN_is_odd(exponent) || BN_is_one(exponent)) {
        err_set(err, ERR_INVALID, "no RSA key of %d to %d bits", BITS_MIN, BITS_MAX);
        return NULL;
    }
    key = calloc(1, sizeof(*key));
    if (!key || !(key->pkey = make_pkey(modulus, exponent))) {
        ERR_clear_error();
        err_set(err, ERR_INVALID, "OpenSSL takes no such RSA key");
        return NULL;
    }
    key->size = (size_t)BN_num_bytes(modulus);
    return STEAL_PTR(key);
}

/* Without this callback libcrypto would ask on the terminal. */
static int no_password(char *to, int size, int writing, void *arg)
{
    (void)to, (void)size, (void)writing, (void)arg;
    return -1;
}

struct crypto_rsa *crypto_rsa_new_pem(const char *pem, struct err *err)
{
    AUTO(crypto_rsa) struct crypto_rsa *key = calloc(1, sizeof(*key));
    AUTO(bio) BIO *bio = BIO_new_mem_buf(pem, (int)strnlen(pem, PEM_BYTES_MAX));
    if (key && bio)
        key->pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    ERR_clear_error();
    if (!key || !key->pkey || !EVP_PKEY_is_a(key->pkey, "RSA") ||
        EVP_PKEY_get_bits(key->pkey) < BITS_MIN || EVP_PKEY_get_bits(key->pkey) > BITS_MAX) {
        err_set(err, ERR_INVALID, "no unencrypted RSA private key of %d to %d bits in PEM",
                BITS_MIN, BITS_MAX);
        return NULL;
    }
    key->size = (size_t)EVP_PKEY_get_size(key->pkey);
    return STEAL_PTR(key);
}

void crypto_rsa_free(struct crypto_rsa *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

bool crypto_rs256_is_valid(const struct crypto_rsa *key, const void *data, size_t len,
                           const void *signature, size_t signature_len)
{
    EVP_PKEY_CTX *padding; /* the context's */
    if (signature_len != key->size)
        return false;
    AUTO(md_ctx) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool valid = ctx && EVP_DigestVerifyInit(ctx, &padding, EVP_sha256(), NULL, key->pkey) == 1 &&
                 EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1 &&
                 EVP_DigestVerify(ctx, signature, signature_len, data, len) == 1;
    ERR_clear_error();
    return valid;
}

int crypto_rs256_sign(const struct crypto_rsa *key, const void *data, size_t len, struct buf *out,
                      struct err *err)
{
    EVP_PKEY_CTX *padding; /* the context's */
    size_t size = key->size;
    unsigned char *to = (unsigned char *)buf_room(out, size);
    if (!to)
        return buf_check(out, "the signature", err);
    AUTO(md_ctx) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool made = ctx && EVP_DigestSignInit(ctx, &padding, EVP_sha256(), NULL, key->pkey) == 1 &&
                EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PADDING) == 1 &&
                EVP_DigestSign(ctx, to, &size, data, len) == 1;
    ERR_clear_error();
    if (!made)
        return err_set(err, ERR_INTERNAL, "the RSA key does not sign");
    buf_grew(out, size);
    return 0;
}
