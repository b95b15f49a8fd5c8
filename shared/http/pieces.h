/*
 * What an answer in pieces (http_begin(), http_write(), http_end()) shares with one out of a file
 * (filed.c).
 *
 * Threads: the request's worker. Ownership: nothing changes hands.
 */
#ifndef HTTP_PIECES_H
#define HTTP_PIECES_H

#include "http/http.h"

#define PIECES_STUCK_MS 60000 /* a client that reads nothing for this long counts as gone */

/* Waits until the socket takes bytes. -1 when it does not within `wait_ms`. */
int pieces_wait_for_room(int fd, int wait_ms);

/* Begins the answer. `len` -1: not known yet; `flags`: MSG_MORE when the body follows at once. -1
 * when the client is gone. */
int pieces_begin(struct http_request *req, int status, const char *type, int64_t len, int flags);

/* Ends the request for a client that has gone: nothing more is sent, and the connection is closed.
 * Returns -1. */
int pieces_lose_client(struct http_request *req);

#endif
