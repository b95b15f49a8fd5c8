/*
 * A raw HTTP client: sends exactly the bytes that it is given, and reads the answer up to a
 * deadline.
 */
#ifndef TESTLIB_HTTP_H
#define TESTLIB_HTTP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_DEADLINE_MS = 240000 };

struct reply {
    int status; /* 0: nothing that looks like an answer came */
    char *head; /* status line and headers */
    char *body; /* without the chunk frames, NUL-terminated */
    size_t body_size;
    size_t n_chunks;  /* 0 when it wasn't chunked */
    bool complete;    /* the body ended as its head said */
    bool closed;      /* the server closed the connection */
    int64_t head_ms;  /* from the start of reading to the head's end */
    int64_t total_ms; /* … to the last byte */
    cJSON *json;      /* the body, when it is JSON */
};

/* Connects to "http://HOST:PORT"; fails the test when it cannot. */
int http_connect(const char *base);

/* Sends as much as the peer accepts; false when the peer has closed. */
bool http_send(int fd, const void *data, size_t size);
bool http_send_text(int fd, const char *text);

/* Reads one answer; skips interim (1xx) answers. Never NULL: missing parts are empty. */
struct reply *http_read(int fd, int deadline_ms);

/* Sends one request on a connection of its own, and reads the answer. `headers` is "Name:
 * value\r\n" lines or NULL; Host and Content-Length are added. */
struct reply *http_call(const char *base, const char *method, const char *path, const char *headers,
                        const char *body);

/* Sends a request as http_call does and returns the connection without reading. */
int http_begin(const char *base, const char *method, const char *path, const char *headers,
               const char *body);

/* Copies a header of the answer (in any case) to `out`; false when there is none. */
bool reply_header(const struct reply *reply, const char *name, char *out, size_t size);

/* Fails the test and shows the answer unless it has this status. */
void assert_status(const struct reply *reply, int status);

/* Fails the test unless it is a whole problem+json answer with this status and code (NULL: any). */
void assert_problem(const struct reply *reply, int status, const char *code);

void reply_free(struct reply *reply);

#endif
