/*
 * A park: one thread that owns the sockets of requests whose answer is not ready, of answers that
 * their clients take slowly, of streams, and of connections that are about to end.
 *
 * Theory of operation. A parked connection goes through
 *
 *     NEW --> WAITING --(answer)--> SENDING --(last byte)--> LINGERING --> freed
 *       \        |                  ^  |
 *        +--> STREAMING --(end)-----+  |
 *                |                     |
 *                +---(client gone, drop, no progress)--> ENDED --> freed once its holder let go
 *
 * and only the park's thread moves it. Other threads put it into the inbox, under the park's lock,
 * and write to an eventfd. One timer for each connection stands at what is due next for it.
 *
 * STREAMING (stream.c): a stream is hungry (its source has nothing: it waits for a wake) or not
 * (its socket is full, or it waits for its turn: EPOLLOUT tells). One turn sends a bounded number
 * of pieces, so that a replay of a gigabyte and a line that just came take turns.
 *
 * Is the client still there? EPOLLRDHUP says only that it will send no more: that may be a close or
 * half of one (nc -N). A probe decides: an interim response, or white space, which a closed peer
 * answers with a reset (EPOLLHUP, EPOLLERR).
 *
 * The guard may have shut our own side of the connection a moment before the worker had the whole
 * request. From then on EPOLLRDHUP always holds, so it is waited for as an edge, and the socket's
 * state says whether the client has ended.
 *
 * A stream whose client said "Connection: keep-alive" goes from SENDING back to the listener
 * instead (listen_return()): a worker serves its connection's next request.
 *
 * LINGERING: closing a socket that holds unread bytes resets the connection and may destroy the
 * answer on its way. So we say that we are done (SHUT_WR) and read what comes until the peer is.
 *
 * Threads: any may call the functions below; the park's own thread (parked.h) does the rest.
 * Ownership: the server owns the park. Each handle that is still held keeps its memory alive.
 */
#ifndef HTTP_PARK_H
#define HTTP_PARK_H

#include "base/buf.h"
#include "base/err.h"
#include "http/http.h"

struct park;

/* Makes room for `max` connections, which errors call `what` ("requests that wait"); `name` is the
 * thread's name. The caller frees the park by park_stop(). */
struct park *park_new(size_t max, const char *name, const char *what, struct err *err);

/* Ends everything; answers that are being sent get linger_ms. Handles that are still held stay
 * valid for their send or drop. */
void park_stop(struct park *park, int linger_ms);

/* Takes over the socket and the bytes of `rest`: sends them, lingers, closes. Connections come here
 * by this function, by http_park() and by the http_parked_… functions of http.h. */
void park_rest(struct park *park, int fd, struct buf *rest);

int park_count(const struct park *park);

#endif
