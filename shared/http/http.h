/*
 * The HTTP server: CivetWeb behind strict limits, a router, and parked requests.
 *
 * Theory of operation. CivetWeb's worker threads read and check a request, run its handler, write
 * one buffer and go on. Nothing that waits for somebody may hold the last worker:
 *   - a request whose answer is not ready is parked: its socket moves to one epoll thread, which
 *     sends the answer later, keeps the connection alive with white space, and notices a client
 *     that goes away;
 *   - an answer that its client takes slowly moves there too;
 *   - a stream, which lasts as long as its client likes, lives on a second such thread, so that
 *     thousands of busy ones do not keep a single parked answer waiting;
 *   - a connection that is still sending its head or body, or idles between requests, does hold a
 *     worker; when few workers are left, the one that has waited longest is cut off (guard.h).
 *
 * Descriptors: up to workers + 1024 queued + parked_max + streams_max + 512 for slow answers and
 * closes + 2 * 512 for files that their clients take slowly; the program's limit should be above
 * that.
 *
 * Signals: the program ignores SIGPIPE, which a client that leaves would raise otherwise.
 *
 * Threads: handlers run on workers, callbacks on the epoll threads; every function below may
 * be called from any thread unless it takes a request (then: from its handler).
 * Ownership: a server is freed by http_stop(); a request is borrowed by its handler until that
 * returns or hands it over; what http_… returns of a request lives as long as it does.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct http_server;
struct http_request;
struct http_parked;
struct http_route;

typedef void http_handler(struct http_request *req, void *arg);

/* Flag of a route whose path may hold control characters and bytes that are not UTF-8, as file
 * names may. */
#define HTTP_ANY_BYTES 0x80000000u
/* Flag of a route whose rest ("{path...}") is a file's path: %2F in it is a slash, so that callers
 * may encode the whole path as one part, and %5C a backslash. */
#define HTTP_FILE_PATH 0x40000000u

/* One row of the routing table. `path` is exact; a part in braces, "/tasks/{id}", takes one
 * non-empty segment (percent-decoded); a last part "{path...}" takes the rest, slashes included.
 * HEAD is served by GET's row, OPTIONS by the table itself. */
struct http_route {
    const char *method;
    const char *path;
    http_handler *handle;
    unsigned flags; /* the owner's, but for HTTP_ANY_BYTES and HTTP_FILE_PATH */
};

struct http_config {
    /* Where to listen: a list of addresses as in base/place.h, "127.0.0.1, [::1]:8080,
     * unix:/run/x.sock, systemd". */
    const char *bind;
    int port;      /* of addresses that name none; 0: any free one */
    int unix_mode; /* of the files of unix sockets; 0: 0660 */
    /* Threads. Each costs 20 KiB of memory before and 28 KiB after its first requests (measured),
     * and each connection that is kept or sends slowly holds one until the guard takes it back. An
     * eighth of them, up to 32, is the reserve. 128 fits: cloudflared keeps 100 connections, 16 are
     * the reserve, and it is 6 MiB in use. */
    int workers;
    const struct http_route *routes;
    size_t route_count;

    /* Sees every well-formed request before its handler; route is NULL when none matches. Returns
     * false after it has answered (403, 429, 503 …). */
    bool (*gate)(struct http_request *req, const struct http_route *route, void *arg);
    /* Called once before the head of an answer is sent, so that a client that has the answer can
     * read what was noted here; status 0 when the client of a parked request left without an
     * answer. May be NULL. Runs on the worker or the epoll thread. */
    void (*answering)(const struct http_request *req, int status, void *arg);
    /* Called after each answer, for the log and the counters; status 0 when the connection ended
     * without a whole answer. Also called for requests that were refused before a handler saw them:
     * their method and path may be "". Runs on the worker or the epoll thread. */
    void (*done)(const struct http_request *req, int status, int64_t duration_us, void *arg);
    /* Reports what the server itself failed to do (`message` is borrowed). */
    void (*trouble)(const char *message, void *arg);
    void *arg;

