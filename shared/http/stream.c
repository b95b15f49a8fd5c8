/* The life of a stream: one piece of its source after the other, each once the client has read the
 * one before. */
#include "base/check.h"
#include "base/clock.h"
#include "http/parked.h"
#include "http/reply.h"
#include "http/request.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PIECES_AT_ONCE 4  /* pieces in one turn */
#define STUCK_BYTES 4096  /* a client that reads less in stuck_ms does not count as alive */
#define UNSENT_MAX 262144 /* bytes that the kernel may hold for one client */
#define FRAME_BYTES 64    /* a chunk's frame */

static bool is_chunked(const struct http_parked *parked)
{
    return parked->req->head.minor == 1 && !upgrade_is(parked) && !parked->sized;
}

static void frame(struct http_parked *parked, size_t len, bool last)
{
    struct outbox *out = &parked->out;
    if (!is_chunked(parked))
        return;
    if (len > 0)
        buf_addf(&out->lead, "%zx\r\n", len);
    out->tail = len > 0 ? last ? "\r\n0\r\n\r\n" : "\r\n" : last ? "0\r\n\r\n" : NULL;
}

static enum outbox_state send_on(struct http_parked *parked)
{
    size_t before = parked->out.at;
    enum outbox_state state = outbox_flush(&parked->out, parked->fd);
    if (state == OUTBOX_EMPTY) {
        parked->stuck_us = 0;
    } else if (state == OUTBOX_STUCK) {
        parked->taken += parked->out.at - before;
        if (parked->stuck_us != 0 && parked->taken < STUCK_BYTES)
            return state;
        parked->stuck_us = clock_mono_us() + (int64_t)parked->stream.stuck_ms * 1000;
        parked->taken = 0;
    }
    return state;
}

/* The source has ended: only what the outbox holds is left. */
static void finish(struct http_parked *parked)
{
    parked->phase = PARKED_SENDING;
    parked->keepalive_us = parked->wait_us = 0;
    parked_flush(parked);
}

/* Puts the source's next piece into the outbox, which is empty or holds the head. False when the
 * stream is over: then the connection may be gone. */
static bool take(struct http_parked *parked)
{
    struct outbox *out = &parked->out;
    struct http_piece piece = {.bytes = &parked->park->piece, .file = -1};
    buf_clear(piece.bytes);
    atomic_store(&parked->woken, false); /* Cleared first, so that a wake that comes now is not
                                          * lost. */
    enum http_fill said = parked->stream.fill(&piece, parked->stream.arg);
    if (said == HTTP_FILL_BROKEN || !buf_ok(piece.bytes)) {
        piece.bytes->failed = false;
        parked_end(parked, 0);
        return false;
    }
    bool last = said == HTTP_FILL_END || (said == HTTP_FILL_WAIT && parked->closing);
    size_t len = piece.bytes->len + piece.file_len;
    frame(parked, len, last);
    buf_add(&out->lead, buf_str(piece.bytes), piece.bytes->len);
    out->file = piece.file;
    out->file_at = piece.file_at;
    out->file_len = piece.file_len;
    parked->hungry = said == HTTP_FILL_WAIT;
    parked->filled_us = clock_mono_us();
    if (len > 0 && parked->stream.heartbeat_ms > 0)
        parked->keepalive_us = parked->filled_us + (int64_t)parked->stream.heartbeat_ms * 1000;
    if (last)
        finish(parked);
    return !last;
}

/* Sends a heartbeat when there is nothing else to send. */
static void beat(struct http_parked *parked)
{
    const char *text = parked->stream.heartbeat;
    if (!parked->hungry || !outbox_is_empty(&parked->out) || !text)
        return;
    size_t len = parked->stream.heartbeat_len ? parked->stream.heartbeat_len : strlen(text);
    frame(parked, len, false);
    buf_add(&parked->out.lead, text, len);
}

/* Gives the stream its turn: its socket has room, or may have. */
static void turn(struct http_parked *parked)
{
    for (int pieces = 0;; pieces++) {
        enum outbox_state state = send_on(parked);
        if (state == OUTBOX_BROKEN) {
            parked_end(parked, 0);
            return;
        }
        if (state == OUTBOX_EMPTY && parked->hungry && parked->unsure) {
            parked->unsure = false;
            beat(parked);
            continue;
        }
        if (state == OUTBOX_STUCK || parked->hungry || pieces == PIECES_AT_ONCE)
            break;
        if (!take(parked))
            return;
    }
    parked_settle(parked);
}

