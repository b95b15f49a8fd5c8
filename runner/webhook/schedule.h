/*
 * When a webhook is tried again.
 *
 * Threads: no shared state.
 */
#ifndef WEBHOOK_SCHEDULE_H
#define WEBHOOK_SCHEDULE_H

#include "base/strlist.h"

#include <stdbool.h>
#include <stdint.h>

/* The wait after `tries` failed tries (1 and more), from the list of CALLBACK_RETRY_SECONDS: at
 * least what the receiver asked for, but at most the list's longest. False when there is no further
 * try. */
bool schedule_next(const struct strlist *waits, int tries, int64_t asked_ms, int64_t *ret_wait_ms);

/* The list's longest wait. */
int64_t schedule_longest(const struct strlist *waits);

/* The wait that a Retry-After header asks for: seconds, or a date. 0 when it is malformed, or
 * past. */
int64_t schedule_retry_after(const char *value, int64_t now_ms);

#endif
