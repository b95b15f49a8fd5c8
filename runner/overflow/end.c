/* Ending: what a cloud task came to. */
#include "base/clock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/result.h"

#include <stdio.h>
#include <string.h>

#define RESULT_TRIES 20
#define RESULT_EVERY_MS 500
#define INTERRUPTED_MAX 3 /* attempts of a task that may be run again */

/* 1: it is there; 0: there is none; -1: it cannot be read. */
static int get_result(struct cloud_task *task, struct folder_result *result, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    folder_name(task->id, "result.json", name);
    if (storage_get(task->cloud->google, task->cloud->bucket, name, &text, NULL, err))
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (folder_result_parse(buf_str(&text), text.len, result, err))
        return -1;
    if (result->attempt == task->placement.attempt)
        return 1;
    folder_result_done(result);
    folder_result_init(result);
    return 0;
}

/* The result is written after the last event: it may take a moment. */
static int await_result(struct cloud_task *task, struct folder_result *result, struct err *err)
{
    int got = 0;
    for (int i = 0; i < RESULT_TRIES; i++) {
        got = get_result(task, result, err);
        if (got == 1 || task_run_stop(task->run) == STOP_INTERRUPT)
            return got;
        if (task->ended && got == 0 && i > 2) /* nothing more will come */
            return 0;
        cloud_task_wait(task, RESULT_EVERY_MS);
    }
    return got;
}

/* --- cost ---------------------------------------------------------------------------------- */

/* Cloud Run bills an execution's cores and memory from its start to its end. */
static void add_cost(struct cloud_task *task, const struct folder_result *result)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(4096);
    const struct run_execution *execution = &task->execution;
    int64_t from = execution->started_ms ? execution->started_ms : result->started_ms;
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
        outputs_save(task_run_keep_dir(task->run), json.data, json.len, &err))
        log_warn("overflow", "%s", err.msg);
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
    bool ended_by_us = strcmp(from->reason, "interrupted") == 0;
    if (ended_by_us && task->cancelled)
        cloud_task_settle(task, TASK_CANCELLED, "cancelled", "the task was cancelled");
    else if (ended_by_us && task->timed_out)
        cloud_task_settle(task, TASK_FAILED, "timeout",
                          "the task did not end within its time limit");
    save_outputs(task, result);
}

/* --- without one --------------------------------------------------------------------------- */

static void explain_loss(struct cloud_task *task, char *text, size_t size)
{
    struct err err;
    int code = -1;
    const struct run_execution *execution = &task->execution;
    if (task->placement.execution[0] &&
        run_exit_code(task->cloud->google, task->placement.execution, &code, &err))
        code = -1;
    char status[32] = "";
    if (code >= 0)
        snprintf(status, sizeof(status), ", exit status %d", code);
    snprintf(text, size, "the Cloud Run execution ended without a result%s%s%s%s%s", status,
             execution->reason[0] ? ": " : "", execution->reason, execution->message[0] ? ": " : "",
             execution->message);
}

static void settle_loss(struct cloud_task *task, const struct err *unread)
{
    char text[400];
    bool may_again = task_run_record(task->run)->retry_interrupted &&
                     task_run_record(task->run)->attempts < INTERRUPTED_MAX && task->ended;
    cloud_task_take_rest(task, -1);
    if (task->cancelled) {
        cloud_task_settle(task, TASK_CANCELLED, "cancelled", "the task was cancelled");
    } else if (task->timed_out) {
        cloud_task_settle(task, TASK_FAILED, "timeout",
                          "the task did not end within its time limit");
    } else if (unread) {
        cloud_task_settle(task, TASK_FAILED, "cloud_error", unread->msg);
    } else {
        explain_loss(task, text, sizeof(text));
        cloud_task_settle(task, may_again ? TASK_PENDING : TASK_FAILED, "interrupted", text);
    }
    task->outcome->truncated = true;
    pthread_mutex_lock(&task->overflow->lock);
    task->overflow->status.lost += !task->cancelled;
    pthread_mutex_unlock(&task->overflow->lock);
}

void cloud_task_end(struct cloud_task *task)
{
    struct err err = ERR_INIT;
    AUTO(folder_result) struct folder_result result;
    folder_result_init(&result);
    int got = await_result(task, &result, &err);
    if (got != 1 && task_run_stop(task->run) == STOP_INTERRUPT) {
        cloud_task_settle(task, TASK_RUNNING, "", "");
        return;
    }
    if (got == 1)
        take_result(task, &result);
    else
        settle_loss(task, got < 0 ? &err : NULL);
    if (!task->ended && task->placement.execution[0])
        (void)run_get(task->cloud->google, task->placement.execution, &task->execution, &err);
    add_cost(task, &result);
}
