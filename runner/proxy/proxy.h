/*
 * The credential proxy: Claude's way to the API, without a credential of its own.
 *
 * Theory of operation. Each task gets a lease: a random token, worth something only here,
 * while the task lives. The CLI sends its requests with that token to the proxy, which
 * puts the real credential in its place and passes everything on to one fixed upstream, as it
 * comes, in both directions:
 *
 *     CLI --(lease token)--> proxy --(credential)--> ANTHROPIC_UPSTREAM
 *
 * Only the API's own calls pass (a table); others could, say, mint a lasting key. On its way back
 * the proxy reads what the API says of the account: a 401 makes the keeper refresh, a usage limit
 * opens the breaker, usage is counted for the task. A 429 that is no usage limit, of too many at
 * this moment, reaches a CLI with a login as a 529, which it tries again.
 *
 * Each request in flight has a worker of the proxy's own HTTP server.
 *
 * Threads: any.
 * Ownership: the caller of proxy_new() frees it by proxy_free(); proxy_end() gives up a lease.
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "base/buf.h"
#include "runner/config/in_force.h"
#include "runner/oauth/breaker.h"
#include "runner/oauth/keeper.h"
#include "runner/oauth/usage.h"

#include <stdatomic.h>

struct proxy;
struct lease;

struct proxy_config {
    struct config_in_force *config; /* borrowed */
    struct keeper *keeper;          /* borrowed */
    struct breaker *breaker;        /* borrowed */
    struct usage_windows *usage;    /* borrowed, or NULL */
    /* The path of a unix socket to listen on (borrowed for the call), whose file is for this user
     * only: jails reach it by their gates. NULL: a free loopback port, for jails without a gate,
     * which any program of this machine reaches. A lease's token is required on both. */
    const char *socket;
};

/* Makes a proxy that listens on config->socket or on loopback. The caller frees it by
 * proxy_free(). */
struct proxy *proxy_new(const struct proxy_config *config, struct err *err);
/* Ends running requests and frees the proxy. All leases must have ended. */
void proxy_free(struct proxy *proxy);

/* The path of its unix socket, for as long as it lives; NULL where it listens on loopback. */
const char *proxy_socket(const struct proxy *proxy);

enum lease_kind {
    LEASE_LOGIN, /* the keeper's token */
    LEASE_KEY,   /* an API key */
    LEASE_OAUTH, /* an OAuth token that the request brought */
};

/* Makes a lease, which the caller ends by proxy_end(). `secret` is the key or token, NULL for the
 * runner's own (the configured key, or the login). NULL with *err when memory ran out. */
struct lease *proxy_lease(struct proxy *proxy, enum lease_kind kind, const char *secret,
                          struct err *err);

/* Sets the task that it belongs to. Call before the token is handed out. */
void lease_name(struct lease *lease, const char *task);

/* Invalidates the token at once and ends its requests; the lease must not be used any more. */
void proxy_end(struct lease *lease);

const char *lease_token(const struct lease *lease);
/* Its URL on loopback; empty where the proxy has a unix socket. */
const char *lease_url(const struct lease *lease);
enum lease_kind lease_kind(const struct lease *lease);

/* Statistics of a lease. */
struct lease_use {
    int64_t requests;
    int64_t answers; /* answers with status 200 */
    int64_t input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens;
    bool limited; /* the API reported that the account's limit was hit */
    bool refused; /* the API refused the credential, also after a refresh */
};
void lease_use(struct lease *lease, struct lease_use *ret_use);

/* Statistics of all leases since the start. */
struct proxy_stats {
    int64_t requests, failed, in_flight;
    int64_t answers_by_class[6]; /* index 2: 2xx, … */
    int64_t input_tokens, output_tokens;
};
void proxy_stats(struct proxy *proxy, struct proxy_stats *ret_stats);

/* True when the last tries to reach the API within the last minutes all failed to connect: the
 * network is down, or ANTHROPIC_UPSTREAM is wrong. */
bool proxy_is_cut_off(struct proxy *proxy);

/* Prints these statistics and the account's figures for a page of metrics; arg is a struct
 * proxy. */
struct metric_page;
void proxy_metrics(struct metric_page *page, void *arg);

#endif
