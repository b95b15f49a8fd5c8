#include "runner/worker/steps.h"

#include "base/clock.h"
#include "base/form.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/secret.h"
#include "google/storage.h"
#include "jail/jail.h"
#include "net/net.h"
#include "runner/cloudbox/visit.h"
#include "runner/overflow/cloud_inputs.h"
#include "runner/overflow/travel.h"
#include "runner/replica/carried.h"
#include "runner/replica/owed.h"
#include "runner/request/request.h"
#include "runner/version.h"
#include "runner/worker/again.h"
#include "runner/worker/claim.h"
#include "runner/worker/courier.h"
#include "runner/worker/deliver.h"
#include "runner/worker/outcome.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTCOME_GIVE_UP_MS 30000
#define RESULT_GIVE_UP_MS (10 * 60 * 1000)
#define IDLE_MS 2000
#define KEY_MS 30000
#define PAYLOAD_TRIES 4
#define PAYLOAD_PAUSE_MS 500
#define WEBHOOK_MS 8000 /* of an execution for the tries of its own webhook */
#define WEBHOOK_EVERY_MS 1000

/* --- the payload ---------------------------------------------------------------------------- */

/* A failure here is made up for at the end. */
static void delete_payload(struct job *job)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    folder_name(job->id, FOLDER_PAYLOAD, name);
    if (job->payload_generation == 0)
        return;
    if (storage_delete(job->cloud.google, job->cloud.bucket, name, job->payload_generation, &err) &&
        err.code != ERR_MISMATCH) { /* Another payload is there by now, which is not ours to
                                     * delete. */
        log_warn("job", "the payload could not be deleted: %s", err.msg);
        return;
    }
    job->payload_generation = 0;
}

static int read_payload(struct job *job, int64_t *ret_generation, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf sealed = BUF_INIT(PAYLOAD_BYTES_MAX);
    folder_name(job->id, FOLDER_PAYLOAD, name);
    return storage_get(job->cloud.google, job->cloud.bucket, name, &sealed, ret_generation, err) ||
                   payload_open(&job->cloud, job->id, sealed.data, sealed.len, &job->payload, err)
               ? -1
               : 0;
}

/* Opens the payload. One that arrives corrupted, or not at all, is asked for again. */
static int open_payload(struct job *job, struct err *err)
{
    int64_t generation = 0;
    for (int tries = 1; read_payload(job, &generation, err); tries++) {
        bool may_pass = err->code == ERR_UPSTREAM || err->code == ERR_MISMATCH ||
                        err->code == ERR_TIMEOUT || err->code == ERR_RATE;
        if (!may_pass || tries == PAYLOAD_TRIES || job_is_over(job))
            return -1;
        log_warn("job", "the payload is asked for again: %s", err->msg);
        job_pause(job, PAYLOAD_PAUSE_MS);
    }
    if (job->payload.attempt != job->attempt)
        return err_set(err, ERR_MISMATCH, "the payload is attempt %d's, this is attempt %d",
                       job->payload.attempt, job->attempt);
    job->payload_generation = generation;
    delete_payload(job);
    return 0;
}

/* --- the credential ------------------------------------------------------------------------- */

/* Makes the key the configured one, in memory only; only the proxy knows it. */
static int take_key(struct job *job, struct err *err)
{
    AUTO(buf_wipe) struct buf key = BUF_INIT(SECRET_BYTES_MAX);
    if (google_secret(job->cloud.google, job->cloud.api_key_secret, &key, NULL, err))
        return err_wrap(err, "CLOUD_API_KEY_SECRET");
    while (key.len > 0 && strchr(" \t\r\n", key.data[key.len - 1]))
        key.data[--key.len] = '\0';
    if (key.len == 0 || strlen(key.data) != key.len || !form_is_token(key.data))
        return err_set(err, ERR_CONFIG,
                       "CLOUD_API_KEY_SECRET holds no key: printable ASCII, one line");
    /* No other thread has seen the configuration yet. */
    if (redact_add(job->secrets, key.data) ||
        str_replace(&job->config->anthropic_api_key, key.data))
        return err_sys(err, "CLOUD_API_KEY_SECRET");
    return 0;
}

