/*
 * Answers that take long to make: on a thread of their own, while the connection waits without
 * holding a worker.
 *
 * Threads: any.
 */
#ifndef API_LATER_H
#define API_LATER_H

#include "runner/api/handlers.h"

struct later {
    struct api *api;
    /* Makes the answer: 0 with `out` and *ret_status, or -1 with err. On its own thread. */
    int (*make)(struct later *later, struct buf *out, int *ret_status, struct err *err);
    void (*done)(struct later *later); /* frees what it is part of: the last call */
};

/* Begins it. The handler must touch neither the request nor `later` afterwards. A client that goes
 * away does not end it. */
void later_answer(struct http_request *req, struct later *later);

#endif
