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
#define WEBHOOK_ANSWER_MAX 65536 /* of an answer's body; what follows is not read */

struct webhook;

struct webhook_config {
    struct config_in_force *config; /* borrowed */
    struct store *store;            /* borrowed */
    const char *version;            /* borrowed: for the User-Agent */
};

/* Also the one whom the store tells: nothing is sent before webhook_start(). */
struct webhook *webhook_new(const struct webhook_config *config, struct err *err);
int webhook_start(struct webhook *webhook, struct err *err);
/* Ends its threads; a try that is under way is broken off and made again after the next start. */
void webhook_stop(struct webhook *webhook);
void webhook_free(struct webhook *webhook);

/* Looks at the outbox again: the configuration or the clock has changed. */
void webhook_wake(struct webhook *webhook);

struct webhook_numbers {
    int64_t delivered; /* these three since start */
    int64_t failed;    /* tries that were not taken */
    int64_t dead;      /* webhooks given up */
    int64_t pending;   /* now */
};

int webhook_numbers(struct webhook *webhook, struct webhook_numbers *ret_numbers, struct err *err);

/* How many wait that were tried in vain, as was counted some seconds ago; nothing is waited for. */
int64_t webhook_retrying(const struct webhook *webhook);

/* A source of /metrics; arg is a struct webhook. */
void webhook_metrics(struct metric_page *page, void *arg);

/* One POST under the rules for callbacks on whom may be reached: what CALLBACK_ALLOW names, else
 * public addresses, by https. `stop` (with arg) breaks it off. 0 whenever an answer came. */
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

/* The same as webhook_check_url() for what is not signed with CALLBACK_SECRET. */
int webhook_check_place(const char *url, const struct config *config, struct err *err);

/* Why a request may not name this URL: ERR_INVALID with the message's rest ("must be …"). What a
 * name resolves to is seen when it is connected to. */
int webhook_check_url(const char *url, const struct config *config, struct err *err);

/* Whom it goes to, "host:port"; "" when it is no URL. */
void webhook_host(const char *url, char host[WEBHOOK_HOST_SIZE]);

/* Adds the member "webhook" as callers see it: the URL without its query. */
void webhook_print(const struct webhook_record *record, struct json_writer *w);

#endif
