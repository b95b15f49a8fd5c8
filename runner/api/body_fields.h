/*
 * Bodies of requests that do not make tasks: a short table of fields for each. And the parameters
 * of queries. What is wrong is named in `errors`.
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

/* The same in two steps, for a body whose values are checked further: body_read() notes what is
 * wrong so far (NULL: the answer has been sent), and body_refused() answers with all that was
 * noted, which it frees. True after an answer. */
struct json *body_read(struct http_request *req, const struct field *fields, size_t count,
                       struct request_errors *errors);
bool body_refused(struct http_request *req, struct request_errors *errors);

/* Answers 400 with what is wrong with one field. */
void send_field_error(struct http_request *req, const char *field, const char *message);
/* Answers 400 with all of them. */
void send_field_errors(struct http_request *req, const struct request_errors *errors);

/* Refuses unknown query parameters by name; `known` ends with NULL. True after the answer has been
 * sent. */
bool query_refused(struct http_request *req, const char *const known[]);
/* Read a parameter: a number of 0..max, true or false, a text, a shell's name (NULL: none). An
 * empty one counts as absent and leaves the value as it is. -1 after the answer has been sent. */
int query_number(struct http_request *req, const char *name, int64_t max, int64_t *ret_value);
int query_bool(struct http_request *req, const char *name, bool *ret_value);
int query_shell(struct http_request *req, const char *name, const char **ret_shell);

#endif
