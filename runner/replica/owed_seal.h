/*
 * Texts in the bucket that only who has CALLBACK_SECRET can read or make. Private to
 * runner/replica.
 *
 * Threads: no shared state. Ownership: everything is borrowed.
 */
#ifndef REPLICA_OWED_SEAL_H
#define REPLICA_OWED_SEAL_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the sealed text, in base64. `what` is bound to it: opening needs the same. */
int owed_seal(const char *secret, const char *what, const void *text, size_t len, struct buf *out,
              struct err *err);

/* Appends the text. ERR_MISMATCH when it was sealed by another secret, for something else, or by
 * nobody. */
int owed_unseal(const char *secret, const char *what, const char *sealed, struct buf *out,
                struct err *err);

#endif
