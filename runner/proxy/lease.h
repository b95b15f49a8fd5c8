/*
 * Leases as the proxy's files see them. Private to runner/proxy.
 *
 * Threads: any. Ownership: a lease is reference-counted; each request in flight holds a reference.
 */
#ifndef PROXY_LEASE_H
#define PROXY_LEASE_H

#include "base/id.h"
#include "base/lock.h"
#include "http/http.h"
#include "net/net.h"
#include "runner/proxy/proxy.h"

#include <stdbool.h>

#define LINKS_MAX 32           /* idle connections to upstream that are kept */
#define LEASE_REQUESTS_MAX 104 /* of one lease at once: fewer than there are workers */

struct lease {
    struct proxy *proxy;
    enum lease_kind kind;
    char token[ID_TOKEN_SIZE + 16];
    char url[64];
    char task[ID_SIZE]; /* the task that it belongs to; "": not known */
    char *secret;       /* NULL: the runner's own */
    _Atomic bool dead;
    _Atomic bool retried; /* a refused login was refreshed, and not accepted since */
    _Atomic int refs;     /* one for the task, and one for each request */
    struct lease *next;
    struct lock lock; /* guards `use` */
    struct lease_use use;
};

/* The last figures that the API reported about the runner's own account (metrics_proxy.c). */
#define FIGURES 6
struct figure {
    _Atomic bool known;
    _Atomic double value;
};

struct proxy {
    struct proxy_config config;
    struct http_server *server;
    char *socket;     /* NULL: it listens on loopback */
    struct lock lock; /* guards the fields below */
    struct lease *leases;
    struct net_link *links[LINKS_MAX];
    size_t link_count;
    struct proxy_stats stats;
    int unreached;                  /* tries in a row that got no answer */
    int64_t unreached_ms;           /* mono: time of the last of them */
    struct figure figures[FIGURES]; /* not under the lock */
};

/* Reads the figures in the head of an API's answer. */
void figures_read(struct proxy *proxy, const struct buf *head);

/* Reads the windows of the login's account in the head. */
void windows_read(struct proxy *proxy, const struct buf *head);

/* The valid lease of a token, with a reference that the caller drops by lease_unref(), or NULL. */
struct lease *lease_find(struct proxy *proxy, const char *token);
void lease_unref(struct lease *lease);

/* Serves one request, from its check to its end (relay.c). */
http_handler relay_request;

/* Answers an error in the form of Anthropic's API. */
void relay_refuse(struct http_request *req, int status, const char *type, const char *message);

#endif
