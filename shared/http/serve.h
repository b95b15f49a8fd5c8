/*
 * One request from its head to its answer.
 *
 * Threads: CivetWeb's workers, each its own connection.
 * Ownership: the connection is the guard's; the request is the worker's, or the park's once parked.
 */
#ifndef HTTP_SERVE_H
#define HTTP_SERVE_H

#include "http/request.h"

/* Serves a request whose head is complete and was accepted by CivetWeb. */
void serve_request(struct http_server *server, struct conn *conn, struct mg_connection *mg);

/* Serves a request that CivetWeb has refused and whose connection it will close. */
void serve_refused(struct http_server *server, struct conn *conn);

/* Call when the calling worker ends: frees its request object. */
void serve_thread_ends(void);

#endif
