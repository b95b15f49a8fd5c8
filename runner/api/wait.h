/*
 * A caller that waits for the end of its task, or of all tasks of a group.
 *
 * Theory of operation. The caller is parked off the HTTP workers as soon as its tasks are stored. A
 * waiter joins the engine's watches, one for each task, and the parked connection; either side may
 * end first. The watch that ends last, the timer of `Prefer: wait` or the connection's end takes
 * the parked connection, under the waiter's lock; the side that has taken it must end it.
 *
 * Threads: wait_for_tasks() on the request's worker. Ownership: a waiter is reference-counted and
 * private to wait.c.
 */
#ifndef API_WAIT_H
#define API_WAIT_H

#include "runner/api/submit.h"

/* Reads Prefer: wait=N (RFC 7240), in milliseconds. 0 when it is absent, -1 when it is invalid. */
int wait_preferred_ms(struct http_request *req, struct err *err);

/* Answers with the outcome of the submitted tasks, once they have ended. wait_ms is the result of
 * wait_preferred_ms(): after that time the answer is 202, and the tasks go on. */
void wait_for_tasks(struct http_request *req, struct api *api, const struct submission *s,
                    int wait_ms);

/* Appends {"success":…,"group":…,"runs":[…]} for tasks that have ended: the answer of a
 * group. */
int wait_print_group(struct api *api, const struct task_record *records, size_t count,
                     struct buf *out, struct err *err);

/* Answers 202: the tasks are on disk, and where to look for them. */
void wait_send_accepted(struct http_request *req, const struct submission *s);

#endif
