/*
 * Patterns as Python's `re` spells them, in PCRE2's spelling: "\u00e4", "\U000000e4", "{,3}", and
 * the flags a, u and L. Everything else is copied.
 *
 * Threads: no shared state.
 *
 * Ownership: the caller's buffer.
 */
#ifndef REGEX_SPELLING_H
#define REGEX_SPELLING_H

#include "base/buf.h"

#include <stdbool.h>

/* Appends the pattern to `out`. *ret_ascii: it has the flag a, so \w, \d, \s and \b are ASCII's.
 * -1: it does not fit. */
int spelling_of(const char *pattern, struct buf *out, bool *ret_ascii);

#endif
