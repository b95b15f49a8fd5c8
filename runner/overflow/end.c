/* The end of a cloud task: finds its outcome. */
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/follow.h"
#include "runner/overflow/late.h"
#include "runner/overflow/result.h"
#include "runner/overflow/travel.h"
#include "runner/overflow/warm.h"

#include <stdio.h>
#include <string.h>

#define RESULT_EVERY_MS 500
#define ABSENT_TRIES                                                                               \
    4                       /* looks after the execution's end: the last writes may become visible \
                             * late */
#define MALFORMED_TRIES 20  /* looks when the object there is not a result */
#define UNREAD_MS 86400000  /* time that the bucket may be unreachable: its content is not lost */
#define FORBIDDEN_MS 600000 /* time that the bucket may refuse to be read */
#define INTERRUPTED_MAX 3   /* attempts of a task that may run again */
#define UNCLAIMED_MAX 4     /* placements of a task whose executions end before they begin */
#define EXIT_CONFIGURATION                                                 \
    2 /* exit status of `claude-runner job` for which another execution is \
       * useless */

struct reading {
    struct buf *text;
    bool (*stop)(void *arg);
    void *arg;
};

static int take(const char *data, size_t len, void *arg)
{
    const struct reading *reading = arg;
    return buf_add(reading->text, data, len);
}

static bool is_stopped(void *arg)
{
    const struct reading *reading = arg;
    return reading->stop && reading->stop(reading->arg);
}

enum result_found cloud_find_result(const struct cloud *cloud, const char *id, const char *what,
                                    int attempt, bool (*stop)(void *arg), void *arg,
                                    struct folder_result *result, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    struct reading reading = {&text, stop, arg};
    const struct storage_sink sink = {take, is_stopped, &reading};
    folder_name(id, what, name);
    if (storage_read(cloud->google, cloud->bucket, name, 0, -1, &sink, err))
        return err->code == ERR_NOT_FOUND ? RESULT_ABSENT
               : !buf_ok(&text)           ? RESULT_MALFORMED
                                          : RESULT_UNREAD;
    if (folder_result_parse(buf_str(&text), text.len, result, err))
        return RESULT_MALFORMED;
    if (result->attempt == attempt)
        return RESULT_FOUND;
    folder_result_done(result);
    folder_result_init(result);
    return RESULT_ABSENT;
}

static enum result_found get_result(struct cloud_task *task, struct folder_result *result,
                                    struct err *err)
{
    return cloud_find_result(task->cloud, task->id, FOLDER_RESULT, task->placement.attempt, NULL,
                             NULL, result, err);
}

bool cloud_task_has_result(struct cloud_task *task)
{
    struct err err;
    AUTO(folder_result) struct folder_result result;
    folder_result_init(&result);
    return get_result(task, &result, &err) == RESULT_FOUND;
}

/* What was seen while the result was awaited. */
struct waiting {
    int absent;        /* looks without a result, since the execution ended */
    int malformed;     /* looks that found something else */
    int64_t unread_ms; /* mono: since when it cannot be read; 0: it can */
};

/* True when waiting on is useless. `over`: the execution was asked to end, and had the time for
 * it. */
static bool is_hopeless(const struct cloud_task *task, struct waiting *seen, enum result_found got,
                        bool over, const struct err *err)
{
    int64_t now = clock_mono_ms();
    if (got != RESULT_UNREAD)
        seen->unread_ms = 0;
    else if (seen->unread_ms == 0)
        seen->unread_ms = now;
    if (over && (task->cancelled || (got != RESULT_UNREAD && !task->ended)))
        return true;
    if (got == RESULT_MALFORMED)
        return ++seen->malformed >= MALFORMED_TRIES;
    if (got == RESULT_ABSENT)
        return task->ended && ++seen->absent >= ABSENT_TRIES;
    return now - seen->unread_ms > (err->code == ERR_FORBIDDEN ? FORBIDDEN_MS : UNREAD_MS);
}

/* Waits for the result. The job uploads its outputs after its last event, then the result: it may
 * come as long as the execution runs. */
