/*
 * Placing: one execution for an attempt, never two.
 *
 * An attempt goes NONE -> ASKED -> STARTED in the store, each on the disk before what follows it.
 * ASKED without a name means that the answer was lost, with this process or on the way. Then an
 * execution may be there, may be coming, or may never have been: jobs.run has no request id that
 * would tell. It is looked for among the executions; and the job, when it starts, writes the
 * attempt's claim, which exists once only. When neither shows up in time, we write the
 * claim: now no job will ever run this attempt, and another one is safe.
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
#include "runner/overflow/warm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_MS 2000
#define OTHERS_MS 20000         /* that another instance takes to ask for an execution */
#define CLOCKS_DIFFER_MS 300000 /* allowed difference between our clock and Google's */
#define TIMEOUT_MARGIN_S 120    /* for steps before and after Claude */
#define TIMEOUT_MAX_S (7 * 24 * 3600)
#define SECRETS_BYTES_MAX (4u << 20)
#define CLAIM_BYTES_MAX 4096
#define TRIES_MAX 10
#define CLAIM_TRIES 10
#define SURE_MS 5000 /* an upload that took no longer was made only once */

/* --- what is kept -------------------------------------------------------------------------- */

/* Stores the phase, with as many tries as it takes, because the next step depends on it. False when
 * the process must end first. */
static bool note_phase(struct cloud_task *task, enum placement_phase phase)
{
    struct err err;
    task->placement.phase = phase;
    while (store_set_placement(task->overflow->config.store, task->id, &task->placement, &err)) {
        log_error("overflow", "cannot note how far it has come: %s", err.msg);
        if (task_run_stop(task->run) == STOP_INTERRUPT)
            return false;
        cloud_task_wait(task, 1000);
    }
    return true;
}

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
        if (err->code != ERR_MISMATCH || tries == TRIES_MAX)
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

/* --- asking -------------------------------------------------------------------------------- */

/* How long its execution stays for the next command of its session. */
static int64_t idle_ms_of(const struct cloud_task *task)
{
    struct config_in_force *config = task->overflow->config.config;
    return task->request->in_session
               ? INT64_C(1000) * CONFIG_GET(config, cloud_session_idle_seconds)
               : 0;
}

static int ask(struct cloud_task *task, bool *ret_unsure, struct err *err)
{
    char id[ID_SIZE + 16], attempt[48], run[ID_SIZE + 48], conversation[ID_UUID_SIZE + 32];
    char idle[48], life[48];
    const struct task_record *record = task_run_record(task->run);
    const char *env[8] = {id, attempt, run};
    size_t count = 3;
    int64_t idle_ms = idle_ms_of(task);
    if (task->overflow->config.shared)
        env[count++] = FOLDER_ENV_WEBHOOK "=1";
    int64_t timeout = task->request->timeout_ms / 1000 + TIMEOUT_MARGIN_S;
    timeout += idle_ms > 0 ? WARM_LIFE_MS / 1000 : 0;
    timeout = timeout < TIMEOUT_MAX_S ? timeout : TIMEOUT_MAX_S;
    const struct jobs_start start = {.env = env, .timeout_s = (int)timeout};
    if (record->conversation[0])
        env[count++] = conversation;
    if (idle_ms > 0) {
        env[count++] = idle;
        env[count++] = life;
    }
    snprintf(idle, sizeof(idle), WARM_ENV_IDLE "=%lld", (long long)idle_ms);
    snprintf(life, sizeof(life), WARM_ENV_LIFE "=%lld", (long long)timeout * 1000);
    snprintf(id, sizeof(id), FOLDER_ENV_TASK "=%s", task->id);
    snprintf(attempt, sizeof(attempt), FOLDER_ENV_ATTEMPT "=%d", task->placement.attempt);
    snprintf(conversation, sizeof(conversation), FOLDER_ENV_CONVERSATION "=%s",
             record->conversation);
    snprintf(run, sizeof(run), CLOUD_TASK_ENV_RUN "=%s/%d", task->id, task->placement.attempt);
    return jobs_start(task->cloud->google, task->job, &start, task->placement.execution, ret_unsure,
                      err);
}

/* Handles a refusal. A temporary one makes the task wait; a wrong set-up fails tasks that asked for
 * the cloud, and lets others run locally. */
