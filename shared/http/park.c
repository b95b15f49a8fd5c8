#include "http/park.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "http/parked.h"
#include "http/reply.h"
#include "http/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define RESTS_MAX 512 /* answers that clients read slowly, and connections that are closing */

static void ring(const struct park *park)
{
    const uint64_t one = 1;
    ssize_t n = write(park->event, &one, sizeof(one));
    (void)n; /* When the eventfd is full, it is already readable. */
}

/* Appends a connection to the inbox. The eventfd is written under the lock: once the lock is
 * released, the thread may end the connection, and with the last one the park. */
static void push_locked(struct park *park, struct http_parked *parked) HOLDS(park->lock);
static void push_locked(struct park *park, struct http_parked *parked)
{
    if (parked->in_inbox)
        return;
    if (!park->inbox) {
        ring(park);
        park->inbox_end = &park->inbox;
    }
    parked->in_inbox = true;
    parked->inbox_next = NULL;
    *park->inbox_end = parked;
    park->inbox_end = &parked->inbox_next;
}

void park_unref(struct park *park)
{
    if (atomic_fetch_sub(&park->refs, 1) > 1)
        return;
    lock_done(&park->lock);
    timers_done(&park->timers);
    buf_done(&park->piece);
    watch_done(&park->watch);
    fd_close(&park->event);
    free(park);
}

/* Attends to everything that has been put in since the last call, one by one: attending may free.
 * What is put in meanwhile waits for the next round, because a busy source would otherwise starve
 * the sockets. */
static void empty_inbox(struct park *park)
{
    lock_take(&park->lock);
    struct http_parked *parked = park->inbox;
    park->inbox = NULL;
    while (parked) {
        struct http_parked *next = parked->inbox_next;
        parked->in_inbox = false;
        lock_drop(&park->lock);
        parked_attend(parked);
        parked = next;
        lock_take(&park->lock);
    }
    lock_drop(&park->lock);
}

static void stop_all(struct park *park, bool gently)
{
    for (struct http_parked *parked = park->first, *next; parked; parked = next) {
        next = parked->next;
        parked_stop(parked, gently);
    }
}

/* Handles a stop. Returns true when the thread may end. */
static bool look_at_stop(struct park *park)
{
    lock_take(&park->lock);
    bool stopping = park->stopping;
    int linger_ms = park->linger_ms;
    lock_drop(&park->lock);
    if (!stopping)
        return false;
    if (park->stop_us == 0) {
        park->stop_us = clock_mono_us() + (int64_t)linger_ms * 1000;
        stop_all(park, linger_ms > 0);
    } else if (clock_mono_us() >= park->stop_us) {
        stop_all(park, false);
    }
    return park->first == NULL;
}

static int wait_ms(const struct park *park)
{
    const struct timer *first = timers_first(&park->timers);
    int64_t due_us = first ? first->due_us : 0;
    if (park->stop_us && (!due_us || park->stop_us < due_us))
        due_us = park->stop_us;
    if (due_us == 0)
        return -1;
    int64_t ms = (due_us - clock_mono_us() + 999) / 1000;
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static void run_timers(struct park *park)
{
    int64_t now_us = clock_mono_us();
    struct timer *timer;
    while ((timer = timers_first(&park->timers)) && timer->due_us <= now_us) {
        char *base = (char *)timer - offsetof(struct http_parked, timer);
        parked_due((struct http_parked *)(void *)base);
    }
}

/* Handles one event. Its owner is looked up now, because an earlier event may have ended it. */
static void look_at_event(struct park *park, const struct epoll_event *event)
{
    uint64_t count;
    if (watch_is_bell(event)) {
        ssize_t n = read(park->event, &count, sizeof(count));
        (void)n; /* When nothing can be read, an earlier read has already taken it. */
        return;
    }
    struct http_parked *parked = watch_owner(&park->watch, event);
    if (parked)
        parked_event(parked, event->events);
}

static void *park_main(void *arg)
{
    struct park *park = arg;
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int n = epoll_wait(park->watch.epoll, events, EVENTS_MAX, wait_ms(park));
        for (int i = 0; i < n; i++)
            look_at_event(park, &events[i]);
        empty_inbox(park);
        run_timers(park);
        if (look_at_stop(park))
            return NULL;
    }
}

/* Opens the descriptors and starts the thread; park->refs keeps what exists when this fails. */
static int open_park(struct park *park, struct err *err)
{
    if (watch_open(&park->watch, err))
        return -1;
    park->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (park->event < 0 || watch_add_bell(&park->watch, park->event) < 0)
        return err_sys(err, "opening the park's bell");
    return thread_start(&park->thread, park->name, THREAD_STACK_DEFAULT, park_main, park, err);
}

struct park *park_new(size_t max, const char *name, const char *what, struct err *err)
{
    struct park *park = calloc(1, sizeof(*park));
    if (!park) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    park->refs = 1;
    park->watch.epoll = park->event = -1;
    park->max = max;
    park->name = name;
    park->what = what;
    lock_init(&park->lock);
    buf_init(&park->piece, HTTP_PIECE_BYTES);
    if (open_park(park, err) == 0)
        return park;
    park_unref(park);
    return NULL;
}

