/*
 * Faults that a test has planned, the log of what came in, and the doors for both.
 *
 * Threads: any; takes the store's lock by itself where it needs it.
 */
#ifndef DOUBLES_GOOGLE_FAULTS_H
#define DOUBLES_GOOGLE_FAULTS_H

#include "google_call.h"

/* What the plan makes of this request: waits, refuses, cuts (true: it is over), and notes in the
 * call what is to become of its answer. `*ret_twice`: it is to be carried out twice. */
bool faults_apply(struct call *call, const char *id, bool *ret_twice);

/* GET /_state, POST /_control, GET and DELETE /_log; false when it is none of these. */
bool control_serve(struct server_conn *conn, const struct server_request *req);

/* Writes the request down, as it was answered. Once log_expect() was called for it, which is before
 * its answer is sent, the log is shown with it only; `answered` says whether that was so. */
void log_add(const struct call *call, const char *id, bool answered);
/* Sets the bool at this address. */
void log_expect(void *ret_answered);

#endif
