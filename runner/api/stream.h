/*
 * A task's events to a client that follows them: as Server-Sent Events or as JSON lines, from any
 * event on, to the task's last.
 *
 * Theory of operation. A follower joins an engine's watch and an HTTP stream, which may each end
 * first. The file is the only thing between task and client:
 *
 *     task's thread ── writes ──▶ events file ◀── reads ── the streams' thread ──▶ client
 *              └── grew(): the new end; wakes ──────────────▶┘
 *
 * so a slow client holds an offset and nothing else, and SSE is a copy of the file's bytes.
 *
 * Threads: follow_task() on the request's worker.
 */
#ifndef API_STREAM_H
#define API_STREAM_H

#include "runner/api/handlers.h"

struct follow {
    int64_t from;  /* the offset of an event, or the end */
    bool lines;    /* JSON lines */
    bool attached; /* the task is cancelled when the client goes away */
    bool patient;  /* wait through pauses; else a pause cancels the task */
};

/* Reads the Accept header. Returns 0, or -1 with ERR_NOT_ACCEPTABLE. */
int follow_form(const struct http_request *req, bool *ret_lines, struct err *err);

/* Turns the request into a stream of the task's events. When it returns -1 nothing was sent; an
 * attached task has been cancelled. */
int follow_task(struct http_request *req, struct api *api, const char *task_id,
                const struct follow *follow, struct err *err);

#endif
