/* Who may call: secrets, the console's session, and Cloudflare Access. */
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/place.h"
#include "crypto/crypto.h"
#include "runner/access/callers.h"
#include "runner/api/caller_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WINDOW_MS 60000
#define ADDRESSES                                                                  \
    1024 /* addresses that are remembered; a new one replaces the older one of its \
          * slot */

struct tries {
    char address[64];
    int64_t since_ms;
    int count;
};

struct api_guard {
    struct lock lock;
    struct tries tries[ADDRESSES];
};

struct api_guard *api_guard_new(void)
{
    struct api_guard *guard = calloc(1, sizeof(*guard));
    if (guard)
        lock_init(&guard->lock);
    return guard;
}

void api_guard_free(struct api_guard *guard)
{
    if (!guard)
        return;
    lock_done(&guard->lock);
    free(guard);
}

/* The secret that the request carries, or NULL. */
static const char *presented(const struct http_request *req)
{
    const char *secret = http_header(req, "X-Runner-Secret");
    if (!secret)
        secret = http_header(req, "X-API-Key");
    if (secret)
        return secret;
    const char *authorization = http_header(req, "Authorization");
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    authorization += 7;
    return authorization + strspn(authorization, " ");
}

/* Finds the configured secret that this is; NULL for none. All are compared, so that the time taken
 * tells nothing about the order. */
static const struct config_secret *find(const struct config *config, const char *secret)
{
    const struct config_secret *found = NULL;
    for (size_t i = 0; secret && i < config->secrets.count; i++) {
        const struct config_secret *one = &config->secrets.items[i];
        if (crypto_equal(secret, strlen(secret), one->value, strlen(one->value)))
            found = one;
    }
    return found;
}

bool is_secret(const struct api *api, const char *secret)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    return find(config, secret) != NULL;
}

char *secret_name(const struct api *api, const char *secret)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct config_secret *found = find(config, secret);
    return strdup(found ? found->name : "");
}

/* The secret of the request's caller: the one in the request, else that of the console's
 * session. */
const struct config_secret *caller_secret(const struct api *api, const struct config *config,
                                          const struct http_request *req)
{
    const char *secret = presented(req);
    return secret ? find(config, secret) : console_secret(api, config, req);
}

bool is_authorized(const struct api *api, const struct http_request *req)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    return caller_secret(api, config, req) != NULL;
}

char *caller_name(const struct api *api, const struct http_request *req)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct config_secret *secret = caller_secret(api, config, req);
    return strdup(secret ? secret->name : "");
}

/* True when the peer may say on whose behalf it asks: a process of this machine, or one of
 * TRUSTED_PROXIES. */
static bool is_proxy(const struct api *api, const struct http_request *req)
{
    if (http_peer_kind(req) != HTTP_PEER_REMOTE)
        return true;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct strlist *networks = &config->trusted_proxies;
    for (size_t i = 0; i < networks->count; i++)
        if (place_is_within(http_peer(req), networks->items[i]) == 1)
            return true;
    return false;
}

/* The caller's address. Behind a tunnel every connection comes from the same peer; Cloudflare's
 * header names the client and replaces what the client claims itself. From any other peer the
 * header is ignored. */
const char *caller_address(const struct api *api, const struct http_request *req)
{
    const char *client = http_header(req, "CF-Connecting-IP");
    bool named = client && *client && strlen(client) < 48 && is_proxy(api, req);
    return named ? client : http_peer(req);
}

