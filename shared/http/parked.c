#include "http/parked.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "http/reply.h"
#include "http/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STUCK_US (30 * 1000000LL) /* time without progress after which an answer is given up */
#define LINGER_US (3 * 1000000LL) /* time that the peer has to take its last bytes and close */
#define LAST_CHUNK "\r\n0\r\n\r\n"

/* Closes the connection, after its registration in epoll: see watch.h. */
static void close_socket(struct http_parked *parked)
{
    watch_remove(&parked->park->watch, &parked->ticket, parked->fd);
    fd_close(&parked->fd);
}

/* Frees what parked_end() or orphan() has closed, or what never began: neither is registered any
 * more. */
void parked_free(struct http_parked *parked)
{
    struct park *park = parked->park;
    REQUIRE(parked->ticket == 0); /* Otherwise epoll would report events for freed memory. */
    fd_close(&parked->fd);
    outbox_done(&parked->out);
    free(parked->answer.type);
    free(parked->answer.headers);
    free(parked->answer.body);
    free(parked);
    park_unref(park);
}

/* Takes it off the thread's list. */
static void disown(struct http_parked *parked)
{
    struct park *park = parked->park;
    timer_set(&park->timers, &parked->timer, 0);
    if (parked->prev)
        parked->prev->next = parked->next;
    else
        park->first = parked->next;
    if (parked->next)
        parked->next->prev = parked->prev;
    park->owned--;
    if (parked->is_rest)
        atomic_fetch_sub(&park->rests, 1);
}

/* Reports the request's end, once. */
static void report(struct park *park, struct http_request **req, bool is_rest, int status)
{
    if (!*req)
        return;
    http_request_end(*req, status);
    http_request_free(*req);
    *req = NULL;
    if (!is_rest)
        atomic_fetch_sub(&park->count, 1);
}

static void call_done(struct http_parked *parked)
{
    if (parked->config.done)
        parked->config.done(parked->config.arg);
    if (parked->stream.done)
        parked->stream.done(parked->stream.arg);
    parked->config = (struct http_park_config){0};
    parked->stream.done = NULL;
}

static bool is_released(struct http_parked *parked)
{
    lock_take(&parked->park->lock);
    bool released = parked->released;
    lock_drop(&parked->park->lock);
    return released;
}

static bool is_in_inbox(struct http_parked *parked)
{
    lock_take(&parked->park->lock);
    bool in_inbox = parked->in_inbox;
    lock_drop(&parked->park->lock);
    return in_inbox;
}

/* Ends the connection. A parked request lives on until its holder lets go. A stream may be woken
 * until done() has returned, so the inbox is looked at after that. */
