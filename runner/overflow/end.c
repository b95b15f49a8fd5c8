/* Ending: what a cloud task came to. */
#include "base/clock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/overflow/result.h"
#include "runner/overflow/trip.h"

#include <stdio.h>
#include <string.h>

#define RESULT_TRIES 20
#define RESULT_EVERY_MS 500
#define INTERRUPTED_MAX 3 /* attempts of a task that may be run again */

/* 1: it is there; 0: there is none; -1: it cannot be read. */
static int get_result(struct trip *trip, struct session_result *result, struct err *err)
{
    char name[SESSION_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    session_name(trip->id, "result.json", name);
    if (storage_get(trip->cloud->google, trip->cloud->bucket, name, &text, NULL, err))
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (session_result_parse(buf_str(&text), text.len, result, err))
        return -1;
    if (result->attempt == trip->placement.attempt)
        return 1;
    session_result_done(result);
    session_result_init(result);
    return 0;
}

/* The result is written after the last event: it may take a moment. */
static int await_result(struct trip *trip, struct session_result *result, struct err *err)
{
    int got = 0;
    for (int i = 0; i < RESULT_TRIES; i++) {
        got = get_result(trip, result, err);
        if (got == 1 || task_run_stop(trip->run) == STOP_INTERRUPT)
            return got;
        if (trip->ended && got == 0 && i > 2) /* nothing more will come */
            return 0;
        trip_wait(trip, RESULT_EVERY_MS);
    }
    return got;
}

/* --- cost ---------------------------------------------------------------------------------- */

/* Cloud Run bills an execution's cores and memory from its start to its end. */
static void add_cost(struct trip *trip, const struct session_result *result)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(4096);
    const struct run_execution *execution = &trip->execution;
    int64_t from = execution->started_ms ? execution->started_ms : result->started_ms;
    int64_t to = execution->ended_ms ? execution->ended_ms : result->ended_ms;
    double seconds = from > 0 && to > from ? (double)(to - from) / 1000 : 0;
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "execution", trip->placement.execution);
    json_add_int(&w, "attempt", trip->placement.attempt);
    json_add_number(&w, "seconds", seconds);
    if (execution->cpu > 0)
        json_add_number(&w, "vcpuSeconds", seconds * execution->cpu);
    if (execution->memory_bytes > 0)
        json_add_number(&w, "gibSeconds",
                        seconds * (double)execution->memory_bytes / (1024.0 * 1024 * 1024));
    json_close(&w);
    if (!buf_ok(&json))
        return;
    buf_adds(&trip->outcome->members, ",\"cloud\":");
    buf_add(&trip->outcome->members, json.data, json.len);
}

/* --- with a result ------------------------------------------------------------------------- */

static void save_outputs(struct trip *trip, const struct session_result *result)
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
        outputs_save(task_run_keep_dir(trip->run), json.data, json.len, &err))
        log_warn("overflow", "%s", err.msg);
}

static void take_result(struct trip *trip, const struct session_result *result)
{
    const struct task_outcome *from = &result->outcome;
    struct task_outcome *to = trip->outcome;
    trip_take_rest(trip, result->events_bytes);
    trip_settle(trip, from->state, from->reason, from->error);
    to->exit_code = from->exit_code;
    to->truncated = from->truncated || trip->holes;
    buf_add(&to->output, buf_str(&from->output), from->output.len);
    buf_add(&to->members, buf_str(&from->members), from->members.len);
    bool ended_by_us = strcmp(from->reason, "interrupted") == 0;
    if (ended_by_us && trip->cancelled)
        trip_settle(trip, TASK_CANCELLED, "cancelled", "the task was cancelled");
    else if (ended_by_us && trip->timed_out)
        trip_settle(trip, TASK_FAILED, "timeout", "the task did not end within its time limit");
    save_outputs(trip, result);
}

/* --- without one --------------------------------------------------------------------------- */

static void explain_loss(struct trip *trip, char *text, size_t size)
{
    struct err err;
    int code = -1;
    const struct run_execution *execution = &trip->execution;
    if (trip->placement.execution[0] &&
        run_exit_code(trip->cloud->google, trip->placement.execution, &code, &err))
        code = -1;
    char status[32] = "";
    if (code >= 0)
        snprintf(status, sizeof(status), ", exit status %d", code);
    snprintf(text, size, "the Cloud Run execution ended without a result%s%s%s%s%s", status,
             execution->reason[0] ? ": " : "", execution->reason,
             execution->message[0] ? ": " : "", execution->message);
}

static void settle_loss(struct trip *trip, const struct err *unread)
{
    char text[400];
    bool may_again = task_run_record(trip->run)->retry_interrupted &&
                     task_run_record(trip->run)->attempts < INTERRUPTED_MAX && trip->ended;
    trip_take_rest(trip, -1);
    if (trip->cancelled) {
        trip_settle(trip, TASK_CANCELLED, "cancelled", "the task was cancelled");
    } else if (trip->timed_out) {
        trip_settle(trip, TASK_FAILED, "timeout", "the task did not end within its time limit");
    } else if (unread) {
        trip_settle(trip, TASK_FAILED, "cloud_error", unread->msg);
    } else {
        explain_loss(trip, text, sizeof(text));
        trip_settle(trip, may_again ? TASK_PENDING : TASK_FAILED, "interrupted", text);
    }
    trip->outcome->truncated = true;
    pthread_mutex_lock(&trip->overflow->lock);
    trip->overflow->status.lost += !trip->cancelled;
    pthread_mutex_unlock(&trip->overflow->lock);
}

void trip_end(struct trip *trip)
{
    struct err err = ERR_INIT;
    AUTO(session_result) struct session_result result;
    session_result_init(&result);
    int got = await_result(trip, &result, &err);
    if (got != 1 && task_run_stop(trip->run) == STOP_INTERRUPT) {
        trip_settle(trip, TASK_RUNNING, "", "");
        return;
    }
    if (got == 1)
        take_result(trip, &result);
    else
        settle_loss(trip, got < 0 ? &err : NULL);
    if (!trip->ended && trip->placement.execution[0])
        (void)run_get(trip->cloud->google, trip->placement.execution, &trip->execution, &err);
    add_cost(trip, &result);
}
