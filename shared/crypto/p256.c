/* Keys on the curve P-256: signatures (ES256) and shared secrets; and AES-128-GCM, which uses such
 * secrets as keys. */
#include "crypto/crypto.h"

#include "crypto/crypto_private.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdlib.h>
#include <string.h>

#define CURVE "P-256"
#define HALF (CRYPTO_ES256_SIZE / 2)

struct crypto_p256 {
    EVP_PKEY *pkey;
};

static void free_signature(ECDSA_SIG *signature)
{
    ECDSA_SIG_free(signature);
}
DEFINE_AUTO(signature, ECDSA_SIG *, free_signature)

static int failed(struct err *err, const char *what)
{
    ERR_clear_error(); /* OpenSSL's messages may hold parts of a key. */
    return err_set(err, ERR_INTERNAL, "%s failed", what);
}

/* --- keys ---------------------------------------------------------------------------------- */

/* Makes a key from its public point, and from its secret number when that is not NULL. */
static EVP_PKEY *make_pkey(const unsigned char *point, const BIGNUM *secret)
{
    EVP_PKEY *pkey = NULL;
    AUTO(builder) OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    if (!builder ||
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, CURVE, 0) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point,
                                         CRYPTO_P256_POINT_SIZE) != 1 ||
        (secret && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, secret) != 1))
        return NULL;
    AUTO(params) OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    AUTO(pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, secret ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) != 1)
        return NULL;
    return pkey;
}

struct crypto_p256 *crypto_p256_new(struct err *err)
{
    AUTO(crypto_p256) struct crypto_p256 *key = calloc(1, sizeof(*key));
    if (key && (key->pkey = EVP_EC_gen(CURVE)))
        return STEAL_PTR(key);
    failed(err, "making a key");
    return NULL;
}

struct crypto_p256 *crypto_p256_load(const unsigned char secret[CRYPTO_KEY_SIZE],
                                     const unsigned char point[CRYPTO_P256_POINT_SIZE],
                                     struct err *err)
{
    AUTO(number) BIGNUM *number = BN_bin2bn(secret, CRYPTO_KEY_SIZE, NULL);
    AUTO(crypto_p256) struct crypto_p256 *key = calloc(1, sizeof(*key));
    if (key && number && (key->pkey = make_pkey(point, number))) {
        AUTO(pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
        if (ctx && EVP_PKEY_check(ctx) == 1)
            return STEAL_PTR(key);
    }
    ERR_clear_error();
    err_set(err, ERR_INVALID, "that is no key of P-256");
    return NULL;
}

void crypto_p256_free(struct crypto_p256 *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

int crypto_p256_export(const struct crypto_p256 *key, unsigned char ret_secret[CRYPTO_KEY_SIZE],
                       unsigned char ret_point[CRYPTO_P256_POINT_SIZE], struct err *err)
{
    size_t len = 0;
    BIGNUM *number = NULL;
    bool good = EVP_PKEY_get_octet_string_param(key->pkey, OSSL_PKEY_PARAM_PUB_KEY, ret_point,
                                                CRYPTO_P256_POINT_SIZE, &len) == 1 &&
                len == CRYPTO_P256_POINT_SIZE && ret_point[0] == 4;
    if (good && ret_secret)
        good = EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_PRIV_KEY, &number) == 1 &&
               BN_bn2binpad(number, ret_secret, CRYPTO_KEY_SIZE) == CRYPTO_KEY_SIZE;
    BN_clear_free(number);
    return good ? 0 : failed(err, "reading a key");
}

/* --- what they do -------------------------------------------------------------------------- */

int crypto_p256_agree(const struct crypto_p256 *key,
                      const unsigned char point[CRYPTO_P256_POINT_SIZE],
                      unsigned char ret_shared[CRYPTO_KEY_SIZE], struct err *err)
{
    size_t len = CRYPTO_KEY_SIZE;
    AUTO(pkey) EVP_PKEY *peer = make_pkey(point, NULL);
    if (!peer) {
        ERR_clear_error();
        return err_set(err, ERR_INVALID, "that is no point of P-256");
    }
    AUTO(pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
    if (!ctx || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, peer) != 1 ||
        EVP_PKEY_derive(ctx, ret_shared, &len) != 1 || len != CRYPTO_KEY_SIZE)
        return failed(err, "agreeing on a secret");
    return 0;
}

bool crypto_p256_is_point(const unsigned char *point, size_t len)
{
    AUTO(pkey) EVP_PKEY *pkey = len == CRYPTO_P256_POINT_SIZE ? make_pkey(point, NULL) : NULL;
    AUTO(pkey_ctx) EVP_PKEY_CTX *ctx = pkey ? EVP_PKEY_CTX_new(pkey, NULL) : NULL;
    bool good = ctx && EVP_PKEY_public_check(ctx) == 1;
    ERR_clear_error();
    return good;
}

int crypto_es256_sign(const struct crypto_p256 *key, const void *data, size_t len,
                      unsigned char ret_signature[CRYPTO_ES256_SIZE], struct err *err)
{
    unsigned char der[160];
    const unsigned char *at = der;
    size_t der_len = sizeof(der);
    AUTO(md_ctx) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key->pkey) != 1 ||
        EVP_DigestSign(ctx, der, &der_len, data, len) != 1)
        return failed(err, "signing");
    AUTO(signature) ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &at, (long)der_len);
    if (!signature || BN_bn2binpad(ECDSA_SIG_get0_r(signature), ret_signature, HALF) != HALF ||
        BN_bn2binpad(ECDSA_SIG_get0_s(signature), ret_signature + HALF, HALF) != HALF)
        return failed(err, "signing");
    return 0;
}

int crypto_aes128gcm(const unsigned char key[16], const unsigned char nonce[CRYPTO_NONCE_SIZE],
                     const void *data, size_t len, struct buf *out, struct err *err)
{
    int n = 0, last = 0;
    unsigned char *to = (unsigned char *)buf_room(out, len + CRYPTO_TAG_SIZE);
    AUTO(cipher) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!to)
        return buf_check(out, "the sealed text", err);
    if (len > 1u << 20 || !ctx ||
        EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce) != 1 ||
        EVP_EncryptUpdate(ctx, to, &n, data, (int)len) != 1 ||
        EVP_EncryptFinal_ex(ctx, to + n, &last) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, CRYPTO_TAG_SIZE, to + len) != 1)
        return failed(err, "sealing");
    buf_grew(out, len + CRYPTO_TAG_SIZE);
    return 0;
}