void parked_end(struct http_parked *parked, int status)
{
    REQUIRE(parked->phase != PARKED_ENDED);
    bool released = is_released(parked);
    close_socket(parked);
    timer_set(&parked->park->timers, &parked->timer, 0);
    parked->phase = PARKED_ENDED;
    report(parked->park, &parked->req, parked->is_rest, status);
    if (!released && parked->config.gone)
        parked->config.gone(parked->config.arg);
    if (released)
        call_done(parked);
    if (!released || is_in_inbox(parked))
        return; /* parked_attend() will handle it. */
    disown(parked);
    parked_free(parked);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

void parked_settle(struct http_parked *parked)
{
    unsigned events = 0;
    bool streaming = parked->phase == PARKED_STREAMING;
    if (!outbox_is_empty(&parked->out) || (streaming && !parked->hungry))
        events |= EPOLLOUT;
    if (streaming && upgrade_is(parked))
        events |= upgrade_listens(parked) ? EPOLLIN : 0;
    else if ((parked->phase == PARKED_WAITING || streaming) && !parked->probed)
        events |= !parked->cut ? EPOLLRDHUP : events == 0 ? EPOLLRDHUP | EPOLLET : 0;
    if (parked->phase == PARKED_LINGERING)
        events |= EPOLLIN | EPOLLRDHUP;
    if (events != parked->events) {
        watch_change(&parked->park->watch, parked->ticket, parked->fd, events);
        parked->events = events;
    }
    timer_set(&parked->park->timers, &parked->timer,
              sooner(sooner(parked->keepalive_us, parked->wait_us), parked->stuck_us));
}

bool parked_client_ends(const struct http_parked *parked, unsigned events)
{
    return events & EPOLLRDHUP && !parked->probed &&
           (!parked->cut || conn_client_ended(parked->fd));
}

/* A stream has ended: has the connection served by a worker again. False when it must be closed:
 * the server stops, or the client sends no more. When true, it may have been freed. */
static bool hand_back(struct http_parked *parked)
{
    struct http_server *server = parked->keeps ? parked->req->server : NULL;
    if (!server || parked->probed || atomic_load(&server->stopping))
        return false;
    int fd = parked->fd;
    watch_remove(&parked->park->watch, &parked->ticket, fd);
    parked->fd = -1;
    parked_end(parked, parked->answer.status); /* before the connection brings another request */
    if (listen_return(server->listener, fd))
        close(fd);
    return true;
}

/* The kernel has all bytes: the request has ended for its holder, but the peer still reads. */
static void linger(struct http_parked *parked)
{
    report(parked->park, &parked->req, parked->is_rest,
           parked->began ? 200 : parked->answer.status);
    call_done(parked);
    shutdown(parked->fd, SHUT_WR);
    parked->phase = PARKED_LINGERING;
    parked->keepalive_us = parked->wait_us = 0;
    parked->stuck_us = clock_mono_us() + LINGER_US;
    parked_settle(parked);
    if (parked->park->stop_us)
        parked_end(parked, 0); /* The kernel has the bytes, and there is no time for more. */
}

void parked_flush(struct http_parked *parked)
{
    size_t before = parked->out.at;
    switch (outbox_flush(&parked->out, parked->fd)) {
    case OUTBOX_BROKEN:
        parked_end(parked, 0);
        return;
    case OUTBOX_STUCK:
        if (parked->out.at > before || parked->stuck_us == 0)
            parked->stuck_us = clock_mono_us() + STUCK_US;
        break;
    case OUTBOX_EMPTY:
        parked->stuck_us = 0;
        if (parked->phase == PARKED_SENDING) {
            if (!hand_back(parked))
                linger(parked);
            return;
        }
    }
    parked_settle(parked);
}

/* Appends the head of the answer. Its body ends with the connection (`open`) or has a known
 * length. */
void parked_add_head(struct http_parked *parked, const struct parked_answer *answer, bool open)
{
    struct http_request *req = parked->req;
    http_request_announce(req, answer ? answer->status : 200);
    if (answer && answer->headers)
        buf_adds(&req->added, answer->headers);
    if (!buf_ok(&req->added))
        parked->out.lead.failed = true;
    reply_add_head(&parked->out.lead, &(struct reply){
                                          .status = answer ? answer->status : 200,
                                          .type = answer ? answer->type : "application/json",
                                          .id = req->id,
                                          .added = req->added.data,
                                          .len = answer ? answer->len : 0,
                                          .chunked = open && req->head.minor == 1,
                                          .until_close = open && req->head.minor == 0,
                                          .keep = parked->keeps,
                                      });
}

/* Sends one byte of JSON white space; the first one comes with the head of the answer. */
static void add_space(struct http_parked *parked)
{
    if (!parked->began)
        parked_add_head(parked, NULL, true);
    parked->began = true;
    buf_adds(&parked->out.lead, parked->req->head.minor == 1 ? "1\r\n \r\n" : " ");
}

static void deliver(struct http_parked *parked)
{
    struct parked_answer *answer = &parked->answer;
    bool has_body = reply_has_body(answer->status) && strcmp(parked->req->head.method, "HEAD") != 0;
    if (!reply_has_body(answer->status)) {
        answer->len = 0;
        free(answer->type);
        answer->type = NULL;
    }
    if (!parked->began)
        parked_add_head(parked, answer, false);
    else if (parked->req->head.minor == 1 && answer->len > 0)
        buf_addf(&parked->out.lead, "%zx\r\n", answer->len);
    if (has_body) {
        parked->out.body = answer->body;
        parked->out.body_len = answer->len;
        answer->body = NULL;
    }
    if (parked->began && parked->req->head.minor == 1)
        parked->out.tail = answer->len > 0 ? LAST_CHUNK : "0\r\n\r\n";
    parked->phase = PARKED_SENDING;
    parked->keepalive_us = parked->wait_us = 0;
    parked_flush(parked);
}

/* Enters a new connection. Returns false when it has already ended. */
static bool begin(struct http_parked *parked)
{
    struct park *park = parked->park;
    parked->next = park->first;
    if (park->first)
        park->first->prev = parked;
    park->first = parked;
    park->owned++;
    parked->phase = parked->stream.fill ? PARKED_STREAMING
                    : parked->req       ? PARKED_WAITING
                                        : PARKED_SENDING;
    if (timers_reserve(&park->timers, park->owned) < 0 ||
        !(parked->ticket = watch_add(&park->watch, parked->fd, 0, parked))) {
        parked_end(parked, 0);
        return false;
    }
    int64_t now_us = clock_mono_us();
    if (parked->config.keepalive_after_ms > 0 && parked->req &&
        strcmp(parked->req->head.method, "HEAD") != 0)
        parked->keepalive_us = now_us + (int64_t)parked->config.keepalive_after_ms * 1000;
    if (parked->config.wait_ms > 0)
        parked->wait_us = now_us + (int64_t)parked->config.wait_ms * 1000;
    return true;
}

void parked_attend(struct http_parked *parked)
{
    bool is_new = parked->phase == PARKED_NEW;
    if (is_new && !begin(parked))
        return;
    bool released = is_released(parked);
    if (parked->phase == PARKED_STREAMING && is_new)
        stream_begin(parked);
    else if (parked->phase == PARKED_STREAMING)
        stream_woken(parked);
    else if (parked->phase == PARKED_ENDED && released) {
        call_done(parked);
        disown(parked);
        parked_free(parked);
    } else if (parked->phase == PARKED_SENDING) {
        parked_flush(parked);
    } else if (parked->phase == PARKED_WAITING && released && parked->dropped) {
        parked_end(parked, 0);
    } else if (parked->phase == PARKED_WAITING && released) {
        deliver(parked);
    } else if (parked->phase == PARKED_WAITING) {
        parked_settle(parked);
    }
}

/* The peer sends no more. Finds out whether it is gone. */
static void probe(struct http_parked *parked)
{
    parked->probed = true;
    if (!parked->began && parked->req->head.minor == 1)
        buf_adds(&parked->out.lead, "HTTP/1.1 102 Processing\r\n\r\n");
    else if (strcmp(parked->req->head.method, "HEAD") != 0)
        add_space(parked);
    parked_flush(parked);
}

/* Reads and drops what the peer still sends. */
static void drain(struct http_parked *parked)
{
    char scrap[16384];
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(parked->fd, scrap, sizeof(scrap), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            parked_end(parked, 0);
            return;
        }
        if (n < 0)
            return;
    }
}

