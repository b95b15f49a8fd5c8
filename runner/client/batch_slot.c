#include "runner/client/batch_slot.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20)
#define SILENCE_MS 60000
#define BUFFER_BYTES 16384
#define TRIES_MAX 30 /* tries for one output, or after a malformed answer */
#define PAUSE_MAX_MS 10000

/* --- the stream ---------------------------------------------------------------------------- */

static void give_up(struct batch_slot *s, const struct err *err)
{
    snprintf(s->error, sizeof(s->error), "%s", err->msg);
}

/* Notes the tool that Claude uses, for the display: searched for, not parsed. */
static void note_doing(struct batch_slot *s, const char *data)
{
    const char *tool = strstr(data, "\"type\":\"tool_use\"");
    const char *name = tool ? strstr(tool, "\"name\":\"") : NULL;
    if (name)
        snprintf(s->doing, sizeof(s->doing), "%.*s", (int)strcspn(name + 8, "\""), name + 8);
}

static void take_end(struct batch_slot *s, const char *data, size_t len)
{
    struct err err;
    json_free(s->end);
    s->end = json_parse(data, len, &err);
    if (!s->end)
        give_up(s, &err);
}

static void take_task(struct batch_slot *s, const char *data, size_t len)
{
    struct err ignored;
    AUTO(json) struct json *root = json_parse(data, len, &ignored);
    snprintf(s->task_id, sizeof(s->task_id), "%s", text_of(root, "taskId"));
}

/* A piece of stdout or stderr: a JSON string, or an object that has it. */
static int take_output(struct batch_slot *s, const char *name, const char *data, size_t len,
                       struct err *err)
{
    static const char *const members[] = {"text", "data", "chunk", "content"};
    AUTO(json) struct json *root = json_parse(data, len, err);
    const char *text = json_text(root);
    for (size_t i = 0; !text && i < COUNT_OF(members); i++)
        text = json_text(json_get(root, members[i]));
    return text
               ? batch_folder_text(&s->folder, strcmp(name, "stderr") == 0, text, strlen(text), err)
               : 0;
}

static void on_event(const char *id, const char *name, const char *data, size_t len, void *arg)
{
    struct batch_slot *s = arg;
    struct err err = ERR_INIT;
    int rc = 0;
    s->tries = 0;
    if (strcmp(name, "done") == 0) {
        take_end(s, data, len);
    } else if (strcmp(name, "task") == 0) {
        take_task(s, data, len);
    } else if (strcmp(name, "stdout") == 0 || strcmp(name, "stderr") == 0) {
        rc = take_output(s, name, data, len, &err);
    } else if (!*name || strcmp(name, "message") == 0) {
        note_doing(s, data);
        rc = batch_folder_line(&s->folder, data, len, &err);
    }
    if (rc)
        batch_broke(s->batch, &err);
    if (*id)
        snprintf(s->last_id, sizeof(s->last_id), "%s", id);
}

/* --- callbacks of a connection ------------------------------------------------------------- */

static int on_head(int status, const struct buf *head, void *arg)
{
    struct batch_slot *s = arg;
    char value[40];
    int64_t seconds;
    s->status = status;
    s->retry_after_s = 0;
    if (net_header(head, "Retry-After", value, sizeof(value)) &&
        str_to_int(value, 0, 86400, &seconds) == 0)
        s->retry_after_s = (int)seconds;
    batch_answered(s->batch);
    return 0;
}

