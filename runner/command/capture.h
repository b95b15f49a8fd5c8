/*
 * One stream of a command's: cleaned of secrets, kept, and told as events.
 * Private to runner/command.
 *
 * Threads: the task's own.
 * Ownership: a capture owns its buffers; the text is its caller's.
 */
#ifndef COMMAND_CAPTURE_H
#define COMMAND_CAPTURE_H

#include "base/redact.h"
#include "runner/task/engine.h"

struct capture {
    struct task_run *run; /* borrowed */
    const char *event;    /* "stdout" or "stderr" */
    struct buf *text;     /* borrowed: what the answer will say */
    struct redact_stream redact;
    struct buf clean; /* without secrets, not told yet: may end within a character */
    bool truncated;   /* the text is not all of it */
};

/* Makes a capture, which is to be ended by capture_done(). The run's set of secrets must be
 * complete before the first capture_take(). */
void capture_init(struct capture *capture, struct task_run *run, const char *event,
                  struct buf *text);

/* Takes what was printed. */
void capture_take(struct capture *capture, const char *data, size_t len);

/* Tells what was held back, once nobody writes any more. */
void capture_finish(struct capture *capture);
void capture_done(struct capture *capture);

#endif
