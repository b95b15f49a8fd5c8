#include "runner/webhook/webhook.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "runner/webhook/schedule.h"
#include "runner/webhook/try.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES (512u << 10)
#define LOOK_AGAIN_MS 3600000 /* longest sleep, because the real clock may have been set */
#define TROUBLE_MS 1000       /* wait before the store is asked again after an error */
#define COUNT_EVERY_MS 5000
#define TURN 64 /* webhooks to one receiver before others get a turn */
/* Enough to find one that can be started, if there is one: some of them are at work, and others
 * belong to hosts that have all their workers already. */
#define FOUND_MAX (4 * WEBHOOK_WORKERS)
#define SET_BACK_MS 60000 /* a real clock that is this far behind was set back */

struct webhook {
    struct webhook_config config;
    struct thread thread;
    struct lock lock; /* guards the fields below; never held across I/O */
    pthread_cond_t changed;
    bool woken;
    bool stopping;
    int64_t ahead_ms; /* difference of the real clock to the monotonic one */
    int workers;
    struct webhook_receiver busy[WEBHOOK_WORKERS]; /* host "" for a free place */
    _Atomic int64_t delivered, failed, dead;
    _Atomic int64_t retrying; /* webhooks that failed and wait, at the last count */
    int64_t counted_ms;       /* mono: time of that count; used by the looking thread */
};

static bool is_stopping(void *arg)
{
    struct webhook *webhook = arg;
    lock_take(&webhook->lock);
    bool stopping = webhook->stopping;
    lock_drop(&webhook->lock);
    return stopping;
}

void webhook_wake(struct webhook *webhook)
{
    lock_take(&webhook->lock);
    webhook->woken = true;
    pthread_cond_broadcast(&webhook->changed);
    lock_drop(&webhook->lock);
}

static void on_due(void *arg)
{
    webhook_wake(arg);
}

/* --- one webhook --------------------------------------------------------------------------- */

static void pause_a_moment(struct webhook *webhook)
{
    int64_t until = clock_mono_ms() + TROUBLE_MS, left;
    lock_take(&webhook->lock);
    while (!webhook->stopping && (left = until - clock_mono_ms()) > 0)
        lock_wait(&webhook->changed, &webhook->lock, left);
    lock_drop(&webhook->lock);
}

/* Stores the outcome, with as many tries as it takes: a delivery that is not stored would be sent
 * again. */
static void note(struct webhook *webhook, const char *id, const struct webhook_try *try)
{
    struct err err;
    while (store_webhook_note(webhook->config.store, id, try, &err)) {
        log_error("webhook", "cannot note a try: %s", err.msg);
        if (is_stopping(webhook))
            return;
        pause_a_moment(webhook);
    }
}

static void count_and_log(struct webhook *webhook, const struct webhook_record *record,
                          const struct webhook_try *try)
{
    if (try->state == WEBHOOK_DELIVERED) {
        webhook->delivered++;
        log_info("webhook", "%s delivered to %s", record->id, record->host);
        return;
    }
    webhook->failed++;
    webhook->dead += try->state == WEBHOOK_DEAD;
    log_warn("webhook", "%s to %s, try %d: %s%s", record->id, record->host, record->tries + 1,
             try->error, try->state == WEBHOOK_DEAD ? "; given up" : "");
}

/* Sends one webhook. True when the receiver took it. */
static bool send_one(struct webhook *webhook, const struct webhook_record *record)
{
    struct try_result result;
    log_set_task(record->task_id);
    try_webhook(&webhook->config, record, is_stopping, webhook, &result);
    bool taken = result.noted.state == WEBHOOK_DELIVERED;
    if (taken || !is_stopping(webhook)) {
        note(webhook, record->id, &result.noted);
        count_and_log(webhook, record, &result.noted);
    }
    log_set_task(NULL);
    return taken;
}

/* --- workers ------------------------------------------------------------------------------- */

struct errand {
    struct webhook *webhook;
    int place; /* index in `busy` */
};