    int head_ms;        /* a whole head within this time */
    int body_idle_ms;   /* a body: no longer than this without a byte */
    int body_total_ms;  /* a whole body within this time */
    int idle_ms;        /* a kept connection without a request */
    size_t parked_max;  /* more answer 503 */
    size_t streams_max; /* the same */
};

struct http_server *http_start(const struct http_config *config, struct err *err);
/* The port of the first TCP address, or 0 when there is none. */
int http_port(const struct http_server *server);
/* The index'th address that it listens on, as a URL: "http://127.0.0.1:8787", "http://[::1]:8787",
 * "unix:/run/x.sock". Returns false past the last. */
bool http_place(const struct http_server *server, size_t index, char *text, size_t size);

/* Stops accepting connections, gives parked requests that are being answered `linger_ms` to send
 * their bytes, ends everything else and frees the server. For a request that is still parked gone()
 * and done() are called here; the send or drop that its holder still owes may come later and then
 * only frees the handle. It waits for running handlers, so these must be able to end. */
void http_stop(struct http_server *server, int linger_ms);

struct http_stats {
    int workers, busy, parked, streams;
    uint64_t requests, refused, cut_off;
};
void http_stats(struct http_server *server, struct http_stats *ret_stats);

/* The request. Strings live as long as it does. */
const char *http_method(const struct http_request *req);
const char *http_path(const struct http_request *req);
/* The row that serves the request; NULL when none does, or when it was refused before routing. */
const struct http_route *http_served_by(const struct http_request *req);
/* The client's address without its port, or "unix:" and the user id of a local process. */
const char *http_peer(const struct http_request *req);
/* Where the client is. A tunnel or proxy on this machine is LOOPBACK: only from there (and over a
 * unix socket) can a header such as CF-Connecting-IP be trusted. */
enum http_peer_kind {
    HTTP_PEER_REMOTE,   /* TCP from another machine */
    HTTP_PEER_LOOPBACK, /* TCP from 127.0.0.0/8 or ::1 */
    HTTP_PEER_UNIX,     /* a unix socket: a process that may open its file */
};
enum http_peer_kind http_peer_kind(const struct http_request *req);
/* The user that the process at the other end of a unix socket had when it connected. False for
 * others. */
bool http_peer_user(const struct http_request *req, uid_t *ret_uid);
const char *http_id(const struct http_request *req); /* X-Request-ID: the caller's when sane */
const char *http_header(const struct http_request *req, const char *name);
/* The index'th header; false past the last. */
bool http_header_at(const struct http_request *req, size_t index, const char **ret_name,
                    const char **ret_value);
const char *http_param(const struct http_request *req, const char *name);
/* A query parameter, decoded; NULL when it is not there. */
const char *http_query(struct http_request *req, const char *name);
/* The name of the index'th query parameter, decoded, or NULL. */
const char *http_query_name(struct http_request *req, size_t index);
int64_t http_age_us(const struct http_request *req);
/* True when the Accept header takes `type` ("application/x-ndjson"); no header takes all. */
bool http_accepts(const struct http_request *req, const char *type);
/* True when Accept names the type itself, not by a wildcard. */
bool http_prefers(const struct http_request *req, const char *type);

/* Looks up a preference of the Prefer headers (RFC 7240), such as "wait" of "wait=10,
 * respond-async". Copies its value without quotes, "" when it has none, cut to size - 1 bytes.
 * False when it is absent. Names must match exactly; of several the first counts. */
bool http_preference(const struct http_request *req, const char *name, char *value, size_t size);

/* Evaluates If-Match and If-None-Match (RFC 9110, 13.2.2) for a resource whose ETag is `etag`, with
 * its quotes (NULL: the resource does not exist). Returns 0 to go on, or 304 or 412 to answer
 * instead. */
int http_condition(const struct http_request *req, const char *etag);

/* Reads the whole body (Content-Length or chunked); answers Expect: 100-continue first.
 * ERR_TOO_LARGE past max, ERR_SLOW when the client stalls, ERR_INVALID when the body is cut off or
 * malformed. Before this call no byte of the body is read, so refuse first, then read. */
int http_body(struct http_request *req, size_t max, struct buf *out, struct err *err);

