/*
 * Regular expressions, as Perl and Python have them, within bounds: PCRE2 with limits on steps and
 * memory, so that no pattern takes for ever.
 *
 * Threads: one at a time.
 */
#ifndef REGEX_REGEX_H
#define REGEX_REGEX_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

struct regex;

/* '^' and '$' mean a line's ends. ERR_INVALID with the place for what is no pattern. */
struct regex *regex_new(const char *pattern, struct err *err);
void regex_free(struct regex *match);
DEFINE_AUTO(regex, struct regex *, regex_free)

/* The first match at or after `from`: 1, 0 when there is none, -1 with ERR_TIMEOUT when it takes
 * too many steps. Text may hold any bytes. */
int regex_next(struct regex *match, const char *text, size_t len, size_t from, size_t *ret_start,
               size_t *ret_end, struct err *err);

#endif
