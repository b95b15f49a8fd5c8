/*
 * One stream of a command's: read from a pipe, cleaned of secrets, kept, and told as events.
 * Private to runner/command.
 *
 * Threads: the task's own.
 * Ownership: a capture owns its read end and its buffers; the text is its caller's.
 */
#ifndef COMMAND_CAPTURE_H
#define COMMAND_CAPTURE_H

#include "base/redact.h"
#include "runner/task/engine.h"

struct capture {
    struct task_run *run; /* borrowed */
    const char *event;    /* "stdout" or "stderr" */
    struct buf *text;     /* borrowed: what the answer will say */
    int read_fd;          /* -1 once the other end is closed */
    struct redact_stream redact;
    struct buf clean; /* without secrets, not told yet: may end within a character */
    bool truncated;   /* the text is not all of it */
};

/* Makes the pipe; *ret_write_fd is the caller's. The capture is to be ended by capture_done() also
 * when this fails. */
int capture_open(struct capture *capture, struct task_run *run, const char *event, struct buf *text,
                 int *ret_write_fd, struct err *err);

/* Reads what is there, up to a bound. False when there was nothing. */
bool capture_read(struct capture *capture);

/* Tells what was held back, once nobody writes any more. */
void capture_finish(struct capture *capture);
void capture_done(struct capture *capture);

#endif
