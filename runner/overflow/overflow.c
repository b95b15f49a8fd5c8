#include "runner/overflow/overflow.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/egress/rules.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/image.h"
#include "runner/overflow/late.h"
#include "runner/overflow/sweep.h"
#include "runner/overflow/warm.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_OF_SIGHT_MS (7 * INT64_C(86400000))

struct overflow *overflow_new(const struct overflow_config *config, struct err *err)
{
    struct overflow *overflow = calloc(1, sizeof(*overflow));
    if (!overflow) {
        err_sys(err, "overflow");
        return NULL;
    }
    overflow->config = *config;
    overflow->status.reachable = true;
    window_init(&overflow->window);
    overflow->why = "cloud_full";
    lock_init(&overflow->lock);
    const struct late_config late = {config->cloud, config->store, config->engine};
    overflow->late = late_new(&late, err);
    overflow->sweep = overflow->late ? sweep_start(config->cloud, config->store, err) : NULL;
    if (!overflow->sweep) {
        overflow_free(overflow);
        return NULL;
    }
    return overflow;
}

void overflow_free(struct overflow *overflow)
{
    if (!overflow)
        return;
    late_free(overflow->late);
    sweep_stop(overflow->sweep);
    warm_forget_all(overflow);
    lock_done(&overflow->lock);
    free(overflow);
}

int overflow_start(struct overflow *overflow, struct err *err)
{
    return late_start(overflow->late, err);
}

void overflow_share(struct overflow *overflow, const struct overflow_shared *shared)
{
    overflow->config.shared = shared;
}

int64_t overflow_late_ms(enum placement_phase phase)
{
    return phase == PLACEMENT_LOST    ? OUT_OF_SIGHT_MS
           : phase == PLACEMENT_ENDED ? OVERFLOW_ENDED_MS
                                      : 0;
}

void overflow_status(struct overflow *overflow, struct overflow_status *ret_status)
{
    lock_take(&overflow->lock);
    *ret_status = overflow->status;
    lock_drop(&overflow->lock);
}

/* --- who may go ---------------------------------------------------------------------------- */

const char *overflow_stays(const struct config *config, const struct task_kind *kind,
                           const struct task_request *request)
{
    if (!config->cloudrun_job_name || !config->gcs_logs_bucket || !config->kms_key_name)
        return "Google Cloud is not configured (CLOUDRUN_JOB_NAME, GCS_LOGS_BUCKET, KMS_KEY_NAME)";
    const struct strlist *egress = request->egress.count > 0 ? &request->egress : &config->egress;
    if (egress_mode_of(egress) != EGRESS_OPEN)
        return "the network of a task in the cloud can't be restricted (egress)";
    if (image_refuses(request))
        return image_refuses(request);
    return kind->stays ? kind->stays(request, config->cloud_api_key_secret != NULL) : NULL;
}

/* --- how the cloud does -------------------------------------------------------------------- */

const char *overflow_reason_of(const struct err *err)
{
    return err->code == ERR_RATE ? "cloud_full" : "cloud_unreachable";
}

/* Tells the engine what the window allows. */
static void tell_engine(struct overflow *overflow)
{
    lock_take(&overflow->lock);
    const struct engine_away away = {.room = overflow->window.room,
                                     .hold_ms =
                                         window_closed_ms(&overflow->window, clock_mono_ms()),
                                     .why = overflow->why};
    lock_drop(&overflow->lock);
    engine_limit_away(overflow->config.engine, &away);
}

void overflow_note_refusal(struct overflow *overflow, const struct cloud_task *task,
                           const struct err *err)
{
    lock_take(&overflow->lock);
    bool begins = window_refused(&overflow->window, task->asked_ms, clock_mono_ms());
    int64_t ms = window_closed_ms(&overflow->window, clock_mono_ms());
    int room = overflow->window.room;
    overflow->why = overflow_reason_of(err);
    overflow->status.refused++;
    if (err->code != ERR_RATE && overflow->status.reachable) { /* An exhausted quota is no
                                                                * failure. */
        overflow->status.reachable = false;
        overflow->status.since_ms = clock_real_ms();
    }
    snprintf(overflow->status.error, sizeof(overflow->status.error), "%s", err->msg);
    lock_drop(&overflow->lock);
    if (begins)
        log_warn("overflow", "no cloud tasks for %lld ms, then %d at once at most: %s",
                 (long long)ms, room, err->msg);
    tell_engine(overflow);
}

