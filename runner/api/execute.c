/*
 * POST /execute: submit, wait, answer.
 *
 * The caller is parked off the HTTP workers as soon as its task is stored. A waiter joins the two
 * sides that may each end first: the engine's watch and the parked connection. Whoever takes the
 * watch back (or is called by it) owes the connection its end.
 */
#include "base/str.h"
#include "runner/api/submit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MAX_S 604800
#define NO_WAIT 1 /* as milliseconds: Prefer: wait=0 */
#define ACCEPTED "{\"taskId\":\"%s\",\"status\":\"pending\",\"location\":\"/tasks/%s\"}"
#define SILENT_MAX_MS 90000 /* a tunnel gives up after 100 s of silence */

/* --- waiting ------------------------------------------------------------------------------- */

struct waiter {
    struct engine_watch watch; /* first: ended() gets this */
    struct api *api;           /* borrowed */
    char task_id[ID_SIZE];
    char request_id[80];
    _Atomic int refs; /* one of the engine's watch, one of the parked connection */
    pthread_mutex_t lock;
    struct http_parked *parked; /* NULL before it is parked, and once somebody answers */
    bool ended;                 /* the end came before the connection was parked */
};

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

static void waiter_free(struct waiter *waiter)
{
    pthread_mutex_destroy(&waiter->lock);
    free(waiter);
}

static void waiter_unref(struct waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) == 1)
        waiter_free(waiter);
}

static struct http_parked *take_parked(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    struct http_parked *parked = waiter->parked;
    waiter->parked = NULL;
    pthread_mutex_unlock(&waiter->lock);
    return parked;
}

/* A task that is paused, to a caller that did not say it would wait. */
static int explain_pause(struct api *api, enum task_state state, struct err *err)
{
    if (check_account(api, err))
        return -1;
    return state == TASK_WAITING_LIMIT
               ? err_set(err, ERR_RATE, "usage limit: the account was paused")
               : err_set(err, ERR_LOGIN, "OAuth login needed: the credential was refused");
}

/* The answer of an ended task; its status. */
static int print_answer(struct api *api, const char *task_id, const char *request_id,
                        struct buf *out)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    if (store_get(api->store, task_id, &record, &err) == 0) {
        if (record.state == TASK_WAITING_LOGIN || record.state == TASK_WAITING_LIMIT)
            explain_pause(api, record.state, &err);
        else if (task_state_is_active(record.state)) /* the runner goes down, the task stays */
            err_set(&err, ERR_BUSY, "the runner is shutting down; the task '%s' goes on later",
                    task_id);
        else if (engine_print_result(api->engine, &record, out, &err) == 0)
            return 200;
    }
    buf_clear(out);
    http_add_problem(out, &err, request_id, 0, NULL);
    return err_http(err.code);
}

static void answer_parked(struct waiter *waiter, struct http_parked *parked)
{
    struct api *api = waiter->api;
    char task_id[ID_SIZE];
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    snprintf(task_id, sizeof(task_id), "%s", waiter->task_id); /* the sent answer may free it */
    char retry[48] = "";
    int status = print_answer(waiter->api, waiter->task_id, waiter->request_id, &out);
    if (status == 429)
        snprintf(retry, sizeof(retry), "Retry-After: %d\r\n", pause_seconds(waiter->api));
    http_parked_send(parked, status,
                     status == 200 ? "application/json" : "application/problem+json", retry,
                     buf_str(&out), out.len);
    if (status == 429 || status == 401) /* it will ask again itself */
        engine_abandon(api->engine, task_id);
}

/* On the task's thread. */
static void on_ended(struct engine_watch *watch)
{
    struct waiter *waiter = (struct waiter *)(void *)watch;
    pthread_mutex_lock(&waiter->lock);
    struct http_parked *parked = waiter->parked;
    waiter->parked = NULL;
    waiter->ended = true;
    pthread_mutex_unlock(&waiter->lock);
    if (parked)
        answer_parked(waiter, parked);
    waiter_unref(waiter);
}

/* Takes the watch back; true when on_ended() will not come. */
static bool leave(struct waiter *waiter, bool leaving)
{
    if (!engine_unwatch(waiter->api->engine, waiter->task_id, &waiter->watch, leaving))
        return false;
    waiter_unref(waiter);
    return true;
}

static void on_gone(void *arg)
{
    struct waiter *waiter = arg;
    struct http_parked *parked;
    if (leave(waiter, true) && (parked = take_parked(waiter)))
        http_parked_drop(parked);
}

