#include "runner/worker/outcome.h"

#include "json/json.h"

#include <stdio.h>
#include <string.h>

void job_outcome_fail(struct job *job, const char *reason, const char *error)
{
    struct task_outcome *outcome = &job->result.outcome;
    outcome->state = TASK_FAILED;
    if (outcome->exit_code == 0)
        outcome->exit_code = 1;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
}

/* Splits the summary, which holds the outcome's fields and its other members in one object. */
static int split_summary(const char *text, struct task_outcome *outcome, struct err *err)
{
    int64_t exit_code = outcome->exit_code;
    size_t size = strlen(text), len;
    AUTO(json) struct json *summary = json_parse(text, size, err);
    if (!summary)
        return err_wrap(err, "the task's summary");
    const char *error = json_text(json_get(summary, "error"));
    json_int(json_get(summary, "exit_code"), &exit_code);
    json_bool(json_get(summary, "truncated"), &outcome->truncated);
    outcome->exit_code = (int)exit_code;
    snprintf(outcome->error, sizeof(outcome->error), "%s", error ? error : "");
    for (const struct json *at = json_first(summary); at; at = json_next(at)) {
        const char *name = json_name(at);
        const char *raw = json_raw_member(text, size, name, &len);
        if (folder_result_is_reserved(name) || !raw)
            continue;
        buf_addf(&outcome->members, ",\"%s\":", name);
        buf_add(&outcome->members, raw, len);
    }
    return buf_check(&outcome->members, "the task's summary", err);
}

int job_outcome_read(struct job *job, struct err *err)
{
    struct store *store = job->runner.store;
    struct task_outcome *outcome = &job->result.outcome;
    AUTO(task_record) struct task_record record = {0};
    if (store_get(store, job->id, &record, err))
        return -1;
    if (task_state_is_active(record.state)) { /* The task's end could not be stored. */
        job_outcome_fail(job, "interrupted", "the worker was stopped while the task ran");
        return 0;
    }
    if (store_output(store, job->id, &outcome->output, &outcome->errors, err) ||
        split_summary(record.summary ? record.summary : "{}", outcome, err))
        return -1;
    job->resumable = record.conversation_kept;
    outcome->state = record.state;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", record.reason);
    return 0;
}