static bool is_check(const struct job *job)
{
    return job->payload.kind && strcmp(job->payload.kind, PAYLOAD_CHECK) == 0;
}

/* Reads from the task's request its secrets, which must not be logged, and whether it brings a
 * credential. */
static int take_credential(struct job *job, struct err *err)
{
    const struct payload *payload = &job->payload;
    if (is_check(job))
        return job->cloud.api_key_secret ? take_key(job, err) : 0;
    AUTO(task_request)
    struct task_request *request = task_request_load(payload->request, strlen(payload->request),
                                                     *payload->secrets ? payload->secrets : NULL,
                                                     strlen(payload->secrets), err);
    if (!request || task_request_redact(request, job->secrets))
        return request ? err_sys(err, "secrets") : err_wrap(err, "the task's request");
    job->resumes = request->resume_session_id != NULL;
    if (strcmp(payload->kind, VISIT_KIND) == 0 && request->in_session)
        snprintf(job->session, sizeof(job->session), "%s", request->in_session);
    const struct task_kind *kind = runner_kind(payload->kind);
    if (!kind || !kind->shares_account || !kind->shares_account(request))
        return 0;
    if (job->cloud.api_key_secret)
        return take_key(job, err);
    return job->config->anthropic_api_key
               ? 0
               : err_set(err, ERR_LOGIN,
                         "the request brings no credential and CLOUD_API_KEY_SECRET is not set; a "
                         "login does not leave the house");
}

/* --- the task ------------------------------------------------------------------------------- */

struct follow {
    struct engine_watch watch; /* first member */
    struct job *job;
    struct courier *courier;
};

static void on_ended(struct engine_watch *watch)
{
    job_set_ended(((struct follow *)watch)->job);
}

static void on_grew(struct engine_watch *watch, int64_t end)
{
    courier_grew(((struct follow *)watch)->courier, end);
}

/* Instances of the service at Google see the task: what it leaves is found in the bucket. */
static bool is_of_service(void)
{
    return getenv(FOLDER_ENV_WEBHOOK) != NULL;
}

static int fetch_inputs(struct job *job, struct err *err)
{
    const struct payload *payload = &job->payload;
    const struct storage_stop stop = {job_is_over, job};
    AUTO(task_request)
    struct task_request *request = task_request_load(payload->request, strlen(payload->request),
                                                     *payload->secrets ? payload->secrets : NULL,
                                                     strlen(payload->secrets), err);
    if (request && request->callback_url && is_of_service() &&
        str_replace(&job->callback_url, request->callback_url))
        return err_sys(err, "the webhook");
    return request ? cloud_inputs_get(&job->cloud, job->runner.inputs, request->inputs,
                                      job->state_dir, &stop, err)
                   : -1;
}

static int submit(struct job *job, struct err *err)
{
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct payload *payload = &job->payload;
    if (fetch_inputs(job, err))
        return -1;
    /* Not `shared`: nobody will log in here, or wait for a limit to pass. */
    const struct task_new task = {.id = job->id,
                                  .kind = payload->kind,
                                  .executor = EXECUTOR_LOCAL,
                                  .request = payload->request,
                                  .secrets = *payload->secrets ? payload->secrets : NULL,
                                  .caller = "cloud",
                                  .conversation = job->conversation,
                                  .request_id = payload->request_id};
    int rc = engine_submit(job->runner.engine, &task, &record, &created, err);
    payload_done(&job->payload);
    return rc;
}

