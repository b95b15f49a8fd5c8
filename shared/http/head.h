/*
 * The head of a request: checked strictly, then split in place. These functions see the bytes as
 * they came from the socket, not what CivetWeb made of them: it silently accepts bare line feeds,
 * folded lines, repeated lengths and "Content-Length: 5abc".
 *
 * Threads: no shared state. Ownership: a struct head points into the bytes it was made from.
 */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_MAX 16384
#define HEAD_TARGET_MAX 8192
#define HEAD_FIELDS_MAX 64
#define HEAD_QUERY_MAX 64

struct head_pair {
    const char *name;
    const char *value;
};

struct head {
    const char *method;
    const char *path; /* decoded; "*" for OPTIONS * */
    const char *odd;  /* why the path is not plain text ("has a control character"), or NULL */
    bool odd_slash;   /* `odd` says only that it has an encoded slash or backslash */
    int minor;        /* HTTP/1.minor */
    struct head_pair fields[HEAD_FIELDS_MAX];
    size_t field_count;
    struct head_pair query[HEAD_QUERY_MAX]; /* decoded */
    size_t query_count;
    int64_t length; /* of the body; 0 when there is none or it is chunked */
    bool chunked;
    bool expects_continue;
    bool keep_alive; /* what the client wants */
};

/* The length of the head at the start of data, including its empty line, or 0 when it is not
 * complete. It ends exactly where CivetWeb sees the end: both must agree where a body begins. */
size_t head_size(const char *data, size_t len);

/* Checks and splits the head data[0..size). Returns 0, or -1 with what is wrong; *head then holds
 * what was understood before the error (strings may be "" but never NULL). */
int head_parse(char *data, size_t size, struct head *head, struct err *err);

/* Says why a head can never become complete; returns -1. */
int head_unfinished(const char *data, size_t len, struct err *err);

/* The first field of that name, or NULL. Names compare without case. */
const char *head_field(const struct head *head, const char *name);

/* True when `token` is an element of the comma-separated list. */
bool head_has_token(const char *list, const char *token);

#endif