/* Reads the next bytes of the body instead of http_body(): at most max, at least one. Returns 0 at
 * its end; errors are those of http_body(), but there is no limit on size and total time. */
ssize_t http_read(struct http_request *req, char *to, size_t max, struct err *err);

/* Content-Length, 0 without a body, -1 when it is chunked. */
int64_t http_body_length(const struct http_request *req);

/* Adds a header to the answer. */
void http_add_header(struct http_request *req, const char *name, const char *value);

/* Answers, once per request, in one write. */
void http_send(struct http_request *req, int status, const char *type, const void *body,
               size_t len);
/* Sends an answer in pieces instead of http_send(), each as it is written. The worker waits for a
 * slow client. Returns -1 once the client is gone. After http_begin() the handler must call
 * http_end(); with `whole` false the connection is broken off, so that the client notices. */
int http_begin(struct http_request *req, int status, const char *type);
/* As http_begin() for a body of known length: the handler must write exactly `len` bytes. */
int http_begin_sized(struct http_request *req, int status, const char *type, int64_t len);
int http_write(struct http_request *req, const void *data, size_t len);
void http_end(struct http_request *req, bool whole);

/* Answers with `len` bytes of a file from `from` on, without a copy, instead of http_send(). The
 * worker sends as fast as a client reads; what a slow client has not read yet is sent by the park,
 * from a descriptor of its own: the handler keeps `file`, and must not touch the request again.
 * A file that turns out to be shorter breaks the connection off; what somebody writes into the
 * file meanwhile may be sent. HEAD gets the head alone. */
void http_send_file(struct http_request *req, int status, const char *type, int file, int64_t from,
                    int64_t len);

/* True when the client has closed its side. */
bool http_client_left(struct http_request *req);

/* An error as application/problem+json; `members` is more JSON for the object (",\"k\":1") or NULL.
 */
void http_send_error(struct http_request *req, const struct err *err, const char *members);
/* Appends the JSON object of http_send_error(), for callers that send it another way. */
void http_add_problem(struct buf *out, const struct err *err, const char *request_id,
                      int64_t duration_ms, const char *members);

/*
 * A parked request. The handler parks instead of answering and returns; it must not touch the
 * request again, which may be over before http_park() returns. From then on the holder of the
 * handle owes exactly one http_parked_send() or http_parked_drop(), whatever the callbacks say.
 */
struct http_park_config {
    int keepalive_after_ms; /* start a chunked 200 answer with white space after this */
    int keepalive_every_ms;
    int wait_ms; /* call waited() after this; 0: never */
    /* Called on the epoll thread, each at most once and none after done(). */
    void (*gone)(void *arg);   /* the client went away */
    void (*waited)(void *arg); /* wait_ms passed without an answer */
    void (*done)(void *arg);   /* last call: arg is no longer used */
    void *arg;
};

/* Parks the request. NULL with ERR_BUSY when there is no room; then the handler must still answer.
 * Read the body first: unread bytes are lost. */
struct http_parked *http_park(struct http_request *req, const struct http_park_config *config,
                              struct err *err);

/* Hands the answer over and gives up the handle. Never blocks. `headers` is NULL or complete header
 * lines ("Location: /x\r\n"). Once white space has been sent the status is 200, whatever `status`
 * says. */
void http_parked_send(struct http_parked *parked, int status, const char *type, const char *headers,
                      const void *body, size_t len);
/* Closes the connection without an answer. */
void http_parked_drop(struct http_parked *parked);

/*
 * A stream: an answer without a known end, made piece by piece as its client reads it. Nothing is
 * buffered for a client that reads slowly: fill() is asked for the next piece once the socket has
 * taken the last one, so the source (a file) waits and memory does not grow. The connection ends
 * with the stream, unless the client asked to keep it by name (Connection: keep-alive).
 */
enum http_fill {
    HTTP_FILL_MORE,  /* there is more right now */
    HTTP_FILL_WAIT,  /* nothing more before http_stream_wake() */
    HTTP_FILL_END,   /* this was the last piece */
    HTTP_FILL_BROKEN /* break the connection off, so that the client knows */
};