/* Runs the submitted task to its end. False when that does not come in time. */
static bool follow_task(struct job *job, struct courier *courier)
{
    struct engine *engine = job->runner.engine;
    struct follow follow = {.watch = {.ended = on_ended, .grew = on_grew, .patient = true},
                            .job = job,
                            .courier = courier};
    if (engine_watch(engine, job->id, &follow.watch) == 0)
        job_set_ended(job);
    job_set_engine(job, engine);
    bool ended = job_await_end(job);
    job_set_engine(job, NULL);
    if (!ended)
        engine_unwatch(engine, job->id, &follow.watch, false);
    return ended && engine_wait_idle(engine, IDLE_MS);
}

/* While the store is there: it has what the webhook says. */
static void make_webhook(struct job *job)
{
    struct err err;
    buf_init(&job->webhook, OWED_BODY_MAX);
    if (job->callback_url && owed_print(job->runner.store, job->id, &job->webhook, &err)) {
        log_error("job", "its webhook cannot be made: %s", err.msg);
        buf_clear(&job->webhook);
    }
}

static bool run_task(struct job *job, struct err *err)
{
    AUTO(str) char *events = NULL;
    if (submit(job, err))
        return false;
    events = engine_events_path(job->runner.engine, job->id);
    struct courier *courier = events ? courier_start(job, events, err) : NULL;
    if (!courier) {
        if (!events)
            err_sys(err, "events");
        return false;
    }
    bool ended = follow_task(job, courier);
    job->result.events_bytes = courier_finish(courier);
    if (ended) {
        make_webhook(job);
        return job_outcome_read(job, err) == 0;
    }
    err_set(err, ERR_BUSY, "the task could not be ended in time");
    return false;
}

/* Fetches the conversation to continue from where home has put it. */
static int take_conversation(struct job *job, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    if (!job->resumes)
        return 0;
    if (!job->conversation[0])
        return err_set(err, ERR_CONFIG, FOLDER_ENV_CONVERSATION " is not set");
    folder_name(job->id, FOLDER_BEFORE, name);
    return travel_take(&job->cloud, job->state_dir, job->conversation, name, err)
               ? err_wrap(err, "the session to resume")
               : 0;
}

/* Asks Anthropic to count the tokens of a word, which is free. Returns 0 when the key is accepted,
 * or when that is unknown; *ret_words says which. */
static int try_key(struct job *job, const char **ret_words, struct err *err)
{
    static const char body[] = "{\"model\":\"claude-haiku-4-5\",\"messages\":[{\"role\":\"user\","
                               "\"content\":\"x\"}]}";
    AUTO(buf) struct buf url = BUF_INIT(4096);
    AUTO(net_answer) struct net_answer answer = {0};
    struct strlist headers = STRLIST_INIT;
    buf_addf(&url, "%s/v1/messages/count_tokens", job->config->anthropic_upstream);
    strlist_addf(&headers, "x-api-key: %s", job->config->anthropic_api_key);
    strlist_add(&headers, "anthropic-version: 2023-06-01");
    strlist_add(&headers, "Content-Type: application/json");
    const struct net_request request = {.method = "POST",
                                        .url = buf_str(&url),
                                        .headers = &headers,
                                        .body = body,
                                        .body_len = sizeof(body) - 1,
                                        .reach = NET_TRUSTED,
                                        .total_ms = KEY_MS,
                                        .answer_max = 1u << 20};
    int rc = buf_check(&url, "the address", err) || headers.failed
                 ? -1
                 : net_call(&request, &answer, err);
    strlist_wipe(&headers);
    if (rc == 0 && (answer.status == 401 || answer.status == 403))
        return err_set(err, ERR_CONFIG,
                       "Anthropic refuses the API key of CLOUD_API_KEY_SECRET (%d)", answer.status);
    *ret_words = rc                    ? "read the API key; Anthropic could not be asked about it"
                 : answer.status < 500 ? "read the API key, and Anthropic takes it"
                                       : "read the API key; Anthropic was not able to say more";
    return 0;
}

