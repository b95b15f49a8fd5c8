/*
 * Answers that take long to make: a thread of their own makes them, while the connection waits
 * without holding a worker.
 *
 * Threads: any. Ownership: struct later belongs to its user, whose done() frees it.
 */
#ifndef API_LATER_H
#define API_LATER_H

#include "runner/api/handlers.h"

struct later {
    struct api *api;
    /* Makes the answer, on its own thread. Returns 0 with `out` and *ret_status, or -1 with err. */
    int (*make)(struct later *later, struct buf *out, int *ret_status, struct err *err);
    void (*done)(struct later *later); /* last call: frees the object that contains `later` */
};

/* Starts the thread. The handler must touch neither the request nor `later` afterwards. A client
 * that goes away does not stop it. */
void later_answer(struct http_request *req, struct later *later);

#endif
