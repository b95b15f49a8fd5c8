#include "runner/api/wait.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/str.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MAX_S 604800
#define NO_WAIT 1           /* milliseconds that stand for Prefer: wait=0 */
#define SILENT_MAX_MS 90000 /* A tunnel gives up after 100 s of silence. */
#define ACCEPTED_BYTES_MAX 65536
#define BUSY_RETRY_S 30

/* --- answers -------------------------------------------------------------------------------- */

/* Explains a paused task to a caller that did not say it would wait. */
static int explain_pause(struct api *api, enum task_state state, struct err *err)
{
    if (check_account(api, err) || (state == TASK_WAITING_LOGIN && check_token_server(api, err)))
        return -1;
    return state == TASK_WAITING_LIMIT
               ? err_set(err, ERR_RATE, "usage limit: the account was paused")
               : err_set(err, ERR_LOGIN, "OAuth login needed: the credential was refused");
}

/* Appends the outcome of a task; -1 when it has not ended. */
static int print_run(struct api *api, const char *task_id, bool *success, struct buf *out,
                     struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    if (store_get(api->store, task_id, &record, err))
        return -1;
    if (record.state == TASK_WAITING_LOGIN || record.state == TASK_WAITING_LIMIT)
        return explain_pause(api, record.state, err);
    if (task_state_is_active(record.state)) /* The runner stops, and the task stays. */
        return err_set(err, ERR_BUSY, "the runner is shutting down; the task '%s' goes on later",
                       task_id);
    *success &= record.state == TASK_COMPLETED;
    return engine_print_result(api->engine, &record, out, err);
}

/* Appends `runs`, the inside of an array, as the answer of a group. */
static void print_runs(const char *group, bool success, const struct buf *runs, struct buf *out)
{
    buf_addf(out, "{\"success\":%s,\"group\":\"%s\",\"runs\":[", success ? "true" : "false", group);
    buf_add(out, buf_str(runs), runs->len);
    buf_adds(out, "]}");
}

int wait_print_group(struct api *api, const struct task_record *records, size_t count,
                     struct buf *out, struct err *err)
{
    bool success = true;
    AUTO(buf) struct buf runs = BUF_INIT(API_RESULT_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!records[i].id[0]) /* It was forgotten since. */
            continue;
        if (runs.len > 0)
            buf_addc(&runs, ',');
        if (print_run(api, records[i].id, &success, &runs, err))
            return -1;
    }
    if (buf_check(&runs, "the answer", err))
        return -1;
    print_runs(records[0].group, success, &runs, out);
    return buf_check(out, "the answer", err);
}

static void add_accepted(struct json_writer *w, const struct task_record *record)
{
    char created[CLOCK_TEXT_SIZE], logs[ID_SIZE + 32];
    snprintf(logs, sizeof(logs), "/tasks/%s/events", record->id);
    json_add_text(w, "taskId", record->id);
    json_add_text(w, "status", task_state_name(record->state));
    json_add_text(w, "logsPath", logs);
    json_add_text(w, "createdAt", clock_format(record->created_ms, created));
}

static void print_accepted(const struct task_record *records, size_t count, const char *location,
                           struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    if (count == 1) {
        add_accepted(&w, records);
        json_add_text(&w, "location", location);
    } else {
        json_add_bool(&w, "success", true);
        json_add_text(&w, "group", records->group);
        json_add_text(&w, "location", location);
        json_open_array(&w, "runs");
        for (size_t i = 0; i < count; i++) {
            if (!records[i].id[0])
                continue;
            json_open_object(&w, NULL);
            json_add_int(&w, "run", records[i].run);
            add_accepted(&w, &records[i]);
            json_close(&w);
        }
        json_close(&w);
    }
    json_close(&w);
}

static void print_location(const struct task_record *record, size_t count, char *to, size_t size)
{
    if (count == 1)
        snprintf(to, size, "/tasks/%s", record->id);
    else
        snprintf(to, size, "/tasks?group=%s", record->group);
}

void wait_send_accepted(struct http_request *req, const struct submission *s)
{
    REQUIRE(s->count > 0);
    char location[ID_SIZE + 32];
    AUTO(buf) struct buf out = BUF_INIT(ACCEPTED_BYTES_MAX);
    print_location(s->records, s->count, location, sizeof(location));
    print_accepted(s->records, s->count, location, &out);
    http_add_header(req, "Location", location);
    send_json(req, 202, &out);
}

/* --- waiting -------------------------------------------------------------------------------- */

struct waiter;

struct waiting {
    struct engine_watch watch; /* first member: ended() receives its address */
    struct waiter *waiter;
    char task_id[ID_SIZE];
};

