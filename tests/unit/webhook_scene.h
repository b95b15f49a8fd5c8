/* A sender of webhooks with its store, a clock that the tests set, and a receiver. */
#ifndef TESTS_WEBHOOK_SCENE_H
#define TESTS_WEBHOOK_SCENE_H

#include "testbase.h"

#include "base/clock.h"
#include "base/log.h"
#include "loopback.h"
#include "runner/webhook/webhook.h"
#include "json/json.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "plain-secret-0123456789"

/* --- where to ------------------------------------------------------------------------------ */

static inline struct config *config_of(const char *more, const char *more2)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    AUTO(str) char *a = strdup(more);
    AUTO(str) char *b = strdup(more2);
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"},
                   (char[]){"HOME=/tmp"},
                   (char[]){"CALLBACK_SECRET=" SECRET},
                   a,
                   *b ? b : NULL,
                   NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    if (!config)
        fail_msg("%s", report.errors.count ? report.errors.items[0] : err.msg);
    return config;
}

/* --- the world: a store, a receiver and a clock -------------------------------------------- */

static _Atomic int64_t real_ms, set_ms; /* time that passes; how far the real clock was set */

static inline int64_t fake_real(void *arg)
{
    (void)arg;
    return atomic_load(&real_ms) + atomic_load(&set_ms);
}

static inline int64_t fake_mono(void *arg)
{
    (void)arg;
    return atomic_load(&real_ms) * 1000;
}

static const struct clock fake_clock = {.mono_us = fake_mono, .real_ms = fake_real};

struct seen {
    char id[64], body[200];
    int64_t at_ms;
};

struct world {
    char *dir;
    struct store *store;
    struct config_in_force in_force;
    struct webhook *webhook;
    struct loopback *http;
    _Atomic int status; /* status of answers; 0: closes the connection; -1: hangs */
    const char *_Atomic headers;
    _Atomic bool long_body;
    _Atomic int count, at_once, crowd;
    pthread_mutex_t lock;
    struct seen seen[64];
};

static inline bool answer_long(struct loopback_call *call)
{
    static char piece[65536];
    memset(piece, 'x', sizeof(piece));
    if (!loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n"))
        return false;
    for (int i = 0; i < 160; i++)
        if (!loopback_send(call, piece, sizeof(piece)))
            return false;
    return true;
}

static inline void keep(struct world *w, struct loopback_call *call, const char *body)
{
    pthread_mutex_lock(&w->lock);
    int n = atomic_fetch_add(&w->count, 1);
    if (n < (int)COUNT_OF(w->seen)) {
        struct seen *seen = &w->seen[n];
        loopback_header(call, "webhook-id", seen->id, sizeof(seen->id));
        snprintf(seen->body, sizeof(seen->body), "%s", body);
        seen->at_ms = clock_real_ms();
    }
    pthread_mutex_unlock(&w->lock);
}

static inline bool receive(struct loopback_call *call, void *arg)
{
    struct world *w = arg;
    int now = atomic_fetch_add(&w->at_once, 1) + 1;
    int most = atomic_load(&w->crowd);
    while (now > most && !atomic_compare_exchange_weak(&w->crowd, &most, now))
        continue;
    char *body = loopback_body(call);
    keep(w, call, body);
    free(body);
    int status = strstr(call->path, "/silent") ? -1 : atomic_load(&w->status);
    const char *headers = atomic_load(&w->headers);
    bool is_long = atomic_load(&w->long_body);
    if (status < 0)
        loopback_await_close(call, 60000);
    atomic_fetch_sub(&w->at_once, 1); /* who has the answer may send the next */
    if (status < 0 || (status == 0 && !is_long))
        return false;
    return is_long ? answer_long(call)
                   : loopback_answer(call, status, headers ? headers : "", "thanks");
}

static inline void open_webhook(struct world *w)
{
    struct err err;
    const struct webhook_config config = {
        .config = &w->in_force, .store = w->store, .version = "test"};
    w->webhook = webhook_new(&config, &err);
    OK(w->webhook, &err);
    OK(webhook_start(w->webhook, &err) == 0, &err);
}

static inline struct world *world_new(void)
{
    struct err err;
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    pthread_mutex_init(&w->lock, NULL);
    w->dir = tmp_dir_new();
    w->store = store_open(w->dir, &err);
    OK(w->store, &err);
    config_in_force_init(&w->in_force, config_of("CALLBACK_ALLOW=127.0.0.1", ""));
    w->status = 200;
    w->http = loopback_start(receive, w);
    atomic_store(&real_ms, INT64_C(1800000000000));
    atomic_store(&set_ms, 0);
    clock_use(&fake_clock);
    return w;
}

static inline void world_free(struct world *w)
{
    webhook_free(w->webhook);
    loopback_stop(w->http);
    store_close(w->store);
    tmp_dir_free(w->dir);
    config_in_force_done(&w->in_force);
    pthread_mutex_destroy(&w->lock);
    free(w);
    clock_use(NULL);
}

static inline void pass(struct world *w, int64_t ms)
{
    atomic_fetch_add(&real_ms, ms);
    webhook_wake(w->webhook);
}

static inline void add_task(struct world *w, const char *id, const char *url)
{
    struct err err;
    bool created;
    char host[WEBHOOK_HOST_SIZE];
    AUTO(task_record) struct task_record record = {0};
    webhook_host(url, host);
    const struct task_new task = {.id = id,
                                  .kind = "claude",
                                  .request = "{\"prompt\":\"p\",\"metadata\":{\"a\": 1.50}}",
                                  .webhook_url = url,
                                  .webhook_host = host};
    OK(store_add(w->store, &task, &record, &created, &err) == 0, &err);
}

static inline void end_task(struct world *w, const char *id, const char *output, size_t len)
{
    struct err err;
    const struct task_end end = {
        .state = TASK_COMPLETED,
        .reason = "",
        .summary = "{\"exit_code\":0,\"duration_ms\":12,\"truncated\":false,\"num_turns\":2,"
                   "\"gitCommit\":{\"sha\":\"abc\",\"pushed\":true}}",
        .output = output,
        .output_len = len,
        .now_ms = clock_real_ms()};
    OK(store_end(w->store, id, ~0u, &end, &err) == 1, &err);
}

/* A task that has ended, and whose webhook goes to a receiver; those below /silent never answer. */
static inline void owe_at(struct world *w, const char *id, const char *path)
{
    AUTO(str) char *url = loopback_url(w->http, path);
    add_task(w, id, url);
    end_task(w, id, "done", 4);
}

static inline void owe(struct world *w, const char *id)
{
    owe_at(w, id, "/hook?token=hunter2");
}

static inline enum webhook_state state_of(struct world *w, const char *task_id)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(w->store, task_id, &record, &err) == 0, &err);
    return record.state;
}

static inline int tries_of(struct world *w, const char *task_id)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(w->store, task_id, &record, &err) == 0, &err);
    return record.tries;
}

static inline void assert_last(struct world *w, const char *task_id, int status, const char *error)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(w->store, task_id, &record, &err) == 0, &err);
    assert_int_equal(record.last_status, status);
    if (!strstr(record.last_error, error))
        fail_msg("%s", record.last_error);
    assert_null(strstr(record.last_error, "hunter2"));
}

#endif
