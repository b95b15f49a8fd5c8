/*
 * When something is tried again: full jitter between tries, Retry-After honoured, up to a total
 * time. Private to shared/google.
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
/* There was progress: from the beginning. */
void retry_renew(struct retry *retry, int total_ms);

/* Some part of an interval that doubles with every try, at random: callers that failed together do
 * not come again together. */
int64_t retry_jitter(int tries);

/* Waits that long, at least after_ms (-1: not said). False, at
 * once or on the way, when the time does not suffice or stop() says so. */
bool retry_pause(struct retry *retry, int64_t after_ms);

bool retry_is_stopped(const struct retry *retry);
int64_t retry_left_ms(const struct retry *retry);

/* The Retry-After of an answer's head (seconds or a date) from now on; -1: none. */
int64_t retry_after(const struct buf *head);
/* The same of its value; -1: neither form. */
int64_t retry_after_value(const char *value);

/* Appends foreign words for a message: one line of UTF-8, at most `max` bytes. */
void retry_add_words(struct buf *out, const char *words, size_t max);

#endif
