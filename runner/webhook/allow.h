/*
 * What CALLBACK_ALLOW names: hosts ("host", "host:port", "*.domain", "[v6]:port") and addresses
 * ("10.0.0.5", "192.168.0.0/16", "fd00::/8"). An entry that is none of these names nothing.
 *
 * Threads: no shared state.
 */
#ifndef WEBHOOK_ALLOW_H
#define WEBHOOK_ALLOW_H

#include "base/strlist.h"

#include <stdbool.h>
#include <sys/socket.h>

/* `host` in lower case and without brackets. */
bool allow_names(const struct strlist *list, const char *host, int port);

/* An IPv4 address inside of an IPv6 one counts as itself. */
bool allow_has(const struct strlist *list, const struct sockaddr *address);

/* Some entry is an address or a range. */
bool allow_has_any(const struct strlist *list);

/* Reads what a program might take for an address: also 2130706433, 0x7f.1 and 0177.0.0.1. False
 * when it is a name. */
bool allow_read_address(const char *host, struct sockaddr_storage *ret_address);

#endif
