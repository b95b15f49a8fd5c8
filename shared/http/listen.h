/*
 * The listening sockets of a server: IPv4, IPv6 and unix sockets, several at once, opened here or
 * by systemd (socket activation).
 *
 * A connection whose answer was sent elsewhere (a stream's end) can be returned: then it comes out
 * of listen_accept() once more, for its next request.
 *
 * Threads: listen_wait() and listen_accept() on one thread, listen_stop(), listen_return() and
 * listen_await_use() on any, the rest before and after.
 *
 * Ownership: the listener owns the sockets and what was returned, and removes the file of a unix
 * socket that it made. The caller of listen_open() frees it by listen_close().
 */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include "base/err.h"
#include "base/place.h"

struct listener;

struct listen_config {
    const char *places; /* a list of addresses: base/place.h */
    int port;           /* of those that name none; 0: any free one, the same for all */
    int unix_mode;      /* of unix sockets' files */
};

/* Opens all sockets; they accept connections from now on. The file of a unix socket is replaced
 * when nobody listens on it any more. "systemd" stands for the sockets that systemd opened for this
 * process (LISTEN_PID, LISTEN_FDS); it is an error when there are none. */
struct listener *listen_open(const struct listen_config *config, struct err *err);

/* Closes the sockets and what was returned, after listen_stop() and the end of the accepting
 * thread. listen_return() may still be called: it refuses. */
void listen_shut(struct listener *listener);

/* Closes and frees everything. NULL is fine. */
void listen_close(struct listener *listener);

/* Waits up to timeout_ms (-1: for ever) for a connection. Returns 1 when there is one, 0 when there
 * is none or the listener was stopped, -1 with errno. */
int listen_wait(struct listener *listener, int timeout_ms);

/* Accepts the connection that listen_wait() found. Returns its descriptor (close-on-exec), or -1
 * with errno: the connection may have gone. When descriptors run out it waits a moment, so that the
 * caller does not spin. */
int listen_accept(struct listener *listener, struct sockaddr_storage *ret_peer);

/* Has a connection accepted once more. Returns 0 and owns it from then on, or -1 when the listener
 * was stopped or has too many. */
int listen_return(struct listener *listener, int fd);

/* Makes listen_wait() return 0, now and from now on. */
void listen_stop(struct listener *listener);

/* Waits until listen_wait() was called for the first time. Returns 0, or -1 after timeout_ms. */
int listen_await_use(struct listener *listener, int timeout_ms);

/* The port of the first TCP socket, or 0. */
int listen_port(const struct listener *listener);

/* The address of the index'th socket, or NULL past the last. */
const struct sockaddr_storage *listen_address(const struct listener *listener, size_t index);

#endif
