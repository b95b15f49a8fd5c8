/*
 * Bytes that wait for a socket to take them: a text, a large body, a part of a file, a tail.
 *
 * Threads: one at a time. Ownership: the outbox owns and frees the body; the file and the tail are
 * borrowed.
 */
#ifndef HTTP_OUTBOX_H
#define HTTP_OUTBOX_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outbox {
    struct buf lead;
    char *body;
    size_t body_len;
    int file; /* borrowed; file_len 0: none */
    int64_t file_at;
    size_t file_len;
    const char *tail; /* static text or NULL */
    size_t at;        /* how much of all that was sent */
};

enum outbox_state { OUTBOX_EMPTY, OUTBOX_STUCK, OUTBOX_BROKEN };

void outbox_init(struct outbox *out, size_t lead_max);
void outbox_done(struct outbox *out);

/* Sends what the socket takes. STUCK: it would have to wait. BROKEN: the connection failed, or the
 * file is shorter than announced. */
enum outbox_state outbox_flush(struct outbox *out, int fd);

bool outbox_is_empty(const struct outbox *out);

#endif
