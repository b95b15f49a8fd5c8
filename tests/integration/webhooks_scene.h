/* A receiver of webhooks, and a runner that may call it. */
#ifndef TESTS_WEBHOOKS_SCENE_H
#define TESTS_WEBHOOKS_SCENE_H

#include "loopback.h"
#include "testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SECRET "callback-secret-0123456789"

/* --- a receiver ---------------------------------------------------------------------------- */

enum { SEEN_MAX = 128, HANG = -1, CLOSE = 0 };

struct receiver {
    struct loopback *http;
    _Atomic int status; /* the status of answers, or HANG, or CLOSE */
    _Atomic int next;   /* the status of all after the next answer; 0: the same */
    const char *_Atomic headers;
    _Atomic bool long_body;
    _Atomic int count, at_once, crowd;
    pthread_mutex_t lock;
    char *ids[SEEN_MAX], *bodies[SEEN_MAX], *heads[SEEN_MAX];
};

static inline void keep(struct receiver *r, struct loopback_call *call, const char *body)
{
    char id[80] = "";
    loopback_header(call, "webhook-id", id, sizeof id);
    pthread_mutex_lock(&r->lock);
    int n = r->count;
    if (n < SEEN_MAX) {
        r->ids[n] = strdup(id);
        r->bodies[n] = strdup(body);
        r->heads[n] = strdup(call->head);
    }
    r->count = n + 1;
    pthread_mutex_unlock(&r->lock);
}

static inline bool answer_long(struct loopback_call *call)
{
    char piece[65536];
    memset(piece, 'x', sizeof piece);
    if (!loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n"))
        return false;
    for (int i = 0; i < 160; i++)
        if (!loopback_send(call, piece, sizeof piece))
            return false;
    return true;
}

static inline bool receive(struct loopback_call *call, void *arg)
{
    struct receiver *r = arg;
    int now = atomic_fetch_add(&r->at_once, 1) + 1;
    if (now > r->crowd)
        r->crowd = now;
    char *body = loopback_body(call);
    int status = r->status;
    keep(r, call, body);
    free(body);
    if (r->next)
        r->status = r->next;
    if (status == HANG)
        loopback_await_close(call, 60000);
    atomic_fetch_sub(&r->at_once, 1); /* who has the answer may send the next */
    if (status == HANG || (status == CLOSE && !r->long_body))
        return false;
    return r->long_body ? answer_long(call)
                        : loopback_answer(call, status, r->headers ? r->headers : "", "");
}

static inline struct receiver *receiver_new(int status)
{
    struct receiver *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->status = status;
    pthread_mutex_init(&r->lock, NULL);
    r->http = loopback_start(receive, r);
    return r;
}

static inline void receiver_free(struct receiver *r)
{
    loopback_stop(r->http);
    for (int i = 0; i < SEEN_MAX; i++) {
        free(r->ids[i]);
        free(r->bodies[i]);
        free(r->heads[i]);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* The number of requests with this id. */
static inline int seen_with(struct receiver *r, const char *id)
{
    int found = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count && i < SEEN_MAX; i++)
        found += strcmp(r->ids[i], id) == 0;
    pthread_mutex_unlock(&r->lock);
    return found;
}

/* The number of webhooks: one comes again when it was delivered just before a crash. */
static inline int webhooks_of(struct receiver *r)
{
    int count = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count && i < SEEN_MAX; i++) {
        bool known = false;
        for (int k = 0; k < i; k++)
            known |= strcmp(r->ids[k], r->ids[i]) == 0;
        count += !known;
    }
    pthread_mutex_unlock(&r->lock);
    return count;
}

/* --- a runner that knows it ---------------------------------------------------------------- */

static inline struct runner *hooked_runner(void)
{
    struct runner *runner = runner_new();
    runner_set(runner, "CALLBACK_SECRET", SECRET);
    runner_set(runner, "CALLBACK_ALLOW", "127.0.0.1");
    runner_set(runner, "CALLBACK_RETRY_SECONDS", "1,1,1");
    return runner;
}

/* "callbackUrl":"…/hook?token=hunter2" and more fields. */
static inline char *fields_to(const struct receiver *r, const char *more)
{
    char *url = loopback_url(r->http, "/hook?token=hunter2");
    char *fields = textf("\"callbackUrl\":\"%s\"%s%s", url, *more ? "," : "", more);
    free(url);
    return fields;
}

static inline char *submit(const struct runner *runner, const struct receiver *r,
                           const char *prompt, const char *more)
{
    char *fields = fields_to(r, more);
    char *id = runner_submit(runner, prompt, fields);
    free(fields);
    return id;
}

static inline cJSON *webhook_of(const struct runner *runner, const char *task)
{
    char *path = textf("/tasks/%s", task);
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    cJSON *webhook = cJSON_DetachItemFromObject(reply->json, "webhook");
    assert_non_null(webhook);
    reply_free(reply);
    free(path);
    return webhook;
}

static inline bool has_state(const struct runner *runner, const char *task, const char *state)
{
    cJSON *webhook = webhook_of(runner, task);
    bool is = strcmp(json_text(webhook, "state"), state) == 0;
    cJSON_Delete(webhook);
    return is;
}

static inline int attempts_of(const struct runner *runner, const char *task)
{
    cJSON *webhook = webhook_of(runner, task);
    int attempts = (int)json_number(webhook, "attempts");
    cJSON_Delete(webhook);
    return attempts;
}

static inline char *id_of(const struct runner *runner, const char *task)
{
    cJSON *webhook = webhook_of(runner, task);
    char *id = strdup(json_text(webhook, "id"));
    cJSON_Delete(webhook);
    return id;
}

static inline void redeliver(const struct runner *runner, const char *task, int status,
                             const char *code)
{
    char *path = textf("/tasks/%s/redeliver", task);
    struct reply *reply = runner_post(runner, path, NULL);
    if (code) {
        assert_problem(reply, status, code);
    } else {
        assert_status(reply, status);
        assert_json_text(reply->json, "taskId", task);
        assert_json_text(reply->json, "webhook.state", "pending");
    }
    reply_free(reply);
    free(path);
}

#endif
