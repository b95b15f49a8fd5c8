/*
 * An HTTP/1.1 server inside the test program, on a free port of 127.0.0.1: one thread for each
 * connection, and a handler that may answer well, badly, late, in part or not at all. Counts
 * connections and requests. Needs no cmocka: an error of the server itself aborts.
 *
 * Threads: handlers run on the connections' threads.
 */
#ifndef TESTLIB_LOOPBACK_H
#define TESTLIB_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct loopback;

struct loopback_call {
    int fd;             /* of the connection */
    const char *method; /* "POST" */
    const char *path;   /* with the query */
    const char *head;   /* request line and header lines, NUL-terminated */
    struct loopback *server;
    void *state; /* private */
};

/* Returns true to keep the connection; otherwise the server ends it. */
typedef bool loopback_handler(struct loopback_call *call, void *arg);

struct loopback *loopback_start(loopback_handler *handler, void *arg);
/* Has a port at which nobody listens yet: connections are refused until loopback_listen(). */
struct loopback *loopback_reserve(loopback_handler *handler, void *arg);
void loopback_listen(struct loopback *server);
/* Cuts every connection and waits for its thread. */
void loopback_stop(struct loopback *server);

/* "http://127.0.0.1:PORT" plus path, in fresh memory. */
char *loopback_url(const struct loopback *server, const char *path);
int loopback_port(const struct loopback *server);
int loopback_connections(struct loopback *server);
int loopback_requests(struct loopback *server);

/* The value of a header of the request into `value`; NULL when it is not there. */
const char *loopback_header(const struct loopback_call *call, const char *name, char *value,
                            size_t size);

/* The next bytes of the request's body (Content-Length or chunked); 0 at its end, -1 when it is
 * cut. */
ssize_t loopback_read(struct loopback_call *call, void *to, size_t size);
/* The whole body, NUL-terminated, in fresh memory. */
char *loopback_body(struct loopback_call *call);

/* Both return false when the client has gone. */
bool loopback_send(struct loopback_call *call, const void *data, size_t size);
bool loopback_text(struct loopback_call *call, const char *text);
/* Sends a whole answer; headers are "Name: value\r\n" lines or "". True when all of it was sent. */
bool loopback_answer(struct loopback_call *call, int status, const char *headers, const char *body);

/* Waits at most ms until the client closes or the server stops. True when the client has closed. */
bool loopback_await_close(struct loopback_call *call, int ms);

#endif
