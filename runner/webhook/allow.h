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

/* True when an entry names the host, which is in lower case and without brackets. */
bool allow_names(const struct strlist *list, const char *host, int port);

/* True when an entry contains the address. An IPv4 address inside an IPv6 one counts as IPv4. */
bool allow_has(const struct strlist *list, const struct sockaddr *address);

/* True when any entry is an address or a range. */
bool allow_has_any(const struct strlist *list);

/* Reads everything that a program might take for an address: also 2130706433, 0x7f.1 and
 * 0177.0.0.1. False for a name. */
bool allow_read_address(const char *host, struct sockaddr_storage *ret_address);

#endif