void park_stop(struct park *park, int linger_ms)
{
    if (!park)
        return;
    lock_take(&park->lock);
    park->stopping = true;
    park->linger_ms = linger_ms;
    lock_drop(&park->lock);
    ring(park);
    thread_join(&park->thread);
    park_unref(park);
}

int park_count(const struct park *park)
{
    return atomic_load(&park->count);
}

void park_put_in(struct http_parked *parked)
{
    struct park *park = parked->park;
    lock_take(&park->lock);
    push_locked(park, parked);
    lock_drop(&park->lock);
}

static struct http_parked *parked_new(struct park *park, int fd)
{
    struct http_parked *parked = calloc(1, sizeof(*parked));
    if (!parked)
        return NULL;
    atomic_fetch_add(&park->refs, 1);
    parked->park = park;
    parked->fd = fd;
    return parked;
}

int park_room(const struct park *park, const struct http_request *req, struct err *err)
{
    if (req->state != REQUEST_OPEN)
        return err_set(err, ERR_INTERNAL, "the request was answered already");
    if (atomic_load(&req->server->stopping))
        return err_set(err, ERR_BUSY, "the server is stopping");
    if ((size_t)atomic_load(&park->count) >= park->max)
        return err_set(err, ERR_BUSY, "there are %zu %s already", park->max, park->what);
    return 0;
}

struct http_parked *park_take(struct park *park, struct http_request *req, struct err *err)
{
    if (park_room(park, req, err) < 0)
        return NULL;
    struct http_parked *parked = parked_new(park, -1);
    if (!parked) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    parked->cut = guard_has_cut(req->server->guard, req->conn);
    parked->fd = http_request_detach(req);
    if (parked->fd < 0) {
        err_sys(err, "taking a connection off its worker");
        err->code = ERR_BUSY;
        parked_free(parked);
        return NULL;
    }
    atomic_fetch_add(&park->count, 1);
    outbox_init(&parked->out, REPLY_HEAD_MAX);
    parked->req = req;
    return parked;
}

struct http_parked *park_take_rest(struct park *park, struct http_request *req)
{
    struct http_parked *parked =
        atomic_fetch_add(&park->rests, 1) < RESTS_MAX && !atomic_load(&req->server->stopping)
            ? parked_new(park, -1)
            : NULL;
    if (parked)
        parked->cut = guard_has_cut(req->server->guard, req->conn);
    int fd = parked ? http_request_detach(req) : -1;
    if (fd < 0) {
        if (parked)
            parked_free(parked);
        atomic_fetch_sub(&park->rests, 1);
        return NULL;
    }
    parked->fd = fd;
    parked->is_rest = true;
    parked->req = req;
    outbox_init(&parked->out, REPLY_HEAD_MAX);
    return parked;
}

void park_enter(struct http_parked *parked)
{
    http_request_leave(parked->req);
    park_put_in(parked);
}

struct http_parked *http_park(struct http_request *req, const struct http_park_config *config,
                              struct err *err)
{
    struct http_parked *parked = park_take(req->server->park, req, err);
    if (!parked)
        return NULL;
    parked->config = *config;
    park_enter(parked);
    return parked;
}

void park_rest(struct park *park, int fd, struct buf *rest)
{
    struct http_parked *parked =
        atomic_fetch_add(&park->rests, 1) < RESTS_MAX ? parked_new(park, fd) : NULL;
    if (!parked) {
        atomic_fetch_sub(&park->rests, 1);
        close(fd);
        return;
    }
    outbox_init(&parked->out, 0);
    parked->is_rest = true;
    parked->out.body_len = rest->len;
    parked->out.body = buf_steal(rest);
    parked->released = true;
    park_put_in(parked);
}

int parked_answer_copy(struct parked_answer *to, int status, const char *type, const char *headers,
                       const void *body, size_t len)
{
    to->status = status;
    to->type = type ? strdup(type) : NULL;
    to->headers = headers ? strdup(headers) : NULL;
    to->body = len > 0 ? malloc(len) : NULL;
    to->len = len;
    if ((type && !to->type) || (headers && !to->headers) || (len > 0 && !to->body))
        return -1;
    if (len > 0)
        memcpy(to->body, body, len);
    return 0;
}

static void release(struct http_parked *parked, bool dropped)
{
    struct park *park = parked->park;
    lock_take(&park->lock);
    bool orphan = parked->orphan;
    REQUIRE(!parked->released); /* The holder owes one send or drop, not two. */
    parked->released = true;
    parked->dropped = dropped;
    if (!orphan)
        push_locked(park, parked);
    lock_drop(&park->lock);
    if (orphan)
        parked_free(parked);
}

void http_parked_send(struct http_parked *parked, int status, const char *type, const char *headers,
                      const void *body, size_t len)
{
    /* Nobody reads the answer before `released` is set. When memory runs out there is no answer. */
    int rc = parked_answer_copy(&parked->answer, status, type, headers, body, len);
    release(parked, rc < 0);
}

void http_parked_drop(struct http_parked *parked)
{
    release(parked, true);
}
