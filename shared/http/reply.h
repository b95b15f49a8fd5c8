/*
 * The head of an answer.
 *
 * Threads: any. Ownership: all strings are borrowed for the call.
 */
#ifndef HTTP_REPLY_H
#define HTTP_REPLY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

#define REPLY_HEAD_MAX 32768

struct reply {
    int status;
    const char *type;  /* NULL: no Content-Type */
    const char *id;    /* X-Request-ID */
    const char *added; /* ready lines, or NULL */
    size_t len;
    bool chunked;     /* else Content-Length */
    bool until_close; /* neither: the body ends with the connection */
    bool keep;
};

void reply_add_head(struct buf *out, const struct reply *reply);

/* 1xx, 204 and 304 have no body. */
bool reply_has_body(int status);

#endif