static void send_to(struct webhook *webhook, const struct webhook_receiver *receiver)
{
    struct err err;
    bool taken = true;
    for (int i = 0; i < TURN && taken && !is_stopping(webhook); i++) {
        AUTO(webhook_record) struct webhook_record record = {0};
        int got =
            store_webhook_due(webhook->config.store, receiver, clock_real_ms(), &record, &err);
        if (got < 0) {
            log_error("webhook", "%s", err.msg);
            pause_a_moment(webhook);
        }
        taken = got == 1 && send_one(webhook, &record);
    }
}

static void *work(void *arg)
{
    struct errand errand = *(struct errand *)arg;
    struct webhook *webhook = errand.webhook;
    free(arg);
    send_to(webhook, &webhook->busy[errand.place]); /* ours until we clear it */
    lock_take(&webhook->lock);
    webhook->busy[errand.place].host[0] = '\0';
    webhook->workers--;
    webhook->woken = true;
    pthread_cond_broadcast(&webhook->changed);
    lock_drop(&webhook->lock);
    return NULL;
}

static int free_place_locked(const struct webhook *webhook) HOLDS(webhook->lock);
static int free_place_locked(const struct webhook *webhook)
{
    int place = 0;
    while (place < WEBHOOK_WORKERS && webhook->busy[place].host[0])
        place++;
    return place;
}

/* 1, 0 when all are at work, -1 when there is no thread to be had. */
static int start_worker(struct webhook *webhook, const struct webhook_receiver *receiver)
{
    struct err ignored;
    struct errand *errand = malloc(sizeof(*errand));
    if (!errand)
        return -1;
    lock_take(&webhook->lock);
    int place = free_place_locked(webhook), started = 0;
    if (place < WEBHOOK_WORKERS && !webhook->stopping) {
        *errand = (struct errand){webhook, place};
        webhook->busy[place] = *receiver;
        started =
            thread_start_detached("webhook-send", STACK_BYTES, work, errand, &ignored) ? -1 : 1;
        if (started < 0)
            webhook->busy[place].host[0] = '\0';
        else
            webhook->workers++;
    }
    lock_drop(&webhook->lock);
    if (started != 1)
        free(errand);
    return started;
}

/* --- the thread that looks ----------------------------------------------------------------- */

/* It has a worker, or its host has as many as it may have. */
static bool is_busy(struct webhook *webhook, const struct webhook_receiver *receiver)
{
    bool busy = false;
    int of_host = 0;
    lock_take(&webhook->lock);
    for (int i = 0; i < WEBHOOK_WORKERS; i++) {
        if (strcmp(webhook->busy[i].host, receiver->host) != 0)
            continue;
        of_host++;
        busy |= webhook->busy[i].number == receiver->number;
    }
    lock_drop(&webhook->lock);
    return busy || of_host >= WEBHOOK_HOST_WORKERS;
}

/* Corrects times after a wrong clock: it may have been later than now, also before this process
 * ran. No webhook waits longer than the longest wait. */
static void heed_clock(struct webhook *webhook)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(webhook->config.config);
    int64_t now = clock_real_ms(), ahead = now - clock_mono_ms();
    int64_t far = now + schedule_longest(&config->callback_retry_seconds);
    if (ahead < webhook->ahead_ms - SET_BACK_MS &&
        store_webhook_pull(webhook->config.store, now, far, &err))
        log_error("webhook", "%s", err.msg);
    webhook->ahead_ms = ahead;
}

/* Starts workers for due webhooks. Returns the time until another is due; a worker that ends wakes
 * this thread anyway. */
static int64_t look(struct webhook *webhook)
{
    struct err err;
    struct webhook_receiver found[FOUND_MAX];
    int64_t now = clock_real_ms();
    int count = store_webhook_receivers(webhook->config.store, now, found, FOUND_MAX, &err);
    if (count < 0) {
        log_error("webhook", "%s", err.msg);
        return TROUBLE_MS;
    }
    for (int i = 0; i < count; i++) {
        if (is_busy(webhook, &found[i]))
            continue;
        if (found[i].due_ms > now)
            return found[i].due_ms - now < LOOK_AGAIN_MS ? found[i].due_ms - now : LOOK_AGAIN_MS;
        int started = start_worker(webhook, &found[i]);
        if (started < 1)
            return started < 0 ? TROUBLE_MS : LOOK_AGAIN_MS;
    }
    return LOOK_AGAIN_MS;
}