static enum result_found await_result(struct cloud_task *task, struct folder_result *result,
                                      struct err *err)
{
    struct waiting seen = {0};
    int64_t wait_ms = RESULT_EVERY_MS / 2;
    cloud_task_follow_closely(task);
    for (;;) {
        enum result_found got = get_result(task, result, err);
        if (got == RESULT_FOUND || task_run_stop(task->run) == STOP_INTERRUPT ||
            !task_run_healthy(task->run))
            return got;
        bool over = cloud_task_look(task);
        if (task->overflow->config.shared && cloud_task_follow_claim(task))
            seen.absent = 0;
        if (is_hopeless(task, &seen, got, over, err))
            return got;
        cloud_task_wait(task, wait_ms);
        wait_ms = task->ended || wait_ms >= RESULT_EVERY_MS * 4 ? wait_ms : wait_ms * 5 / 4;
    }
}

/* --- cost ---------------------------------------------------------------------------------- */

/* Cloud Run bills an execution's cores and memory from its start to its end. */
static void add_cost(struct cloud_task *task, const struct folder_result *result)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(4096);
    const struct jobs_execution *execution = &task->execution;
    bool whole = execution->started_ms && !task->reuses;
    int64_t from = whole ? execution->started_ms : result->started_ms;
    int64_t to = execution->ended_ms ? execution->ended_ms : result->ended_ms;
    double seconds = from > 0 && to > from ? (double)(to - from) / 1000 : 0;
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "execution", task->placement.execution);
    json_add_int(&w, "attempt", task->placement.attempt);
    json_add_number(&w, "seconds", seconds);
    if (execution->cpu > 0)
        json_add_number(&w, "vcpuSeconds", seconds * execution->cpu);
    if (execution->memory_bytes > 0)
        json_add_number(&w, "gibSeconds",
                        seconds * (double)execution->memory_bytes / (1024.0 * 1024 * 1024));
    json_close(&w);
    if (!buf_ok(&json))
        return;
    buf_adds(&task->outcome->members, ",\"cloud\":");
    buf_add(&task->outcome->members, json.data, json.len);
}

/* --- with a result ------------------------------------------------------------------------- */

static void save_outputs(struct cloud_task *task, const struct folder_result *result)
{
    struct err err = ERR_INIT;
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(16u << 20);
    if (result->output_count == 0)
        return;
    json_write(&w, &json);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < result->output_count; i++) {
        json_open_object(&w, NULL);
        json_add_text(&w, "path", result->outputs[i].path);
        json_add_int(&w, "size", result->outputs[i].size);
        json_close(&w);
    }
    json_close(&w);
    if (buf_check(&json, "the list of outputs", &err) ||
        cloud_task_save_outputs(task_run_keep_dir(task->run), json.data, json.len, &err))
        log_warn("overflow", "%s", err.msg);
}

/* Takes the conversation home, and deletes the one in the bucket. Where several instances see the
 * task it stays there. */
static void take_conversation(struct cloud_task *task)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    const struct task_record *record = task_run_record(task->run);
    if (!record->conversation[0])
        return;
    task->outcome->resumable = task->overflow->config.shared != NULL;
    if (task->outcome->resumable)
        return;
    AUTO(config_ref)
    const struct config *config = config_ref(task->overflow->config.config);
    folder_name(task->id, FOLDER_CONVERSATION, name);
    if (travel_take(task->cloud, config->state_dir, record->conversation, name, &err)) {
        log_warn("overflow", "the session stays as it was before: %s", err.msg);
        return;
    }
    task->outcome->resumable = true;
    if (storage_delete(task->cloud->google, task->cloud->bucket, name, STORAGE_ANY, &err))
        log_warn("overflow", "%s", err.msg);
}

/* A result that was found when the task was adopted says nothing of how long home was away; and all
 * instances that see a task say the same of it. */
static void set_duration(struct cloud_task *task, const struct folder_result *result)
{
    bool own = task->late || task->overflow->config.shared;
    if (own && result->started_ms > 0 && result->ended_ms > result->started_ms)
        task->outcome->duration_ms = result->ended_ms - result->started_ms;
}