static enum step refuse(struct cloud_task *task, const struct err *err)
{
    bool passes = err->code == ERR_RATE || err->code == ERR_UPSTREAM || err->code == ERR_TIMEOUT ||
                  err->code == ERR_BUSY ||
                  err->code == ERR_CONFLICT; /* ABORTED: the job is being changed */
    overflow_note_refusal(task->overflow, task, err);
    if (passes || task->request->executor == EXECUTOR_AUTO)
        cloud_task_put_back(task, overflow_reason_of(err), err->msg);
    else
        cloud_task_settle(task, TASK_FAILED, "cloud_error", err->msg);
    return STEP_OVER;
}

/* --- a lost answer ------------------------------------------------------------------------- */

static int take_name(const struct jobs_execution *execution, void *arg)
{
    struct cloud_task *task = arg;
    snprintf(task->placement.execution, sizeof(task->placement.execution), "%s", execution->name);
    return 1;
}

enum claim {
    CLAIM_NONE,    /* nobody has the claim */
    CLAIM_OURS,    /* no job will ever run the attempt */
    CLAIM_JOBS,    /* an execution runs it; the placement has its name when the claim names it */
    CLAIM_UNKNOWN, /* it cannot be read now */
};

static enum claim read_claim(struct cloud_task *task)
{
    struct err err;
    bool revoked = false;
    char name[FOLDER_NAME_SIZE];
    const struct cloud *cloud = task->cloud;
    AUTO(buf) struct buf text = BUF_INIT(CLAIM_BYTES_MAX);
    folder_claim_name(task->id, task->placement.attempt, name);
    if (storage_get(cloud->google, cloud->bucket, name, &text, NULL, &err))
        return err.code == ERR_NOT_FOUND ? CLAIM_NONE : CLAIM_UNKNOWN;
    AUTO(json) struct json *claim = json_parse(buf_str(&text), text.len, &err);
    const char *execution = json_text(json_get(claim, "execution"));
    json_bool(json_get(claim, "revoked"), &revoked);
    if (revoked)
        return CLAIM_OURS;
    if (execution && *execution)
        snprintf(task->placement.execution, sizeof(task->placement.execution), "%s%s%s",
                 strchr(execution, '/') ? "" : task->job,
                 strchr(execution, '/') ? "" : "/executions/", execution);
    return CLAIM_JOBS;
}

/* True when the attempt's execution is listed. */
static bool is_listed(struct cloud_task *task)
{
    struct err err;
    char run[ID_SIZE + 16];
    snprintf(run, sizeof(run), "%s/%d", task->id, task->placement.attempt);
    if (jobs_find(task->cloud->google, task->job, CLOUD_TASK_ENV_RUN, run,
                  task->placement.asked_ms - CLOCKS_DIFFER_MS, take_name, task, &err))
        log_warn("overflow", "cannot look for its execution: %s", err.msg);
    return task->placement.execution[0] != '\0';
}

/* Writes the claim, so that no job can have it, and reads back who was first. */
static void revoke(struct cloud_task *task)
{
    static const char ours[] = "{\"revoked\":true}";
    struct err err;
    char name[FOLDER_NAME_SIZE];
    folder_claim_name(task->id, task->placement.attempt, name);
    if (storage_put(task->cloud->google,
                    &(const struct storage_at){task->cloud->bucket, name, "application/json",
                                               STORAGE_ABSENT},
                    ours, sizeof(ours) - 1, NULL, &err) &&
        err.code != ERR_MISMATCH)
        log_warn("overflow", "cannot settle who has the task: %s", err.msg);
}

bool cloud_task_is_unclaimed(struct cloud_task *task)
{
    char execution[sizeof(task->placement.execution)];
    snprintf(execution, sizeof(execution), "%s", task->placement.execution);
    revoke(task); /* The first one keeps it. */
    enum claim claim = read_claim(task);
    for (int i = 0; claim == CLAIM_UNKNOWN && i < CLAIM_TRIES; i++) {
        cloud_task_wait(task, LOOK_EVERY_MS);
        claim = read_claim(task);
    }
    bool ours = claim == CLAIM_OURS;
    snprintf(task->placement.execution, sizeof(task->placement.execution), "%s", execution);
    return ours;
}

enum resolution {
    RES_FOUND,
    RES_NONE,  /* the attempt is over */
    RES_ASK,   /* it is to be asked for again */
    RES_LATER, /* somebody wants us to stop */
};

/* Finds out what a lost answer meant. The claim decides: an execution that appears after we have
 * written it runs nothing; one that is seen before will run the attempt. */
