/*
 * From a request to stored tasks: what /execute, /run, /run-async and /exec have in common.
 *
 * Threads: the request's worker.
 */
#ifndef API_SUBMIT_H
#define API_SUBMIT_H

#include "runner/api/handlers.h"
#include "runner/config/caller_limits.h"
#include "runner/request/request.h"

struct submission {
    const char *kind;    /* kind of the tasks that the route makes */
    unsigned where;      /* fields that it accepts besides the kind's: REQUEST_PYTHON, … */
    int timeout_minutes; /* used when the request has none */
    bool patient;        /* the caller waits through pauses; `detach` sets it, too */
    bool streams;        /* the caller follows one task: `n` may not ask for more */

    const struct task_kind *task_kind;
    struct task_request *request;
    struct task_record *records; /* by index; the id is "" for a task that was forgotten since */
    size_t count;                /* more than one is a group */
    struct buf body;
    bool has_body; /* `body` has been read already */
    const char *key;
    bool limited;                /* the caller has limits of its own */
    struct caller_limits limits; /* theirs; of `config` */
    const struct config *config; /* held, or NULL */
    bool shared;                 /* it uses the runner's own credential */
    struct inputs *inputs;       /* borrowed */
    struct strlist held;         /* inputs that are held until the tasks are stored */
    const char *stays;           /* why it cannot go to the cloud; NULL: it can */
    enum task_executor executor; /* as requested, or the only place where it can run now */
};

/* Checks everything that can refuse the request, then makes the tasks, which are on disk when this
 * returns 0. -1 after the answer has been sent. End `s` by submission_done(). */
int submit_task(struct http_request *req, struct api *api, struct submission *s);

void submission_done(struct submission *s);
static inline void auto_submission(struct submission *s)
{
    submission_done(s);
}

/* Why shared tasks cannot start now: ERR_LOGIN or ERR_RATE, in the contract's words. 0 when they
 * can. */
int check_account(struct api *api, struct err *err);

/* ERR_BUSY while the token has expired and the token server cannot be reached. */
int check_token_server(struct api *api, struct err *err);

/* Seconds until a paused account may go on. */
int pause_seconds(struct api *api);

#endif