/* The next bytes of the answer: first `bytes`, then a range of a file (sent without a copy). */
struct http_piece {
    struct buf *bytes; /* at most HTTP_PIECE_BYTES */
    int file;          /* borrowed until done() */
    int64_t file_at;
    size_t file_len; /* 0: no range */
};

#define HTTP_PIECE_BYTES (64u << 10)

/* What receive() returns. It has always used all the bytes that it was given. */
enum http_receive {
    HTTP_RECEIVE_MORE,  /* go on */
    HTTP_RECEIVE_PAUSE, /* nothing more before http_stream_resume(): the client must wait */
    HTTP_RECEIVE_BROKEN /* break the connection off */
};

struct http_stream_config {
    int status;
    const char *type;
    const char *headers;   /* ready header lines, or NULL */
    const char *heartbeat; /* static text, sent when nothing else was for heartbeat_ms */
    size_t heartbeat_len;  /* 0: up to its NUL */
    int heartbeat_ms;
    int stuck_ms; /* a client that has not read a few KiB, or all there is, within this time is
                   * dropped */
    int pace_ms;  /* after a WAIT, fill() is not called again sooner than this */
    /* Called on the epoll thread. They must not block; bound the work of one call. */
    enum http_fill (*fill)(struct http_piece *piece, void *arg);
    void (*done)(void *arg); /* last call, once, whatever the reason; the handle is invalid after
                              * it */
    void *arg;

    /* For http_upgrade() only; else NULL. */
    const char *protocol; /* static: what the answer's Upgrade header names */
    enum http_receive (*receive)(const char *data, size_t len, void *arg);
};

/* Turns the request into a stream; the handler must not touch it again. NULL with ERR_BUSY when
 * there is no room; then the handler must still answer, and done() is not called. fill() is called
 * at once, possibly before this returns. The handle is valid until done() has returned, which may
 * also be before this returns: the code that wakes the stream must agree with done() under a lock
 * of its own. HEAD gets the head only. */
struct http_parked *http_stream(struct http_request *req, const struct http_stream_config *config,
                                struct err *err);

/* Says that fill() has more. Cheap when that is already known. Any thread may call it; it never
 * blocks and takes only the server's own lock, so it may be called with locks held. */
void http_stream_wake(struct http_parked *stream);

/*
 * Taking a connection over: after an answer of 101 it speaks another protocol, both ways.
 *
 *     if (!http_wants_upgrade(req, "websocket"))
 *         ... answer 4xx, or serve it as a plain request ...
 *     handle = http_upgrade(req, &config, &err);    NULL: still to be answered (503)
 *
 * It is a stream without a status, a type or frames of its own: fill() gives the bytes that go out
 * just as they are, http_stream_wake() says that there are some, HTTP_FILL_END closes the
 * connection once they are out, `heartbeat` is a frame of the other protocol (a ping). Besides,
 * receive() is given the client's bytes as they come, those that came with the head first. At the
 * client's end (a FIN) it is called once with no bytes; sending may go on until fill() ends it.
 *
 * Threads: receive(), fill() and done() run on the epoll thread, one at a time, never after done();
 * they must not block. They may call wake and resume of their own stream.
 * Ownership: as http_stream(); `data` is borrowed for the call.
 * Limits: counted as a stream (streams_max). receive() gets at most HTTP_PIECE_BYTES at a time. A
 * client that sends faster than it is read is held back by its own TCP window after a PAUSE.
 */

/* True for a GET of HTTP/1.1, without a body, that asks to continue in `protocol`. */
bool http_wants_upgrade(const struct http_request *req, const char *protocol);

/* Answers 101 with `config->protocol`, the added headers and config->headers, and hands the
 * connection over. As http_stream(), but `status` and `type` are ignored. Fails for a request that
 * does not ask for that upgrade. */
struct http_parked *http_upgrade(struct http_request *req, const struct http_stream_config *config,
                                 struct err *err);

/* Ends a PAUSE: receive() may be called again. Any thread, as http_stream_wake(). */
void http_stream_resume(struct http_parked *stream);

/* 0 when there is room for one more stream now; else ERR_BUSY. */
int http_stream_room(const struct http_request *req, struct err *err);

#endif
