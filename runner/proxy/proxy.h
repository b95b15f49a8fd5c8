/*
 * The credential proxy: Claude's way to the API, without a credential of its own.
 *
 * Theory of operation. Each task gets a lease: a random token, worth something only here, on
 * loopback, while the task lives. The CLI sends its requests with that token to the proxy, which
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
    /* The path of a unix socket to listen on besides loopback, or NULL (borrowed for the call). For
     * jails, which have no loopback of ours: anybody who can reach the file may connect, so its
     * folder decides who that is; a lease's token is asked for all the same. */
    const char *socket;
};

/* Listens on a free port of loopback, and on config->socket. */
struct proxy *proxy_new(const struct proxy_config *config, struct err *err);
/* Ends what is under way. All leases must have ended. */
void proxy_free(struct proxy *proxy);

enum lease_kind {
    LEASE_LOGIN, /* the keeper's token */
    LEASE_KEY,   /* an API key */
    LEASE_OAUTH, /* an OAuth token that the request brought */
};

/* `secret` is the key or token, NULL for the runner's own (the configured key, or the login).
 * NULL with *err when memory ran out. */
struct lease *proxy_lease(struct proxy *proxy, enum lease_kind kind, const char *secret,
                          struct err *err);

/* Says whose it is; before the token is given away. */
void lease_name(struct lease *lease, const char *task);

/* The token is dead at once, and so are its requests. */
void proxy_end(struct lease *lease);

const char *lease_token(const struct lease *lease);
const char *lease_url(const struct lease *lease);
enum lease_kind lease_kind(const struct lease *lease);

/* What a lease has been used for. */
struct lease_use {
    int64_t requests;
    int64_t answers; /* of status 200 */
    int64_t input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens;
    bool limited; /* the API said that the account's limit was hit */
    bool refused; /* the API refused the credential, also after a refresh */
};
void lease_use(struct lease *lease, struct lease_use *ret_use);

/* Of all leases since the start. */
struct proxy_stats {
    int64_t requests, failed, in_flight;
    int64_t answers_by_class[6]; /* [2]: 2xx, … */
    int64_t input_tokens, output_tokens;
};
void proxy_stats(struct proxy *proxy, struct proxy_stats *ret_stats);

/* True when the last tries to reach the API, of the last few minutes, all found nobody there: the
 * network is down, or ANTHROPIC_UPSTREAM is wrong. */
bool proxy_is_cut_off(struct proxy *proxy);

/* Prints that, and what the API last said of the account, for a page of metrics; arg is a struct
 * proxy. */
struct metric_page;
void proxy_metrics(struct metric_page *page, void *arg);

#endif
