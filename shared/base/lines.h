/*
 * Reassembles lines from bytes that arrive in pieces, with a bound on a line's length.
 *
 * Threads: one at a time.
 */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

#define LINE_BYTES_MAX (16u << 20)

/* A line without its end. `whole_len` is larger than len when the line was too long: then `line`
 * is its beginning. */
typedef void lines_fn(const char *line, size_t len, size_t whole_len, void *arg);

struct lines {
    struct buf held;   /* the beginning of a line whose end has not come */
    size_t held_whole; /* its length with what no longer fitted */
    size_t max;
    lines_fn *fn;
    void *arg;
};

void lines_init(struct lines *lines, size_t max, lines_fn *fn, void *arg);
void lines_done(struct lines *lines);
void lines_feed(struct lines *lines, const char *data, size_t len);
/* Passes the rest on as the last line, also when it has no line end. */
void lines_finish(struct lines *lines);

#endif
