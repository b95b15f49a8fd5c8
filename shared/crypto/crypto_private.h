/*
 * AUTO kinds for OpenSSL's objects. Private to shared/crypto.
 *
 * Threads: any; an object belongs to one thread at a time.
 */
#ifndef CRYPTO_CRYPTO_PRIVATE_H
#define CRYPTO_CRYPTO_PRIVATE_H

#include "base/auto.h"

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

DEFINE_AUTO(number, BIGNUM *, BN_clear_free)
DEFINE_AUTO(builder, OSSL_PARAM_BLD *, OSSL_PARAM_BLD_free)
DEFINE_AUTO(params, OSSL_PARAM *, OSSL_PARAM_free)
DEFINE_AUTO(pkey, EVP_PKEY *, EVP_PKEY_free)
DEFINE_AUTO(pkey_ctx, EVP_PKEY_CTX *, EVP_PKEY_CTX_free)
DEFINE_AUTO(md_ctx, EVP_MD_CTX *, EVP_MD_CTX_free)
DEFINE_AUTO(cipher, EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free)

#endif
