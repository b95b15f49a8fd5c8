/*
 * Regular expressions, as Perl and Python have them, within bounds: PCRE2 with limits on steps and
 * memory, so that no pattern takes for ever.
 *
 * Threads: one at a time.
 */
#ifndef MATCH_MATCH_H
#define MATCH_MATCH_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

struct match;

/* '^' and '$' mean a line's ends. ERR_INVALID with the place for what is no pattern. */
struct match *match_new(const char *pattern, struct err *err);
void match_free(struct match *match);
DEFINE_AUTO(match, struct match *, match_free)

/* The first match at or after `from`: 1, 0 when there is none, -1 with ERR_TIMEOUT when it takes
 * too many steps. Text may hold any bytes. */
int match_next(struct match *match, const char *text, size_t len, size_t from, size_t *ret_start,
               size_t *ret_end, struct err *err);

#endif
