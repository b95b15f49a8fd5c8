/*
 * POST /python, its sessions, and how any Python run is waited for.
 *
 * A quick run is waited for on the request's own worker, for BRIEF_MS at most and only while few
 * workers do so; after that, or when many do, the request is parked. A waiter joins the run and the
 * connection, which may each end first, as in wait.c.
 */
#include "runner/api/python.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/api/replay.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BRIEF_MS 25
#define BRIEF_WORKERS 16
#define ANSWER_MAX (128u << 20)

struct waiter {
    struct api *api; /* borrowed */
    enum python_style style;
    int timeout_s;
    char request_id[80];
    char *caller, *key; /* the key of Idempotency-Key; NULL: none */
    _Atomic int refs;   /* of the run, and of the worker or the connection */
    uint64_t ticket;
    struct lock lock;
    pthread_cond_t changed;
    struct http_parked *parked; /* NULL before it is parked, and once it was answered */
    bool ended;
    int status;
    struct buf answer;
};

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

static void unref(struct waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) != 1)
        return;
    lock_done(&waiter->lock);
    pthread_cond_destroy(&waiter->changed);
    buf_done(&waiter->answer);
    free(waiter->caller);
    free(waiter->key);
    free(waiter);
}

/* --- printing ------------------------------------------------------------------------------ */

static void add_items(struct json_writer *w, const char *name, const struct strlist *items)
{
    json_open_array(w, name);
    for (size_t i = 0; i + 2 < items->count; i += 3) {
        json_open_object(w, NULL);
        json_add_text(w, "name", items->items[i]);
        json_add_text(w, "mime", items->items[i + 1]);
        json_add_text(w, "base64", items->items[i + 2]);
        json_close(w);
    }
    json_close(w);
}

static void add_output(struct json_writer *w, const char *name, const struct buf *output)
{
    AUTO(buf) struct buf text = BUF_INIT(4 * PYTHON_OUTPUT_MAX);
    str_add_utf8(&text, buf_str(output), output->len);
    json_add_textn(w, name, buf_str(&text), text.len);
}

static void add_refusal(struct json_writer *w, const struct python_refusal *refusal)
{
    json_open_object(w, "policy");
    json_add_text(w, "kind", refusal->reason);
    json_add_text(w, "reason", refusal->message);
    json_add_int(w, "line", refusal->line);
    json_add_int(w, "column", refusal->column);
    json_add_text(w, "excerpt", refusal->excerpt);
    json_close(w);
}

/* value / step, rounded down, in units of 1 / units. */
static double rounded(int64_t value, int64_t step, double units)
{
    int64_t whole = value / step;
    return (double)whole / units;
}

static void print_own(const struct python_outcome *outcome, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "status", python_status_name(outcome->status));
    add_output(&w, "stdout", &outcome->out);
    add_output(&w, "stderr", &outcome->errors);
    if (outcome->result)
        json_add_text(&w, "result", outcome->result);
    add_items(&w, "images", &outcome->images);
    if (outcome->files.count > 0)
        add_items(&w, "files", &outcome->files);
    json_add_number(&w, "execution_time", rounded(outcome->took_us, 10, 1e5));
    if (outcome->peak_kib >= 0)
        json_add_number(&w, "memory_used", rounded(outcome->peak_kib * 100, 1024, 100));
    else
        json_add_null(&w, "memory_used");
    if (outcome->exit_code >= 0)
        json_add_int(&w, "exit_code", outcome->exit_code);
    else
        json_add_null(&w, "exit_code");
    json_add_bool(&w, "truncated", outcome->truncated);
    if (outcome->refusal.message)
        add_refusal(&w, &outcome->refusal);
    json_close(&w);
}

/* Answers for a run that could not be started. */
static void print_failure(const struct waiter *waiter, const struct err *err, struct buf *out)
{
    struct json_writer w;
    if (waiter->style == PYTHON_STYLE_OWN) {
        http_add_problem(out, err, waiter->request_id, 0, NULL);
        return;
    }
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "error", err->msg);
    json_add_text(&w, "detail", err->msg);
    json_close(&w);
}

static void print(struct waiter *waiter, const struct python_outcome *outcome)
{
    struct err err;
    waiter->status = 200;
    if (outcome->status == PYTHON_FAILED) {
        waiter->status = err_http(outcome->err.code);
        print_failure(waiter, &outcome->err, &waiter->answer);
    } else if (waiter->style == PYTHON_STYLE_PYRUNNER) {
        pyrunner_print(outcome, waiter->timeout_s, &waiter->answer);
    } else {
        print_own(outcome, &waiter->answer);
    }
    if (buf_check(&waiter->answer, "the answer", &err)) {
        waiter->status = 500;
        buf_clear(&waiter->answer);
        waiter->answer.failed = false;
        print_failure(waiter, &err, &waiter->answer);
    }
}

static const char *type_of(const struct waiter *waiter)
{
    return waiter->status == 200 || waiter->style == PYTHON_STYLE_PYRUNNER
               ? "application/json"
               : "application/problem+json";
}

/* --- waiting ------------------------------------------------------------------------------- */

static void on_done(const struct python_outcome *outcome, void *arg)
{
    struct waiter *waiter = arg;
    print(waiter, outcome);
    if (waiter->key)
        replay_end(waiter->api->replay, waiter->caller, waiter->key,
                   waiter->status == 200 ? 200 : 0, buf_str(&waiter->answer), waiter->answer.len);
    lock_take(&waiter->lock);
    struct http_parked *parked = waiter->parked;
    waiter->parked = NULL;
    waiter->ended = true;
    pthread_cond_signal(&waiter->changed);
    lock_drop(&waiter->lock);
    if (parked)
        http_parked_send(parked, waiter->status, type_of(waiter),
                         waiter->status == 503 ? "Retry-After: 5\r\n" : NULL,
                         buf_str(&waiter->answer), waiter->answer.len);
    unref(waiter);
}

