/*
 * A raw HTTP client: sends the bytes it is told, good or bad, and reads what comes back up to a
 * deadline.
 */
#ifndef TESTLIB_HTTP_H
#define TESTLIB_HTTP_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_DEADLINE_MS = 60000 };

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

/* Connects to "http://HOST:PORT"; fails the test when that is impossible. */
int http_connect(const char *base);

/* Sends as much as the peer takes; false when it has closed. */
bool http_send(int fd, const void *data, size_t size);
bool http_send_text(int fd, const char *text);

/* Reads one answer. Interim (1xx) answers are skipped. Never NULL: what did not come is empty. */
struct reply *http_read(int fd, int deadline_ms);

/* One request on a connection of its own. `headers` is "Name: value\r\n" lines or NULL; Host and
 * Content-Length are added. */
struct reply *http_call(const char *base, const char *method, const char *path, const char *headers,
                        const char *body);

/* Sends a request as http_call does and returns the connection without reading. */
int http_begin(const char *base, const char *method, const char *path, const char *headers,
               const char *body);

/* A header of the answer (any case) copied to `out`; false when it isn't there. */
bool reply_header(const struct reply *reply, const char *name, char *out, size_t size);

/* Fails the test, showing the answer, unless the status is this. */
void assert_status(const struct reply *reply, int status);

/* Fails the test unless it is a whole problem+json answer with this status and code (NULL: any). */
void assert_problem(const struct reply *reply, int status, const char *code);

void reply_free(struct reply *reply);

#endif
