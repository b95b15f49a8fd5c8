/*
 * Decides when something is tried again: full jitter between tries, Retry-After honoured, up to a
 * total time. Private to shared/google.
 *
 * Threads: one at a time.
 */
#ifndef GOOGLE_RETRY_H
#define GOOGLE_RETRY_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct retry {
    int64_t end_ms; /* mono */
    int tries;
    bool (*stop)(void *arg); /* or NULL */
    void *arg;
};

struct retry retry_begin(int total_ms, bool (*stop)(void *arg), void *arg);
/* Starts again from the beginning, after progress. */
void retry_renew(struct retry *retry, int total_ms);

/* A random part of an interval that doubles with every try, so that callers that failed together do
 * not try again together. */
int64_t retry_jitter(int tries);

/* Waits for the next try, at least after_ms (-1: not given). False, at once or on the way, when the
 * time does not suffice or stop() says so. */
bool retry_pause(struct retry *retry, int64_t after_ms);

bool retry_is_stopped(const struct retry *retry);
int64_t retry_left_ms(const struct retry *retry);

/* The time until Retry-After in an answer's head (seconds or a date); -1: none. */
int64_t retry_after(const struct buf *head);
/* As retry_after(), from the header's value; -1 when it has neither form. */
int64_t retry_after_value(const char *value);

/* Appends text from outside for a message: one line of UTF-8, at most `max` bytes. */
void retry_add_words(struct buf *out, const char *words, size_t max);

#endif
