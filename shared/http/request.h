/*
 * A request and its server, as the files of this room see them.
 *
 * Threads: a request belongs to its worker, and to the park's thread once it is parked. Ownership:
 * the worker keeps one request object and uses it again; parking takes it away.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "base/buf.h"
#include "base/id.h"
#include "http/chunk.h"
#include "http/guard.h"
#include "http/head.h"
#include "http/http.h"
#include "http/interpose.h"
#include "http/listen.h"
#include "http/park.h"
#include "http/route.h"

#include <civetweb.h>
#include <netinet/in.h>

#define HTTP_PIECE_MAX 65536
#define REQUEST_ADDED_MAX 16384 /* headers that a handler adds */

struct http_server {
    struct http_config config; /* routes and strings borrowed */
    struct mg_context *civetweb;
    struct guard *guard;
    struct park *park;
    struct park *streams;
    struct listener *listener;
    struct acceptor acceptor; /* the listener and the guard, for CivetWeb's accepting thread */
    int dummy;                /* takes the place of a socket that CivetWeb must lose */
    _Atomic bool started, stopping;
    _Atomic uint64_t requests, refused;
    char start_message[160]; /* CivetWeb's first complaint while it started */
};

enum request_state { REQUEST_OPEN, REQUEST_ANSWERED, REQUEST_PARKED };

struct http_request {
    struct http_server *server;
    struct conn *conn;        /* NULL once parked */
    struct mg_connection *mg; /* NULL when CivetWeb refused the head: it cannot read the body */
    enum request_state state;
    int status;     /* answered; 0: not */
    bool announced; /* answering() was called */
    int64_t start_us;
    struct head head;
    size_t head_size;
    struct buf raw; /* the bytes that head points into, once parked */
    struct route_match match;
    char *params;     /* their values, one after the other */
    struct buf added; /* header lines */
    char id[ID_SIZE];
    enum http_peer_kind peer_kind;
    uid_t peer_uid; /* of a unix socket's */
    char peer[INET6_ADDRSTRLEN];

    bool body_done;
    size_t body_taken;    /* of the body bytes that came with the head */
    size_t body_buffered; /* how many came with it */
    int64_t body_read;    /* by http_read(), of a body with a length */
    struct chunk chunk;   /* http_read(), of a chunked one */
    struct buf piece;     /* decoded and not yet taken */

    bool flow_chunked; /* http_begin() */
    bool flow_keeps;
};

/* Calls answering(), at most once for each request. */
void http_request_announce(struct http_request *req, int status);

/* True when the connection goes on after this request. */
bool http_request_keeps(const struct http_request *req);
/* True when bytes of the body are still to come. */
bool http_request_has_unread(const struct http_request *req);

/* Fills in the peer's address, kind and user. */
void http_request_name_peer(struct http_request *req, const struct conn *conn);

struct http_request *http_request_new(struct http_server *server);
void http_request_free(struct http_request *req);

/* Makes the request independent of its worker and connection. */
void http_request_leave(struct http_request *req);

/* Takes the client's socket away from CivetWeb, which continues with a dummy. The caller owns and
 * closes the returned descriptor. -1 with errno. */
int http_request_detach(struct http_request *req);

/* Reports to config.done and empties the request for the next one. */
void http_request_end(struct http_request *req, int status);

#endif
