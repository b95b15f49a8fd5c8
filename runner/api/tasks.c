/* Tasks as a resource: lists, one task, its result, its events, its end. */
#include "base/clock.h"
#include "base/str.h"
#include "runner/api/handlers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 1000
#define LIST_DEFAULT 100
#define TITLE_MAX 240
#define LIST_BYTES_MAX (32u << 20)

/* --- printing ------------------------------------------------------------------------------ */

/* Adds the members of a stored JSON object to those that are there already. */
static void add_members(struct json_writer *w, const char *object)
{
    struct err err;
    AUTO(json) struct json *root = object ? json_parse(object, strlen(object), &err) : NULL;
    size_t len, whole = root ? strlen(object) : 0;
    for (const struct json *at = json_first(root); at; at = json_next(at)) {
        const char *raw = json_raw_member(object, whole, json_name(at), &len);
        if (raw && strcmp(json_name(at), "reason") != 0)
            json_add_raw(w, json_name(at), raw, len);
    }
}

/* Adds what a list says of a task besides its states: the beginning of the prompt, and the outcome.
 * The texts are already JSON. */
static void add_sketch(const struct task_record *record, struct json_writer *w)
{
    static const char *const asked[] = {"repoUrl", "model"};
    static const char *const came[] = {"total_cost_usd", "num_turns", "duration_ms", "usage"};
    size_t len, whole = strlen(record->request);
    const char *prompt = json_raw_member(record->request, whole, "prompt", &len);
    if (!prompt)
        prompt = json_raw_member(record->request, whole, "command", &len);
    if (!prompt)
        prompt = json_raw_member(record->request, whole, "code", &len);
    if (prompt && *prompt == '"') {
        AUTO(buf) struct buf title = BUF_INIT(TITLE_MAX + 2);
        size_t end = 1;
        while (end + 1 < len && end < TITLE_MAX - 12) /* Do not cut an escape. */
            end += prompt[end] != '\\' ? 1 : prompt[end + 1] == 'u' ? 6 : 2;
        while (end + 1 < len && ((unsigned char)prompt[end] & 0xc0) == 0x80) /* Do not cut a
                                                                              * character. */
            end++;
        buf_add(&title, prompt, end);
        buf_addc(&title, '"');
        json_add_raw(w, "title", buf_str(&title), title.len);
    }
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        const char *raw = json_raw_member(record->request, whole, asked[i], &len);
        if (raw)
            json_add_raw(w, asked[i], raw, len);
    }
    for (size_t i = 0; record->summary && i < COUNT_OF(came); i++) {
        const char *raw = json_raw_member(record->summary, strlen(record->summary), came[i], &len);
        if (raw)
            json_add_raw(w, came[i], raw, len);
    }
}

/* Adds why the task waits, and until when, where that is known. */
static void add_pause(const struct api *api, const struct task_record *record,
                      struct json_writer *w)
{
    struct breaker_status breaker;
    breaker_status(api->breaker, &breaker);
    bool limited = record->state == TASK_WAITING_LIMIT && breaker.state == BREAKER_LIMIT;
    json_add_text(w, "reason",
                  record->reason[0]                     ? record->reason
                  : limited && breaker.reserved         ? "usage_reserved"
                  : limited                             ? "usage_limit"
                  : record->state == TASK_WAITING_LOGIN ? "login_required"
                                                        : NULL);
    if (limited)
        json_add_time(w, "waitsUntil", breaker.until_ms);
    if (record->not_before_ms)
        json_add_time(w, "notBefore", record->not_before_ms);
}

void print_task(const struct api *api, const struct task_record *record, bool whole,
                const struct webhook_record *webhook, struct json_writer *w)
{
    size_t len, request_len = strlen(record->request);
    const char *metadata = json_raw_member(record->request, request_len, "metadata", &len);
    json_open_object(w, NULL);
    json_add_text(w, "taskId", record->id);
    json_add_text(w, "kind", record->kind);
    json_add_text(w, "status", task_state_name(record->state));
    add_pause(api, record, w);
    json_add_text(w, "executor", task_place_name(record->place));
    if (record->group[0]) {
        json_add_text(w, "group", record->group);
        json_add_int(w, "run", record->run);
    }
    json_add_int(w, "priority", record->priority);
    json_add_int(w, "attempts", record->attempts);
    json_add_time(w, "createdAt", record->created_ms);
    json_add_time(w, "startedAt", record->started_ms);
    json_add_time(w, "endedAt", record->ended_ms);
    json_add_text(w, "caller", record->caller);
    json_add_text(w, "requestId", record->request_id);
    if (metadata)
        json_add_raw(w, "metadata", metadata, len);
    if (whole) {
        json_add_text(w, "staysLocal", record->stays); /* why it cannot go to the cloud */
        json_add_raw(w, "request", record->request, request_len);
        add_members(w, record->summary);
    } else {
        add_sketch(record, w);
    }
    if (webhook)
        webhook_print(webhook, w);
    json_close(w);
}

/* Prints a task; one that waits for the cloud says so. */
static void print_waiting(const struct api *api, const struct task_record *record, bool whole,
                          const struct webhook_record *webhook, struct json_writer *w)
{
    struct task_record shown = *record; /* borrows everything that it points to */
    const char *why = engine_waits_for(api->engine, record);
    if (why && !shown.reason[0])
        snprintf(shown.reason, sizeof(shown.reason), "%s", why);
    print_task(api, &shown, whole, webhook, w);
}

/* --- lists --------------------------------------------------------------------------------- */

struct listing {
    const struct api *api;
    struct json_writer w;
    int left;
    int64_t last;
    bool more;
};