void parked_event(struct http_parked *parked, unsigned events)
{
    if (parked->phase == PARKED_LINGERING)
        drain(parked);
    else if (events & (EPOLLERR | EPOLLHUP))
        parked_end(parked, 0);
    else if (parked->phase == PARKED_WAITING && parked_client_ends(parked, events))
        probe(parked);
    else if (parked->phase == PARKED_STREAMING)
        stream_event(parked, events);
    else if (events & EPOLLOUT)
        parked_flush(parked);
}

static bool is_due(int64_t *due_us, int64_t now_us)
{
    bool due = *due_us != 0 && *due_us <= now_us;
    if (due)
        *due_us = 0;
    return due;
}

void parked_due(struct http_parked *parked)
{
    int64_t now_us = clock_mono_us();
    if (is_due(&parked->stuck_us, now_us)) {
        parked_end(parked, 0);
        return;
    }
    if (parked->phase == PARKED_STREAMING) {
        stream_due(parked, now_us);
        return;
    }
    bool waited = is_due(&parked->wait_us, now_us);
    bool space = is_due(&parked->keepalive_us, now_us);
    if (space) {
        if (parked->config.keepalive_every_ms > 0)
            parked->keepalive_us = now_us + (int64_t)parked->config.keepalive_every_ms * 1000;
        if (outbox_is_empty(&parked->out))
            add_space(parked);
    }
    if (waited && parked->config.waited && !is_released(parked))
        parked->config.waited(parked->config.arg);
    parked_flush(parked);
}

/* The park stops before the holder has let go: the handle now belongs to its holder alone, who may
 * free it once the lock is released. */
static bool orphan(struct http_parked *parked, struct http_request **ret_req, bool *ret_connected)
{
    struct park *park = parked->park;
    lock_take(&park->lock);
    bool mine = parked->released;
    if (!mine) {
        *ret_req = parked->req;
        *ret_connected = parked->phase != PARKED_ENDED;
        close_socket(parked);
        disown(parked);
        parked->orphan = true;
    }
    lock_drop(&park->lock);
    return !mine;
}

void parked_stop(struct http_parked *parked, bool gently)
{
    struct park *park = parked->park;
    struct http_park_config config = parked->config;
    struct http_request *req;
    bool connected;
    if (!orphan(parked, &req, &connected)) {
        if (parked->phase == PARKED_ENDED)
            return; /* It is in the inbox, and is freed there. */
        if (!gently || parked->phase == PARKED_LINGERING)
            parked_end(parked, 0);
        else if (parked->phase == PARKED_STREAMING)
            stream_close(parked);
        return;
    }
    report(park, &req, false, 0); /* Nobody holds a rest. */
    if (connected && config.gone)
        config.gone(config.arg);
    if (config.done)
        config.done(config.arg);
}