static void take_result(struct cloud_task *task, const struct folder_result *result)
{
    const struct task_outcome *from = &result->outcome;
    struct task_outcome *to = task->outcome;
    cloud_task_take_rest(task, result->events_bytes);
    cloud_task_settle(task, from->state, from->reason, from->error);
    to->exit_code = from->exit_code;
    to->truncated = from->truncated || task->holes;
    buf_add(&to->output, buf_str(&from->output), from->output.len);
    buf_add(&to->errors, buf_str(&from->errors), from->errors.len);
    buf_add(&to->members, buf_str(&from->members), from->members.len);
    set_duration(task, result);
    const struct overflow_shared *shared = task->overflow->config.shared;
    bool ended_by_us = strcmp(from->reason, "interrupted") == 0;
    if (ended_by_us && shared)
        task->cancelled |= shared->cancelled(task->id, shared->arg);
    if (ended_by_us && task->cancelled)
        cloud_task_settle(task, TASK_CANCELLED, "cancelled", "the task was cancelled");
    else if (ended_by_us && task->timed_out)
        cloud_task_settle(task, TASK_FAILED, "timeout",
                          "the task did not end within its time limit");
    save_outputs(task, result);
    if (result->conversation)
        take_conversation(task);
    warm_keep(task, result);
}

/* --- without one --------------------------------------------------------------------------- */

/* Says why the execution ended without a result. Returns its exit status, -1 when that is
 * unknown. */
static int explain_loss(struct cloud_task *task, char *text, size_t size)
{
    struct err err;
    int code = -1;
    const struct jobs_execution *execution = &task->execution;
    if (task->placement.execution[0] &&
        jobs_exit_code(task->cloud->google, task->placement.execution, &code, &err))
        code = -1;
    char status[32] = "";
    if (code >= 0)
        snprintf(status, sizeof(status), ", exit status %d", code);
    snprintf(text, size, "the Cloud Run execution ended %s%s%s%s%s%s",
             task->unclaimed ? "before it began with the task" : "without a result", status,
             execution->reason[0] ? ": " : "", execution->reason, execution->message[0] ? ": " : "",
             execution->message);
    return code;
}

/* Of a task that was interrupted. */
static bool may_run_again(const struct cloud_task *task)
{
    const struct task_record *record = task_run_record(task->run);
    return record->retry_interrupted && record->attempts < INTERRUPTED_MAX && task->ended;
}

/* Ends a task without a result. An execution that ended before it had the claim has done nothing,
 * so another one may be started; with a wrong configuration that would fail as well. */
static void settle_end(struct cloud_task *task)
{
    char text[400];
    struct err err = ERR_INIT;
    task->unclaimed = task->ended && !task->heard && cloud_task_is_unclaimed(task);
    int code = explain_loss(task, text, sizeof(text));
    bool again = task->unclaimed
                     ? code != EXIT_CONFIGURATION && task->placement.attempt < UNCLAIMED_MAX
                     : may_run_again(task);
    if (!task->unclaimed) {
        cloud_task_settle(task, again ? TASK_PENDING : TASK_FAILED, "interrupted", text);
        return;
    }
    err_set(&err, ERR_UPSTREAM, "%s", text);
    if (!task->reuses) /* a warm one that has gone says nothing of the cloud */
        overflow_note_refusal(task->overflow, task, &err);
    if (again)
        cloud_task_put_back(task, "cloud_unreachable", text);
    else
        cloud_task_settle(task, TASK_FAILED, "cloud_error", text);
}

/* What may still come of a task that is given up. An execution that Google does not know may live,
 * and a result that cannot be read may be there. */
static enum placement_phase phase_of_lost(const struct cloud_task *task, enum result_found got)
{
    const struct jobs_execution *execution = &task->execution;
    if (got == RESULT_UNREAD || got == RESULT_FOUND || !task->ended || task->follow.gone ||
        execution->ended_ms <= 0)
        return PLACEMENT_LOST;
    return clock_real_ms() - execution->ended_ms > OVERFLOW_ENDED_MS ? PLACEMENT_STARTED
                                                                     : PLACEMENT_ENDED;
}

