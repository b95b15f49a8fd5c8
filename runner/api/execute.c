/*
 * POST /execute: submit, wait, answer.
 *
 * The caller is parked off the HTTP workers as soon as its task is stored. A waiter joins the two
 * sides that may each end first: the engine's watch and the parked connection. Whoever takes the
 * watch back (or is called by it) owes the connection its end.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/api/handlers.h"
#include "runner/janitor/disk.h"
#include "runner/spec/spec.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MAX_S 604800
#define SILENT_MAX_MS 90000 /* a tunnel gives up after 100 s of silence */
#define KEY_BYTES_MAX 255

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

static void waiter_unref(struct waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&waiter->lock);
    free(waiter);
}

static struct http_parked *take_parked(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    struct http_parked *parked = waiter->parked;
    waiter->parked = NULL;
    pthread_mutex_unlock(&waiter->lock);
    return parked;
}

/* Why shared tasks do not start now: ERR_LOGIN or ERR_RATE, both as the contract words them. */
static int check_account(struct api *api, struct err *err)
{
    struct breaker_status breaker;
    struct keeper_status login;
    char time[CLOCK_TEXT_SIZE];
    breaker_status(api->breaker, &breaker);
    keeper_status(api->keeper, &login);
    if (breaker.state == BREAKER_LIMIT)
        return err_set(err, ERR_RATE, "usage limit: the account may go on at %s",
                       clock_format(breaker.until_ms, time));
    if (breaker.state == BREAKER_LOGIN)
        return err_set(err, ERR_LOGIN, "%s",
                       login.state != LOGIN_OK && !atomic_load(api->config)->anthropic_api_key
                           ? login_state_sentence(login.state)
                           : "OAuth login or API key is refused by the API");
    return 0;
}

/* Seconds until a paused account may go on. */
static int pause_seconds(struct api *api)
{
    struct breaker_status breaker;
    breaker_status(api->breaker, &breaker);
    int64_t left = (breaker.until_ms - clock_real_ms()) / 1000 + 1;
    return left < 1 ? 1 : left > 604800 ? 604800 : (int)left;
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
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    char retry[48] = "";
    int status = print_answer(waiter->api, waiter->task_id, waiter->request_id, &out);
    if (status == 429)
        snprintf(retry, sizeof(retry), "Retry-After: %d\r\n", pause_seconds(waiter->api));
    http_parked_send(parked, status,
                     status == 200 ? "application/json" : "application/problem+json", retry,
                     buf_str(&out), out.len);
    if (status == 429 || status == 401) /* it will ask again itself */
        engine_abandon(waiter->api->engine, waiter->task_id);
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
    int n = snprintf(body, sizeof(body),
                     "{\"taskId\":\"%s\",\"status\":\"pending\",\"location\":\"/tasks/%s\"}",
                     waiter->task_id, waiter->task_id);
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
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    int status = print_answer(api, task_id, http_id(req), &out);
    http_send(req, status, status == 200 ? "application/json" : "application/problem+json",
              buf_str(&out), out.len);
}

/* Parks the request until the task ends. wait_ms 0: for as long as it takes. */
static void wait_for_task(struct http_request *req, struct api *api, const char *task_id,
                          bool attached, bool patient, int wait_ms)
{
    struct err err;
    const struct config *config = atomic_load(api->config);
    struct waiter *waiter = waiter_new(api, req, task_id, attached, patient);
    if (!waiter || !engine_watch(api->engine, task_id, &waiter->watch)) {
        if (waiter) {
            waiter_unref(waiter);
            waiter_unref(waiter);
        }
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

/* --- submitting ---------------------------------------------------------------------------- */

/* Prefer: wait=N (RFC 7240). 0 when not given, -1 after a bad one. */
static int preferred_wait_ms(struct http_request *req, struct err *err)
{
    int64_t seconds = 0;
    const char *prefer = http_header(req, "Prefer");
    const char *wait = prefer ? strcasestr(prefer, "wait") : NULL;
    if (!wait)
        return 0;
    wait += strlen("wait");
    wait += strspn(wait, " \t");
    char number[16];
    size_t n = *wait == '=' ? strcspn(wait + 1, " \t,;") : 0;
    snprintf(number, sizeof(number), "%.*s", (int)(n < 15 ? n : 15), *wait ? wait + 1 : "");
    if (n == 0 || str_to_int(number, 0, WAIT_MAX_S, &seconds))
        return err_set(err, ERR_INVALID, "Prefer: wait must be 0..%d seconds, got '%.40s'",
                       WAIT_MAX_S, prefer);
    return seconds > 0 ? (int)(seconds * 1000 < INT32_MAX ? seconds * 1000 : INT32_MAX) : 1;
}

static int idempotency_key(struct http_request *req, const char **ret_key, struct err *err)
{
    const char *key = http_header(req, "Idempotency-Key");
    *ret_key = key;
    if (!key)
        return 0;
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)key[i] < 0x20 || (unsigned char)key[i] > 0x7e)
            len = 0;
    if (len == 0 || len > KEY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "Idempotency-Key must be 1..%d printable characters",
                       KEY_BYTES_MAX);
    return 0;
}

