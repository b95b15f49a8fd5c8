/*
 * Outgoing HTTP, by libcurl: https, or http to loopback (tests, private endpoints). There are no
 * redirects, and no proxies unless asked for; every call has time limits and a size limit. The
 * certificate authorities are the system's, or those of SSL_CERT_FILE and SSL_CERT_DIR. libcurl is
 * loaded at the first call: with the thirty libraries that it needs it would otherwise double the
 * size of an idle daemon.
 *
 * Threads: any; a link, a pool and a wire belong to one thread at a time.
 *
 * Ownership: what a _new or _open function returns is freed by the caller with the matching _free
 * function. A flow belongs to its pool.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Which addresses may be reached. Plain http goes to loopback only, except with NET_PLAIN. */
enum net_reach {
    NET_PUBLIC,  /* only public addresses, checked when connecting, whatever the host name is */
    NET_TRUSTED, /* any: a URL from the owner's configuration */
    NET_PLAIN,   /* the same, and by http as well: what is sent there is no secret */
};

struct net_request {
    const char *method; /* "GET", "POST", … */
    const char *url;
    const struct strlist *headers; /* "Name: value" without line ends, or NULL */
    const void *body;              /* or NULL */
    size_t body_len;
    enum net_reach reach;
    int connect_ms; /* 0: 10 s */
    int total_ms;   /* 0: 30 s */
    size_t answer_max;
    /* What follows the head does not matter: an answer counts once its head is there, also when its
     * body is longer than answer_max (it is cut) or never ends. */
    bool head_enough;
    void *arg;
    /* NULL, or true for an address that may be connected to against `reach`, by http as well. */
    bool (*allow)(const struct sockaddr *address, void *arg);
    /* NULL, or asked about once a second; true to give up. */
    bool (*stop)(void *arg);
};

struct net_answer {
    int status;
    struct buf head; /* the header lines, CRLF between them */
    struct buf body;
};

void net_answer_done(struct net_answer *answer);
static inline void auto_net_answer(struct net_answer *answer)
{
    net_answer_done(answer);
}

/* Makes one exchange. Returns 0 whenever a whole answer arrived, whatever its status. Else
 * ERR_UPSTREAM, ERR_TIMEOUT, ERR_TOO_LARGE, ERR_FORBIDDEN (the address may not be reached) or
 * ERR_INVALID (the URL). */
int net_call(const struct net_request *request, struct net_answer *ret_answer, struct err *err);

/* The value of a header in `head` (first, trimmed, copied into value), or NULL. */
const char *net_header(const struct buf *head, const char *name, char *value, size_t size);

/* A connection that is kept for the next exchange. */
struct net_link;
struct net_link *net_link_new(void);
void net_link_free(struct net_link *link);

/* One exchange whose bodies are passed on in pieces as they arrive. */
struct net_relay {
    const char *method;
    const char *url;
    const struct strlist *headers;
    int64_t body_len; /* of the request; -1: chunked, 0: none */
    const void *body; /* all of it, sent together with the head; NULL: read() gives it */
    int connect_ms;
    int silence_ms;    /* give up when nothing moves for so long; 0: never */
    int total_ms;      /* of the whole exchange; 0: none */
    int buffer;        /* bytes of a piece, about; 0: 128 KiB */
    const char *pin;   /* "host:port:address": where the URL's host is; NULL: it is looked up */
    const char *proxy; /* to go through, or NULL */
    bool plain;     /* by http to any address, not to loopback alone: what is sent is no secret */
    bool http2;     /* where TLS offers it; else HTTP/1.1 */
    bool fresh;     /* by a new connection: on a kept one that turns out to be dead libcurl sends a
                       request again by itself */
    bool *ret_sent; /* whether a byte of the request went out, also when it failed; or NULL */
    void *arg;
    /* Up to size bytes of the request's body; 0 at its end, -1 to give up. */
    ssize_t (*read)(char *to, size_t size, void *arg);
    /* The answer's status and header lines have come; -1 to give up. */
    int (*head)(int status, const struct buf *head, void *arg);
    /* A piece of the answer's body; -1 to give up. */
    int (*write)(const char *data, size_t len, void *arg);
    /* Asked about once a second and at every piece; true to give up. */
    bool (*stop)(void *arg);
};

int net_relay(struct net_link *link, const struct net_relay *relay, struct err *err);

/*
 * A connection to a URL's host, with TLS for https, over which the caller speaks its own protocol,
 * such as one that begins as HTTP and is upgraded. Addresses as with NET_TRUSTED.
 */
struct net_wire;
struct net_wire *net_wire_open(const char *url, int connect_ms, struct err *err);
void net_wire_free(struct net_wire *wire);
DEFINE_AUTO(net_wire, struct net_wire *, net_wire_free)
/* The descriptor to poll for reading. Read until nothing is left before the next poll, because TLS
 * keeps decrypted bytes back. */
int net_wire_fd(const struct net_wire *wire);
/* Returns 1 with bytes, 0 when there are none now, or -1 when the connection is over. Never
 * blocks. */
int net_wire_read(struct net_wire *wire, char *to, size_t size, size_t *ret_len, struct err *err);
/* Sends all bytes. */
int net_wire_write(struct net_wire *wire, const char *data, size_t len, int timeout_ms,
                   struct err *err);

/*
 * Many relays at once, on one thread. net_pool_wait() calls their callbacks. Connections are kept
 * and used again.
 */
struct net_pool;
struct net_flow; /* a relay that is under way */

struct net_pool *net_pool_new(struct err *err);
/* Ends all relays that are under way, without calling done(). */
void net_pool_free(struct net_pool *pool);
DEFINE_AUTO(net_pool, struct net_pool *, net_pool_free)

/* Begins a relay; strings and headers are copied, callbacks and arg are not. done() is the last
 * callback; rc and err are what net_relay() would have returned. The flow is invalid after that. */
typedef void net_flow_done(int rc, const struct err *err, void *arg);
struct net_flow *net_pool_start(struct net_pool *pool, const struct net_relay *relay,
                                net_flow_done *done, struct err *err);
/* Cancels a relay; no callback follows. Must not be called from one of its own callbacks. */
void net_pool_cancel(struct net_pool *pool, struct net_flow *flow);

/* Waits until a relay can go on, `wake` (-1: none) can be read, or the time is up; then lets every
 * relay go on. */
int net_pool_wait(struct net_pool *pool, int timeout_ms, int wake, struct err *err);

#endif
