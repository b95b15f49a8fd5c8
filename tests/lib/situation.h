/*
 * Situations of a host, as the launcher may find them: a test program brings itself into one.
 */
#ifndef TESTLIB_SITUATION_H
#define TESTLIB_SITUATION_H

#include "jail/jail.h"

#include <stdbool.h>

#define NOBODY 65534

struct situation {
    const char *name;
    bool nobody, denied;   /* how it comes about: no root, no namespaces */
    bool namespaces, root; /* what the launcher must find */
};

/* "root", "user", "denied" or "denied-user"; NULL for another name. */
const struct situation *situation_find(const char *name);

/* True when this process is in the situation from now on. */
bool situation_enter(const struct situation *situation);

/* Whether that is what the launcher has found. */
bool situation_is(const struct situation *situation, const struct jail_host *host);

#endif
