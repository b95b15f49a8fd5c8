#include "runner/worker/job.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/lock.h"
#include "base/log.h"

#define HURRY_MS 6000 /* time from SIGTERM to the result; Cloud Run kills after ten seconds */
#define LOOK_EVERY_MS 200

void job_init(struct job *job)
{
    lock_init(&job->lock);
    cond_init(&job->changed);
    folder_result_init(&job->result);
    id_uuid(job->owner);
    job->started_ms = clock_real_ms();
}

static void end_task_locked(struct job *job) HOLDS(job->lock);
static void end_task_locked(struct job *job)
{
    if (job->engine)
        engine_interrupt(job->engine);
    pthread_cond_broadcast(&job->changed);
}

void job_begin_again(struct job *job)
{
    struct redact_set *secrets = job->runner.secrets;
    job->runner = (struct runner){.secrets = secrets};
    job->payload = (struct payload){0};
    job->payload_generation = 0;
    job->resumes = job->resumable = false;
    job->conversation[0] = job->session[0] = '\0';
    folder_result_init(&job->result);
    id_uuid(job->owner);
    job->started_ms = clock_real_ms();
    lock_take(&job->lock);
    job->ended = false;
    lock_drop(&job->lock);
}

void job_hurry(struct job *job)
{
    lock_take(&job->lock);
    if (job->deadline_ms == 0)
        job->deadline_ms = clock_mono_ms() + HURRY_MS;
    end_task_locked(job);
    lock_drop(&job->lock);
}

void job_lose(struct job *job, const char *why)
{
    REQUIRE(why);
    lock_take(&job->lock);
    if (!job->lost)
        log_error("job", "attempt %d is somebody else's now: %s", job->attempt, why);
    job->lost = true;
    end_task_locked(job);
    lock_drop(&job->lock);
}

bool job_is_over(void *arg)
{
    struct job *job = arg;
    lock_take(&job->lock);
    bool over = job->lost || (job->deadline_ms > 0 && clock_mono_ms() >= job->deadline_ms);
    lock_drop(&job->lock);
    return over;
}

bool job_is_lost(struct job *job)
{
    lock_take(&job->lock);
    bool lost = job->lost;
    lock_drop(&job->lock);
    return lost;
}

bool job_is_hurried(struct job *job)
{
    lock_take(&job->lock);
    bool hurried = job->deadline_ms > 0;
    lock_drop(&job->lock);
    return hurried;
}

void job_pause(struct job *job, int64_t ms)
{
    lock_take(&job->lock);
    if (!job->lost)
        lock_wait(&job->changed, &job->lock, ms);
    lock_drop(&job->lock);
}

void job_set_engine(struct job *job, struct engine *engine)
{
    lock_take(&job->lock);
    job->engine = engine;
    if (engine && (job->lost || job->deadline_ms > 0))
        engine_interrupt(engine); /* The code that wanted the engine to stop did not find it. */
    lock_drop(&job->lock);
}

void job_set_ended(struct job *job)
{
    lock_take(&job->lock);
    job->ended = true;
    pthread_cond_broadcast(&job->changed);
    lock_drop(&job->lock);
}

bool job_await_end(struct job *job)
{
    lock_take(&job->lock);
    while (!job->ended && (job->deadline_ms == 0 || clock_mono_ms() < job->deadline_ms))
        lock_wait(&job->changed, &job->lock, LOOK_EVERY_MS);
    bool ended = job->ended;
    lock_drop(&job->lock);
    return ended;
}
