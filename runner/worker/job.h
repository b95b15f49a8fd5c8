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
    struct redact_set *secrets; /* secrets that the log hides */
    char id[ID_SIZE];
    int attempt;
    char owner[ID_UUID_SIZE];          /* identifies this worker in what it writes */
    const char *execution;             /* name of the execution in Cloud Run, or "" */
    char conversation[ID_UUID_SIZE];   /* name of its conversation; "": none is kept */
    char session[ID_SIZE];             /* whose command the task is; "": no session's */
    int64_t idle_ms, life_ms, born_ms; /* how long the execution stays, lives; mono: since when */
    bool resumes;                      /* the task continues a conversation in the bucket */
    bool resumable;                    /* the task has left a conversation */
    bool fenced;                       /* tasks cannot reach the metadata server */
    char *state_dir;
    char *callback_url; /* it hands the webhook in; NULL: that is home's business */
    struct buf webhook; /* its body; empty: none is to be handed in */
    int64_t started_ms;
    struct payload payload;
    int64_t payload_generation; /* generation of payload.enc while it must still be deleted; 0:
                                 * deleted */
    struct runner runner;
    struct folder_result result;

    struct lock lock; /* guards the fields below */
    pthread_cond_t changed;
    struct engine *engine; /* NULL: nothing to end */
    int64_t deadline_ms;   /* mono; 0: no hurry */
    bool lost;             /* the attempt belongs to somebody else */
    bool ended;            /* the task has ended */
};

void job_init(struct job *job);
/* Another task of the same execution: all but what is the execution's is as after job_init(). */
void job_begin_again(struct job *job);

/* The environment asks this process to end: the task is ended, and everything must be handed in by
 * the deadline. */
void job_hurry(struct job *job);
/* The attempt belongs to somebody else: the task is ended, and nothing is written any more. */
void job_lose(struct job *job, const char *why);

/* True when nothing new should begin: the job is lost, or out of time. Also the stop() of a
 * storage_stop. */
bool job_is_over(void *job);
bool job_is_lost(struct job *job);
bool job_is_hurried(struct job *job);

/* Sets the engine that runs the task, until the next call; NULL for none. */
void job_set_engine(struct job *job, struct engine *engine);
void job_set_ended(struct job *job);
/* Waits for the task's end; false when there is no time for it. */
bool job_await_end(struct job *job);

/* Waits for `ms` at most, or until one of these states changes. */
void job_pause(struct job *job, int64_t ms);

#endif
