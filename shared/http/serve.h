/*
 * One request from its head to its answer.
 *
 * Threads: CivetWeb's workers, each its own connection.
 * Ownership: the connection is the guard's; the request is the worker's, or the park's once parked.
 */
#ifndef HTTP_SERVE_H
#define HTTP_SERVE_H

#include "http/request.h"

/* A head is whole and CivetWeb has taken it. */
void serve_request(struct http_server *server, struct conn *conn, struct mg_connection *mg);

/* CivetWeb has not taken it, and closes the connection afterwards. */
void serve_refused(struct http_server *server, struct conn *conn);

/* The calling worker ends. */
void serve_thread_ends(void);

#endif
