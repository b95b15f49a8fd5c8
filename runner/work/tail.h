/*
 * Follows a regular file that somebody else appends to.
 *
 * The CLI writes to a file, not to a pipe (it may exit before a pipe drains). What has been read is
 * given back to the disk by punching holes, so a task may print more than the disk holds.
 *
 * Threads: one at a time.
 */
#ifndef WORK_TAIL_H
#define WORK_TAIL_H

#include "base/err.h"
#include "base/redact.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tail {
    int write_fd; /* append-only, for the program */
    int read_fd;
    int notify_fd; /* inotify: readable after a write; -1 where there is none */
    int watch;     /* notify_fd's, on the file */
    int64_t offset;
    int64_t punched;
};

/* Makes an empty file at path; `notify`: with a notify_fd. */
int tail_open(struct tail *tail, const char *path, bool notify, struct err *err);
void tail_done(struct tail *tail);

/* Reads what is there, up to `size`; 0 when nothing is. */
size_t tail_read(struct tail *tail, char *to, size_t size);

/* How much has been written that was not read yet. */
int64_t tail_backlog(const struct tail *tail);

/* Takes note of inotify's message. */
void tail_heed(struct tail *tail);

/* Keeps only the last `keep` bytes on the disk, of a file that nobody reads while it grows. */
void tail_trim(struct tail *tail, int64_t keep);

/* Appends the end of a file, at most `bytes` of it, without secrets: also without one that begins
 * before what is shown. */
void tail_show(int fd, size_t bytes, struct redact_set *redact, struct buf *out);

#endif
