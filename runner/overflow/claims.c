/*
 * Whose an attempt is. A job that starts writes the attempt's claim, which exists once only; so may
 * we, and then no job will ever run the attempt. That settles what a lost answer meant, and who
 * runs a task that several instances have asked for.
 */
#include "base/clock.h"
#include "base/log.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"

#include <stdio.h>
#include <string.h>

#define LOOK_EVERY_MS 2000
#define OTHERS_MS 20000         /* that another instance takes to ask for an execution */
#define CLOCKS_DIFFER_MS 300000 /* allowed difference between our clock and Google's */
#define CLAIM_BYTES_MAX 4096
#define CLAIM_TRIES 10

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

static int take_name(const struct jobs_execution *execution, void *arg)
{
    struct cloud_task *task = arg;
    snprintf(task->placement.execution, sizeof(task->placement.execution), "%s", execution->name);
    return 1;
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

void cloud_task_revoke(struct cloud_task *task)
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
    cloud_task_revoke(task); /* The first one keeps it. */
    enum claim claim = read_claim(task);
    for (int i = 0; claim == CLAIM_UNKNOWN && i < CLAIM_TRIES; i++) {
        cloud_task_wait(task, LOOK_EVERY_MS);
        claim = read_claim(task);
    }
    bool ours = claim == CLAIM_OURS;
    snprintf(task->placement.execution, sizeof(task->placement.execution), "%s", execution);
    return ours;
}

/* The claim decides: an execution that appears after we have written it runs nothing; one that is
 * seen before will run the attempt. */
enum resolution cloud_task_resolve(struct cloud_task *task)
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
            cloud_task_revoke(task);
        }
    }
}

enum resolution cloud_task_resolve_others(struct cloud_task *task)
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
    if (!task->ended || read_claim(task) != CLAIM_JOBS ||
        strcmp(ours, task->placement.execution) == 0) {
        snprintf(task->placement.execution, sizeof(task->placement.execution), "%s", ours);
        return false;
    }
    task->ended = task->follow.gone = false;
    return true;
}
