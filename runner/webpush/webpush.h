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
 */
#ifndef WEBPUSH_WEBPUSH_H
#define WEBPUSH_WEBPUSH_H

#include "runner/config/in_force.h"
#include "runner/store/store.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>

#define PUSH_SUBSCRIPTIONS_MAX 32

/* What a subscription wants to hear of. */
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
    /* Fills what is the matter now, `max` at most; returns how many. */
    size_t (*troubles)(struct push_trouble *ret_troubles, size_t max, void *arg);
    void *arg;
};

struct push *webpush_new(const struct push_config *config, struct err *err);
int webpush_start(struct push *push, struct err *err);
void webpush_stop(struct push *push);
void webpush_free(struct push *push);

/* What a browser gives when it subscribes. */
struct push_wish {
    const char *endpoint, *p256dh, *auth; /* the URL; base64url */
    const char *origin;                   /* of the console it runs, or NULL */
    const char *label;                    /* or NULL */
    unsigned events;                      /* a bit each */
};

/* Keeps it, in the place of an earlier one with the same endpoint. ERR_INVALID says which part is
 * wrong; ERR_CONFLICT: there are PUSH_SUBSCRIPTIONS_MAX. */
int webpush_subscribe(struct push *push, const struct push_wish *wish, char ret_id[ID_SIZE],
                      struct err *err);
/* *ret_there: whether there was one. */
int webpush_unsubscribe(struct push *push, const char *id, bool *ret_there, struct err *err);

/* Adds publicKey and subscriptions to an open object; makes the key when there is none yet. */
int webpush_print(struct push *push, struct json_writer *w, struct err *err);

/* Tells the subscriptions that want the event, or (id not NULL) that one alone. `topic` is a short
 * word: a later message of it takes the place of an earlier one. `path` is what a press opens,
 * below the console's address. Returns how many will be told, or -1. */
int webpush_tell(struct push *push, enum push_event event, const char *id, const char *topic,
                 const char *title, const char *body, const char *path, struct err *err);

/* A task has ended. What ends within a few seconds is told together. */
void webpush_ended(struct push *push, const char *task_id);

#endif
