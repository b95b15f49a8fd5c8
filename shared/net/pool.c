/*
 * Theory of operation. libcurl says which sockets it waits for, and until when. One epoll waits for
 * them, so that a connection costs something only when it moves: a thousand silent streams cost
 * nothing. A search for streams that have been silent for too long runs once a second.
 */
#define CURL_DISABLE_TYPECHECK
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "net/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#if !defined(__clang__) /* gcc's analyzer reports what is stored in a list as leaked. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define EVENTS_AT_ONCE 64
#define LOOK_EVERY_MS 1000 /* how often silent and stopped streams are looked for */

#define set(curl, handle, option, value) (curl)->curl_easy_setopt((handle), (option), (value))

struct net_flow {
    struct net_flow *next, **at; /* links of the pool's list, while the flow is under way */
    struct exchange x;
    struct net_relay relay;
    struct buf head;
    struct curl_slist *headers;
    char *url, *method;
    net_flow_done *done;
    CURL *handle; /* kept with its memory for the next one */
};

struct net_pool {
    const struct curl_functions *curl;
    CURLM *multi;
    struct net_flow *flows, *idle;
    int epoll, wake;  /* wake: borrowed, -1 or in the epoll */
    int64_t timer_ms; /* when libcurl wants to be called again; -1: never */
    int64_t looked_ms;
};