/* Counts a wrong secret. Returns the seconds to wait when there were too many, else 0. */
static int note_failure(struct api_guard *guard, const char *address, int max)
{
    size_t hash = 5381;
    for (const char *p = address; *p; p++)
        hash = hash * 33 + (unsigned char)*p;
    int64_t now = clock_mono_ms();
    int wait = 0;
    lock_take(&guard->lock);
    struct tries *tries = &guard->tries[hash % ADDRESSES];
    if (strcmp(tries->address, address) != 0 || now - tries->since_ms >= WINDOW_MS) {
        *tries = (struct tries){.since_ms = now};
        snprintf(tries->address, sizeof(tries->address), "%s", address);
    }
    if (++tries->count > max)
        wait = (int)((WINDOW_MS - (now - tries->since_ms)) / 1000) + 1;
    lock_drop(&guard->lock);
    return wait;
}

int note_wrong_secret(struct api *api, const struct http_request *req)
{
    const char *address = caller_address(api, req);
    record_refusal(api, address);
    atomic_fetch_add(&api->auth_failures, 1);
    atomic_store(&api->auth_failed_at, clock_real_ms());
    log_warn("auth", "wrong secret from %s", address);
    return note_failure(api->guard, address, CONFIG_GET(api->config, auth_failures_max));
}

/* Refuses a request with a wrong secret. A right secret is always accepted: whoever shares an
 * address with an attacker is not locked out, and secrets of 16 characters and more cannot be
 * guessed. */
static void refuse(struct api *api, struct http_request *req)
{
    struct err err;
    char text[16];
    int wait = presented(req) ? note_wrong_secret(api, req) : 0;
    if (wait > 0) {
        err_set(&err, ERR_RATE, "too many wrong secrets; try again in %d s", wait);
        snprintf(text, sizeof(text), "%d", wait);
        http_add_header(req, "Retry-After", text);
    } else {
        err_set(&err, ERR_FORBIDDEN, "forbidden");
    }
    http_send_error(req, &err, NULL);
}

/* True when the request passed the owner's Cloudflare Access, or needs not. Requests over the unix
 * socket come from this machine, by the file's permissions. */
static bool passed_access(const struct api *api, struct http_request *req)
{
    struct err err;
    if (!api->access || http_peer_kind(req) == HTTP_PEER_UNIX ||
        access_check(api->access, http_header(req, "Cf-Access-Jwt-Assertion"), &err) == 0)
        return true;
    log_warn("auth", "not through Cloudflare Access, from %s: %s", caller_address(api, req),
             err.msg);
    err_set(&err, ERR_FORBIDDEN, "forbidden");
    http_send_error(req, &err, NULL);
    return false;
}

/* Notes the caller's visit. False when the request carries neither a secret nor a session. */
static bool note_caller(const struct api *api, const struct http_request *req)
{
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct config_secret *caller = caller_secret(api, config, req);
    if (caller)
        callers_note(api->callers, caller->name, caller_address(api, req));
    return caller != NULL;
}

/* Python and sessions have no tasks whose requests could be judged: what begins or uses them is. */
static bool may_begin(struct api *api, struct http_request *req)
{
    const char *path = http_path(req);
    if (strncmp(path, "/python", 7) == 0)
        return caller_may(req, api, "python");
    bool looks = strcmp(http_method(req), "GET") == 0 && !strstr(path, "/terminal");
    return strncmp(path, "/sessions", 9) != 0 || looks || caller_may(req, api, "session");
}

bool api_gate(struct http_request *req, const struct http_route *route, void *arg)
{
    struct api *api = arg;
    struct err err;
    log_set_request(http_id(req));
    unsigned flags = route ? route->flags : 0;
    if (!(flags & ROUTE_BARE) && !passed_access(api, req))
        return false;
    if (!(flags & (ROUTE_OPEN | ROUTE_PAGE)) && !note_caller(api, req)) {
        refuse(api, req);
        return false;
    }
    if (instances_refuse_route(api, route, &err)) {
        send_err(req, &err);
        return false;
    }
    if (route && !may_begin(api, req))
        return false;
    if (!(flags & ROUTE_DRAIN) && atomic_load(&api->draining)) {
        err_set(&err, ERR_BUSY, "the runner is shutting down");
        send_err(req, &err);
        return false;
    }
    return true;
}
