#define CURL_DISABLE_TYPECHECK
#include "base/clock.h"
#include "net/exchange.h"

#include <stdlib.h>
#include <string.h>

#define set(curl, handle, option, value) (curl)->curl_easy_setopt((handle), (option), (value))

struct net_flow {
    struct net_flow *next, **at; /* of the pool's list, while it is under way */
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
};

struct net_pool *net_pool_new(struct err *err)
{
    const struct curl_functions *curl = curl_load(err);
    struct net_pool *pool = curl ? calloc(1, sizeof(*pool)) : NULL;
    if (pool)
        pool->curl = curl;
    if (!pool || !(pool->multi = curl->curl_multi_init())) {
        free(pool);
        err_set(err, ERR_INTERNAL, "cannot prepare connections");
        return NULL;
    }
    curl->curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
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
    free(pool);
}

/* A flow that has ended, or a new one. */
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
    flow->relay.headers = NULL; /* copied */
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
    leave(pool, flow);
}

/* The end of one: the same last steps as net_relay()'s. */
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

int net_pool_wait(struct net_pool *pool, int timeout_ms, int wake, struct err *err)
{
    const struct curl_functions *curl = pool->curl;
    struct curl_waitfd extra = {.fd = wake, .events = CURL_WAIT_POLLIN};
    int running, left;
    CURLMsg *message;
    if (curl->curl_multi_poll(pool->multi, &extra, wake >= 0, timeout_ms, NULL) != CURLM_OK ||
        curl->curl_multi_perform(pool->multi, &running) != CURLM_OK)
        return err_set(err, ERR_INTERNAL, "cannot move the exchanges");
    while ((message = curl->curl_multi_info_read(pool->multi, &left))) {
        struct net_flow *flow = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl->curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&flow);
        end(pool, flow, code);
    }
    return 0;
}