static int list_one(const struct task_record *record, void *arg)
{
    struct listing *listing = arg;
    if (listing->left == 0) {
        listing->more = true;
        return 1;
    }
    listing->left--;
    listing->last = record->seq;
    print_waiting(listing->api, record, false, NULL, &listing->w);
    return 0;
}

static int bad_query(struct err *err, const char *name, const char *takes, const char *got)
{
    return err_set(err, ERR_INVALID, "query parameter '%s' must be %s, got '%.60s'", name, takes,
                   got);
}

static int read_filter(struct http_request *req, struct store_filter *filter, struct err *err)
{
    enum task_state state;
    int64_t limit = LIST_DEFAULT, cursor = 0;
    static const char *const parameters[] = {"status", "kind",   "group", "webhook",
                                             "limit",  "cursor", NULL};
    enum webhook_state webhook = WEBHOOK_NONE;
    if (check_query(req, parameters, err))
        return -1;
    const char *text = http_query(req, "status");
    if (text && task_state_parse(text, &state))
        return bad_query(err, "status", "a state of a task", text);
    filter->states = text ? 1u << state : 0;
    text = http_query(req, "webhook");
    if (text && webhook_state_parse(text, &webhook))
        return bad_query(err, "webhook", "a state of a webhook", text);
    filter->webhook = (int)webhook;
    text = http_query(req, "limit");
    if (text && str_to_int(text, 1, LIST_MAX, &limit))
        return bad_query(err, "limit", "1..1000", text);
    text = http_query(req, "cursor");
    if (text && str_to_int(text, 1, INT64_MAX, &cursor))
        return bad_query(err, "cursor", "a nextCursor of an earlier answer", text);
    filter->kind = http_query(req, "kind");
    filter->group = http_query(req, "group");
    filter->limit = (int)limit + 1; /* One more than asked for shows whether there is another
                                     * page. */
    filter->before = cursor;
    return 0;
}

void tasks_list(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct store_filter filter = {0};
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    struct listing listing = {.api = api};
    char cursor[32];
    if (read_filter(req, &filter, &err)) {
        send_err(req, &err);
        return;
    }
    if (filter.group && instances_find_group(api, filter.group, &err)) {
        send_err(req, &err);
        return;
    }
    listing.left = filter.limit - 1;
    json_write(&listing.w, &out);
    json_open_object(&listing.w, NULL);
    json_open_array(&listing.w, "tasks");
    if (store_list(api->store, &filter, list_one, &listing, &err)) {
        send_err(req, &err);
        return;
    }
    json_close(&listing.w);
    snprintf(cursor, sizeof(cursor), "%lld", (long long)listing.last);
    json_add_text(&listing.w, "nextCursor", listing.more ? cursor : NULL);
    json_close(&listing.w);
    send_json(req, 200, &out);
}

void tasks_status(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct engine_load load;
    struct json_writer w;
    int64_t counts[TASK_STATE_COUNT];
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    AUTO(buf) struct buf running = BUF_INIT(LIST_BYTES_MAX);
    if (store_count(api->store, counts, &err)) {
        send_err(req, &err);
        return;
    }
    engine_load(api->engine, &load);
    engine_print_running(api->engine, &running);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_open_object(&w, "counts");
    for (int i = 0; i < TASK_STATE_COUNT; i++)
        json_add_int(&w, task_state_name((enum task_state)i), counts[i]);
    json_close(&w);
    json_add_int(&w, "slots", load.slots);
    json_add_int(&w, "queued", load.queued);
    json_add_int(&w, "active", load.running + load.away);
    json_add_int(&w, "max", load.slots);
    json_add_raw(&w, "running", buf_str(&running), running.len);
    json_add_raw(&w, "tasks", buf_str(&running), running.len);
    json_close(&w);
    send_json(req, 200, &out);
}

/* --- one task ------------------------------------------------------------------------------ */

bool find_task(struct http_request *req, struct api *api, struct task_record *record)
{
    struct err err;
    const char *id = http_param(req, "id");
    if (!id_is_valid(id))
        err_set(&err, ERR_NOT_FOUND, "there is no such task");
    else if (instances_find(api, id, record, &err) == 0)
        return true;
    send_err(req, &err);
    return false;
}

void task_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct json_writer w;
    AUTO(task_record) struct task_record record = {0};
    AUTO(webhook_record) struct webhook_record webhook = {0};
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (!find_task(req, api, &record))
        return;
    bool owed = store_webhook(api->store, record.id, &webhook, &err) == 0;
    if (!owed && err.code != ERR_NOT_FOUND) {
        send_err(req, &err);
        return;
    }
    json_write(&w, &out);
    print_waiting(api, &record, true, owed ? &webhook : NULL, &w);
    send_json(req, 200, &out);
}

void task_result(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    if (!find_task(req, api, &record))
        return;
    if (task_state_is_active(record.state)) {
        http_add_header(req, "Retry-After", "2");
        buf_addf(&out, "{\"taskId\":\"%s\",\"status\":\"%s\"}", record.id,
                 task_state_name(record.state));
        send_json(req, 202, &out);
        return;
    }
    if (engine_print_result(api->engine, &record, &out, &err)) {
        send_err(req, &err);
        return;
    }
    send_json(req, 200, &out);
}

void task_redeliver(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct json_writer w;
    AUTO(task_record) struct task_record record = {0};
    AUTO(webhook_record) struct webhook_record webhook = {0};
    AUTO(buf) struct buf out = BUF_INIT(16384);
    if (!find_task(req, api, &record))
        return;
    if (store_webhook_redeliver(api->store, record.id, clock_real_ms(), &err) ||
        store_webhook(api->store, record.id, &webhook, &err)) {
        send_err(req, &err);
        return;
    }
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", record.id);
    webhook_print(&webhook, &w);
    json_close(&w);
    send_json(req, 202, &out);
}