/* Answers a check. That it can answer says most: the payload was opened, and the engine works. */
static bool run_check(struct job *job, struct err *err)
{
    struct task_outcome *outcome = &job->result.outcome;
    const char *claude = job->config->claude_bin;
    AUTO(str) char *program = path_find_program(claude, getenv("PATH"));
    if (!program) {
        err_set(err, ERR_CONFIG, "the image has no '%.100s'", claude);
        return false;
    }
    const char *words = "has no API key: requests bring their own";
    if (job->cloud.api_key_secret && try_key(job, &words, err))
        return false;
    buf_addf(&outcome->output,
             "opened the payload\n%s\nfound %s\nis claude-runner " RUNNER_VERSION "\n"
             "runs tasks in a jail of tier %s; they %s ask the metadata server\n",
             words, program, jail_tier_name(job->runner.walls.tier),
             job->fenced ? "cannot" : "can");
    outcome->state = TASK_COMPLETED;
    outcome->exit_code = 0;
    payload_done(&job->payload);
    return true;
}

static const char *reason_of(const struct err *err)
{
    switch ((int)err->code) {
    case ERR_LOGIN:
        return "login_required";
    case ERR_NO_SPACE:
        return "disk_full";
    default:
        return "cloud_error";
    }
}

/* The metadata server gives tokens of the job's account to whoever asks: tasks, which run as
 * another user, are kept from it where the kernel can. Not where it is somebody else's: that is a
 * test. */
static void fence(struct job *job)
{
    struct err err = ERR_INIT;
    uid_t uid = job->runner.claude.uid;
    if (!getenv("CLOUD_RUN_EXECUTION") || getenv("GCE_METADATA_HOST"))
        return;
    job->fenced = uid != geteuid() && jail_fence(uid, &err) == 0;
    if (!job->fenced)
        log_warn("job", "tasks can ask the metadata server: %s%s%s",
                 uid == geteuid() ? "they run as the job's user" : err.msg, err.sys ? ": " : "",
                 err.sys ? strerror(err.sys) : "");
}

static bool prepare(struct job *job, struct err *err)
{
    struct err ignored;
    if (open_payload(job, err) || take_credential(job, err) || take_conversation(job, err))
        return false;
    if (claim_describe(job, &ignored))
        log_warn("job", "metadata: %s", ignored.msg);
    job->runner.claude.cloud = &job->cloud;
    job->runner.one_task = true;
    if (runner_begin_worker(&job->runner, config_share(job->config), err))
        return false;
    fence(job);
    return true;
}

bool steps_run(struct job *job)
{
    struct err err = ERR_INIT;
    if (!prepare(job, &err) || job_is_hurried(job) ||
        !(is_check(job) ? run_check : run_task)(job, &err)) {
        if (job_is_hurried(job) && !job_is_lost(job))
            job_outcome_fail(job, "interrupted", "the execution was stopped while the task ran");
        else
            job_outcome_fail(job, reason_of(&err), err.msg);
        log_error("job", "the task was not run to its end: %s", job->result.outcome.error);
    }
    return runner_end(&job->runner);
}

/* --- handing in ----------------------------------------------------------------------------- */

/* Uploads the conversation. Without it the task is unchanged, but cannot be continued. */
static void hand_in_conversation(struct job *job)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    if (!job->resumable || !job->conversation[0] || job_is_over(job))
        return;
    folder_name(job->id, FOLDER_CONVERSATION, name);
    int sent = travel_send(&job->cloud, job->state_dir, job->conversation, name, &err);
    job->result.conversation = sent == 1;
    if (sent < 0)
        log_warn("job", "the session cannot be gone on with: %s", err.msg);
    if (sent == 1 && is_of_service() &&
        carried_leave(&job->cloud, job->conversation, job->id, &err))
        log_warn("job", "the session cannot be gone on with: %s", err.msg);
}

