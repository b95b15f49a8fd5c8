/*
 * Reads Server-Sent Events, with one call per event. Pieces may be cut anywhere.
 *
 * Threads: one at a time.
 */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include "base/buf.h"
#include "base/lines.h"

#include <stdbool.h>

#define SSE_EVENT_MAX (66u << 20) /* of one event: the runner's own limit, with its frame */

/* Receives an event: id and name are "" when it has none; data is NUL-terminated. */
typedef void sse_fn(const char *id, const char *name, const char *data, size_t len, void *arg);

struct sse {
    struct lines lines;
    struct buf data;
    char id[40], name[40];
    bool has_data;
    sse_fn *fn;
    void *arg;
};

void sse_init(struct sse *sse, sse_fn *fn, void *arg);
void sse_done(struct sse *sse);
void sse_feed(struct sse *sse, const char *data, size_t len);
/* Drops an incomplete event: its connection is gone. */
void sse_reset(struct sse *sse);

#endif