/* Counts failed webhooks now and then. Returns for how long the count is valid. */
static int64_t count(struct webhook *webhook)
{
    struct err err;
    int64_t retrying, now = clock_mono_ms();
    if (webhook->counted_ms && now - webhook->counted_ms < COUNT_EVERY_MS)
        return webhook->counted_ms + COUNT_EVERY_MS - now;
    webhook->counted_ms = now;
    if (store_webhook_retrying(webhook->config.store, &retrying, &err))
        log_error("webhook", "%s", err.msg);
    else
        webhook->retrying = retrying;
    return webhook->retrying > 0 ? COUNT_EVERY_MS : LOOK_AGAIN_MS;
}

static void *look_and_sleep(void *arg)
{
    struct webhook *webhook = arg;
    webhook->ahead_ms = INT64_MAX; /* The earlier difference is unknown. */
    lock_take(&webhook->lock);
    while (!webhook->stopping) {
        webhook->woken = false;
        lock_drop(&webhook->lock);
        heed_clock(webhook);
        int64_t good_ms = count(webhook), quiet_ms = look(webhook), left;
        int64_t until = clock_mono_ms() + (good_ms < quiet_ms ? good_ms : quiet_ms);
        lock_take(&webhook->lock);
        while (!webhook->stopping && !webhook->woken && (left = until - clock_mono_ms()) > 0)
            lock_wait(&webhook->changed, &webhook->lock, left);
    }
    lock_drop(&webhook->lock);
    return NULL;
}

/* --- life ---------------------------------------------------------------------------------- */

struct webhook *webhook_new(const struct webhook_config *config, struct err *err)
{
    struct webhook *webhook = calloc(1, sizeof(*webhook));
    if (!webhook) {
        err_sys(err, "webhooks");
        return NULL;
    }
    webhook->config = *config;
    lock_init(&webhook->lock);
    cond_init(&webhook->changed);
    store_on_webhook(config->store, on_due, webhook);
    return webhook;
}

int webhook_start(struct webhook *webhook, struct err *err)
{
    return thread_start(&webhook->thread, "webhooks", STACK_BYTES, look_and_sleep, webhook, err);
}

void webhook_stop(struct webhook *webhook)
{
    if (!webhook)
        return;
    lock_take(&webhook->lock);
    webhook->stopping = true;
    pthread_cond_broadcast(&webhook->changed);
    while (webhook->workers > 0) /* Each worker asks once a second whether it must stop. */
        lock_wait(&webhook->changed, &webhook->lock, LOOK_AGAIN_MS);
    lock_drop(&webhook->lock);
    thread_join(&webhook->thread);
}

void webhook_free(struct webhook *webhook)
{
    if (!webhook)
        return;
    webhook_stop(webhook);
    store_on_webhook(webhook->config.store, NULL, NULL);
    pthread_cond_destroy(&webhook->changed);
    lock_done(&webhook->lock);
    free(webhook);
}

int64_t webhook_retrying(const struct webhook *webhook)
{
    return webhook->retrying;
}

int webhook_numbers(struct webhook *webhook, struct webhook_numbers *ret_numbers, struct err *err)
{
    int64_t counts[WEBHOOK_STATE_COUNT];
    if (store_webhook_count(webhook->config.store, counts, err))
        return -1;
    *ret_numbers = (struct webhook_numbers){.delivered = webhook->delivered,
                                            .failed = webhook->failed,
                                            .dead = webhook->dead,
                                            .pending = counts[WEBHOOK_PENDING]};
    return 0;
}

void webhook_metrics(struct metric_page *page, void *arg)
{
    struct err ignored;
    struct webhook_numbers numbers;
    bool known = webhook_numbers(arg, &numbers, &ignored) == 0;
    metric_family(page, "claude_runner_webhooks_total", METRIC_COUNTER,
                  "Tries to deliver a webhook, by outcome (dead: the last one, it is given up).");
    if (known) {
        metric_count(page, numbers.delivered, "outcome", "delivered", NULL);
        metric_count(page, numbers.failed, "outcome", "failed", NULL);
        metric_count(page, numbers.dead, "outcome", "dead", NULL);
    }
    metric_family(page, "claude_runner_webhooks_pending", METRIC_GAUGE,
                  "Webhooks that wait for their next try.");
    if (known)
        metric_count(page, numbers.pending, NULL);
}
