/*
 * Bodies of requests that do not make tasks: a short table of fields for each.
 *
 * Threads: no shared state. Ownership: body_fields() returns the parsed body, which the caller
 * frees; texts and nodes point into it.
 */
#ifndef API_BODY_FIELDS_H
#define API_BODY_FIELDS_H

#include "runner/api/handlers.h"
#include "runner/request/request.h"

enum field_kind {
    FIELD_TEXT,  /* const char **: into the body; "" counts as absent */
    FIELD_EMPTY, /* the same, but "" is a text as others */
    FIELD_INT,   /* int64_t *: within min..max; 0 counts as absent when `zero` */
    FIELD_BOOL,  /* bool * */
    FIELD_NODE,  /* const struct json **: an object */
    FIELD_ANY,   /* the same, whatever it is */
};

struct field {
    const char *name;
    enum field_kind kind;
    void *to; /* unchanged when the field is absent */
    int64_t min, max;
    bool required;
    bool zero;
};

/* Reads the request's body, an object or nothing, into the fields. Unknown fields are refused by
 * name. NULL after the answer has been sent; else the caller frees the body after the last use of
 * its texts. */
struct json *body_fields(struct http_request *req, const struct field *fields, size_t count);

/* Answers 400 with what is wrong with one field. */
void send_field_error(struct http_request *req, const char *field, const char *message);

#endif
