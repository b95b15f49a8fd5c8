/* Leases as the proxy's own files see them. Private to runner/proxy. */
#ifndef PROXY_LEASE_H
#define PROXY_LEASE_H

#include "base/id.h"
#include "http/http.h"
#include "net/net.h"
#include "runner/proxy/proxy.h"

#include <pthread.h>
#include <stdbool.h>

#define LINKS_MAX 32           /* connections to upstream that are kept */
#define LEASE_REQUESTS_MAX 104 /* of one lease at once: fewer than there are workers */

struct lease {
    struct proxy *proxy;
    enum lease_kind kind;
    char token[ID_TOKEN_SIZE + 16];
    char url[64];
    char task[ID_SIZE]; /* whose it is; "": not said */
    char *secret;       /* NULL: the runner's own */
    _Atomic bool dead;
    _Atomic bool retried; /* a refused login was refreshed, and has not been taken since */
    _Atomic int refs;     /* the task's, and one of each request */
    struct lease *next;
    pthread_mutex_t lock; /* of use */
    struct lease_use use;
};

/* What the API said of the runner's own account, as it last said it (numbers.c). */
#define FIGURES 6
struct figure {
    _Atomic bool known;
    _Atomic double value;
};

struct proxy {
    struct proxy_config config;
    struct http_server *server;
    pthread_mutex_t lock; /* of all that follows */
    struct lease *leases;
    struct net_link *links[LINKS_MAX];
    size_t link_count;
    struct proxy_stats stats;
    int unreached;                  /* tries in a row that did not get as far as an answer */
    int64_t unreached_ms;           /* mono: the last of them */
    struct figure figures[FIGURES]; /* not under the lock */
};

/* Takes the figures out of the head of an API's answer. */
void figures_read(struct proxy *proxy, const struct buf *head);

/* Takes the windows of the login's account out of it. */
void windows_read(struct proxy *proxy, const struct buf *head);

/* The living lease of a token, referenced, or NULL. */
struct lease *lease_find(struct proxy *proxy, const char *token);
void lease_unref(struct lease *lease);

/* One request, from its check to its end (relay.c). */
http_handler relay_request;

/* An error as Anthropic's API words it. */
void relay_refuse(struct http_request *req, int status, const char *type, const char *message);

#endif
