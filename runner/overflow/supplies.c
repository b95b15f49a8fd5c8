/*
 * Supplies: what an execution needs before it is asked for. The bucket then has the sealed request
 * with the secrets that it may use, the conversation that it continues and its inputs, and nothing
 * of an earlier attempt; and there is a job of its image and size.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/overflow/cloud_inputs.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/image.h"
#include "runner/overflow/payload.h"
#include "runner/overflow/sweep.h"
#include "runner/overflow/travel.h"

#include <stdio.h>
#include <string.h>

#define SECRETS_BYTES_MAX (4u << 20)
#define PUT_TRIES 10
#define SURE_MS 5000 /* an upload that took no longer was made only once */

/* --- the payload --------------------------------------------------------------------------- */

struct lending {
    const struct task_request *request;
    struct buf *out;
};

/* Adds the owner's credential for the repository to the request's secrets. */
static void add_credential(const char *key, const char *token, void *arg)
{
    struct lending *lending = arg;
    struct json_writer w;
    AUTO(buf_wipe) struct buf more = BUF_INIT(SECRETS_BYTES_MAX);
    if ((!key && !token) || lending->request->ssh_key || lending->request->git_token)
        return;
    json_write(&w, &more);
    json_open_object(&w, NULL);
    json_add_text(&w, key ? "sshKey" : "gitToken", key ? key : token);
    json_close(&w);
    if (lending->out->len > 2) { /* Joins {…} and {…} into one object. */
        lending->out->data[--lending->out->len] = '\0';
        buf_addc(lending->out, ',');
        buf_adds(lending->out, buf_str(&more) + 1);
    } else {
        buf_clear(lending->out);
        buf_adds(lending->out, buf_str(&more));
    }
}

static int add_secrets(struct cloud_task *task, struct buf *out, struct err *err)
{
    const struct task_request *request = task->request;
    struct lending lending = {request, out};
    const struct repo_wish wish = {
        .url = request->repo_url, .key = request->ssh_key, .token = request->git_token};
    buf_adds(out, task_run_secrets(task->run));
    if (wish.url && repos_lend(task->overflow->config.repos, &wish, add_credential, &lending, err))
        return -1;
    return buf_check(out, "the secrets", err);
}

/* Writes the payload only over nothing, or over the object that is seen there: a late upload of an
 * earlier attempt then finds its place taken and replaces nothing. */
static int put_over(struct cloud_task *task, const struct buf *sealed, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    struct google *google = task->cloud->google;
    struct storage_at at = {task->cloud->bucket, name, "application/octet-stream", STORAGE_ABSENT};
    folder_name(task->id, FOLDER_PAYLOAD, name);
    for (int tries = 1;; tries++) {
        if (storage_put(google, &at, sealed->data, sealed->len, NULL, err) == 0)
            return 0;
        if (err->code != ERR_MISMATCH || tries == PUT_TRIES)
            return -1;
        AUTO(storage_object) struct storage_object object = {0};
        if (storage_stat(google, at.bucket, name, &object, err) == 0)
            at.generation = object.generation;
        else if (err->code == ERR_NOT_FOUND)
            at.generation = STORAGE_ABSENT;
        else
            return -1;
    }
}

/* Uploads the payload. An upload that failed, or was tried twice, may still be carried out
 * later. */
static int put_payload(struct cloud_task *task, const struct buf *sealed, struct err *err)
{
    int64_t begin = clock_mono_ms();
    int rc = put_over(task, sealed, err);
    if (rc || clock_mono_ms() - begin > SURE_MS)
        sweep_note(task->overflow->sweep, task->id);
    return rc;
}

static int upload_payload(struct cloud_task *task, const struct buf *secrets, struct err *err)
{
    const struct task_record *record = task_run_record(task->run);
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    char kind[sizeof(record->kind)], id[ID_SIZE];
    snprintf(kind, sizeof(kind), "%s", record->kind);
    snprintf(id, sizeof(id), "%s", record->id);
    const struct payload payload = {.task_id = id,
                                    .kind = kind,
                                    .request = record->request,
                                    .secrets = secrets->data,
                                    .request_id = record->request_id,
                                    .attempt = task->placement.attempt};
    return payload_seal(task->cloud, &payload, &sealed, err) || put_payload(task, &sealed, err) ? -1
                                                                                                : 0;
}
/* --- what it works with --------------------------------------------------------------------- */