/* Called by libcurl when the events that it waits for on a socket change. */
static int on_socket(CURL *handle, curl_socket_t fd, int what, void *arg, void *ignored)
{
    struct net_pool *pool = arg;
    struct epoll_event event = {.data.fd = fd};
    (void)handle, (void)ignored;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(pool->epoll, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(pool->epoll, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    return epoll_ctl(pool->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct net_pool *pool = arg;
    (void)multi;
    pool->timer_ms = timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms;
    return 0;
}

static void multi_set(struct net_pool *pool)
{
    const struct curl_functions *curl = pool->curl;
    curl->curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl->curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl->curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
    curl->curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl->curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
}

struct net_pool *net_pool_new(struct err *err)
{
    const struct curl_functions *curl = curl_load(err);
    struct net_pool *pool = curl ? calloc(1, sizeof(*pool)) : NULL;
    if (!pool)
        return NULL;
    *pool = (struct net_pool){.curl = curl, .wake = -1, .timer_ms = -1};
    pool->epoll = epoll_create1(EPOLL_CLOEXEC);
    pool->multi = pool->epoll < 0 ? NULL : curl->curl_multi_init();
    if (!pool->multi) {
        err_sys(err, "cannot prepare connections");
        fd_close(&pool->epoll);
        free(pool);
        return NULL;
    }
    multi_set(pool);
    return pool;
}

static void flow_clear(struct net_pool *pool, struct net_flow *flow)
{
    pool->curl->curl_slist_free_all(flow->headers);
    free(flow->url);
    free(flow->method);
    buf_done(&flow->head);
    buf_done(&flow->x.gathered);
    flow->headers = NULL;
    flow->url = flow->method = NULL;
}

static void flow_free(struct net_pool *pool, struct net_flow *flow)
{
    flow_clear(pool, flow);
    pool->curl->curl_easy_cleanup(flow->handle);
    free(flow);
}

void net_pool_free(struct net_pool *pool)
{
    if (!pool)
        return;
    while (pool->flows)
        net_pool_cancel(pool, pool->flows);
    while (pool->idle) {
        struct net_flow *flow = pool->idle;
        pool->idle = flow->next;
        flow_free(pool, flow);
    }
    pool->curl->curl_multi_cleanup(pool->multi);
    fd_close(&pool->epoll);
    free(pool);
}

/* Returns a finished flow to use again, or a new one. */
static struct net_flow *take_flow(struct net_pool *pool)
{
    struct net_flow *flow = pool->idle;
    if (flow) {
        pool->idle = flow->next;
        return flow;
    }
    flow = calloc(1, sizeof(*flow));
    if (flow && !(flow->handle = pool->curl->curl_easy_init())) {
        free(flow);
        flow = NULL;
    }
    return flow;
}

static void leave(struct net_pool *pool, struct net_flow *flow)
{
    pool->curl->curl_multi_remove_handle(pool->multi, flow->handle);
    *flow->at = flow->next;
    if (flow->next)
        flow->next->at = flow->at;
    flow_clear(pool, flow);
    flow->next = pool->idle;
    pool->idle = flow;
}

static int prepare(struct net_pool *pool, struct net_flow *flow, const struct net_relay *relay,
                   struct err *err)
{
    flow->relay = *relay;
    flow->url = strdup(relay->url);
    flow->method = strdup(relay->method);
    flow->relay.url = flow->url;
    flow->relay.method = flow->method;
    flow->relay.headers = NULL; /* They were copied. */
    buf_init(&flow->head, EXCHANGE_HEAD_MAX);
    flow->x = (struct exchange){.curl = pool->curl,
                                .handle = flow->handle,
                                .relay = &flow->relay,
                                .head = &flow->head,
                                .reach = NET_TRUSTED,
                                .moved_ms = clock_mono_ms()};
    buf_init(&flow->x.gathered, EXCHANGE_GATHER_MAX);
    if (!flow->url || !flow->method)
        return err_sys(err, "an exchange");
    return exchange_headers(pool->curl, relay->headers, &flow->headers, err);
}

struct net_flow *net_pool_start(struct net_pool *pool, const struct net_relay *relay,
                                net_flow_done *done, struct err *err)
{
    REQUIRE(relay->url && done);
    if (exchange_check_url(relay->url, err))
        return NULL;
    struct net_flow *flow = take_flow(pool);
    if (!flow) {
        err_sys(err, "an exchange");
        return NULL;
    }
    flow->done = done;
    if (prepare(pool, flow, relay, err)) {
        flow_free(pool, flow);
        return NULL;
    }
    exchange_set_relay(&flow->x);
    set(pool->curl, flow->handle, CURLOPT_HTTPHEADER, flow->headers);
    set(pool->curl, flow->handle, CURLOPT_PRIVATE, flow);
    if (pool->curl->curl_multi_add_handle(pool->multi, flow->handle) != CURLM_OK) {
        flow_free(pool, flow);
        err_set(err, ERR_INTERNAL, "cannot begin an exchange");
        return NULL;
    }
    flow->next = pool->flows;
    flow->at = &pool->flows;
    if (flow->next)
        flow->next->at = &flow->next;
    pool->flows = flow;
    return flow;
}

void net_pool_cancel(struct net_pool *pool, struct net_flow *flow)
{
    REQUIRE(flow);
    leave(pool, flow);
}

/* Ends one flow with the same last steps as net_relay(). */
static void end(struct net_pool *pool, struct net_flow *flow, CURLcode code)
{
    struct err err = ERR_INIT;
    net_flow_done *done = flow->done;
    void *arg = flow->relay.arg;
    if (code == CURLE_OK && !flow->x.head_over)
        code = CURLE_PARTIAL_FILE;
    int rc = code == CURLE_OK ? 0 : exchange_explain(&flow->x, code, flow->url, &err);
    int passed = exchange_pass_gathered(&flow->x);
    if (rc == 0 && (passed || exchange_tell_head(&flow->x)))
        rc = err_set(&err, ERR_INTERNAL, "given up");
    leave(pool, flow);
    done(rc, &err, arg);
}

static void end_those_that_ended(struct net_pool *pool)
{
    CURLMsg *message;
    int left;
    while ((message = pool->curl->curl_multi_info_read(pool->multi, &left))) {
        struct net_flow *flow = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        pool->curl->curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&flow);
        end(pool, flow, code);
    }
}

/* Ends streams on which nothing has arrived for too long. */
static void look_at_silent(struct net_pool *pool)
{
    int64_t now = clock_mono_ms();
    if (now - pool->looked_ms < LOOK_EVERY_MS)
        return;
    pool->looked_ms = now;
    for (struct net_flow *flow = pool->flows, *next; flow; flow = next) {
        next = flow->next;
        const struct net_relay *relay = &flow->relay;
        flow->x.silent = relay->silence_ms > 0 && now - flow->x.moved_ms > relay->silence_ms;
        flow->x.gave_up = relay->stop && relay->stop(relay->arg);
        if (flow->x.silent || flow->x.gave_up) {
            end(pool, flow, CURLE_ABORTED_BY_CALLBACK);
            next = pool->flows; /* done() may have changed the list. */
        }
    }
}

static int watch_wake(struct net_pool *pool, int wake, struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = wake};
    if (pool->wake == wake)
        return 0;
    if (pool->wake >= 0)
        epoll_ctl(pool->epoll, EPOLL_CTL_DEL, pool->wake, NULL);
    pool->wake = wake;
    if (wake >= 0 && epoll_ctl(pool->epoll, EPOLL_CTL_ADD, wake, &event))
        return err_sys(err, "cannot wait for connections");
    return 0;
}

static int wait_ms(const struct net_pool *pool, int timeout_ms)
{
    int64_t left = pool->timer_ms < 0 ? timeout_ms : pool->timer_ms - clock_mono_ms();
    return left < 0 ? 0 : left < timeout_ms ? (int)left : timeout_ms;
}

int net_pool_wait(struct net_pool *pool, int timeout_ms, int wake, struct err *err)
{
    const struct curl_functions *curl = pool->curl;
    struct epoll_event events[EVENTS_AT_ONCE];
    int running;
    if (watch_wake(pool, wake, err))
        return -1;
    int count = epoll_wait(pool->epoll, events, EVENTS_AT_ONCE, wait_ms(pool, timeout_ms));
    if (count < 0 && errno != EINTR)
        return err_sys(err, "cannot wait for connections");
    for (int i = 0; i < count; i++) {
        int what =
            (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
            (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
            (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_IN | CURL_CSELECT_ERR : 0);
        if (events[i].data.fd != wake)
            curl->curl_multi_socket_action(pool->multi, events[i].data.fd, what, &running);
    }
    if (pool->timer_ms >= 0 && clock_mono_ms() >= pool->timer_ms) {
        pool->timer_ms = -1;
        curl->curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    end_those_that_ended(pool);
    look_at_silent(pool);
    return 0;
}
