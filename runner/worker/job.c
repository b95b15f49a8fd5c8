#include "runner/worker/job.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#define HURRY_MS 6000 /* from SIGTERM to the result; Cloud Run kills after ten seconds */
#define LOOK_EVERY_MS 200

void job_init(struct job *job)
{
    pthread_mutex_init(&job->lock, NULL);
    cond_init(&job->changed);
    folder_result_init(&job->result);
    id_uuid(job->owner);
    job->started_ms = clock_real_ms();
}

static void end_task_locked(struct job *job)
{
    if (job->engine)
        engine_interrupt(job->engine);
    pthread_cond_broadcast(&job->changed);
}

void job_hurry(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    if (job->deadline_ms == 0)
        job->deadline_ms = clock_mono_ms() + HURRY_MS;
    end_task_locked(job);
    pthread_mutex_unlock(&job->lock);
}

void job_lose(struct job *job, const char *why)
{
    pthread_mutex_lock(&job->lock);
    if (!job->lost)
        log_error("job", "attempt %d is somebody else's now: %s", job->attempt, why);
    job->lost = true;
    end_task_locked(job);
    pthread_mutex_unlock(&job->lock);
}

bool job_is_over(void *arg)
{
    struct job *job = arg;
    pthread_mutex_lock(&job->lock);
    bool over = job->lost || (job->deadline_ms > 0 && clock_mono_ms() >= job->deadline_ms);
    pthread_mutex_unlock(&job->lock);
    return over;
}

bool job_is_lost(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    bool lost = job->lost;
    pthread_mutex_unlock(&job->lock);
    return lost;
}

bool job_is_hurried(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    bool hurried = job->deadline_ms > 0;
    pthread_mutex_unlock(&job->lock);
    return hurried;
}

void job_pause(struct job *job, int64_t ms)
{
    pthread_mutex_lock(&job->lock);
    if (!job->lost)
        cond_wait(&job->changed, &job->lock, ms);
    pthread_mutex_unlock(&job->lock);
}

void job_set_engine(struct job *job, struct engine *engine)
{
    pthread_mutex_lock(&job->lock);
    job->engine = engine;
    if (engine && (job->lost || job->deadline_ms > 0))
        engine_interrupt(engine); /* whoever wanted that found no engine */
    pthread_mutex_unlock(&job->lock);
}

void job_set_ended(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    job->ended = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

bool job_await_end(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    while (!job->ended && (job->deadline_ms == 0 || clock_mono_ms() < job->deadline_ms))
        cond_wait(&job->changed, &job->lock, LOOK_EVERY_MS);
    bool ended = job->ended;
    pthread_mutex_unlock(&job->lock);
    return ended;
}
