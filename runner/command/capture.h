/*
 * One output stream of a command: cleaned of secrets, kept for the answer, and passed on as events.
 * Private to runner/command.
 *
 * Threads: the task's own. Ownership: a capture owns its buffers; the text belongs to its caller.
 */
#ifndef COMMAND_CAPTURE_H
#define COMMAND_CAPTURE_H

#include "base/redact.h"
#include "runner/task/engine.h"

struct capture {
    struct task_run *run; /* borrowed */
    const char *event;    /* "stdout" or "stderr" */
    struct buf *text;     /* borrowed: the answer's text */
    struct redact_stream redact;
    struct buf clean; /* without secrets, not passed on yet: may end within a character */
    bool truncated;   /* the text is incomplete */
};

/* Makes a capture, which the caller ends by capture_done(). The run's set of secrets must be
 * complete before the first capture_take(). */
void capture_init(struct capture *capture, struct task_run *run, const char *event,
                  struct buf *text);

/* Takes printed bytes. */
void capture_take(struct capture *capture, const char *data, size_t len);

/* Passes on what was held back, once nobody writes any more. */
void capture_finish(struct capture *capture);
void capture_done(struct capture *capture);

#endif