static enum resolution resolve(struct cloud_task *task)
{
    const int64_t asked = task->placement.asked_ms;
    const int64_t look_ms =
        INT64_C(1000) * CONFIG_GET(task->overflow->config.config, cloud_resolve_seconds);
    bool revoking = false;
    for (bool first = true;; first = false) {
        if (!first)
            cloud_task_wait(task, LOOK_EVERY_MS);
        if (task_run_stop(task->run) == STOP_INTERRUPT)
            return RES_LATER;
        task->placement.execution[0] = '\0';
        bool listed = is_listed(task);
        enum claim claim = read_claim(task);
        if (claim == CLAIM_OURS)
            return RES_NONE;
        if (claim == CLAIM_JOBS || (listed && claim == CLAIM_NONE && !revoking))
            return RES_FOUND;
        int64_t now = clock_real_ms();
        bool waits = now < asked + look_ms && now > asked - look_ms; /* A clock may have been
                                                                      * set. */
        if (claim == CLAIM_NONE && (!waits || task_run_stop(task->run) == STOP_CANCEL)) {
            revoking = true;
            revoke(task);
        }
    }
}

/* A task that another instance took: it may have asked, or be about to. When it shows nothing for
 * long enough we ask, for the same attempt: the claim lets one execution run it. */
static enum resolution resolve_others(struct cloud_task *task)
{
    const int64_t until = task->placement.asked_ms + OTHERS_MS;
    for (;;) {
        task->placement.execution[0] = '\0';
        enum claim claim = read_claim(task);
        if (claim == CLAIM_JOBS || is_listed(task))
            return RES_FOUND;
        if (claim == CLAIM_OURS)
            return RES_NONE;
        if (claim == CLAIM_NONE && clock_real_ms() > until)
            return RES_ASK;
        if (task_run_stop(task->run) != STOP_NO)
            return RES_LATER;
        cloud_task_wait(task, LOOK_EVERY_MS);
    }
}

bool cloud_task_follow_claim(struct cloud_task *task)
{
    char ours[sizeof(task->placement.execution)];
    snprintf(ours, sizeof(ours), "%s", task->placement.execution);
    if (!task->ended || task->done || read_claim(task) != CLAIM_JOBS ||
        strcmp(ours, task->placement.execution) == 0) {
        snprintf(task->placement.execution, sizeof(task->placement.execution), "%s", ours);
        return false;
    }
    task->ended = false;
    return true;
}

/* --- all of it ----------------------------------------------------------------------------- */

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

/* Places an attempt for which nothing has been asked yet. */
static enum step try_once(struct cloud_task *task, bool *ret_again)
{
    struct err err;
    bool unsure = false;
    AUTO(buf_wipe) struct buf secrets = BUF_INIT(SECRETS_BYTES_MAX);
    *ret_again = false;
    task->asked_ms = clock_mono_ms();
    if (add_secrets(task, &secrets, &err)) { /* A failure at home, which does not count against the
                                              * cloud. */
        cloud_task_settle(task, TASK_FAILED, task->request->repo_url ? "repo_error" : "internal",
                          err.msg);
        return STEP_OVER;
    }
    if (task->placement.attempt > 1 && sweep_session(task, &err))
        return refuse(task, &err);
    int sent = send_conversation(task, &err);
    if (sent == 0) {
        cloud_task_settle(task, TASK_FAILED, "session_error", "nothing is left of the session");
        return STEP_OVER;
    }
    if (task->sealed && task->placement.attempt > 1) {
        cloud_task_settle(task, TASK_FAILED, "interrupted",
                          "it was never started, and its secrets went with the instance that took "
                          "it");
        return STEP_OVER;
    }
    bool has_payload = task->overflow->config.shared && task->placement.attempt == 1;
    if (sent < 0 || send_inputs(task, &err) || ensure_job(task, &err) ||
        (!has_payload && upload_payload(task, &secrets, &err)))
        return refuse(task, &err);
    task->placement.asked_ms = clock_real_ms();
    if (!note_phase(task, PLACEMENT_ASKED)) {
        cloud_task_settle(task, TASK_RUNNING, "", "");
        return STEP_OVER;
    }
    task->reuses = warm_give(task) == 1;
    if (task->reuses || ask(task, &unsure, &err) == 0)
        return STEP_ON;
    if (!unsure) {
        note_phase(task, PLACEMENT_NONE);
        if (!task->overflow->config.shared) /* others may ask for it */
            cloud_task_delete_payload(task);
        return refuse(task, &err);
    }
    log_warn("overflow", "no answer when asked for an execution, looking for it: %s", err.msg);
    switch (resolve(task)) {
    case RES_FOUND:
        return STEP_ON;
    case RES_NONE:
        *ret_again = true;
        return STEP_ON;
    case RES_ASK:
    case RES_LATER:
        break;
    }
    cloud_task_settle(task, TASK_RUNNING, "", "");
    return STEP_OVER;
}