static int print_result(struct job *job, struct buf *text, struct err *err)
{
    struct task_outcome *outcome = &job->result.outcome;
    job->result.attempt = job->attempt;
    job->result.started_ms = job->started_ms;
    job->result.ended_ms = clock_real_ms();
    folder_result_print(&job->result, text);
    if (!buf_ok(text)) { /* An answer of control characters: six bytes each. */
        buf_done(text);
        text->failed = false;
        buf_clear(&outcome->output);
        buf_clear(&outcome->errors);
        outcome->truncated = true;
        folder_result_print(&job->result, text);
    }
    return buf_check(text, FOLDER_RESULT, err);
}

/* Stores how the task ended before its outputs follow, which may take long: when the execution dies
 * over them, home knows all the same, and has what arrived. */
static void hand_in_outcome(struct job *job, const char *dir)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    struct folder_result *result = &job->result;
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    int rc = deliver_announce(job, dir, &err);
    if (rc == 0 && result->output_count > 0) {
        result->idle_ms = result->left_ms = 0;
        result->conversation = job->resumable && job->conversation[0]; /* it is sent next */
        rc = print_result(job, &text, &err);
    }
    folder_name(job->id, FOLDER_OUTCOME, name);
    const struct parcel parcel = {.name = name,
                                  .type = "application/json",
                                  .data = text.data,
                                  .size = (int64_t)text.len,
                                  .fresh = true};
    if (rc == 0 && text.len > 0)
        rc = deliver(job, &parcel, OUTCOME_GIVE_UP_MS, &err);
    if (rc && !job_is_lost(job))
        log_warn("job", "the outcome is not stored before its outputs: %s", err.msg);
    folder_result_keep_outputs(result, NULL);
    result->conversation = false;
}

int steps_hand_in_outputs(struct job *job, struct err *err)
{
    struct task_outcome *outcome = &job->result.outcome;
    AUTO(buf) struct buf dir = BUF_INIT(8192), why = BUF_INIT(1024);
    buf_addf(&dir, "%s/tasks/%s/outputs", job->state_dir, job->id);
    hand_in_outcome(job, buf_str(&dir));
    hand_in_conversation(job);
    if (!buf_ok(&dir) || deliver_outputs(job, buf_str(&dir), err) == 0)
        return 0;
    if (job_is_lost(job))
        return -1;
    log_error("job", "outputs: %s", err->msg);
    buf_addf(&why, "its outputs could not be stored: %s", err->msg);
    if (outcome->state == TASK_COMPLETED)
        job_outcome_fail(job, job_is_hurried(job) ? "interrupted" : "cloud_error", buf_str(&why));
    return 0;
}

/* The result is stored: now its receiver hears of it, and those of others that wait. What is not
 * taken at once is tried again by whoever runs next. */
void steps_hand_in_webhook(struct job *job)
{
    struct err err;
    int rc = 0;
    if (job->webhook.len == 0)
        return;
    if (job_is_hurried(job)) /* Whoever ended it knows why, and owes it. */
        return;
    if (owed_put(&job->cloud, job->config, job->id, job->callback_url, &job->webhook, false,
                 &err)) {
        log_error("job", "its webhook is not handed in: %s", err.msg);
        return;
    }
    for (int64_t end = clock_mono_ms() + WEBHOOK_MS; rc == 0 && !job_is_over(job);) {
        rc = owed_try(&job->cloud, job->config, job->id, job_is_over, job, &err);
        if (clock_mono_ms() > end)
            break;
        if (rc == 0)
            job_pause(job, WEBHOOK_EVERY_MS);
    }
    owed_sweep(&job->cloud, job->config, job_is_over, job);
}

int steps_hand_in_result(struct job *job, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(RESULT_BYTES_MAX);
    delete_payload(job);
    again_promise(job);
    if (print_result(job, &text, err))
        return -1;
    folder_name(job->id, FOLDER_RESULT, name);
    const struct parcel parcel = {.name = name,
                                  .type = "application/json",
                                  .data = text.data,
                                  .size = (int64_t)text.len,
                                  .last = true,
                                  .fresh = true};
    return deliver(job, &parcel, RESULT_GIVE_UP_MS, err);
}
