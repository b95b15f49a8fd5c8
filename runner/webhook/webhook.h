/*
 * Sends webhooks: what the store's outbox owes, until it has been taken or tried for long enough.
 *
 * Theory of operation. One thread looks at the outbox and sleeps until the first webhook is due or
 * somebody wakes it: there is no polling. For each receiver (a URL without its query) that has one
 * due it starts a worker, up to WEBHOOK_WORKERS, of which at most WEBHOOK_HOST_WORKERS for one host
 * and never two for one receiver; who has not been tried for longest goes first. So a receiver that
 * does not answer keeps neither the others of its host waiting nor those of other hosts. A worker
 * goes on with its receiver while that takes what it is sent. Nothing is kept in memory but the
 * names of the receivers at work.
 *
 *     store ──due──▶ thread ──a receiver──▶ worker: record ─▶ payload ─▶ signature ─▶ POST ─▶ store
 *
 * A try is one exchange of at most WEBHOOK_TRY_MS on a connection of its own: the name is resolved
 * once, each address is checked as it is connected to, redirects are answers like any other. 2xx
 * ends it, 410 ends it, everything else is tried again.
 *
 * Threads: any, but for starting and stopping.
 * Ownership: the caller of webhook_new() frees it by webhook_free().
 */
#ifndef WEBHOOK_WEBHOOK_H
#define WEBHOOK_WEBHOOK_H

#include "base/metric.h"
#include "runner/config/in_force.h"
#include "runner/store/webhooks.h"
#include "json/json.h"

#include <stdatomic.h>

#define WEBHOOK_WORKERS 8
#define WEBHOOK_HOST_WORKERS WEBHOOK_HOST_RECEIVERS
#define WEBHOOK_TRY_MS 15000
#define WEBHOOK_ANSWER_MAX 65536 /* of an answer's body; the rest is not read */

struct webhook;

struct webhook_config {
    struct config_in_force *config; /* borrowed */
    struct store *store;            /* borrowed */
    const char *version;            /* borrowed: for the User-Agent */
};

/* Makes the sender and registers it with the store; nothing is sent before webhook_start(). The
 * caller frees it by webhook_free(). */
struct webhook *webhook_new(const struct webhook_config *config, struct err *err);
int webhook_start(struct webhook *webhook, struct err *err);
/* Ends its threads; a running try is cancelled and repeated after the next start. */
void webhook_stop(struct webhook *webhook);
void webhook_free(struct webhook *webhook);

/* Makes it look at the outbox again, because the configuration or the clock has changed. */
void webhook_wake(struct webhook *webhook);

struct webhook_numbers {
    int64_t delivered; /* this and the next two: since the start */
    int64_t failed;    /* failed tries */
    int64_t dead;      /* webhooks given up */
    int64_t pending;   /* now */
};

int webhook_numbers(struct webhook *webhook, struct webhook_numbers *ret_numbers, struct err *err);

/* How many failed webhooks wait, by a count that is some seconds old. Does not block. */
int64_t webhook_retrying(const struct webhook *webhook);

/* Prints metrics; arg is a struct webhook. */
void webhook_metrics(struct metric_page *page, void *arg);

/* Makes one POST to an address that callbacks may reach: one that CALLBACK_ALLOW names, else a
 * public one by https. `stop` (with arg) cancels it. Returns 0 whenever an answer came, which the
 * caller ends by net_answer_done(). */
struct net_answer;
struct webhook_post {
    const struct config *config;
    const char *url;
    const struct strlist *headers;
    const void *body;
    size_t body_len;
    bool (*stop)(void *arg);
    void *arg;
};
int webhook_send(const struct webhook_post *post, struct net_answer *ret_answer, struct err *err);

/* As webhook_check_url(), for requests that are not signed with CALLBACK_SECRET. */
int webhook_check_place(const char *url, const struct config *config, struct err *err);

/* Checks a URL of a request: ERR_INVALID with the rest of the message ("must be …"). Addresses of
 * a name are checked when it is connected to. */
int webhook_check_url(const char *url, const struct config *config, struct err *err);

/* The URL's destination, "host:port"; "" when it is malformed. */
void webhook_host(const char *url, char host[WEBHOOK_HOST_SIZE]);

/* Adds the member "webhook" as callers see it: the URL without its query. */
void webhook_print(const struct webhook_record *record, struct json_writer *w);

#endif
