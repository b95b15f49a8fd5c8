/*
 * Situations of a host in which the launcher may start. A test program brings itself into one.
 */
#ifndef TESTLIB_SITUATION_H
#define TESTLIB_SITUATION_H

#include "jail/jail.h"

#include <stdbool.h>

#define NOBODY 65534

struct situation {
    const char *name;
    bool nobody, denied;   /* how it is made: without root, without namespaces */
    bool namespaces, root; /* what the launcher must detect */
    bool no_nftables;      /* how it is made: the kernel has no packet filter to offer */
};

/* "root", "user", "denied", "denied-user" or "no-nftables"; NULL for another name. */
const struct situation *situation_find(const char *name);

/* Brings this process into the situation; false when it cannot. */
bool situation_enter(const struct situation *situation);

/* Whether the launcher has detected that situation. */
bool situation_is(const struct situation *situation, const struct jail_host *host);

#endif
