/*
 * What the programs of a task may connect to: by name as the task's `egress` says, by address as
 * the machine's place in the network asks.
 *
 * Threads: any; nothing changes once it is made.
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

/* "open", "none" or a list of `host`, `*.host`, `host:port`; an empty list is open. */
enum egress_mode egress_mode_of(const struct strlist *egress);

/* True when a program may connect to that name's port; port 0 asks whether to any. */
bool egress_allows_name(const struct strlist *egress, const char *host, unsigned port);

/* The same of an address that was not got by a name. */
bool egress_allows_literal(const struct strlist *egress);

/* "none", or networks as ADDRESS/BITS (or ADDRESS). 0, or -1 with the one that isn't. */
int egress_check_lan(const struct strlist *lan, const char **ret_bad);

/* NULL when the address may be connected to: it is public and not this machine's, or in one of
 * the networks of `lan` and not a port that this process listens at. Else why not. IPv6 forms of
 * IPv4 addresses count as those. */
const char *egress_refuses(const struct strlist *lan, const struct sockaddr *address);

#endif
