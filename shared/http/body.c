/* The body of a request. CivetWeb's mg_read() has no time limit for a sender that sends byte by
 * byte; so this file waits for bytes itself, and lets CivetWeb read only what has arrived. */
#include "http/chunk.h"
#include "http/request.h"

#include "base/auto.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define PIECE 65536 /* Memory grows with the bytes that arrive, not with the announced length. */

/* Waits for bytes in the socket. Returns how many there are, 0 at the end, -1 after the time
 * limit. */
static ssize_t wait_for_bytes(struct http_request *req, int64_t until_us, struct err *err)
{
    const struct http_config *config = &req->server->config;
    int64_t idle_us = clock_mono_us() + (int64_t)config->body_idle_ms * 1000;
    int64_t end_us = idle_us < until_us ? idle_us : until_us;
    for (;;) {
        struct pollfd pfd = {.fd = req->conn->fd, .events = POLLIN};
        int64_t left_ms = (end_us - clock_mono_us() + 999) / 1000;
        int ready = left_ms > 0 ? poll(&pfd, 1, (int)left_ms) : 0;
        if (atomic_load(&req->server->stopping))
            return err_set(err, ERR_BUSY, "the server is stopping");
        if (atomic_load(&req->conn->cut))
            return err_set(err, ERR_SLOW, "the body came too slowly for a busy server");
        if (ready > 0) {
            int n = 0;
            return ioctl(req->conn->fd, FIONREAD, &n) == 0 ? n : 0;
        }
        if (ready == 0 && left_ms <= 0)
            return err_set(err, ERR_SLOW,
                           end_us == until_us ? "the body took longer than %d ms"
                                              : "the body stood still for %d ms",
                           end_us == until_us ? config->body_total_ms : config->body_idle_ms);
    }
}

/* Reads up to max bytes of the body as it was sent; 0 at the connection's end. */
static ssize_t fetch(struct http_request *req, char *to, size_t max, int64_t until_us,
                     struct err *err)
{
    size_t held = req->body_buffered - req->body_taken;
    ssize_t n = held > 0 ? (ssize_t)held : wait_for_bytes(req, until_us, err);
    if (n <= 0)
        return n;
    if ((size_t)n > max)
        n = (ssize_t)max;
    if (req->mg && !req->head.chunked) /* Read through CivetWeb, so that it knows where the next
                                        * request begins. */
        n = mg_read(req->mg, to, (size_t)n);
    else if (held > 0)
        memcpy(to, req->conn->input.data + req->head_size + req->body_taken, (size_t)n);
    else
        n = recv(req->conn->fd, to, (size_t)n, 0);
    if (n > 0 && held > 0)
        req->body_taken += (size_t)n;
    return n > 0 ? n : 0;
}

static int read_length(struct http_request *req, struct buf *out, int64_t until_us, struct err *err)
{
    int64_t left = req->head.length;
    while (left > 0) {
        size_t piece = left < PIECE ? (size_t)left : PIECE;
        char *to = buf_room(out, piece);
        if (!to)
            return buf_check(out, "the body", err);
        ssize_t n = fetch(req, to, piece, until_us, err);
        if (n < 0)
            return -1;
        if (n == 0)
            return err_set(err, ERR_INVALID, "the body ended %lld bytes short of Content-Length",
                           (long long)left);
        buf_grew(out, (size_t)n);
        left -= n;
    }
    return 0;
}

static int read_chunked(struct http_request *req, size_t max, struct buf *out, int64_t until_us,
                        struct err *err)
{
    char piece[8192];
    struct chunk chunk = {0};
    while (!chunk_ended(&chunk)) {
        ssize_t n = fetch(req, piece, sizeof(piece), until_us, err);
        if (n < 0)
            return -1;
        if (n == 0)
            return err_set(err, ERR_INVALID, "the chunked body ended before its last chunk");
        if (chunk_feed(&chunk, piece, (size_t)n, out) < 0)
            return err_set(err, ERR_INVALID, "the chunked body is malformed");
        if (!buf_ok(out) || out->len > max || chunk_announced(&chunk) > max - out->len)
            return err_set(err, ERR_TOO_LARGE, "the body is larger than %zu bytes", max);
    }
    return 0;
}

