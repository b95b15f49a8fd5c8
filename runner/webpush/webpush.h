/*
 * Web Push: tells browsers that asked for it what needs the owner, and what is done.
 *
 * Theory of operation. A subscription is an address at a push service and the browser's keys; it is
 * kept in the store, sealed. What is to be told is put into a short queue in memory; one thread
 * encrypts it for each subscription (RFC 8291), signs the request with the runner's own key
 * (VAPID, RFC 8292; made at first use and kept, sealed) and posts it, by the rules of webhooks on
 * which addresses may be reached. 404 or 410 ends a subscription; 429, 5xx and no answer are tried
 * again a few times. A service that holds a message for a phone that is off keeps the last of each
 * topic only.
 *
 *     ended task, trouble ──▶ queue ──▶ thread: encrypt ─▶ sign ─▶ POST ─▶ push service ─▶ phone
 *
 * Messages are news, not records: what was not delivered before a restart is not told any more.
 *
 * Threads: any, but for starting and stopping.
 * Ownership: the caller of webpush_new() frees it by webpush_free().
 */
#ifndef WEBPUSH_WEBPUSH_H
#define WEBPUSH_WEBPUSH_H

#include "runner/config/in_force.h"
#include "runner/store/store.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

#define PUSH_SUBSCRIPTIONS_MAX 32

/* Events that a subscription can ask for. */
enum push_event { PUSH_NEEDS_YOU = 1, PUSH_DONE = 2 };

struct push;

/* Something that needs the owner: a word that stays the same while it lasts, and what to do. */
struct push_trouble {
    const char *reason, *remedy;
};

struct push_config {
    struct config_in_force *config; /* borrowed */
    struct store *store;            /* borrowed */
    const char *version;            /* borrowed */
    /* Fills in the present troubles, `max` at most; returns their number. */
    size_t (*troubles)(struct push_trouble *ret_troubles, size_t max, void *arg);
    void *arg;
};

struct push *webpush_new(const struct push_config *config, struct err *err);
int webpush_start(struct push *push, struct err *err);
void webpush_stop(struct push *push);
void webpush_free(struct push *push);

/* What a browser sends to subscribe. */
struct push_wish {
    const char *endpoint, *p256dh, *auth; /* the URL; base64url */
    const char *origin;                   /* of its console, or NULL */
    const char *label;                    /* or NULL */
    unsigned events;                      /* a bit each */
};

/* Adds a subscription, or replaces one with the same endpoint. ERR_INVALID says which part is
 * wrong; ERR_CONFLICT: there are PUSH_SUBSCRIPTIONS_MAX. */
int webpush_subscribe(struct push *push, const struct push_wish *wish, char ret_id[ID_SIZE],
                      struct err *err);
/* Removes a subscription; *ret_there says whether it existed. */
int webpush_unsubscribe(struct push *push, const char *id, bool *ret_there, struct err *err);

/* Adds publicKey and subscriptions to an open object; makes the key when there is none. */
int webpush_print(struct push *push, struct json_writer *w, struct err *err);

/* Sends a message to the subscriptions that want the event, or (id not NULL) to that one only.
 * `topic` is a short word: a later message of the same topic replaces this one. `path` is opened by
 * a press, below the console's address. Returns the number of recipients, or -1. */
int webpush_tell(struct push *push, enum push_event event, const char *id, const char *topic,
                 const char *title, const char *body, const char *path, struct err *err);

/* Reports the end of a task. Tasks that end within a few seconds are reported together. */
void webpush_ended(struct push *push, const char *task_id);

#endif