/* Opens the file of an output once the first byte arrives. */
static int open_output(struct batch_slot *s, struct err *err)
{
    fd_close(&s->output_file);
    s->output_file = open(s->output_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return s->output_file < 0 ? err_sys(err, "cannot write %.150s", s->output_path) : 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct batch_slot *s = arg;
    struct err err;
    s->batch->moved++;
    if (s->status == 200 && s->phase == SLOT_STREAM) {
        sse_feed(&s->sse, data, len);
    } else if (s->status == 200 && s->phase != SLOT_LIST) {
        if ((s->output_file >= 0 || open_output(s, &err) == 0) &&
            fd_write_all(s->output_file, data, len) == 0)
            return 0;
        if (s->output_file >= 0)
            err_sys(&err, "cannot write %.150s", s->output_path);
        batch_broke(s->batch, &err);
        return -1;
    } else {
        return buf_add(&s->answer, data, len);
    }
    return s->batch->fatal.code == ERR_NONE ? 0 : -1;
}

static void try_again(struct batch_slot *s)
{
    int64_t pause = INT64_C(200) << (s->tries < 6 ? s->tries : 6);
    s->tries++;
    s->again_ms = clock_mono_ms() + (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
}

/* --- outputs ------------------------------------------------------------------------------- */

static void next_output(struct batch_slot *s)
{
    struct err err;
    fd_close(&s->output_file);
    free(s->output_path);
    s->output_path = NULL;
    if (!s->output) {
        batch_slot_ended(s);
        return;
    }
    s->phase = SLOT_FETCH;
    s->output_path = batch_folder_output(&s->folder, text_of(s->output, "path"), &err);
    if (!s->output_path) {
        give_up(s, &err);
        batch_slot_ended(s);
    } else if (slot_connect(s, &err)) {
        batch_broke(s->batch, &err);
    }
}

static void list_done(struct batch_slot *s)
{
    struct err err;
    s->outputs = json_parse(buf_str(&s->answer), s->answer.len, &err);
    s->output = json_first(json_get(s->outputs, "outputs"));
    next_output(s);
}

static bool says_no(const struct json *end, const char *member)
{
    bool value = true;
    json_bool(json_get(end, member), &value);
    return !value;
}

static void ask_for_outputs(struct batch_slot *s)
{
    struct err err;
    fd_close(&s->output_file);
    free(s->output_path);
    s->output_path = NULL;
    s->phase = SLOT_LIST;
    s->tries = 0;
    if (slot_connect(s, &err))
        batch_broke(s->batch, &err);
}

/* Asks for the task's outputs, unless the runner says that there are none. */
static void ask_for_outputs_if_any(struct batch_slot *s)
{
    if (says_no(s->end, "has_outputs"))
        batch_slot_ended(s);
    else
        ask_for_outputs(s);
}

static void ask_for_transcript(struct batch_slot *s)
{
    struct err err = ERR_INIT;
    s->phase = SLOT_TRANSCRIPT;
    s->tries = 0;
    if (asprintf(&s->output_path, "%s/.transcript", s->folder.part) < 0) {
        s->output_path = NULL;
        err_sys(&err, "a transcript");
    }
    if (!s->output_path || slot_connect(s, &err))
        batch_broke(s->batch, &err);
}

/* Replaces the lines of the stream by the conversation; when there is none (404) the lines stay. */
static void transcript_done(struct batch_slot *s)
{
    struct err err;
    AUTO(str) char *to = NULL;
    if (s->status != 200 || s->output_file < 0) {
        if (s->output_file >= 0)
            unlink(s->output_path);
    } else if (asprintf(&to, "%s/transcript.jsonl", s->folder.part) < 0 ||
               rename(s->output_path, to)) {
        err_sys(&err, "cannot write %.150s", s->output_path);
        batch_broke(s->batch, &err);
        return;
    } else {
        s->folder.transcript.bytes++; /* there is one now */
        buf_clear(&s->folder.transcript.held);
    }
    ask_for_outputs_if_any(s);
}

static void fetch_rest(struct batch_slot *s)
{
    if (s->task->command || says_no(s->end, "has_transcript"))
        ask_for_outputs_if_any(s);
    else
        ask_for_transcript(s);
}

static void outputs_failed(struct batch_slot *s, const struct err *err)
{
    struct err why = *err;
    bool passing = s->status == 0 || s->status == 200 || s->status == 429 || s->status >= 500;
    if (s->batch->fatal.code != ERR_NONE)
        return;
    if (passing && s->tries < TRIES_MAX) {
        try_again(s);
        return;
    }
    if (s->phase == SLOT_TRANSCRIPT) {
        s->status = 404;
        transcript_done(s);
        return;
    }
    if (s->status > 299)
        client_explain(s->batch->to, s->status, buf_str(&s->answer), s->answer.len, &why);
    err_wrap(&why, "outputs");
    give_up(s, &why);
    batch_slot_ended(s);
}

/* --- the end of a connection --------------------------------------------------------------- */

/* Handles a refusal of the runner: a temporary or a final one. */
static void refused(struct batch_slot *s)
{
    struct err err;
    client_explain(s->batch->to, s->status, buf_str(&s->answer), s->answer.len, &err);
    if (s->status == 403) {
        batch_broke(s->batch, &err);
    } else if (s->status == 429 || s->status == 408 || s->status >= 500) {
        if (s->task_id[0])
            try_again(s);
        else
            batch_slot_refused(s);
    } else {
        give_up(s, &err);
        batch_slot_ended(s);
    }
}

static void stream_done(struct batch_slot *s, int rc, const struct err *err)
{
    if (s->end && *text_of(s->end, "taskId")) {
        if (!s->task_id[0])
            snprintf(s->task_id, sizeof(s->task_id), "%s", text_of(s->end, "taskId"));
        fetch_rest(s);
    } else if (s->end || s->error[0]) {
        batch_slot_ended(s);
    } else if (rc < 0 && s->status == 0 && err->code == ERR_FORBIDDEN) {
        batch_broke(s->batch, err);
    } else if (s->status == 0 || s->status == 200) { /* The connection was cut off. */
        batch_slot_unanswered(s);
        try_again(s);
    } else if (s->status == 204 && s->tries < TRIES_MAX) { /* Its end was seen, but lost here. */
        s->last_id[0] = '\0';
        try_again(s);
    } else {
        refused(s);
    }
}

static void on_done(int rc, const struct err *err, void *arg)
{
    struct batch_slot *s = arg;
    struct err file = ERR_INIT;
    s->flow = NULL;
    if (s->batch->fatal.code != ERR_NONE)
        return;
    if (s->phase == SLOT_STREAM) {
        stream_done(s, rc, err);
    } else if (rc == 0 && s->phase == SLOT_TRANSCRIPT &&
               (s->status == 200 || s->status == 404 || s->status == 405)) {
        transcript_done(s);
    } else if (rc == 0 && s->status == 200) {
        s->tries = 0;
        if (s->phase == SLOT_FETCH && s->output_file < 0 && open_output(s, &file)) {
            batch_broke(s->batch, &file); /* An empty file. */
            return;
        }
        if (s->phase == SLOT_FETCH)
            s->output = json_next(s->output);
        (s->phase == SLOT_LIST ? list_done : next_output)(s);
    } else if (rc == 0 && s->phase == SLOT_LIST && s->status == 404) {
        batch_slot_ended(s);
    } else {
        outputs_failed(s, err);
    }
}

/* --- connecting ---------------------------------------------------------------------------- */

static int make_url(const struct batch_slot *s, struct buf *url, struct err *err)
{
    static const char *const parts[] = {"events", "transcript", "outputs", "outputs"};
    buf_adds(url, s->batch->to->url);
    if (s->phase == SLOT_STREAM && !s->task_id[0])
        buf_adds(url, s->task->command ? "/exec" : "/run");
    else
        buf_addf(url, "/tasks/%s/%s", s->task_id, parts[s->phase]);
    if (s->phase == SLOT_FETCH) {
        buf_addc(url, '/');
        str_add_url(url, text_of(s->output, "path"), "/");
    }
    return buf_check(url, "an address", err);
}

static int make_headers(const struct batch_slot *s, struct strlist *headers, struct err *err)
{
    static const char *const accepts[] = {"text/event-stream", "*/*", "application/json", "*/*"};
    char key[BATCH_KEY_SIZE];
    if (client_headers(s->batch->to, accepts[s->phase], headers, err))
        return -1;
    strlist_add(headers, "Connection: keep-alive"); /* Streams end their connection otherwise. */
    if (s->phase == SLOT_STREAM && !s->task_id[0]) {
        batch_key(&s->batch->results, s->task, s->run,
                  &s->batch->tasks.runs[s->task->first + s->run], key);
        strlist_add(headers, "Content-Type: application/json");
        strlist_addf(headers, "Idempotency-Key: %s", key);
    } else if (s->phase == SLOT_STREAM && s->last_id[0]) {
        strlist_addf(headers, "Last-Event-ID: %s", s->last_id);
    }
    return headers->failed ? err_sys(err, "headers") : 0;
}

int slot_connect(struct batch_slot *s, struct err *err)
{
    AUTO(buf) struct buf url = BUF_INIT(65536);
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    bool begins = s->phase == SLOT_STREAM && !s->task_id[0];
    s->status = 0;
    buf_clear(&s->answer);
    sse_reset(&s->sse);
    /* Without a last event the task's events come from the first one: so does what is written. */
    if (s->phase == SLOT_STREAM && !s->last_id[0] && batch_folder_again(&s->folder, err))
        return -1;
    fd_close(&s->output_file); /* Left by an earlier try. */
    if (make_url(s, &url, err) || make_headers(s, &headers, err))
        return -1;
    const struct net_relay relay = {.method = begins ? "POST" : "GET",
                                    .url = buf_str(&url),
                                    .headers = &headers,
                                    .body_len = begins ? (int64_t)s->body.len : 0,
                                    .body = begins ? buf_str(&s->body) : NULL,
                                    .silence_ms = SILENCE_MS,
                                    .buffer = BUFFER_BYTES,
                                    .arg = s,
                                    .head = on_head,
                                    .write = on_write};
    s->flow = net_pool_start(s->batch->pool, &relay, on_done, err);
    return s->flow ? 0 : -1;
}

int slot_begin(struct batch_slot *s, struct batch *batch, struct batch_task *task, size_t run,
               const struct buf *body, struct err *err)
{
    REQUIRE(task && body);
    *s = (struct batch_slot){
        .batch = batch, .task = task, .run = run, .begun_ms = clock_mono_ms(), .output_file = -1};
    sse_init(&s->sse, on_event, s);
    buf_init(&s->body, BATCH_TASK_MAX * 2);
    buf_init(&s->answer, ANSWER_MAX);
    buf_add(&s->body, buf_str(body), body->len);
    if (buf_check(&s->body, "a request", err) ||
        batch_folder_begin(&s->folder, batch->results.dir, task->folder, run, err))
        return -1;
    return slot_connect(s, err);
}

void slot_drop(struct batch_slot *s)
{
    if (!s->batch)
        return;
    if (s->flow)
        net_pool_cancel(s->batch->pool, s->flow);
    sse_done(&s->sse);
    batch_folder_drop(&s->folder);
    buf_wipe(&s->body); /* It may hold secrets. */
    buf_done(&s->answer);
    json_free(s->end);
    json_free(s->outputs);
    free(s->output_path);
    fd_close(&s->output_file);
    *s = (struct batch_slot){.batch = NULL};
}