struct waiter {
    struct api *api; /* borrowed */
    char request_id[80];
    char group[ID_SIZE]; /* "" for one task */
    struct buf accepted; /* the body of a 202 */
    char location[ID_SIZE + 32];
    _Atomic int refs; /* one of each watch, one of the parked connection */
    struct lock lock;
    size_t left;                /* watches whose task has not ended; under the lock */
    struct http_parked *parked; /* NULL before it is parked, and once one side answers; guarded by
                                 * the lock as well */
    size_t count;
    struct waiting runs[];
};

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-of-uninitialized-value"
#endif

static void waiter_unref(struct waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) > 1)
        return;
    buf_done(&waiter->accepted);
    lock_done(&waiter->lock);
    free(waiter);
}

static struct http_parked *take_parked(struct waiter *waiter)
{
    lock_take(&waiter->lock);
    struct http_parked *parked = waiter->parked;
    waiter->parked = NULL;
    lock_drop(&waiter->lock);
    return parked;
}

/* Makes the answer of tasks that have ended; returns its status. */
static int print_answer(struct waiter *waiter, struct buf *out)
{
    struct err err = ERR_INIT;
    bool success = true;
    AUTO(buf) struct buf runs = BUF_INIT(API_RESULT_MAX);
    size_t i = 0;
    for (; i < waiter->count; i++) {
        if (i > 0)
            buf_addc(&runs, ',');
        if (print_run(waiter->api, waiter->runs[i].task_id, &success, &runs, &err))
            break;
    }
    if (i == waiter->count && buf_check(&runs, "the answer", &err) == 0) {
        if (waiter->group[0])
            print_runs(waiter->group, success, &runs, out);
        else
            buf_add(out, buf_str(&runs), runs.len);
        if (buf_check(out, "the answer", &err) == 0)
            return 200;
    }
    buf_clear(out);
    http_add_problem(out, &err, waiter->request_id, 0, NULL);
    return err_http(err.code);
}

static void give_up(struct waiter *waiter)
{
    for (size_t i = 0; i < waiter->count; i++)
        engine_abandon(waiter->api->engine, waiter->runs[i].task_id);
}

/* After how many seconds a caller that got this status should come again. */
static int retry_seconds(const struct waiter *waiter, int status)
{
    return status == 429 ? pause_seconds(waiter->api) : BUSY_RETRY_S;
}

/* True for the status of a paused account. 503 may also mean that the runner stops; then the task
 * is done later. */
static bool is_pause(struct waiter *waiter, int status)
{
    struct err err;
    struct api *api = waiter->api;
    return status == 429 || status == 401 ||
           (status == 503 && !atomic_load(&api->draining) && check_token_server(api, &err));
}

/* Sends the outcome of the tasks; `at_hand` is the answer of the only one, or NULL. The caller
 * holds a reference. */
static void answer_parked(struct waiter *waiter, struct http_parked *parked,
                          const struct buf *at_hand)
{
    char retry[48] = "";
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    if (at_hand && !waiter->group[0]) {
        http_parked_send(parked, 200, "application/json", "", at_hand->data, at_hand->len);
        return;
    }
    int status = print_answer(waiter, &out);
    if (status == 429 || status == 503)
        snprintf(retry, sizeof(retry), "Retry-After: %d\r\n", retry_seconds(waiter, status));
    http_parked_send(parked, status,
                     status == 200 ? "application/json" : "application/problem+json", retry,
                     buf_str(&out), out.len);
    if (is_pause(waiter, status)) /* The caller will ask again itself. */
        give_up(waiter);
}

/* Called on the task's thread. */
static void on_ended(struct engine_watch *watch)
{
    struct waiter *waiter = ((struct waiting *)(void *)watch)->waiter;
    struct http_parked *parked = NULL;
    lock_take(&waiter->lock);
    if (--waiter->left == 0) {
        parked = waiter->parked;
        waiter->parked = NULL;
    }
    lock_drop(&waiter->lock);
    if (parked)
        answer_parked(waiter, parked, watch->answer);
    waiter_unref(waiter);
}

/* Ends the watches. */
static void leave(struct waiter *waiter, bool leaving)
{
    struct engine *engine = waiter->api->engine;
    for (size_t i = 0; i < waiter->count; i++)
        if (engine_unwatch(engine, waiter->runs[i].task_id, &waiter->runs[i].watch, leaving))
            waiter_unref(waiter); /* Not the last reference: the connection has one. */
}

static void on_gone(void *arg)
{
    struct waiter *waiter = arg;
    struct http_parked *parked = take_parked(waiter);
    leave(waiter, true);
    if (parked)
        http_parked_drop(parked);
}

