/*
 * Regular expressions as in Perl and Python, by PCRE2, with limits on steps and memory, so that no
 * pattern runs for ever.
 *
 * Threads: one at a time.
 *
 * Ownership: the caller of regex_new() frees the pattern by regex_free().
 */
#ifndef REGEX_REGEX_H
#define REGEX_REGEX_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

struct regex;

/* Compiles a pattern in which '^' and '$' match at line ends, "\n" or "\r\n". ERR_INVALID, with the
 * place, for an invalid pattern. */
struct regex *regex_new(const char *pattern, struct err *err);
void regex_free(struct regex *match);
DEFINE_AUTO(regex, struct regex *, regex_free)

/* Finds the first match at or after `from`. Returns 1 with a match, 0 without, -1 with ERR_MISMATCH
 * when it takes too many steps. Text may hold any bytes. */
int regex_next(struct regex *match, const char *text, size_t len, size_t from, size_t *ret_start,
               size_t *ret_end, struct err *err);

#endif
