/*
 * Takes secrets out of bytes on their way to a log, an event or a caller.
 *
 * A registered secret is found as it is, JSON-escaped (as JavaScript, Python, PHP and Go do it),
 * and (from 8 bytes on) inside base64 (both alphabets, any alignment; up to two bytes at its end
 * may stay), also when it is split over two pieces of a stream.
 *
 * Theory of operation: every form of every secret is a needle. A 64 Ki-bit map over the first four
 * bytes of the needles lets a scan pass nearly every byte with one look-up; only a hit compares
 * needles. A stream holds back what could still become a needle (at most the longest one).
 *
 * Threads: a set is locked inside; a stream belongs to one thread.
 * Ownership: the caller of redact_new() frees it by redact_free(); a stream borrows its set.
 */
#ifndef BASE_REDACT_H
#define BASE_REDACT_H

#include "base/buf.h"

#define REDACT_MIN_BYTES 6     /* shorter ones would tear holes into ordinary text */
#define REDACT_MAX_BYTES 65536 /* longer ones are cut: their beginning is still found */
#define REDACT_MARK "[redacted]"

struct redact_set;

struct redact_set *redact_new(void);
void redact_free(struct redact_set *set);

/* Registers a secret. Ones shorter than REDACT_MIN_BYTES are passed over. Several lines (a private
 * key) are also registered line by line. Returns 0, or -1 when memory ran out. */
int redact_add(struct redact_set *set, const char *secret);

/* Appends text to out with every needle replaced by REDACT_MARK. */
void redact_text(struct redact_set *set, const char *text, size_t len, struct buf *out);

/* True when text holds nothing to redact: the common case, without a copy. */
bool redact_is_clean(struct redact_set *set, const char *text, size_t len);

/* Appends a line of JSON without its secrets, also those hidden behind unnecessary escapes
 * (\\u0041): then all escapes are written in their plainest form. Returns true when there was
 * something to redact; otherwise *out is untouched. */
bool redact_json(struct redact_set *set, const char *line, size_t len, struct buf *out);

/* A stream: feed pieces, then finish once. `held` has the bytes that have not been passed on
 * yet. */
struct redact_stream {
    struct redact_set *set; /* borrowed */
    struct buf held;
};

void redact_stream_init(struct redact_stream *stream, struct redact_set *set);
void redact_feed(struct redact_stream *stream, const char *text, size_t len, struct buf *out);
void redact_finish(struct redact_stream *stream, struct buf *out);
void redact_stream_done(struct redact_stream *stream);

#endif
