/*
 * Cloud KMS: wraps small keys. `key` is projects/P/locations/L/keyRings/R/cryptoKeys/K. Checksums
 * are sent, and those of the answers checked.
 *
 * Threads: any.
 */
#ifndef GOOGLE_KMS_H
#define GOOGLE_KMS_H

#include "google/google.h"

/* Appends the cipher text. */
int kms_encrypt(struct google *google, const char *key, const void *plain, size_t plain_len,
                const char *aad, struct buf *out, struct err *err);

/* Appends the plain text; ERR_INVALID when it was sealed with another key or aad. */
int kms_decrypt(struct google *google, const char *key, const void *sealed, size_t sealed_len,
                const char *aad, struct buf *out, struct err *err);

#endif
