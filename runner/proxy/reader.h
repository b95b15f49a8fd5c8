/*
 * Reads the usage in an answer that passes through: an event stream, or a JSON body.
 *
 * Threads: one at a time.
 */
#ifndef PROXY_READER_H
#define PROXY_READER_H

#include "base/buf.h"
#include "base/lines.h"

#include <stdbool.h>
#include <stdint.h>

struct usage {
    int64_t input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens;
};

struct reader {
    bool is_stream; /* text/event-stream; else JSON */
    struct lines lines;
    struct buf body; /* of JSON */
    struct usage usage;
};

/* `type`: the answer's Content-Type, or NULL. */
void reader_init(struct reader *reader, const char *type);
void reader_done(struct reader *reader);
void reader_feed(struct reader *reader, const char *data, size_t len);
/* Call at the end of the answer, or when it was cut off. */
void reader_finish(struct reader *reader);

#endif
