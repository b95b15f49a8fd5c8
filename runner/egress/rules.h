/*
 * What a task's programs may connect to: by name, as the task's `egress` says; by address, as the
 * machine's network requires.
 *
 * Threads: any; no shared state.
 */
#ifndef EGRESS_RULES_H
#define EGRESS_RULES_H

#include "base/err.h"
#include "base/strlist.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum egress_mode { EGRESS_OPEN, EGRESS_NONE, EGRESS_LIST };

/* The mode of "open", "none" or a list of `host`, `*.host`, `host:port`; an empty list means
 * open. */
enum egress_mode egress_mode_of(const struct strlist *egress);

/* True when a program may connect to that port of the name; port 0 asks about any port. */
bool egress_allows_name(const struct strlist *egress, const char *host, unsigned port);

/* True when a program may connect to an address that it did not get from a name. */
bool egress_allows_literal(const struct strlist *egress);

/* NULL when the address may be connected to: it is public and not this machine's, or it is in a
 * network of `lan` and this process does not listen on its port. Else a static text that says why
 * not. IPv6 forms of IPv4 addresses count as IPv4. */
const char *egress_refuses(const struct strlist *lan, const struct sockaddr *address);

#endif
