#include "runner/worker/claim.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "google/storage.h"
#include "runner/version.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOTE_BYTES_MAX 65536
#define STOP_MS 70000 /* longer than the longest write */
#define HURRIED_STOP_MS 1000

/* Begins a note about this worker; claim, metadata and heartbeat each add a little to it. */
static void open_note(const struct job *job, struct json_writer *w, struct buf *out)
{
    char time[CLOCK_TEXT_SIZE];
    json_write(w, out);
    json_open_object(w, NULL);
    json_add_text(w, "taskId", job->id);
    json_add_int(w, "attempt", job->attempt);
    json_add_text(w, "by", "job");
    json_add_text(w, "owner", job->owner);
    json_add_text(w, "execution", job->execution);
    json_add_text(w, "at", clock_format(clock_real_ms(), time));
}

static int put_note(struct job *job, const char *name, const struct buf *note, int64_t generation,
                    const struct storage_stop *stop, struct storage_object *ret_object,
                    struct err *err)
{
    return storage_put_until(
        job->cloud.google,
        &(const struct storage_at){job->cloud.bucket, name, "application/json", generation},
        note->data, note->len, stop, ret_object, err);
}

/* Returns 1 when the note of that name is ours, 0 when not, or -1. */
static int is_ours(struct job *job, const char *name, int64_t *ret_generation, struct err *err)
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(NOTE_BYTES_MAX);
    if (storage_get(job->cloud.google, job->cloud.bucket, name, &text, ret_generation, err))
        return err->code == ERR_NOT_FOUND || err->code == ERR_TOO_LARGE ? 0 : -1;
    AUTO(json) struct json *note = json_parse(buf_str(&text), text.len, &ignored);
    const char *owner = note ? json_text(json_get(note, "owner")) : NULL;
    return owner && strcmp(owner, job->owner) == 0;
}

int claim_take(struct job *job, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    struct json_writer w;
    AUTO(buf) struct buf note = BUF_INIT(NOTE_BYTES_MAX);
    folder_claim_name(job->id, job->attempt, name);
    open_note(job, &w, &note);
    json_close(&w);
    if (buf_check(&note, "the claim", err))
        return -1;
    if (put_note(job, name, &note, STORAGE_ABSENT, NULL, NULL, err) == 0)
        return 1;
    int ours = err->code == ERR_MISMATCH ? is_ours(job, name, NULL, err) : -1;
    return ours < 0 ? err_wrap(err, "bucket '%s'", job->cloud.bucket) : ours;
}

int claim_describe(struct job *job, struct err *err)
{
    char name[FOLDER_NAME_SIZE], time[CLOCK_TEXT_SIZE];
    struct json_writer w;
    AUTO(buf) struct buf note = BUF_INIT(NOTE_BYTES_MAX);
    folder_name(job->id, FOLDER_METADATA, name);
    open_note(job, &w, &note);
    json_add_text(&w, "version", RUNNER_VERSION);
    json_add_text(&w, "startedAt", clock_format(job->started_ms, time));
    json_close(&w);
    return buf_check(&note, "the metadata", err) ||
                   put_note(job, name, &note, STORAGE_ANY, NULL, NULL, err)
               ? -1
               : 0;
}

/* --- the pulse -------------------------------------------------------------------------------- */

struct pulse {
    struct job *job;
    struct thread thread;
    struct lock lock; /* guards the stop flag */
    pthread_cond_t wake;
    bool stop;
    int64_t generation; /* generation of our last heartbeat; STORAGE_ANY before the first */
    int64_t beats;
};

/* Finds out why the heartbeat has another generation: somebody has overwritten or deleted it, or
 * our own write succeeded and its answer was lost. */
static void look_whose(struct pulse *pulse, const char *name)
{
    struct err err;
    int ours = is_ours(pulse->job, name, &pulse->generation, &err);
    if (ours == 0)
        job_lose(pulse->job, "its heartbeat is not its own any more");
    else if (ours < 0)
        log_warn("job", "heartbeat: %s", err.msg);
}

/* The stop() of a storage_stop: a write that hangs must not delay the end. */
static bool is_stopped(void *arg)
{
    struct pulse *pulse = arg;
    lock_take(&pulse->lock);
    bool stop = pulse->stop;
    lock_drop(&pulse->lock);
    return stop || job_is_over(pulse->job);
}

static void beat(struct pulse *pulse)
{
    struct err err;
    char name[FOLDER_NAME_SIZE];
    struct json_writer w;
    struct job *job = pulse->job;
    AUTO(buf) struct buf note = BUF_INIT(NOTE_BYTES_MAX);
    AUTO(storage_object) struct storage_object object = {0};
    const struct storage_stop until = {.stop = is_stopped, .arg = pulse};
    folder_name(job->id, FOLDER_HEARTBEAT, name);
    open_note(job, &w, &note);
    json_add_int(&w, "beat", ++pulse->beats);
    json_close(&w);
    if (put_note(job, name, &note, pulse->generation, &until, &object, &err) == 0)
        pulse->generation = object.generation;
    else if (err.code == ERR_MISMATCH || err.code == ERR_NOT_FOUND)
        look_whose(pulse, name);
    else if (!is_stopped(pulse))
        log_warn("job", "heartbeat: %s", err.msg);
}

static void *pulse_thread(void *arg)
{
    struct pulse *pulse = arg;
    log_set_task(pulse->job->id);
    lock_take(&pulse->lock);
    while (!pulse->stop) {
        lock_drop(&pulse->lock);
        if (!job_is_over(pulse->job))
            beat(pulse);
        lock_take(&pulse->lock);
        if (!pulse->stop)
            lock_wait(&pulse->wake, &pulse->lock, FOLDER_HEARTBEAT_MS);
    }
    lock_drop(&pulse->lock);
    return NULL;
}

struct pulse *pulse_start(struct job *job, struct err *err)
{
    struct pulse *pulse = calloc(1, sizeof(*pulse));
    if (!pulse) {
        err_sys(err, "pulse");
        return NULL;
    }
    *pulse = (struct pulse){.job = job, .generation = STORAGE_ANY};
    lock_init(&pulse->lock);
    cond_init(&pulse->wake);
    if (thread_start(&pulse->thread, "heartbeat", THREAD_STACK_DEFAULT, pulse_thread, pulse, err)) {
        free(pulse);
        return NULL;
    }
    return pulse;
}

bool pulse_stop(struct pulse *pulse)
{
    if (!pulse)
        return true;
    lock_take(&pulse->lock);
    pulse->stop = true;
    pthread_cond_signal(&pulse->wake);
    lock_drop(&pulse->lock);
    if (!thread_join_within(&pulse->thread, job_is_hurried(pulse->job) ? HURRIED_STOP_MS : STOP_MS))
        return false;
    lock_done(&pulse->lock);
    pthread_cond_destroy(&pulse->wake);
    free(pulse);
    return true;
}
