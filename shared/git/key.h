/*
 * Private keys for ssh, as callers send them.
 *
 * Threads: no shared state.
 */
#ifndef GIT_KEY_H
#define GIT_KEY_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the key as ssh wants it: LF line ends, one at the end. ERR_INVALID when it is none, or
 * one that asks for a passphrase: nobody is there to type it. */
int key_normalize(const char *key, struct buf *out, struct err *err);

#endif