/* Prefer: wait=N is over; the task goes on. */
static void on_waited(void *arg)
{
    struct waiter *waiter = arg;
    struct http_parked *parked;
    char headers[160], body[256];
    if (!leave(waiter, false) || !(parked = take_parked(waiter)))
        return;
    snprintf(headers, sizeof(headers), "Location: /tasks/%s\r\nPreference-Applied: wait\r\n",
             waiter->task_id);
    int n = snprintf(body, sizeof(body), ACCEPTED, waiter->task_id, waiter->task_id);
    http_parked_send(parked, 202, "application/json", headers, body, (size_t)n);
}

static void on_done(void *arg)
{
    waiter_unref(arg);
}

static struct waiter *waiter_new(struct api *api, struct http_request *req, const char *task_id,
                                 bool attached, bool patient)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (!waiter)
        return NULL;
    waiter->watch =
        (struct engine_watch){.ended = on_ended, .attached = attached, .patient = patient};
    waiter->api = api;
    waiter->refs = 2;
    snprintf(waiter->task_id, sizeof(waiter->task_id), "%s", task_id);
    snprintf(waiter->request_id, sizeof(waiter->request_id), "%s", http_id(req));
    pthread_mutex_init(&waiter->lock, NULL);
    return waiter;
}

static void send_answer_now(struct http_request *req, struct api *api, const char *task_id)
{
    char retry[16];
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    int status = print_answer(api, task_id, http_id(req), &out);
    snprintf(retry, sizeof(retry), "%d", pause_seconds(api));
    if (status == 429)
        http_add_header(req, "Retry-After", retry);
    http_send(req, status, status == 200 ? "application/json" : "application/problem+json",
              buf_str(&out), out.len);
}

/* Prefer: wait=0 asks for no waiting at all. */
static void send_accepted_now(struct http_request *req, const char *task_id)
{
    char location[80], body[256];
    snprintf(location, sizeof(location), "/tasks/%s", task_id);
    int n = snprintf(body, sizeof(body), ACCEPTED, task_id, task_id);
    http_add_header(req, "Location", location);
    http_add_header(req, "Preference-Applied", "wait");
    http_send(req, 202, "application/json", body, (size_t)n);
}

/* Parks the request until the task ends. wait_ms 0: for as long as it takes. */
static void wait_for_task(struct http_request *req, struct api *api, const char *task_id,
                          bool attached, bool patient, int wait_ms)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    struct waiter *waiter = waiter_new(api, req, task_id, attached, patient);
    if (!waiter || !engine_watch(api->engine, task_id, &waiter->watch)) {
        if (waiter)
            waiter_free(waiter); /* nobody else has seen it */
        send_answer_now(req, api, task_id);
        return;
    }
    /* white space would settle the status before the 202 of a wait that is over */
    if (wait_ms > SILENT_MAX_MS)
        wait_ms = SILENT_MAX_MS;
    const struct http_park_config park = {
        .keepalive_after_ms = wait_ms > 0 ? wait_ms + 1000 : config->keepalive_after_ms,
        .keepalive_every_ms = config->keepalive_every_ms,
        .wait_ms = wait_ms,
        .gone = on_gone,
        .waited = on_waited,
        .done = on_done,
        .arg = waiter};
    pthread_mutex_lock(&waiter->lock); /* gone() may be called before we know the handle */
    struct http_parked *parked = http_park(req, &park, &err);
    bool ended = waiter->ended;
    waiter->parked = ended ? NULL : parked;
    pthread_mutex_unlock(&waiter->lock);
    if (!parked) {
        send_err(req, &err);
        leave(waiter, true);
        waiter_unref(waiter); /* the connection's: done() will not come */
    } else if (ended) {
        answer_parked(waiter, parked);
    }
}

/* Prefer: wait=N (RFC 7240). 0 when not given, -1 after a bad one. */
static int preferred_wait_ms(struct http_request *req, struct err *err)
{
    int64_t seconds = 0;
    char wait[48];
    if (!http_preference(req, "wait", wait, sizeof(wait)))
        return 0;
    if (str_to_int(wait, 0, WAIT_MAX_S, &seconds))
        return err_set(err, ERR_INVALID, "Prefer: wait must be 0..%d seconds, got '%s'", WAIT_MAX_S,
                       wait);
    return seconds > 0 ? (int)(seconds * 1000 < INT32_MAX ? seconds * 1000 : INT32_MAX) : NO_WAIT;
}

void execute_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(submission) struct submission s = {.where = REQUEST_CLAUDE};
    s.timeout_minutes = CONFIG_GET(api->config, execute_timeout_minutes);
    int wait_ms = preferred_wait_ms(req, &err);
    if (wait_ms < 0) {
        send_err(req, &err);
        return;
    }
    s.patient = wait_ms > 0;
    if (submit_task(req, api, &s))
        return;
    if (wait_ms == NO_WAIT)
        send_accepted_now(req, s.record.id);
    else
        wait_for_task(req, api, s.record.id, !s.request->detach, s.patient, wait_ms);
}
