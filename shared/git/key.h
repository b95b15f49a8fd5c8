/*
 * Private keys for ssh, as callers send them.
 *
 * Threads: no shared state.
 */
#ifndef GIT_KEY_H
#define GIT_KEY_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the key in the form that ssh requires: LF line ends, one at the end. ERR_INVALID when it
 * is no key, or one with a passphrase, which nobody could type. */
int key_normalize(const char *key, struct buf *out, struct err *err);

#endif
