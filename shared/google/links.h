/*
 * Connections that wait for their next exchange, by whom they lead to. Private to shared/google.
 *
 * Threads: any.
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
        int to; /* whom: a number of the caller's */
        int64_t since_ms;
    } idle[LINKS_MAX]; /* the longest idle first */
};

void links_init(struct links *links);
void links_done(struct links *links);

/* One that leads there, or a new one; NULL without libcurl. links_put() or net_link_free(). */
struct net_link *links_take(struct links *links, int to);
void links_put(struct links *links, int to, struct net_link *link);

#endif
