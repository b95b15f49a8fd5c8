/*
 * Looks up the one address to connect to. A name is looked up once, and the address that was
 * checked is the one connected to, so that a name server cannot give a second, different answer.
 *
 * Threads: any.
 */
#ifndef GIT_RESOLVE_H
#define GIT_RESOLVE_H

#include "base/err.h"

#include <stdbool.h>

#define RESOLVE_SIZE 64

/* True when text is an IPv4 or IPv6 address in its usual form. */
bool resolve_is_literal(const char *text);

/* True when it is a public address. */
bool resolve_is_public(const char *literal);

/* Finds the address of a host: a public one unless `private_too`. ERR_UPSTREAM when it has none,
 * ERR_FORBIDDEN when it has only private ones. */
int resolve_host(const char *host, bool private_too, char ret_address[RESOLVE_SIZE],
                 struct err *err);

#endif