/* The client went away: ends the run. */
static void on_gone(void *arg)
{
    struct waiter *waiter = arg;
    python_cancel(waiter->api->python, waiter->ticket);
}

static void on_parked_done(void *arg)
{
    unref(arg);
}

static void send_now(struct http_request *req, const struct waiter *waiter)
{
    if (waiter->status == 503)
        http_add_header(req, "Retry-After", "5");
    http_send(req, waiter->status, type_of(waiter), buf_str(&waiter->answer), waiter->answer.len);
}

/* Waits a moment on this worker; true when the run has ended. */
static bool wait_briefly(struct waiter *waiter)
{
    struct api *api = waiter->api;
    bool ended, room = atomic_fetch_add(&api->python_waits, 1) < BRIEF_WORKERS;
    int64_t until = clock_mono_ms() + BRIEF_MS;
    lock_take(&waiter->lock);
    while (room && !waiter->ended && clock_mono_ms() < until)
        lock_wait(&waiter->changed, &waiter->lock, until - clock_mono_ms());
    ended = waiter->ended;
    lock_drop(&waiter->lock);
    atomic_fetch_sub(&api->python_waits, 1);
    return ended;
}

static void park(struct http_request *req, struct waiter *waiter)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(waiter->api->config);
    const struct http_park_config how = {.keepalive_after_ms = config->keepalive_after_ms,
                                         .keepalive_every_ms = config->keepalive_every_ms,
                                         .gone = on_gone,
                                         .done = on_parked_done,
                                         .arg = waiter};
    lock_take(&waiter->lock); /* on_done() may be called before the handle is stored. */
    struct http_parked *parked = waiter->ended ? NULL : http_park(req, &how, &err);
    bool ended = waiter->ended;
    waiter->parked = parked;
    lock_drop(&waiter->lock);
    if (parked)
        return; /* on_parked_done() drops the connection's reference. */
    if (ended) {
        send_now(req, waiter);
    } else {
        python_cancel(waiter->api->python, waiter->ticket);
        send_err(req, &err);
    }
    unref(waiter);
}

static struct waiter *waiter_new(struct api *api, const struct http_request *req,
                                 enum python_style style, const char *key)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    char *caller = caller_name(api, req);
    char *copy = key ? strdup(key) : NULL;
    if (!waiter || !caller || (key && !copy)) {
        free(waiter);
        free(caller);
        free(copy);
        return NULL;
    }
    waiter->api = api;
    waiter->style = style;
    waiter->caller = caller;
    waiter->key = copy;
    waiter->refs = 2;
    snprintf(waiter->request_id, sizeof(waiter->request_id), "%s", http_id(req));
    lock_init(&waiter->lock);
    cond_init(&waiter->changed);
    buf_init(&waiter->answer, ANSWER_MAX);
    return waiter;
}

/* --- Idempotency-Key ----------------------------------------------------------------------- */

/* Returns 1 when the request was answered from memory. */
static int replay(struct http_request *req, struct api *api, const char *key,
                  const struct buf *body, struct err *err)
{
    int status = 0;
    enum replay_state state;
    unsigned char hash[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf answer = BUF_INIT(REPLAY_BYTES_MAX);
    AUTO(crypto_hash) struct crypto_hash *h = crypto_hash_new();
    _Static_assert(CRYPTO_SHA256_SIZE == REPLAY_HASH_SIZE, "the same hash");
    AUTO(str) char *caller = caller_name(api, req);
    if (!h || !caller)
        return err_sys(err, "hash");
    crypto_hash_add(h, http_path(req), strlen(http_path(req)) + 1);
    crypto_hash_add(h, buf_str(body), body->len);
    crypto_hash_end(h, hash);
    if (replay_begin(api->replay, caller, key, hash, &state, &status, &answer, err))
        return -1;
    if (state == REPLAY_NEW)
        return 0;
    http_add_header(req, "Idempotency-Replayed", "true");
    http_send(req, status, "application/json", buf_str(&answer), answer.len);
    return 1;
}

/* --- the way of a run ---------------------------------------------------------------------- */

static void fail_now(struct http_request *req, struct waiter *waiter, const struct err *err)
{
    if (waiter->key)
        replay_end(waiter->api->replay, waiter->caller, waiter->key, 0, NULL, 0);
    send_err(req, err);
    unref(waiter); /* the run's */
    unref(waiter);
}

void api_python_answer(struct http_request *req, struct api *api, struct python_request *request,
                       const char *session, enum python_style style, const struct buf *body)
{
    REQUIRE(request && body);
    struct err err;
    AUTO(python_request_fields) struct python_request *owned = request;
    const char *key;
    int replayed = idempotency_key(req, &key, &err);
    if (replayed == 0 && key)
        replayed = replay(req, api, key, body, &err);
    if (replayed < 0)
        send_err(req, &err);
    if (replayed != 0)
        return;
    struct waiter *waiter = waiter_new(api, req, style, key);
    if (!waiter) {
        err_sys(&err, "a Python run");
        send_err(req, &err);
        return;
    }
    waiter->timeout_s = owned->timeout_s;
    waiter->ticket = python_run(api->python, owned, waiter->caller, session, on_done, waiter, &err);
    if (!waiter->ticket) {
        fail_now(req, waiter, &err);
    } else if (wait_briefly(waiter)) {
        send_now(req, waiter);
        unref(waiter);
    } else {
        park(req, waiter);
    }
}
