/*
 * The guard: knows every accepted connection and cuts off those that wait too long.
 *
 * Theory of operation. CivetWeb gives a connection a worker thread until it closes, so a client
 * that sends its head or body byte by byte, or idles between requests, holds one. The guard keeps a
 * table of connections by descriptor, filled as they are accepted (interpose.c), and records what
 * each waits for:
 *
 *     accepted --> HEAD --> BUSY --> IDLE --> HEAD --> ...
 *                            | ^
 *                            v |
 *                           BODY (the handler reads the body)
 *
 * A connection in HEAD or IDLE past its deadline is cut off. When fewer workers are free than the
 * reserve, the connections in HEAD, IDLE or BODY that have waited longest are cut off too: those
 * that have waited at least GUARD_MIN_US and have nothing unread in the socket. Each byte that
 * arrives shortens the counted time, so a quick sender is never cut off. Cutting off is
 * shutdown(SHUT_RD): the worker's poll returns, our recv() reports the end, and the worker answers
 * 408 (or nothing, when no request had begun) and is free.
 *
 * Threads: as each function says; a worker thread finds its connection by guard_here().
 * Ownership: the server owns the guard, and the guard its connections. The worker closes its
 * connection's descriptor, after guard_forget().
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

/* One accepted connection. It exists from accept() until its worker is about to close it. */
struct conn {
    int fd; /* CivetWeb's */
    struct sockaddr_storage peer;
    _Atomic int state;
    _Atomic int64_t since_us; /* when the request began to arrive, or the connection became idle */
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

/* Call after the last worker has ended. Closes connections that no worker ever took, and frees the
 * guard. */
void guard_free(struct guard *guard);

/* Counts the calling worker as held. Call guard_take() before the worker reads from its connection,
 * and guard_drop() after it has closed it. */
void guard_take(struct guard *guard);
void guard_drop(struct guard *guard);

/* The calling worker's connection, or NULL. */
struct conn *guard_here(void);

/* The connection of a worker that ends it before reading from it, found by its descriptor; NULL
 * when there is none. */
struct conn *guard_untouched(struct guard *guard, int fd);

/* Takes a connection out of the table and frees it. Call on its worker before the descriptor is
 * closed. */
void guard_forget(struct guard *guard, struct conn *conn);

/* Sets what the worker waits for from now on. The time counts from the start of HEAD or IDLE, also
 * through the states that follow: a client that waited in the queue and then sends its body slowly
 * is found at once. */
void conn_enter(struct conn *conn, enum conn_state state);

/* Restarts the time: the client could not have sent more before. */
void conn_restart(struct conn *conn);

/* Call when the calling worker's connection has nothing to read. True when its time is up because
 * workers are short; the connection then counts as cut off. */
bool guard_gives_up(struct conn *conn);

/* True when the guard has cut the connection off. Final for one in CONN_BUSY. */
bool guard_has_cut(struct guard *guard, const struct conn *conn);

/* True when the client has closed its side, also where the guard has shut ours: recv() and
 * EPOLLRDHUP can't tell these apart. A unix socket's client counts once it is gone. Any thread. */
bool conn_client_ended(int fd);

int guard_busy(const struct guard *guard);

/* True while workers are short. Then no answer should keep its connection open: a few busy
 * connections would otherwise starve those in the queue. */
bool guard_is_pressed(const struct guard *guard);
uint64_t guard_cut_count(const struct guard *guard);

/* The functions below are for interpose.c: what CivetWeb's threads do with sockets. */

/* Enters a connection that was just accepted. Returns 0, or -1 when memory ran out. */
int guard_accepted(struct guard *guard, int fd, const struct sockaddr_storage *peer);

/* Call before the calling thread waits for bytes. False when the connection is cut off and the
 * thread must not wait. Always true on threads that are no workers, and for other descriptors. */
bool guard_may_wait(int fd);

/* Call before the calling thread receives. False when it must see the end of the connection
 * instead. */
bool guard_may_receive(int fd);

/* Records bytes that arrived. Returns len, or 0 when the worker must see the end of the connection
 * instead. */
size_t guard_received(int fd, const void *data, size_t len);

#endif
