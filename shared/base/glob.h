/*
 * Patterns for paths: * and ? within a part, [a-z] sets, ** for any number of parts.
 *
 * Threads: no shared state.
 */
#ifndef BASE_GLOB_H
#define BASE_GLOB_H

#include <stdbool.h>

#define GLOB_PARTS_MAX 64 /* of a pattern or a path; more match nothing */

/* True when the whole path matches. Time grows with the product of the lengths, never faster. */
bool glob_match(const char *pattern, const char *path);

#endif
