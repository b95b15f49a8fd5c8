#include "runner/worker/again.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/overflow/warm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_MAX_MS 60000
#define EAGER_MS 10000 /* most commands that follow come within it */
#define LOOK_EAGER_MS 200
#define LOOK_MS 500

void again_read(struct job *job)
{
    const char *idle = getenv(WARM_ENV_IDLE), *life = getenv(WARM_ENV_LIFE);
    job->idle_ms = job->life_ms = 0;
    if (!idle || str_to_int(idle, 0, IDLE_MAX_MS, &job->idle_ms) || !life ||
        str_to_int(life, 0, INT64_MAX / 2, &job->life_ms))
        job->idle_ms = 0;
    job->born_ms = clock_mono_ms();
}

void again_promise(struct job *job)
{
    int64_t left = job->life_ms - (clock_mono_ms() - job->born_ms);
    bool stays = job->session[0] && !job_is_hurried(job) && left > 2 * job->idle_ms;
    job->result.idle_ms = stays ? job->idle_ms : 0;
    job->result.left_ms = stays ? left - job->idle_ms : 0;
}

/* What has been told, or ERR_NOT_FOUND. */
static int look(struct job *job, const char *name, struct warm_note *ret_note, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(WARM_NOTE_BYTES_MAX);
    if (storage_get(job->cloud.google, job->cloud.bucket, name, &text, NULL, err))
        return -1;
    return warm_parse(buf_str(&text), text.len, ret_note, err);
}

/* Nobody gives it a task any more; or somebody just has: then that is what is next. */
static int close_door(struct job *job, const char *name, struct warm_note *ret_note,
                      struct err *err)
{
    const struct warm_note closed = {.closed = true};
    AUTO(buf) struct buf text = BUF_INIT(WARM_NOTE_BYTES_MAX);
    const struct storage_at at = {job->cloud.bucket, name, "application/json", STORAGE_ABSENT};
    warm_print(&closed, &text);
    if (storage_put(job->cloud.google, &at, text.data, text.len, NULL, err) == 0) {
        *ret_note = closed;
        return 0;
    }
    return err->code == ERR_MISMATCH ? look(job, name, ret_note, err) : -1;
}

static int await_note(struct job *job, const char *name, struct warm_note *ret_note,
                      struct err *err)
{
    int64_t began = clock_mono_ms(), now = began;
    for (; now < began + job->result.idle_ms && !job_is_hurried(job); now = clock_mono_ms()) {
        if (look(job, name, ret_note, err) == 0)
            return 0;
        if (err->code != ERR_NOT_FOUND && err->code != ERR_TIMEOUT && err->code != ERR_RATE)
            return -1;
        job_pause(job, now < began + EAGER_MS ? LOOK_EAGER_MS : LOOK_MS);
    }
    return close_door(job, name, ret_note, err);
}

/* Nothing of the last task is left but the session's files. */
static void become(struct job *job, const struct warm_note *note)
{
    struct err err;
    AUTO(buf) struct buf dir = BUF_INIT(8192);
    buf_addf(&dir, "%s/tasks/%s", job->state_dir, job->id);
    if (buf_ok(&dir) && path_remove_tree(buf_str(&dir), &err))
        log_warn("job", "%s", err.msg);
    folder_result_done(&job->result);
    payload_done(&job->payload);
    job_begin_again(job);
    snprintf(job->id, sizeof(job->id), "%s", note->task);
    job->attempt = note->attempt;
    log_set_task(job->id);
}

bool again_await(struct job *job)
{
    struct err err = ERR_INIT;
    char name[FOLDER_NAME_SIZE];
    struct warm_note note = {0};
    if (job->result.idle_ms <= 0 || job_is_lost(job))
        return false;
    warm_name(job->session, job->id, name);
    log_info("job", "waits %lld ms for the next command of session '%s'",
             (long long)job->result.idle_ms, job->session);
    if (await_note(job, name, &note, &err)) {
        log_warn("job", "does not wait any more: %s", err.msg);
        return false;
    }
    if (note.closed)
        return false;
    become(job, &note);
    return true;
}
