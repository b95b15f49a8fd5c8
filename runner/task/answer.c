/* What the engine itself says about a task: its first and last events, and the answer. */
#include "base/lock.h"
#include "base/str.h"
#include "runner/task/engine_private.h"
#include "json/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct events *open_events(struct engine *engine, const char *id, struct err *err)
{
    AUTO(str) char *path = engine_events_path(engine, id);
    if (!path) {
        err_sys(err, "events");
        return NULL;
    }
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int rc = mkdir(path, 0700) && errno != EEXIST ? err_sys(err, "cannot make '%s'", path) : 0;
    *slash = '/';
    return rc ? NULL : events_open(path, err);
}

/* Where the task will probably run, as far as that is known when it arrives. */
static enum task_place likely_place(struct engine *engine, const struct task_record *record)
{
    lock_take(&engine->lock);
    bool always = engine->config.limits.overflow == OVERFLOW_ALWAYS;
    lock_drop(&engine->lock);
    if (record->executor == EXECUTOR_CLOUD)
        return PLACE_AWAY;
    return always && !record->stays && record->executor == EXECUTOR_AUTO ? PLACE_AWAY
                                                                         : record->place;
}

static int add_task_event(struct engine *engine, struct events *events,
                          const struct task_record *record, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(1024);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", record->id);
    json_add_text(&w, "status", task_state_name(TASK_PENDING));
    json_add_text(&w, "executor", task_place_name(likely_place(engine, record)));
    if (record->group[0]) {
        json_add_text(&w, "group", record->group);
        json_add_int(&w, "run", record->run);
    }
    json_close(&w);
    return events_add(events, "task", buf_str(&json), json.len, err);
}

struct events *run_begin_events(struct engine *engine, const struct task_record *record,
                                struct err *err)
{
    AUTO(events) struct events *events = open_events(engine, record->id, err);
    if (!events || (events_size(events) == 0 && add_task_event(engine, events, record, err)) ||
        events_flush(events, err))
        return NULL;
    return STEAL_PTR(events);
}

static struct lock *mend_lock(struct engine *engine, const char *id)
{
    size_t sum = 0;
    for (; *id; id++)
        sum = sum * 31 + (unsigned char)*id;
    return &engine->mend[sum % MEND_LOCKS];
}

int run_announce(struct engine *engine, const struct task_record *record, struct err *err)
{
    struct lock *lock = mend_lock(engine, record->id);
    lock_take(lock);
    AUTO(events) struct events *events = run_begin_events(engine, record, err);
    lock_drop(lock);
    return events ? 0 : -1;
}

int outcome_exit_code(const char *reason, int exit_code)
{
    static const struct {
        const char *reason;
        int exit_code;
    } codes[] = {{"timeout", 124}, {"cancelled", 130}};
    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (strcmp(codes[i].reason, reason) == 0)
            return codes[i].exit_code;
    return exit_code;
}

void run_print_summary(const struct task_outcome *outcome, int64_t duration_ms, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_int(&w, "exit_code", outcome->exit_code);
    json_add_int(&w, "duration_ms", duration_ms);
    json_add_bool(&w, "truncated", outcome->truncated);
    if (outcome->reason[0])
        json_add_text(&w, "reason", outcome->reason);
    if (outcome->error[0])
        json_add_text(&w, "error", outcome->error);
    buf_add(out, buf_str(&outcome->members), outcome->members.len);
    json_close(&w);
}

void kind_print_output(const struct buf *output, const struct buf *errors, struct buf *out)
{
    (void)errors;
    buf_adds(out, "\"output\":\"");
    str_add_json(out, buf_str(output), output->len);
    buf_addc(out, '"');
}

/* Prints the task's output in the form of its kind. */
static void print_said(const struct engine *engine, const struct task_record *record,
                       const struct buf *output, const struct buf *errors, struct buf *out)
{
    const struct task_kind *kind = engine_kind(engine, record->kind);
    if (kind && kind->print_said)
        kind->print_said(output, errors, out);
    else
        kind_print_output(output, errors, out);
}

