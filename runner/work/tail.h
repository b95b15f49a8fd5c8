/*
 * Follows a regular file to which another process appends.
 *
 * The CLI writes to a file, not to a pipe (it may exit before a pipe drains). The part that has
 * been read is given back to the disk by punching holes, so a task may print more than the disk
 * holds.
 *
 * Threads: one at a time. Ownership: tail_open() opens the descriptors, tail_done() closes them.
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
    int watch;     /* the file's watch in notify_fd */
    int64_t offset;
    int64_t punched;
};

/* Makes an empty file at path; with `notify` also a notify_fd. */
int tail_open(struct tail *tail, const char *path, bool notify, struct err *err);
void tail_done(struct tail *tail);

/* Reads what is there, up to `size` bytes; 0 when there is nothing. */
size_t tail_read(struct tail *tail, char *to, size_t size);

/* How many bytes have been written but not read. */
int64_t tail_backlog(const struct tail *tail);

/* Reads inotify's message. */
void tail_heed(struct tail *tail);

/* Keeps only the last `keep` bytes on disk of a file that nobody reads while it grows. */
void tail_trim(struct tail *tail, int64_t keep);

/* Appends the end of a file, at most `bytes` of it, without secrets; also without a secret that
 * begins before that part. */
void tail_show(int fd, size_t bytes, struct redact_set *redact, struct buf *out);

#endif