/* The time of Prefer: wait=N is over; the tasks go on. */
static void on_waited(void *arg)
{
    char headers[160];
    struct waiter *waiter = arg;
    struct http_parked *parked = take_parked(waiter);
    if (!parked)
        return;
    atomic_fetch_add(&waiter->refs, 1); /* Sending the answer may drop the connection's
                                         * reference. */
    leave(waiter, false);
    snprintf(headers, sizeof(headers), "Location: %s\r\nPreference-Applied: wait\r\n",
             waiter->location);
    http_parked_send(parked, 202, "application/json", headers, buf_str(&waiter->accepted),
                     waiter->accepted.len);
    waiter_unref(waiter);
}

static void on_done(void *arg)
{
    waiter_unref(arg);
}

static struct waiter *waiter_new(struct api *api, struct http_request *req,
                                 const struct submission *s)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter) + s->count * sizeof(waiter->runs[0]));
    if (!waiter)
        return NULL;
    waiter->api = api;
    waiter->refs = 1;
    lock_init(&waiter->lock);
    buf_init(&waiter->accepted, ACCEPTED_BYTES_MAX);
    snprintf(waiter->request_id, sizeof(waiter->request_id), "%s", http_id(req));
    if (s->count > 1)
        snprintf(waiter->group, sizeof(waiter->group), "%s", s->records->group);
    print_location(s->records, s->count, waiter->location, sizeof(waiter->location));
    print_accepted(s->records, s->count, waiter->location, &waiter->accepted);
    for (size_t i = 0; i < s->count; i++) {
        struct waiting *run = &waiter->runs[waiter->count];
        if (!s->records[i].id[0]) /* It was forgotten since. */
            continue;
        run->watch = (struct engine_watch){
            .ended = on_ended, .attached = !s->request->detach, .patient = s->patient};
        run->waiter = waiter;
        snprintf(run->task_id, sizeof(run->task_id), "%s", s->records[i].id);
        waiter->count++;
    }
    return waiter;
}

/* Watches all tasks; waiter->left says how many of them have not ended. */
static void watch_all(struct waiter *waiter)
{
    waiter->left = waiter->count;
    for (size_t i = 0; i < waiter->count; i++) {
        atomic_fetch_add(&waiter->refs, 1);
        if (engine_watch(waiter->api->engine, waiter->runs[i].task_id, &waiter->runs[i].watch))
            continue;
        waiter_unref(waiter);
        lock_take(&waiter->lock);
        waiter->left--;
        lock_drop(&waiter->lock);
    }
}

static bool all_ended(struct waiter *waiter)
{
    lock_take(&waiter->lock);
    bool ended = waiter->left == 0;
    lock_drop(&waiter->lock);
    return ended;
}

static void answer_now(struct http_request *req, struct waiter *waiter)
{
    char retry[16];
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    int status = print_answer(waiter, &out);
    snprintf(retry, sizeof(retry), "%d", retry_seconds(waiter, status));
    if (status == 429 || status == 503)
        http_add_header(req, "Retry-After", retry);
    http_send(req, status, status == 200 ? "application/json" : "application/problem+json",
              buf_str(&out), out.len);
}

static void park(struct http_request *req, struct waiter *waiter, int wait_ms)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(waiter->api->config);
    /* White space would fix the status before the 202 of an expired wait. */
    if (wait_ms > SILENT_MAX_MS)
        wait_ms = SILENT_MAX_MS;
    const struct http_park_config how = {
        .keepalive_after_ms = wait_ms > 0 ? wait_ms + 1000 : config->keepalive_after_ms,
        .keepalive_every_ms = config->keepalive_every_ms,
        .wait_ms = wait_ms,
        .gone = on_gone,
        .waited = on_waited,
        .done = on_done,
        .arg = waiter};
    atomic_fetch_add(&waiter->refs, 1);
    lock_take(&waiter->lock); /* gone() may be called before the handle is stored. */
    struct http_parked *parked = http_park(req, &how, &err);
    bool ended = waiter->left == 0;
    waiter->parked = ended ? NULL : parked;
    lock_drop(&waiter->lock);
    if (!parked) {
        send_err(req, &err);
        leave(waiter, true);
        waiter_unref(waiter); /* The connection's reference: done() will not be called. */
    } else if (ended) {
        answer_parked(waiter, parked, NULL);
    }
}

void wait_for_tasks(struct http_request *req, struct api *api, const struct submission *s,
                    int wait_ms)
{
    REQUIRE(s->count > 0);
    struct err err;
    if (wait_ms == NO_WAIT) {
        http_add_header(req, "Preference-Applied", "wait");
        wait_send_accepted(req, s);
        return;
    }
    struct waiter *waiter = waiter_new(api, req, s);
    if (!waiter) {
        err_set(&err, ERR_INTERNAL, "out of memory");
        send_err(req, &err);
        return;
    }
    watch_all(waiter);
    if (all_ended(waiter))
        answer_now(req, waiter);
    else
        park(req, waiter, wait_ms);
    waiter_unref(waiter);
}

int wait_preferred_ms(struct http_request *req, struct err *err)
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
