/*
 * The guard: knows every connection that was accepted and cuts off those that wait too long.
 *
 * Theory of operation. CivetWeb gives a connection a worker thread until it closes, so a client
 * that drips its head or body, or idles between requests, holds one. The guard keeps a table of
 * connections by descriptor, filled as they are accepted (interpose.c), and a note of what each
 * waits for:
 *
 *     accepted --> HEAD --> BUSY --> IDLE --> HEAD --> ...
 *                            | ^
 *                            v |
 *                           BODY (the handler reads the body)
 *
 * A connection in HEAD or IDLE past its deadline is cut off. When fewer workers are free than the
 * reserve, so are the ones in HEAD, IDLE or BODY that have waited longest: at least GUARD_MIN_US,
 * nothing unread in the socket, and bytes that came count as time that did not pass (a quick
 * sender is never cut). Cutting off is shutdown(SHUT_RD): the worker's poll returns, our recv()
 * says "end", and the worker answers 408, or nothing where nothing had been asked, and is free.
 *
 * Threads: as each function says; a worker thread finds its connection by guard_here().
 * Ownership: the server owns the guard, the guard the connections. A connection's descriptor is its
 * worker's to close, after guard_forget().
 */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include "base/buf.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define GUARD_MIN_US 15000

enum conn_state { CONN_HEAD, CONN_IDLE, CONN_BODY, CONN_BUSY };

struct guard;

/* One accepted connection. It lives from accept() until its worker is about to close it. */
struct conn {
    int fd; /* CivetWeb's */
    struct sockaddr_storage peer;
    _Atomic int state;
    _Atomic int64_t since_us; /* the request began to come, or the connection to idle */
    _Atomic int64_t bytes;    /* received since then */
    _Atomic bool cut;
    bool taken; /* by a worker; under the guard's lock */

    /* The worker's alone: */
    struct buf input; /* what CivetWeb holds in its buffer: head, then what came with it */
    bool closing;     /* nothing more is read from or written to it */
    bool parked;      /* the request is no longer the worker's */
};

struct guard_config {
    int workers;
    int head_ms;
    int idle_ms;
};

/* Starts the guard's thread. */
struct guard *guard_new(const struct guard_config *config, struct err *err);

/* Cuts off everything that waits, now and from now on. */
void guard_drain(struct guard *guard);

/* After the last worker ended: closes connections that no worker ever took, and frees. */
void guard_free(struct guard *guard);

/* Counts the calling worker as held, before it reads from its connection. Pair with guard_drop(),
 * which it calls once it has closed that. */
void guard_take(struct guard *guard);
void guard_drop(struct guard *guard);

/* The calling worker's connection, or NULL. */
struct conn *guard_here(void);

/* The connection of a worker that ends it before it has read from it, by its descriptor; NULL when
 * there is none such. */
struct conn *guard_untouched(struct guard *guard, int fd);

/* Takes a connection out of the table and frees it: call on its worker before the descriptor is
 * closed. */
void guard_forget(struct guard *guard, struct conn *conn);

/* What the worker waits for from now on. The time counts from the beginning of HEAD or IDLE, also
 * for what follows: who has waited in the queue and then drips a body is found out at once. */
void conn_enter(struct conn *conn, enum conn_state state);

/* Lets the time begin anew: the client could not have sent more before. */
void conn_restart(struct conn *conn);

/* The calling worker's connection has nothing to read. True when its time is up because workers are
 * short; it counts as cut off then. */
bool guard_gives_up(struct conn *conn);

int guard_busy(const struct guard *guard);

/* True while workers are short: then no answer should keep its connection, or a few that are never
 * idle would starve those in the queue. */
bool guard_is_pressed(const struct guard *guard);
uint64_t guard_cut_count(const struct guard *guard);

/* For interpose.c: what CivetWeb's threads do with sockets. */

/* Enters a connection that was just accepted. 0, or -1 without memory. */
int guard_accepted(struct guard *guard, int fd, const struct sockaddr_storage *peer);

/* Called before the calling thread waits for bytes: true when it may. False: the connection is cut
 * off. On threads that are no workers, and for other descriptors, always true. */
bool guard_may_wait(int fd);

/* Called before the calling thread receives: false when it is to see an end instead. */
bool guard_may_receive(int fd);

/* Takes note of bytes that came. Returns len, or 0 when the worker is to see an end instead. */
size_t guard_received(int fd, const void *data, size_t len);

#endif
