/*
 * The outbox: what is owed to the callbackUrl of a task.
 *
 * A row is made with the task and waits for its end. The transaction that ends the task makes it
 * due, so that there is no moment at which a crash could lose it, and it stays until it has been
 * delivered, or tried for long enough.
 *
 *     waiting ──the task ends──▶ pending ──2xx──▶ delivered
 *                                 ▲  │                │
 *                                 │  └─no more tries─▶│ dead
 *                                 └────redelivery─────┘
 *
 * A task that was given up and whose result came later ends twice: its row waits again, under a new
 * id. Else its id is the same on every try. The URL may hold secrets and is sealed, as secrets of
 * tasks are.
 *
 * Threads: any. Functions that write return after the change is on disk.
 */
#ifndef STORE_WEBHOOKS_H
#define STORE_WEBHOOKS_H

#include "runner/store/store.h"

/* X(name, wire name): the numbers are stored, so only append. */
#define WEBHOOK_STATES(X)             \
    X(WEBHOOK_NONE, "none")           \
    X(WEBHOOK_WAITING, "waiting")     \
    X(WEBHOOK_PENDING, "pending")     \
    X(WEBHOOK_DELIVERED, "delivered") \
    X(WEBHOOK_DEAD, "dead")

enum webhook_state {
#define WEBHOOK_STATE_ENUM(name, wire) name,
    WEBHOOK_STATES(WEBHOOK_STATE_ENUM)
#undef WEBHOOK_STATE_ENUM
        WEBHOOK_STATE_COUNT
};

const char *webhook_state_name(enum webhook_state state);
/* Reads a state's name. Returns 0, or -1 when there is none of that name; WEBHOOK_NONE has none. */
int webhook_state_parse(const char *name, enum webhook_state *ret_state);

#define WEBHOOK_HOST_SIZE 272 /* "host:port" */

struct webhook_record {
    char id[ID_SIZE]; /* "msg_…" */
    char task_id[ID_SIZE];
    char host[WEBHOOK_HOST_SIZE];
    char *url; /* NULL when it was sealed with another key file */
    enum webhook_state state;
    int tries;    /* since it became due, or was sent again */
    int attempts; /* of its whole life */
    int64_t next_ms;
    int64_t delivered_ms; /* 0: not delivered */
    int last_status;      /* of the last try; 0: no answer */
    char last_error[240];
};

void webhook_record_done(struct webhook_record *record);
static inline void auto_webhook_record(struct webhook_record *record)
{
    webhook_record_done(record);
}

/* Reads the webhook of a task; ERR_NOT_FOUND when it has none. The caller ends the record by
 * webhook_record_done(). */
int store_webhook(struct store *store, const char *task_id, struct webhook_record *ret_record,
                  struct err *err);

#define WEBHOOK_HOST_RECEIVERS 3

/* A receiver of webhooks: a URL without its query. Receivers of one host are distinguished by a
 * number made from the URL; of very many receivers a few may share one. */
struct webhook_receiver {
    char host[WEBHOOK_HOST_SIZE]; /* "host:port" */
    int number;
    int64_t due_ms; /* when its first pending webhook is due */
};

/* Lists the receivers with pending webhooks, at most WEBHOOK_HOST_RECEIVERS of one host: first
 * those with one that is due, the one that was not tried for longest first; then the others by when
 * they are due. Returns how many, at most `max`, or -1. */
int store_webhook_receivers(struct store *store, int64_t now_ms, struct webhook_receiver *ret_found,
                            int max, struct err *err);

/* Reads the webhook of a receiver that has been due for longest. Returns 1, 0 when none is due, or
 * -1. */
int store_webhook_due(struct store *store, const struct webhook_receiver *receiver, int64_t now_ms,
                      struct webhook_record *ret_record, struct err *err);

struct webhook_try {
    enum webhook_state state; /* after the try: WEBHOOK_PENDING, WEBHOOK_DELIVERED or
                               * WEBHOOK_DEAD */
    int status;               /* 0: no answer */
    const char *error;        /* "" for none */
    int64_t now_ms;
    int64_t next_ms; /* while pending */
    int64_t rest_ms; /* no request to this host before this time; 0: no limit */
};

/* Stores the result of a try. */
int store_webhook_note(struct store *store, const char *id, const struct webhook_try *try,
                       struct err *err);

/* Makes a task's webhook due now, with all its tries again. ERR_NOT_FOUND when there is none,
 * ERR_CONFLICT while the task has not ended. */
int store_webhook_redeliver(struct store *store, const char *task_id, int64_t now_ms,
                            struct err *err);

/* Makes webhooks that are due after far_ms due now. */
int store_webhook_pull(struct store *store, int64_t now_ms, int64_t far_ms, struct err *err);

int store_webhook_count(struct store *store, int64_t ret_counts[WEBHOOK_STATE_COUNT],
                        struct err *err);

/* Counts pending webhooks that were tried before. */
int store_webhook_retrying(struct store *store, int64_t *ret_count, struct err *err);

/* From now on due(arg) is called when a webhook has become due; NULL for no more. Call while no
 * other thread uses the store. */
void store_on_webhook(struct store *store, void (*due)(void *arg), void *arg);

#endif
