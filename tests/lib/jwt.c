#include "jwt.h"

#include "testing.h"

#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

char *jwt_base64url(const void *data, size_t size)
{
    char *text = calloc(1, size * 2 + 8);
    assert_non_null(text);
    int len = EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    while (len > 0 && text[len - 1] == '=')
        text[--len] = '\0';
    for (char *p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    return text;
}

char *jwt_sign(EVP_PKEY *key, const char *header, const char *claims)
{
    unsigned char bytes[1024];
    size_t size = sizeof bytes;
    char *first = jwt_base64url(header, strlen(header));
    char *second = jwt_base64url(claims, strlen(claims));
    char *text = textf("%s.%s", first, second);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key);
    assert_int_equal(EVP_DigestSign(ctx, bytes, &size, (const unsigned char *)text, strlen(text)),
                     1);
    EVP_MD_CTX_free(ctx);
    char *third = jwt_base64url(bytes, size);
    char *jwt = textf("%s.%s", text, third);
    free(first);
    free(second);
    free(text);
    free(third);
    return jwt;
}

EVP_PKEY *jwt_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(key);
    return key;
}
