/* A connection that the guard cuts off when its worker has just got the request. */
#ifndef TESTS_HTTP_CUT_H
#define TESTS_HTTP_CUT_H

#include "http/request.h"

/* Does what the guard does then. Call in a handler, before anything is answered. */
static inline void cut_off_too_late(struct http_request *req)
{
    atomic_store(&req->conn->cut, true);
    shutdown(req->conn->fd, SHUT_RD);
}

#endif