int run_print_answer(const struct engine *engine, const struct task_record *record,
                     const struct buf *output, const struct buf *errors, struct buf *out,
                     struct err *err)
{
    size_t len;
    size_t request_len = strlen(record->request);
    const char *metadata = json_raw_member(record->request, request_len, "metadata", &len);
    buf_addf(out, "{\"success\":%s,\"taskId\":\"%s\",\"status\":\"%s\",",
             record->state == TASK_COMPLETED ? "true" : "false", record->id,
             task_state_name(record->state));
    print_said(engine, record, output, errors, out);
    buf_addf(out, ",\"executor\":\"%s\"", task_place_name(record->place));
    if (record->group[0])
        buf_addf(out, ",\"group\":\"%s\",\"run\":%d", record->group, record->run);
    if (metadata) {
        buf_adds(out, ",\"metadata\":");
        buf_add(out, metadata, len);
    }
    if (record->summary && record->summary[0] == '{' && record->summary[1] != '}') {
        buf_addc(out, ',');
        buf_adds(out, record->summary + 1); /* The closing brace is added here. */
    } else {
        buf_addc(out, '}');
    }
    return buf_check(out, "the result", err);
}

int engine_print_result(struct engine *engine, const struct task_record *record, struct buf *out,
                        struct err *err)
{
    AUTO(buf) struct buf output = BUF_INIT(OUTPUT_BYTES_MAX);
    AUTO(buf) struct buf errors = BUF_INIT(OUTPUT_BYTES_MAX);
    if (store_output(engine->config.store, record->id, &output, &errors, err))
        return -1;
    return run_print_answer(engine, record, &output, &errors, out, err);
}

/* Adds an event before the last one that says why the task was not completed. */
static int add_ending_event(struct events *events, const struct task_record *record,
                            struct err *err)
{
    struct err ignored;
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(8192);
    const char *summary = record->summary ? record->summary : "{}";
    AUTO(json) struct json *root = json_parse(summary, strlen(summary), &ignored);
    const char *error = json_text(json_get(root, "error"));
    bool cancelled = record->state == TASK_CANCELLED;
    if (record->state == TASK_COMPLETED)
        return 0;
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, cancelled ? "message" : "error",
                  error       ? error
                  : cancelled ? "the task was cancelled"
                              : "the task failed");
    if (!cancelled)
        json_add_text(&w, "reason", record->reason);
    json_close(&w);
    return events_add(events, cancelled ? "cancelled" : "error", buf_str(&json), json.len, err);
}

static int add_final_events(struct events *events, const struct task_record *record,
                            const struct buf *answer, struct err *err)
{
    if (add_ending_event(events, record, err) ||
        events_add(events, "done", answer->data, answer->len, err))
        return -1;
    return events_flush(events, err);
}

static int conclude_events(struct engine *engine, const struct task_record *record, struct err *err)
{
    AUTO(buf) struct buf answer = BUF_INIT(ANSWER_BYTES_MAX);
    AUTO(events) struct events *events = run_begin_events(engine, record, err);
    if (!events || engine_print_result(engine, record, &answer, err))
        return -1;
    return add_final_events(events, record, &answer, err);
}

/* Adds the missing last events; the task's lock is held. */
static int mend_locked(struct engine *engine, const char *path, const char *id, struct err *err)
{
    AUTO(task_record) struct task_record record = {0};
    if (events_end_with(path, "done"))
        return 0;
    if (store_get(engine->config.store, id, &record, err))
        return -1;
    return task_state_is_active(record.state) ? 0 : conclude_events(engine, &record, err);
}

int engine_mend_events(struct engine *engine, const char *id, struct err *err)
{
    struct lock *lock = mend_lock(engine, id);
    AUTO(str) char *path = engine_events_path(engine, id);
    if (!path)
        return err_sys(err, "events");
    lock_take(lock);
    int rc = mend_locked(engine, path, id, err);
    lock_drop(lock);
    return rc;
}

int run_add_last(struct engine *engine, struct events *events, const struct task_record *record,
                 const struct buf *answer, struct err *err)
{
    struct lock *lock = mend_lock(engine, record->id);
    AUTO(str) char *path = engine_events_path(engine, record->id);
    if (!path)
        return err_sys(err, "events");
    lock_take(lock);
    int rc = events_end_with(path, "done") ? 0 : add_final_events(events, record, answer, err);
    lock_drop(lock);
    return rc;
}
