#include "runner/webhook/payload.h"

#include "base/str.h"
#include "runner/webhook/stringify.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>

/* Adds a member of the answer that is stored as JSON, or `instead`. */
static void add_kept(struct json_writer *w, const char *object, const char *name,
                     const char *instead)
{
    size_t len;
    const char *raw = object ? json_raw_member(object, strlen(object), name, &len) : NULL;
    if (raw)
        json_add_raw(w, name, raw, len);
    else
        json_add_raw(w, name, instead, strlen(instead));
}

static void add_int(struct json_writer *w, const char *name, const struct json *value)
{
    int64_t number;
    if (json_int(value, &number) == 0)
        json_add_int(w, name, number);
    else
        json_add_null(w, name);
}

static void add_summary(struct json_writer *w, const struct task_record *record,
                        const struct json *summary)
{
    json_open_object(w, "summary");
    add_int(w, "durationMs", json_get(summary, "duration_ms"));
    add_int(w, "turns", json_get(summary, "num_turns"));
    json_add_int(w, "errors", json_text(json_get(summary, "error")) != NULL);
    json_add_time(w, "startedAt", record->started_ms);
    json_add_time(w, "completedAt", record->ended_ms);
    json_close(w);
}

/* Adds the beginning of the answer's text, cut between two characters. */
static int add_result(struct json_writer *w, struct store *store, const struct task_record *record,
                      const struct json *summary, struct err *err)
{
    int64_t whole;
    bool truncated = false;
    AUTO(buf) struct buf text = BUF_INIT(PAYLOAD_RESULT_MAX);
    if (store_output_start(store, record->id, PAYLOAD_RESULT_MAX, &text, &whole, err))
        return -1;
    bool cut = whole > (int64_t)text.len;
    size_t len = text.len;
    for (int i = 0; cut && i < 3 && len > 0 && ((unsigned char)text.data[len - 1] & 0xc0) == 0x80;
         i++)
        len--;
    if (cut && len > 0 && (unsigned char)text.data[len - 1] >= 0xc0)
        len--;
    if (len > 0 || record->state == TASK_COMPLETED)
        json_add_textn(w, "result", buf_str(&text), len);
    else
        json_add_null(w, "result");
    json_bool(json_get(summary, "truncated"), &truncated);
    json_add_bool(w, "truncated", truncated || cut);
    return 0;
}

static int print_plain(struct store *store, const struct task_record *record, struct buf *out,
                       struct err *err)
{
    struct json_writer w;
    char logs[ID_SIZE + 32];
    const char *kept = record->summary ? record->summary : "{}";
    AUTO(json) struct json *summary = json_parse(kept, strlen(kept), err);
    if (!summary)
        return -1;
    snprintf(logs, sizeof(logs), "/tasks/%s/events", record->id);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", record->id);
    json_add_text(&w, "status", task_state_name(record->state));
    add_int(&w, "exitCode", json_get(summary, "exit_code"));
    json_add_text(&w, "logsPath", logs);
    add_summary(&w, record, summary);
    if (add_result(&w, store, record, summary, err))
        return -1;
    json_add_text(&w, "error", json_text(json_get(summary, "error")));
    add_kept(&w, record->request, "metadata", "null");
    add_kept(&w, kept, "uploadedFiles", "[]");
    if (json_get(summary, "gitCommit")) /* Only when there is a commit. */
        add_kept(&w, kept, "gitCommit", "null");
    if (record->state == TASK_CANCELLED)
        json_add_time(&w, "cancelledAt", record->ended_ms);
    json_close(&w);
    return buf_check(out, "the webhook", err);
}

int webhook_print_payload(struct store *store, const struct task_record *record, struct buf *out,
                          struct err *err)
{
    AUTO(buf) struct buf plain = BUF_INIT(PAYLOAD_BYTES_MAX);
    if (print_plain(store, record, &plain, err))
        return -1;
    return stringify(plain.data, plain.len, out, err);
}