static enum step stop_before(struct cloud_task *task, enum task_stop stop)
{
    if (stop == STOP_CANCEL)
        cloud_task_settle(task, TASK_CANCELLED, "cancelled", "cancelled before it started");
    else
        cloud_task_settle(task, TASK_RUNNING, "", ""); /* The next start of the runner continues
                                                        * from here. */
    return STEP_OVER;
}

/* A cancelled task whose execution nobody has seen: the claim settles that there will be none. */
static enum task_stop stop_of(struct cloud_task *task)
{
    enum task_stop stop = task_run_stop(task->run);
    if (!task->others || stop != STOP_CANCEL)
        return STOP_INTERRUPT;
    revoke(task);
    return STOP_CANCEL;
}

/* Places the task, from the phase in the store to an execution's name. */
static enum step place_from(struct cloud_task *task, bool asked)
{
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        enum task_stop stop = task_run_stop(task->run);
        bool again = false;
        if (asked) {
            enum resolution found_out = task->others ? resolve_others(task) : resolve(task);
            if (found_out == RES_FOUND)
                return STEP_ON;
            if (found_out == RES_LATER)
                return stop_before(task, stop_of(task));
            asked = false;
            again = found_out == RES_NONE;
            if (!again)
                continue;
        } else if (stop != STOP_NO) {
            return stop_before(task, stop);
        } else {
            enum step step = try_once(task, &again);
            if (step == STEP_OVER || !again)
                return step;
        }
        log_info("overflow", "attempt %d was never started", task->placement.attempt);
        asked = task->sealed; /* whoever has its secrets may ask for the next attempt */
        task->placement.asked_ms = clock_real_ms();
        task->placement.attempt++;
        task->placement.execution[0] = '\0';
        if (!note_phase(task, PLACEMENT_NONE))
            return stop_before(task, STOP_INTERRUPT);
    }
    cloud_task_settle(task, TASK_FAILED, "cloud_error", "no execution could be started");
    return STEP_OVER;
}

static void tell(struct cloud_task *task)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(4096);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "executor", "cloud");
    json_add_text(&w, "execution", task->placement.execution);
    json_add_int(&w, "attempt", task->placement.attempt);
    json_close(&w);
    task_run_event(task->run, "placed", buf_str(&json), json.len);
}

/* Of a task that several instances see: its attempt was refused, and nothing was started. They all
 * look for that attempt, whose payload is in the bucket: it is asked for again. */
static bool is_still_wanted(const struct cloud_task *task)
{
    return task->overflow->config.shared && task->placement.attempt > 0 &&
           task->placement.phase == PLACEMENT_NONE;
}

enum step cloud_task_place(struct cloud_task *task)
{
    struct store_placement *placement = &task->placement;
    if (task_run_adopted(task->run) &&
        (placement->phase == PLACEMENT_STARTED || placement->phase == PLACEMENT_LOST)) {
        task->late = cloud_task_has_result(task);
        overflow_note_success(task->overflow, task, true);
        return STEP_ON;
    }
    bool asked = task_run_adopted(task->run) && placement->phase == PLACEMENT_ASKED;
    if (task->others && placement->attempt == 0) {
        placement->attempt = 1;
        placement->asked_ms = task->taken_ms;
        asked = true;
        if (!note_phase(task, PLACEMENT_ASKED))
            return stop_before(task, STOP_INTERRUPT);
    }
    if (!asked) {
        if (!is_still_wanted(task) && (!task_run_adopted(task->run) || placement->attempt == 0))
            placement->attempt++;
        placement->execution[0] = '\0';
        if (!note_phase(task, PLACEMENT_NONE))
            return stop_before(task, STOP_INTERRUPT);
    }
    enum step step = place_from(task, asked);
    if (step == STEP_OVER)
        return step;
    overflow_note_success(task->overflow, task, false);
    log_info("overflow", "runs as %s", task->placement.execution);
    if (!note_phase(task, PLACEMENT_STARTED)) {
        cloud_task_settle(task, TASK_RUNNING, "", "");
        return STEP_OVER;
    }
    if (task->overflow->config.shared)
        task->overflow->config.shared->placed(task->id, task->overflow->config.shared->arg);
    tell(task);
    return STEP_ON;
}