/* Of a task that is given up: its result is looked for from now on (late.h) if it may come. */
static void note_lost(struct cloud_task *task, enum result_found got)
{
    struct err err;
    task->placement.phase = phase_of_lost(task, got);
    if (store_set_placement(task->overflow->config.store, task->id, &task->placement, &err))
        log_warn("overflow", "its result is not awaited any more: %s", err.msg);
    else if (overflow_late_ms(task->placement.phase) > 0)
        task->outcome->may_change = late_note(task->overflow->late, task->id);
}

static void settle_loss(struct cloud_task *task, enum result_found got, const struct err *unread)
{
    cloud_task_take_rest(task, -1);
    if (task->cancelled)
        cloud_task_settle(task, TASK_CANCELLED, "cancelled", "the task was cancelled");
    else if (task->timed_out)
        cloud_task_settle(task, TASK_FAILED, "timeout",
                          "the task did not end within its time limit");
    else if (got != RESULT_ABSENT)
        cloud_task_settle(task, TASK_FAILED, "cloud_error", unread->msg);
    else
        settle_end(task);
    task->outcome->truncated = !task->unclaimed;
    if (task->outcome->state == TASK_FAILED && !task->unclaimed)
        note_lost(task, got);
    lock_take(&task->overflow->lock);
    task->overflow->status.lost += !task->cancelled;
    lock_drop(&task->overflow->lock);
}

/* The execution died over its outputs: the task is what it had become before, if they are all
 * there; else it was interrupted, and what arrived of it is kept. */
static void take_outcome(struct cloud_task *task, struct folder_result *result, int missing)
{
    char text[200];
    bool whole = missing == 0 || result->outcome.state != TASK_COMPLETED;
    snprintf(text, sizeof(text),
             "the Cloud Run execution ended before it had stored %d of %zu outputs", missing,
             result->output_count + (size_t)missing);
    log_warn("overflow", "%s",
             missing ? text
                     : "the Cloud Run execution ended before it had said that all is stored");
    if (!whole && may_run_again(task)) {
        cloud_task_take_rest(task, -1);
        cloud_task_settle(task, TASK_PENDING, "interrupted", text);
        return;
    }
    take_result(task, result);
    if (!whole)
        cloud_task_settle(task, TASK_FAILED, "interrupted", text);
    if (missing && task->outcome->state == TASK_FAILED)
        note_lost(task, RESULT_ABSENT);
}

static void settle_without_result(struct cloud_task *task, enum result_found got,
                                  struct folder_result *result, const struct err *unread)
{
    const struct overflow_shared *shared = task->overflow->config.shared;
    if (shared)
        task->cancelled |= shared->cancelled(task->id, shared->arg);
    int missing = got == RESULT_ABSENT && !task->cancelled ? cloud_find_outcome(task, result) : -1;
    if (missing >= 0)
        take_outcome(task, result, missing);
    else
        settle_loss(task, got, unread);
}

void cloud_task_end(struct cloud_task *task)
{
    struct err err = ERR_INIT;
    AUTO(folder_result) struct folder_result result;
    folder_result_init(&result);
    enum result_found got = await_result(task, &result, &err);
    if (got != RESULT_FOUND && task_run_stop(task->run) == STOP_INTERRUPT) {
        cloud_task_settle(task, TASK_RUNNING, "", "");
        return;
    }
    if (got == RESULT_FOUND)
        take_result(task, &result);
    else
        settle_without_result(task, got, &result, &err);
    if (got == RESULT_FOUND && !task_run_healthy(task->run))
        note_lost(task, got); /* Home could not keep it, for want of disk space. */
    if (!task->ended && task->placement.execution[0])
        (void)jobs_get(task->cloud->google, task->placement.execution, &task->execution, &err);
    add_cost(task, &result);
}