void overflow_note_success(struct overflow *overflow, struct cloud_task *task, bool adopted)
{
    task->in_flight = true;
    lock_take(&overflow->lock);
    if (adopted) {
        window_adopted(&overflow->window);
    } else {
        window_granted(&overflow->window, clock_mono_ms());
        overflow->status.reachable = true;
        overflow->status.error[0] = '\0';
        overflow->status.started += !task->reuses;
    }
    lock_drop(&overflow->lock);
    tell_engine(overflow);
}

void overflow_note_end(struct overflow *overflow, struct cloud_task *task)
{
    if (!task->in_flight)
        return;
    task->in_flight = false;
    lock_take(&overflow->lock);
    window_ended(&overflow->window, clock_mono_ms());
    lock_drop(&overflow->lock);
    tell_engine(overflow);
}

void overflow_metrics(struct metric_page *page, void *arg)
{
    struct overflow_status status = {0};
    if (arg)
        overflow_status(arg, &status);
    metric_family(
        page, "claude_runner_cloud_reachable", METRIC_GAUGE,
        "0 once cloud tasks could not be started; without a sample when no cloud is set.");
    if (arg)
        metric_count(page, status.reachable, NULL);
    metric_family(page, "claude_runner_cloud_executions_total", METRIC_COUNTER,
                  "Executions asked of Cloud Run, by outcome (lost: ended without a result; "
                  "reused: not asked, a warm one took the task).");
    if (!arg)
        return;
    metric_count(page, status.started, "outcome", "started", NULL);
    metric_count(page, status.refused, "outcome", "refused", NULL);
    metric_count(page, status.lost, "outcome", "lost", NULL);
    metric_count(page, status.reused, "outcome", "reused", NULL);
}

/* --- one task ------------------------------------------------------------------------------ */

void cloud_task_wait(struct cloud_task *task, int64_t ms)
{
    uint64_t count;
    struct pollfd wait = {.fd = task_run_wake_fd(task->run), .events = POLLIN};
    if (poll(&wait, 1, (int)ms) > 0)
        (void)!read(wait.fd, &count, sizeof(count)); /* The request itself is stored elsewhere; this
                                                      * only empties the descriptor. */
}

void cloud_task_settle(struct cloud_task *task, enum task_state state, const char *reason,
                       const char *error)
{
    struct task_outcome *outcome = task->outcome;
    outcome->state = state;
    outcome->exit_code = state == TASK_COMPLETED ? 0 : 1;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
}

void cloud_task_put_back(struct cloud_task *task, const char *reason, const char *error)
{
    cloud_task_settle(task, TASK_PENDING, reason, error);
    task->outcome->refused = true;
}

static int begin(struct cloud_task *task, struct err *err)
{
    const struct task_record *record = task_run_record(task->run);
    const char *secrets = task_run_secrets(task->run);
    task->id = record->id;
    task->request = task_request_load(record->request, strlen(record->request),
                                      *secrets ? secrets : NULL, strlen(secrets), err);
    if (!task->request || image_job_name(task->cloud, task->request, task->job, err) ||
        store_placement(task->overflow->config.store, task->id, &task->placement, err))
        return -1;
    const struct overflow_shared *shared = task->overflow->config.shared;
    task->others = shared && shared->adopted(task->id, &task->taken_ms, &task->sealed, shared->arg);
    return task_request_redact(task->request, task_run_redact(task->run)) ? err_sys(err, "secrets")
                                                                          : 0;
}

static enum step relay(struct cloud_task *task)
{
    enum step step = cloud_task_relay(task);
    while (step == STEP_ON && task->overflow->config.shared && !task->done &&
           cloud_task_follow_claim(task))
        step = cloud_task_relay(task);
    return step;
}

void overflow_run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct err err;
    struct overflow *overflow = arg;
    struct cloud_task task = {
        .overflow = overflow, .cloud = overflow->config.cloud, .run = run, .outcome = outcome};
    task.cursor_fd = -1;
    if (begin(&task, &err))
        cloud_task_settle(&task, TASK_FAILED, "internal", err.msg);
    else if (cloud_task_place(&task) == STEP_ON && relay(&task) == STEP_ON)
        cloud_task_end(&task);
    overflow_note_end(overflow, &task);
    if (!task_state_is_active(outcome->state))
        cloud_task_delete_payload(&task);
    fd_close(&task.cursor_fd);
    task_request_free(task.request);
}

void cloud_task_delete_payload(struct cloud_task *task)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    if (!task->id || task->placement.attempt == 0)
        return;
    folder_name(task->id, "payload.enc", name);
    if (storage_delete(task->cloud->google, task->cloud->bucket, name, STORAGE_ANY, &err))
        log_warn("overflow", "the sealed request stays in the bucket until it expires: %s",
                 err.msg);
}
