/*
 * One attempt at one task, as the worker's files see it. Private to runner/worker.
 *
 * Theory of operation. The main thread goes straight down: claim, open the payload, run the task,
 * hand in. Beside it are the courier (courier.h), the pulse (claim.h) and a thread that waits for
 * signals. What they have to tell each other is here: whether the attempt still is ours, and until
 * when there is time.
 *
 *     engine ── events file ──▶ courier ──▶ events/…
 *     SIGTERM ─▶ job_hurry() ─▶ engine ends the task ─▶ main: outputs, result.json
 *     pulse, courier ─▶ job_lose() ─▶ engine ends the task; nothing is written any more
 *
 * Locks: job, then engine, then courier.
 *
 * Threads: job_* from any.
 */
#ifndef WORKER_JOB_H
#define WORKER_JOB_H

#include "base/id.h"
#include "base/lock.h"
#include "runner/overflow/payload.h"
#include "runner/overflow/result.h"
#include "runner/parts/runner.h"

#include <pthread.h>

struct job {
    struct cloud cloud;
    struct config *config;
    struct redact_set *secrets; /* of the log */
    char id[ID_SIZE];
    int attempt;
    char owner[ID_UUID_SIZE];          /* in what we write: that it was us */
    const char *execution;             /* as Cloud Run calls it, or "" */
    char conversation[ID_UUID_SIZE];   /* its name; "": none is kept */
    char session[ID_SIZE];             /* whose command the task is; "": no session's */
    int64_t idle_ms, life_ms, born_ms; /* how long the execution stays, lives; mono: since when */
    bool resumes;                      /* the task goes on with one that lies in the bucket */
    bool resumable;                    /* it has left one */
    char *state_dir;
    int64_t started_ms;
    struct payload payload;
    int64_t payload_generation; /* of payload.enc while it has to be deleted; 0: gone */
    struct runner runner;
    struct folder_result result;

    struct lock lock; /* of all that follows */
    pthread_cond_t changed;
    struct engine *engine; /* NULL: nothing to end */
    int64_t deadline_ms;   /* mono; 0: no hurry */
    bool lost;             /* the attempt is somebody else's */
    bool ended;            /* the task */
};

void job_init(struct job *job);
/* Another task of the same execution: all but what is the execution's is as after job_init(). */
void job_begin_again(struct job *job);

/* The environment asks us to go: the task is ended, and all has to be handed in until then. */
void job_hurry(struct job *job);
/* The attempt is not ours any more: the task is ended, and nothing is written. */
void job_lose(struct job *job, const char *why);

/* True when nothing should be begun any more: lost, or out of time. A storage_stop's stop(). */
bool job_is_over(void *job);
bool job_is_lost(struct job *job);
bool job_is_hurried(struct job *job);

/* From now on (until NULL) this is what runs the task. */
void job_set_engine(struct job *job, struct engine *engine);
void job_set_ended(struct job *job);
/* Waits for the task's end; false when there is no time for it. */
bool job_await_end(struct job *job);

/* Waits, at most so long, or until something of the above changes. */
void job_pause(struct job *job, int64_t ms);

#endif