static int say_continue(struct http_request *req, struct err *err)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!req->head.expects_continue || req->body_buffered > 0)
        return 0;
    if (send(req->conn->fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return err_set(err, ERR_INVALID, "the client left before it sent its body");
    conn_restart(req->conn);
    return 0;
}

/* Refuses encoded bodies: nothing here decodes them, and the compressed bytes would be read as
 * text. */
static int check_encoding(const struct http_request *req, struct err *err)
{
    const char *encoding = http_header(req, "Content-Encoding");
    if (!encoding || strcasecmp(encoding, "identity") == 0)
        return 0;
    return err_set(err, ERR_MEDIA_TYPE, "Content-Encoding '%.40s' is not supported", encoding);
}

int http_body(struct http_request *req, size_t max, struct buf *out, struct err *err)
{
    if (check_encoding(req, err))
        return -1;
    if (req->head.length > (int64_t)max)
        return err_set(err, ERR_TOO_LARGE, "the body is larger than %zu bytes", max);
    if (req->body_done || (req->head.length == 0 && !req->head.chunked))
        return 0;
    if (req->state != REQUEST_OPEN || req->body_taken > 0)
        return err_set(err, ERR_INTERNAL, "the body can be read once, before the answer");
    if (say_continue(req, err) < 0)
        return -1;
    int64_t until_us = clock_mono_us() + (int64_t)req->server->config.body_total_ms * 1000;
    conn_enter(req->conn, CONN_BODY);
    int rc = req->head.chunked ? read_chunked(req, max, out, until_us, err)
                               : read_length(req, out, until_us, err);
    conn_enter(req->conn, CONN_BUSY);
    req->body_done = rc == 0;
    return rc;
}

int64_t http_body_length(const struct http_request *req)
{
    return req->head.chunked ? -1 : req->head.length;
}

/* Fills req->piece from a chunked body; 0 also at its end. */
static int decode_piece(struct http_request *req, struct err *err)
{
    char raw[8192];
    while (req->piece.len == 0 && !chunk_ended(&req->chunk)) {
        ssize_t n = fetch(req, raw, sizeof(raw), INT64_MAX, err);
        if (n < 0)
            return -1;
        if (n == 0)
            return err_set(err, ERR_INVALID, "the chunked body ended before its last chunk");
        if (chunk_feed(&req->chunk, raw, (size_t)n, &req->piece) < 0)
            return err_set(err, ERR_INVALID, "the chunked body is malformed");
    }
    return 0;
}

static ssize_t next_piece(struct http_request *req, char *to, size_t max, struct err *err)
{
    if (req->head.chunked) {
        if (decode_piece(req, err))
            return -1;
        size_t n = req->piece.len < max ? req->piece.len : max;
        if (n > 0)
            memcpy(to, req->piece.data, n);
        buf_drop(&req->piece, n);
        return (ssize_t)n;
    }
    int64_t left = req->head.length - req->body_read;
    if (left == 0)
        return 0;
    ssize_t n = fetch(req, to, (int64_t)max < left ? max : (size_t)left, INT64_MAX, err);
    if (n == 0)
        return err_set(err, ERR_INVALID, "the body ended %lld bytes short of Content-Length",
                       (long long)left);
    req->body_read += n > 0 ? n : 0;
    return n;
}

ssize_t http_read(struct http_request *req, char *to, size_t max, struct err *err)
{
    if (req->body_done || (req->head.length == 0 && !req->head.chunked))
        return 0;
    if (req->body_taken == 0 && req->body_read == 0 && say_continue(req, err) < 0)
        return -1;
    conn_enter(req->conn, CONN_BODY);
    ssize_t n = next_piece(req, to, max, err);
    conn_enter(req->conn, CONN_BUSY);
    req->body_done = n == 0 || (!req->head.chunked && req->body_read == req->head.length);
    return n;
}
