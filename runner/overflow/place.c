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
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/warm.h"

#include <stdio.h>

#define TIMEOUT_MARGIN_S 120 /* for steps before and after Claude */
#define TIMEOUT_MAX_S (7 * 24 * 3600)
#define TRIES_MAX 10

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

enum step cloud_task_refuse(struct cloud_task *task, const struct err *err)
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

/* --- all of it ----------------------------------------------------------------------------- */

/* Places an attempt for which nothing has been asked yet. */
static enum step try_once(struct cloud_task *task, bool *ret_again)
{
    struct err err;
    bool unsure = false;
    *ret_again = false;
    task->asked_ms = clock_mono_ms();
    if (task->sealed && task->placement.attempt > 1) {
        cloud_task_settle(task, TASK_FAILED, "interrupted",
                          "it was never started, and its secrets went with the instance that took "
                          "it");
        return STEP_OVER;
    }
    if (cloud_task_supply(task) == STEP_OVER)
        return STEP_OVER;
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
        return cloud_task_refuse(task, &err);
    }
    log_warn("overflow", "no answer when asked for an execution, looking for it: %s", err.msg);
    switch (cloud_task_resolve(task)) {
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
    cloud_task_revoke(task);
    return STOP_CANCEL;
}

/* Places the task, from the phase in the store to an execution's name. */
static enum step place_from(struct cloud_task *task, bool asked)
{
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        enum task_stop stop = task_run_stop(task->run);
        bool again = false;
        if (asked) {
            enum resolution found_out =
                task->others ? cloud_task_resolve_others(task) : cloud_task_resolve(task);
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
    if (task_run_adopted(task->run) && placement->phase >= PLACEMENT_STARTED) {
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
