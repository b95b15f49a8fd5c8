/*
 * From a request to a stored task: what /execute, /run and /run-async have in common.
 *
 * Threads: the request's worker.
 */
#ifndef API_SUBMIT_H
#define API_SUBMIT_H

#include "runner/api/handlers.h"
#include "runner/request/request.h"

struct submission {
    unsigned where;      /* which fields the route takes */
    int timeout_minutes; /* when the request does not say */
    bool patient;        /* the caller waits through pauses; set by `detach`, too */

    struct task_request *request;
    struct task_record record;
    struct buf body;
    const char *key;
    bool shared;                 /* it uses the runner's own credential */
    const char *stays;           /* why it cannot go to the cloud; NULL: it can */
    enum task_executor executor; /* as asked, or where alone it can run now */
};

/* Everything that can refuse the request, then the task, which is on the disk when this returns 0.
 * -1: the answer has been sent. */
int submit_task(struct http_request *req, struct api *api, struct submission *s);

void submission_done(struct submission *s);
static inline void auto_submission(struct submission *s)
{
    submission_done(s);
}

/* Why shared tasks do not start now: ERR_LOGIN or ERR_RATE, both as the contract words them. */
int check_account(struct api *api, struct err *err);

/* Seconds until a paused account may go on. */
int pause_seconds(struct api *api);

#endif
