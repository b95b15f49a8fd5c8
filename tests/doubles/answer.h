/*
 * One answer of the Messages API, streamed as Server-Sent Events or whole as JSON.
 */
#ifndef DOUBLES_ANSWER_H
#define DOUBLES_ANSWER_H

#include "script.h"
#include "server.h"

struct answer {
    struct server_conn *conn;
    const char *model;
    const char *echo; /* what [[echo]] says */
    size_t request_size;
    bool stream;
    bool oauth; /* asked with a login: usage-limit headers are the unified ones */
};

/* Carries out the step; NULL: the default short text. Returns the HTTP status that was sent, 0 when
 * none was. */
int answer_step(const struct answer *answer, const struct step *step);

/* An error in the service's shape. `headers` is "Name: value\r\n" lines or "". */
int answer_error(struct server_conn *conn, int status, const char *headers, const char *message);

/* The error type the service gives for a status. */
const char *answer_error_type(int status);

#endif
