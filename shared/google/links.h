/*
 * Idle connections, kept for the next exchange and grouped by where they lead. Private to
 * shared/google.
 *
 * Threads: any. Ownership: a link that links_take() returned is the caller's until links_put().
 */
#ifndef GOOGLE_LINKS_H
#define GOOGLE_LINKS_H

#include "google/limits.h"

#include "base/lock.h"
#include "net/net.h"

#include <stddef.h>
#include <stdint.h>

struct links {
    struct lock lock;
    size_t count;
    struct links_idle {
        struct net_link *link;
        int to; /* where it leads: a number that the caller chooses */
        int64_t since_ms;
    } idle[LINKS_MAX]; /* the longest idle first */
};

void links_init(struct links *links);
void links_done(struct links *links);

/* An idle link to `to`, or a new one; NULL when libcurl is missing. Give it back by links_put(), or
 * free it by net_link_free(). */
struct net_link *links_take(struct links *links, int to);
void links_put(struct links *links, int to, struct net_link *link);

#endif
