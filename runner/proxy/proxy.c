#include "runner/proxy/proxy.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "crypto/crypto.h"
#include "runner/proxy/lease.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Requests at once, with an eighth in reserve. A thread that has never run costs next to
 * nothing. */
#define WORKERS 128
#define HEAD_MS 30000
#define BODY_IDLE_MS 120000
#define SOCKET_MODE 0600
#define UNREACHED_MIN 2         /* A single failure may be an accident. */
#define UNREACHED_FOR_MS 600000 /* After this time without a try it may be over. */
#define IDLE_MS 300000          /* The CLI keeps its connections between turns. */

/* --- leases -------------------------------------------------------------------------------- */

void lease_unref(struct lease *lease)
{
    REQUIRE(lease->refs > 0);
    if (atomic_fetch_sub(&lease->refs, 1) > 1)
        return;
    if (lease->secret)
        explicit_bzero(lease->secret, strlen(lease->secret));
    explicit_bzero(lease->token, sizeof(lease->token));
    free(lease->secret);
    lock_done(&lease->lock);
    free(lease);
}

/* Finds the lease of a token. All are compared, in time that tells nothing about how much of it was
 * right. */
struct lease *lease_find(struct proxy *proxy, const char *token)
{
    struct lease *found = NULL;
    lock_take(&proxy->lock);
    for (struct lease *lease = proxy->leases; lease; lease = lease->next)
        if (crypto_equal(lease->token, strlen(lease->token), token, strlen(token)))
            found = lease;
    if (found)
        atomic_fetch_add(&found->refs, 1);
    lock_drop(&proxy->lock);
    return found;
}

void lease_name(struct lease *lease, const char *task)
{
    REQUIRE(task);
    snprintf(lease->task, sizeof(lease->task), "%s", task);
}

const char *lease_token(const struct lease *lease)
{
    return lease->token;
}

const char *lease_url(const struct lease *lease)
{
    return lease->url;
}

enum lease_kind lease_kind(const struct lease *lease)
{
    return lease->kind;
}

void lease_use(struct lease *lease, struct lease_use *ret_use)
{
    lock_take(&lease->lock);
    *ret_use = lease->use;
    lock_drop(&lease->lock);
}

/* --- the server ---------------------------------------------------------------------------- */

/* The requests that are passed on: Claude's conversations, and the CLI's requests to prepare them.
 * None of them can turn a borrowed credential into a lasting one. */
static const struct http_route routes[] = {
    {"GET", "/", relay_request, 0}, /* The CLI's HEAD request, which tests whether the API
                                     * answers. */
    {"POST", "/v1/messages", relay_request, 0},
    {"POST", "/v1/messages/count_tokens", relay_request, 0},
    {"GET", "/v1/models", relay_request, 0},
    {"GET", "/v1/models/{id}", relay_request, 0},
};

static bool gate(struct http_request *req, const struct http_route *route, void *arg)
{
    (void)arg;
    if (route)
        return true;
    relay_refuse(req, 404, "not_found_error", "the runner does not pass this request on");
    return false;
}

static void trouble(const char *message, void *arg)
{
    (void)arg;
    log_warn("proxy", "%s", message);
}

static struct http_server *start(struct proxy *proxy, const char *socket, struct err *err)
{
    AUTO(buf) struct buf places = BUF_INIT(256);
    buf_addf(&places, "%s%s", socket ? "unix:" : "127.0.0.1", socket ? socket : "");
    if (buf_check(&places, "the proxy's socket", err))
        return NULL;
    const struct http_config http = {.bind = places.data,
                                     .port = 0,
                                     .unix_mode = SOCKET_MODE,
                                     .workers = WORKERS,
                                     .routes = routes,
                                     .route_count = COUNT_OF(routes),
                                     .gate = gate,
                                     .trouble = trouble,
                                     .arg = proxy,
                                     .head_ms = HEAD_MS,
                                     .body_idle_ms = BODY_IDLE_MS,
                                     .body_total_ms = BODY_IDLE_MS,
                                     .idle_ms = IDLE_MS,
                                     .parked_max = WORKERS};
    return http_start(&http, err);
}

struct proxy *proxy_new(const struct proxy_config *config, struct err *err)
{
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    if (!proxy) {
        err_sys(err, "credential proxy");
        return NULL;
    }
    proxy->config = *config;
    proxy->config.socket = NULL; /* The path was borrowed for the call only. */
    lock_init(&proxy->lock);
    if (config->socket && !(proxy->socket = strdup(config->socket)))
        err_sys(err, "socket");
    else
        proxy->server = start(proxy, config->socket, err);
    if (!proxy->server) {
        err_wrap(err, "credential proxy");
        proxy_free(proxy);
        return NULL;
    }
    return proxy;
}

void proxy_free(struct proxy *proxy)
{
    if (!proxy)
        return;
    if (proxy->server)
        http_stop(proxy->server, 0);
    for (size_t i = 0; i < proxy->link_count; i++)
        net_link_free(proxy->links[i]);
    lock_done(&proxy->lock);
    free(proxy->socket);
    free(proxy);
}

struct lease *proxy_lease(struct proxy *proxy, enum lease_kind kind, const char *secret,
                          struct err *err)
{
    char random[ID_TOKEN_SIZE];
    struct lease *lease = calloc(1, sizeof(*lease));
    if (!lease || (secret && !(lease->secret = strdup(secret)))) {
        err_sys(err, "lease");
        free(lease);
        return NULL;
    }
    id_token(random);
    snprintf(lease->token, sizeof(lease->token), "runner-task-%s", random);
    lock_init(&lease->lock);
    lease->proxy = proxy;
    lease->kind = kind;
    lease->refs = 1;
    if (!proxy->socket)
        snprintf(lease->url, sizeof(lease->url), "http://127.0.0.1:%d", http_port(proxy->server));
    lock_take(&proxy->lock);
    lease->next = proxy->leases;
    proxy->leases = lease;
    lock_drop(&proxy->lock);
    return lease;
}

void proxy_end(struct lease *lease)
{
    if (!lease)
        return;
    struct proxy *proxy = lease->proxy;
    atomic_store(&lease->dead, true);
    lock_take(&proxy->lock);
    struct lease **at = &proxy->leases;
    while (*at != lease)
        at = &(*at)->next;
    *at = lease->next;
    lock_drop(&proxy->lock);
    lease_unref(lease);
}

const char *proxy_socket(const struct proxy *proxy)
{
    return proxy->socket;
}

bool proxy_is_cut_off(struct proxy *proxy)
{
    lock_take(&proxy->lock);
    bool off = proxy->unreached >= UNREACHED_MIN &&
               clock_mono_ms() - proxy->unreached_ms < UNREACHED_FOR_MS;
    lock_drop(&proxy->lock);
    return off;
}

void proxy_stats(struct proxy *proxy, struct proxy_stats *ret_stats)
{
    lock_take(&proxy->lock);
    *ret_stats = proxy->stats;
    lock_drop(&proxy->lock);
}
