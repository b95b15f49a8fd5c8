#include "runner/overflow/follow.h"

#include "base/clock.h"
#include "base/log.h"
#include "google/storage.h"

#include <stdio.h>
#include <string.h>

#define LOOK_EVERY_MS 15000        /* interval of looks at the execution */
#define LOOK_SOON_MS 3000          /* the same, while nothing else shows that it is alive */
#define COLD_START_MS (15 * 60000) /* an execution that is this late counts as lost */
#define END_MS 30000               /* time of an execution that was asked to end */
#define HEARTBEAT_LOST_MS (10 * FOLDER_HEARTBEAT_MS)

void cloud_task_follow(struct cloud_task *task)
{
    struct follow *at = &task->follow;
    *at = (struct follow){.look_ms = clock_mono_ms() + LOOK_SOON_MS};
    at->lost_ms = task->placement.asked_ms + task->request->timeout_ms + COLD_START_MS;
    at->beat_ms = clock_mono_ms();
    if (task_run_adopted(task->run))
        at->look_ms = 0;
}

void cloud_task_seen_alive(struct cloud_task *task)
{
    int64_t now = clock_mono_ms();
    task->follow.look_ms = now + LOOK_EVERY_MS;
    task->follow.beat_ms = now;
}

void cloud_task_follow_closely(struct cloud_task *task)
{
    if (task->follow.look_ms > clock_mono_ms() + LOOK_SOON_MS)
        task->follow.look_ms = clock_mono_ms() + LOOK_SOON_MS;
}

static void note_gone(struct cloud_task *task)
{
    if (!task->follow.gone) { /* It may be too new to be visible. */
        task->follow.gone = true;
        return;
    }
    task->ended = true;
    task->execution = (struct jobs_execution){.state = RUN_FAILED};
    snprintf(task->execution.message, sizeof(task->execution.message), "the execution is gone");
}

static void look_at_execution(struct cloud_task *task)
{
    struct err err;
    struct jobs_execution execution;
    if (!task->placement.execution[0])
        return; /* Its name is unknown, so its time limit ends the wait. */
    if (jobs_get(task->cloud->google, task->placement.execution, &execution, &err)) {
        if (err.code == ERR_NOT_FOUND)
            note_gone(task);
        return;
    }
    task->follow.gone = false;
    task->execution = execution;
    task->ended = execution.state != RUN_PENDING && execution.state != RUN_RUNNING;
    if (execution.state == RUN_PENDING)
        task->follow.beat_ms = clock_mono_ms(); /* Its heartbeat has not begun. */
}

/* Looks at the heartbeat. One that cannot be read says nothing. */
static void look_at_heartbeat(struct cloud_task *task)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    struct follow *at = &task->follow;
    AUTO(storage_object) struct storage_object object = {0};
    folder_name(task->id, FOLDER_HEARTBEAT, name);
    if (storage_stat(task->cloud->google, task->cloud->bucket, name, &object, &err)) {
        if (err.code != ERR_NOT_FOUND)
            at->beat_ms = clock_mono_ms();
        return;
    }
    if (object.generation != at->beat)
        at->beat_ms = clock_mono_ms();
    at->beat = object.generation;
}

static void look(struct cloud_task *task)
{
    struct follow *at = &task->follow;
    look_at_execution(task);
    if (!task->ended && clock_mono_ms() - at->beat_ms >= FOLDER_HEARTBEAT_MS)
        look_at_heartbeat(task);
    if (!task->ended && !at->still && clock_mono_ms() - at->beat_ms >= HEARTBEAT_LOST_MS) {
        at->still = true;
        log_warn("overflow", "no heartbeat for %d s: the execution is asked to end",
                 HEARTBEAT_LOST_MS / 1000);
    }
    bool soon = at->ending_ms || at->gone || task->done || !task->heard;
    at->look_ms = clock_mono_ms() + (soon ? LOOK_SOON_MS : LOOK_EVERY_MS);
}

/* Asks the execution to end, again until the request is accepted. */
static void ask_to_end(struct cloud_task *task)
{
    struct err err;
    struct follow *at = &task->follow;
    if (at->ending_ms == 0)
        at->ending_ms = clock_mono_ms();
    if (task->asked_to_end)
        return;
    task->asked_to_end = !task->placement.execution[0] ||
                         jobs_cancel(task->cloud->google, task->placement.execution, &err) == 0;
    if (!task->asked_to_end)
        log_warn("overflow", "cannot end the execution: %s", err.msg);
    at->look_ms = clock_mono_ms() + 1000;
}

bool cloud_task_look(struct cloud_task *task)
{
    struct follow *at = &task->follow;
    task->cancelled = task_run_stop(task->run) == STOP_CANCEL;
    task->timed_out |= clock_real_ms() > at->lost_ms;
    if (!task->ended && (task->cancelled || task->timed_out || at->still))
        ask_to_end(task);
    if (!task->ended && clock_mono_ms() >= at->look_ms)
        look(task);
    return at->ending_ms && clock_mono_ms() > at->ending_ms + END_MS;
}