/* Uploads the conversation that the task continues. Returns 0 when nothing is left of it. Where
 * several instances see the task it is in the bucket since the task was taken. */
static int send_conversation(struct cloud_task *task, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    const struct task_record *record = task_run_record(task->run);
    if (!task->request->resume_session_id || !record->conversation[0] ||
        task->overflow->config.shared)
        return 1;
    AUTO(config_ref)
    const struct config *config = config_ref(task->overflow->config.config);
    folder_name(task->id, FOLDER_BEFORE, name);
    return travel_send(task->cloud, config->state_dir, record->conversation, name, err);
}

/* A session may have the name of a task: what is its own is no attempt's. */
static bool is_of_attempt(const char *name, void *arg)
{
    static const char *const others[] = {"claim-", "state.json", "workspace/", "next/",
                                         FOLDER_BEFORE};
    const char *prefix = arg, *what = name + strlen(prefix);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (str_starts(what, others[i]))
            return false;
    return true;
}

/* Removes what an earlier attempt has left, which would be taken for this one's. */
static int sweep_session(struct cloud_task *task, struct err *err)
{
    char prefix[FOLDER_NAME_SIZE];
    folder_name(task->id, "", prefix);
    return storage_sweep(task->cloud->google, task->cloud->bucket, prefix, is_of_attempt, prefix,
                         err);
}

static bool is_stopped(void *run)
{
    return task_run_stop(run) != STOP_NO;
}

/* Uploads the inputs that the bucket lacks. Where several instances see the task they are in the
 * bucket only. */
static int send_inputs(struct cloud_task *task, struct err *err)
{
    const struct storage_stop given_up = {is_stopped, task->run};
    return task->overflow->config.shared
               ? 0
               : cloud_inputs_put(task->cloud, task->overflow->config.inputs, task->request->inputs,
                                  &given_up, err);
}

/* Makes the job for the request's size. Where the account may not make jobs, the configured one is
 * used. */
static int ensure_job(struct cloud_task *task, struct err *err)
{
    const struct task_request *request = task->request;
    if (image_job_ensure(task->cloud, request, task->job, err) == 0)
        return 0;
    if (request->image || err->code != ERR_FORBIDDEN)
        return -1;
    log_warn("overflow", "no job of that size, the usual one instead: %s", err->msg);
    snprintf(task->job, sizeof(task->job), "%s", task->cloud->job);
    return 0;
}

/* --- all of it ----------------------------------------------------------------------------- */

/* The instance that took the task put the payload of its first attempt there. */
static bool has_payload(const struct cloud_task *task)
{
    return task->overflow->config.shared && task->placement.attempt == 1;
}

enum step cloud_task_supply(struct cloud_task *task)
{
    struct err err;
    AUTO(buf_wipe) struct buf secrets = BUF_INIT(SECRETS_BYTES_MAX);
    if (add_secrets(task, &secrets, &err)) { /* A failure at home, which does not count against the
                                              * cloud. */
        cloud_task_settle(task, TASK_FAILED, task->request->repo_url ? "repo_error" : "internal",
                          err.msg);
        return STEP_OVER;
    }
    if (task->placement.attempt > 1 && sweep_session(task, &err))
        return cloud_task_refuse(task, &err);
    int sent = send_conversation(task, &err);
    if (sent == 0) {
        cloud_task_settle(task, TASK_FAILED, "session_error", "nothing is left of the session");
        return STEP_OVER;
    }
    if (sent < 0 || send_inputs(task, &err) || ensure_job(task, &err) ||
        (!has_payload(task) && upload_payload(task, &secrets, &err)))
        return cloud_task_refuse(task, &err);
    return STEP_ON;
}