void stream_begin(struct http_parked *parked)
{
    bool is_head = strcmp(parked->req->head.method, "HEAD") == 0;
    if (upgrade_is(parked))
        upgrade_add_head(parked);
    else if (!parked->sized)
        parked_add_head(parked, &parked->answer, true);
    if (is_head)
        finish(parked);
    else if (upgrade_is(parked) && !upgrade_receive(parked)) /* Bytes that came with the head. */
        return;
    else if (take(parked))
        turn(parked);
}

void stream_woken(struct http_parked *parked)
{
    if (upgrade_is(parked) && !upgrade_look_at_resume(parked))
        return;
    if (!parked->hungry || !atomic_load(&parked->woken)) {
        parked_settle(parked); /* Its next piece is being sent, or it was only resumed. */
        return;
    }
    parked->wait_us = parked->filled_us + (int64_t)parked->stream.pace_ms * 1000;
    if (parked->wait_us > clock_mono_us()) {
        parked_settle(parked);
        return;
    }
    parked->wait_us = 0;
    parked->hungry = false;
    turn(parked);
}

void stream_event(struct http_parked *parked, unsigned events)
{
    if (upgrade_is(parked)) {
        if (events & EPOLLIN && !upgrade_receive(parked))
            return;
    } else if (parked_client_ends(parked, events)) { /* Find out whether it is gone. */
        parked->probed = parked->unsure = true;
    }
    turn(parked);
}

void stream_due(struct http_parked *parked, int64_t now_us)
{
    if (parked->keepalive_us != 0 && parked->keepalive_us <= now_us) {
        parked->keepalive_us = now_us + (int64_t)parked->stream.heartbeat_ms * 1000;
        beat(parked);
    }
    if (parked->wait_us != 0 && parked->wait_us <= now_us) {
        parked->wait_us = 0;
        parked->hungry = false;
    }
    turn(parked);
}

void stream_close(struct http_parked *parked)
{
    parked->closing = true;
    parked->hungry = false;
    turn(parked);
}

void stream_settle_socket(int fd, int stuck_ms)
{
    static const int one = 1, unsent = UNSENT_MAX;
    const unsigned silence_ms = (unsigned)stuck_ms;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* True when the connection can serve another request after the stream. Only for clients that ask
 * for it: others take the connection's end for the stream's. What they have sent beyond this
 * request would be lost. */
static bool keeps(const struct http_request *req)
{
    return req->head.minor == 1 && head_field(&req->head, "Connection") &&
           http_request_keeps(req) && req->conn->input.len == req->head_size + req->body_buffered;
}

struct http_parked *stream_enter(struct http_request *req, const struct http_stream_config *config,
                                 size_t early, struct err *err)
{
    REQUIRE(config->fill);
    bool kept = !config->receive && keeps(req);
    struct http_parked *parked = park_take(req->server->streams, req, err);
    if (!parked)
        return NULL;
    stream_settle_socket(parked->fd, config->stuck_ms);
    outbox_init(&parked->out, REPLY_HEAD_MAX + HTTP_PIECE_BYTES + FRAME_BYTES);
    parked->stream = *config;
    parked->stream.headers = parked->stream.type = NULL; /* The answer has copies of them. */
    parked->released = true;                             /* A stream's holder owes no send or
                                                          * drop. */
    parked->early = early;
    parked->keeps = kept && !parked->cut;
    if (config->heartbeat_ms > 0)
        parked->keepalive_us = clock_mono_us() + (int64_t)config->heartbeat_ms * 1000;
    if (parked_answer_copy(&parked->answer, config->status, config->type, config->headers, NULL, 0))
        parked->out.lead.failed = true; /* There is no memory for an answer. */
    park_enter(parked);
    return parked;
}

int stream_take_over(struct http_request *req, const struct http_stream_config *config)
{
    bool kept = req->flow_keeps && req->conn->input.len == req->head_size + req->body_buffered;
    struct http_parked *parked = park_take_rest(req->server->streams, req);
    if (!parked)
        return -1;
    parked->stream = *config;
    parked->answer.status = req->status;
    parked->released = true; /* Its holder owes no send or drop. */
    parked->sized = true;
    parked->keeps = kept && !parked->cut;
    park_enter(parked);
    return 0;
}

struct http_parked *http_stream(struct http_request *req, const struct http_stream_config *config,
                                struct err *err)
{
    struct http_stream_config plain = *config;
    plain.receive = NULL;
    return stream_enter(req, &plain, 0, err);
}

void http_stream_wake(struct http_parked *stream)
{
    /* Sequentially consistent with take()'s store: either fill() sees the new data, or this
     * exchange sees false. */
    if (!atomic_exchange(&stream->woken, true))
        park_put_in(stream);
}

int http_stream_room(const struct http_request *req, struct err *err)
{
    return park_room(req->server->streams, req, err);
}