/* "The same request" is the same path with the same bytes. */
static int hash_request(struct http_request *req, const struct buf *body,
                        unsigned char hash[CRYPTO_SHA256_SIZE], struct err *err)
{
    AUTO(crypto_hash) struct crypto_hash *h = crypto_hash_new();
    if (!h)
        return err_sys(err, "hash");
    crypto_hash_add(h, http_path(req), strlen(http_path(req)) + 1);
    crypto_hash_add(h, buf_str(body), body->len);
    crypto_hash_end(h, hash);
    return 0;
}

static struct task_spec *decode(struct http_request *req, struct api *api, const struct buf *body)
{
    struct err err;
    const struct config *config = atomic_load(api->config);
    AUTO(spec_errors) struct spec_errors errors = {0};
    AUTO(buf) struct buf members = BUF_INIT(256u << 10);
    const struct spec_defaults defaults = {
        .where = SPEC_CLAUDE,
        .timeout_minutes = config->execute_timeout_minutes,
        .permission_mode = config->permission_mode ? config->permission_mode : "acceptEdits",
        .allowed_tools = &config->allowed_tools,
        .model = config->default_model};
    struct task_spec *spec = task_spec_decode(buf_str(body), body->len, &defaults, &errors, &err);
    if (!spec) {
        spec_errors_print(&errors, &members);
        http_send_error(req, &err, members.len > 0 && buf_ok(&members) ? members.data : NULL);
    }
    return spec;
}

struct submission {
    struct task_spec *spec;
    const char *key;
    struct buf body;
    bool shared;  /* it uses the runner's own credential */
    bool patient; /* the caller said that it waits */
};

static int submit(struct http_request *req, struct api *api, const struct submission *s,
                  struct task_record *record, struct err *err)
{
    bool created;
    unsigned char hash[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf spec = BUF_INIT(8u << 20);
    AUTO(buf) struct buf secrets = BUF_INIT(4u << 20);
    task_spec_save(s->spec, &spec);
    task_spec_save_secrets(s->spec, &secrets);
    if (buf_check(&spec, "the request", err) || buf_check(&secrets, "the secrets", err) ||
        hash_request(req, &s->body, hash, err))
        return -1;
    const struct task_new task = {.id = s->spec->task_id,
                                  .kind = "claude",
                                  .priority = s->spec->priority,
                                  .retry_interrupted = s->spec->retry_interrupted,
                                  .shared = s->shared,
                                  .spec = buf_str(&spec),
                                  .secrets = secrets.len > 0 ? secrets.data : NULL,
                                  .caller = caller_name(api, req),
                                  .request_id = http_id(req),
                                  .idempotency_key = s->key,
                                  .body_hash = hash,
                                  .body_hash_len = sizeof(hash)};
    int rc = engine_submit(api->engine, &task, record, &created, err);
    if (secrets.data)
        explicit_bzero(secrets.data, secrets.cap);
    if (rc == 0 && created) {
        log_set_task(record->id);
        log_info("api", "task submitted by %s", task.caller);
        log_set_task(NULL);
    }
    return rc;
}

/* Everything that can refuse the request, then the task; the answer has been sent when it fails. */
static int accept_task(struct http_request *req, struct api *api, struct submission *s,
                       struct task_record *record, int *ret_wait_ms)
{
    struct err err, ignored;
    *ret_wait_ms = preferred_wait_ms(req, &err);
    if (*ret_wait_ms < 0 || idempotency_key(req, &s->key, &err) ||
        http_body(req, API_BODY_MAX, &s->body, &err)) {
        send_err(req, &err);
        return -1;
    }
    if (disk_check(api->state_dir, atomic_load(api->config)->disk_min_free_mb, &err)) {
        send_err(req, &err);
        return -1;
    }
    s->spec = decode(req, api, &s->body);
    if (!s->spec)
        return -1;
    s->shared = !s->spec->anthropic_api_key && !s->spec->anthropic_oauth_token;
    s->patient = *ret_wait_ms > 0 || s->spec->detach;
    if ((s->shared && !s->patient && check_account(api, &err)) ||
        submit(req, api, s, record, &err)) {
        if (err.code == ERR_RATE && s->shared && check_account(api, &ignored)) {
            char seconds[16];
            snprintf(seconds, sizeof(seconds), "%d", pause_seconds(api));
            http_add_header(req, "Retry-After", seconds);
            http_send_error(req, &err, NULL);
            return -1;
        }
        send_err(req, &err);
        return -1;
    }
    return 0;
}

void execute_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    int wait_ms;
    struct submission s = {.body = BUF_INIT(API_BODY_MAX)};
    AUTO(task_record) struct task_record record = {0};
    if (accept_task(req, api, &s, &record, &wait_ms) == 0)
        wait_for_task(req, api, record.id, !s.spec->detach, s.patient, wait_ms);
    task_spec_free(s.spec);
    if (s.body.data)
        explicit_bzero(s.body.data, s.body.cap);
    buf_done(&s.body);
}
