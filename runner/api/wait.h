/*
 * A caller that waits for the end of its task, or of all tasks of a group.
 *
 * Theory of operation. The caller is parked off the HTTP workers as soon as its tasks are stored. A
 * waiter joins the two sides that may each end first: the engine's watches, one for each task, and
 * the parked connection. The watch that ends last, the clock of `Prefer: wait` or the connection's
 * end takes the parked connection, under the waiter's lock; whoever has taken it owes it its end.
 *
 * Threads: wait_for_tasks() on the request's worker.
 */
#ifndef API_WAIT_H
#define API_WAIT_H

#include "runner/api/submit.h"

/* Prefer: wait=N (RFC 7240) in milliseconds. 0 when not given, -1 after a bad one. */
int wait_preferred_ms(struct http_request *req, struct err *err);

/* Answers with what the submitted tasks came to, once they have ended. wait_ms is
 * wait_preferred_ms()'s: then the answer is 202, and the tasks go on. */
void wait_for_tasks(struct http_request *req, struct api *api, const struct submission *s,
                    int wait_ms);

/* Appends {"success":…,"group":…,"runs":[…]} for tasks that have ended: the answer of a group. */
int wait_print_group(struct api *api, const struct task_record *records, size_t count,
                     struct buf *out, struct err *err);

/* 202, the tasks are on the disk: where to look for them. */
void wait_send_accepted(struct http_request *req, const struct submission *s);

#endif
