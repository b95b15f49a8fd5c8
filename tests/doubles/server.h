/*
 * The HTTP/1.1 server under the doubles: plain sockets, one thread per connection, keep-alive,
 * Content-Length and chunked request bodies, answers whole or chunked, and the two things that no
 * library offers because they are faults: cutting a connection and holding it silent.
 *
 * Threads: the handler runs on the connection's thread; many run at once.
 */
#ifndef DOUBLES_SERVER_H
#define DOUBLES_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { SERVER_HEADERS_MAX = 96, SERVER_HEAD_MAX = 256 * 1024, SERVER_BODY_MAX = 64 * 1024 * 1024 };

struct server_header {
    const char *name;
    const char *value;
};

/* Everything points into memory of the connection and lives until the handler returns. */
struct server_request {
    const char *method;
    const char *path;  /* without the query */
    const char *query; /* "" when there is none */
    struct server_header headers[SERVER_HEADERS_MAX];
    size_t n_headers;
    const char *body; /* NUL-terminated, never NULL */
    size_t body_size;
};

struct server_conn;

typedef void server_handler(struct server_conn *conn, const struct server_request *req, void *ctx);

/* How bytes travel when it is not over the bare socket (tls.h). read and write are as recv and
 * send; open is called on the connection's thread and returns NULL to refuse the peer. */
struct server_transport {
    void *(*open)(int fd, void *arg);
    ssize_t (*read)(void *session, void *data, size_t size);
    ssize_t (*write)(void *session, const void *data, size_t size);
    void (*close)(void *session);
    void *arg;
};

/* Listens on 127.0.0.1:*port (0 picks one, and is filled in). -1 with errno. */
int server_listen(int *port);

/* Serves what connects to the listening socket, for ever; `transport` is NULL for bare sockets.
 * Returns only when accepting fails, with errno set. */
void server_serve(int fd, const struct server_transport *transport, server_handler *handler,
                  void *ctx);

/* Binds 127.0.0.1:port (0 picks one), prints "listening on http://127.0.0.1:PORT" and serves for
 * ever. Returns only when it could not start, with errno set. */
int server_run(int port, server_handler *handler, void *ctx);

/* The value of a header (any case), or NULL. */
const char *server_header(const struct server_request *req, const char *name);

/* Bodies of requests for which it says yes are not read before the handler runs (body is "" then):
 * the handler takes them in pieces, of any size in total. Said once, before serving. */
void server_stream_bodies(bool (*for_which)(const struct server_request *req));
/* The next piece of such a body; 0 at its end, -1 when it was cut off. */
ssize_t server_body_read(struct server_conn *conn, void *to, size_t size);

/* An answer of a known size, whose bytes follow in pieces; false when the peer has gone. */
void server_start(struct server_conn *conn, int status, const char *headers, size_t size);
bool server_send(struct server_conn *conn, const void *data, size_t size);

/* One whole answer. `headers` is "Name: value\r\n" lines or "". */
void server_reply(struct server_conn *conn, int status, const char *headers, const char *body,
                  size_t size);

/* A chunked answer: begin, write any number of times, end. A write to a peer that went away
 * returns false and every later one does nothing. */
void server_begin(struct server_conn *conn, int status, const char *headers);
bool server_write(struct server_conn *conn, const void *data, size_t size);
void server_end(struct server_conn *conn);

/* `fn` is called once before the first byte of the next answer is sent; NULL: nothing is. */
void server_before_answer(struct server_conn *conn, void (*fn)(void *arg), void *arg);

/* Drops the connection with a reset, whatever was sent so far. */
void server_cut(struct server_conn *conn);

/* Waits ms milliseconds (-1: for ever); false as soon as the peer has gone. */
bool server_wait(struct server_conn *conn, int ms);

#endif
