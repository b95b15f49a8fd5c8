/*
 * JSON web tokens signed with RS256, valid and invalid ones.
 */
#ifndef TESTLIB_JWT_H
#define TESTLIB_JWT_H

#include <openssl/evp.h>
#include <stddef.h>

/* Both return fresh memory. */
char *jwt_base64url(const void *data, size_t size);
char *jwt_sign(EVP_PKEY *key, const char *header, const char *claims);

/* Reads a private key from PEM; fails the test when it is none. */
EVP_PKEY *jwt_key(const char *pem);

#endif
