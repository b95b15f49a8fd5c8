/*
 * How much of the subscription's windows is used, as the API last said, and what of them is left to
 * the owner.
 *
 * A subscription has two windows, of five hours and of seven days. The API tells of them in the
 * heads of its answers (the proxy reads those), the CLI in its `rate_limit_event` lines (the kind
 * claude reads those). A window that has ended is forgotten: the next answer tells of the next one.
 *
 * With a share kept for the owner (USAGE_KEEP_PERCENT), a window that is used beyond the rest makes
 * the breaker hold tasks until it ends.
 *
 * What is known outlives the process, in a file: a thread writes it soon after it has changed.
 *
 * Threads: any.
 */
#ifndef OAUTH_USAGE_H
#define OAUTH_USAGE_H

#include "base/buf.h"
#include "runner/oauth/breaker.h"

#include <stdbool.h>
#include <stdint.h>

struct usage_windows;

enum usage_window { USAGE_FIVE_HOUR, USAGE_SEVEN_DAY, USAGE_WINDOWS };

/* Of one window, as somebody has just told it. */
struct usage_reading {
    bool known;
    double ratio;      /* used; 1: all of it. Paid extra use goes beyond */
    int64_t resets_ms; /* real time of its end */
};

/* "five_hour", "seven_day". */
const char *usage_window_name(enum usage_window window);

/* `breaker` is borrowed; NULL: nothing is held. */
struct usage_windows *usage_new(struct breaker *breaker, struct err *err);
void usage_free(struct usage_windows *usage);

/* Takes up what the file `path` says, and keeps it there from now on. A file that cannot be read
 * says nothing. Once. */
int usage_remember(struct usage_windows *usage, const char *path, struct err *err);

/* Takes over what is known of each window, and leaves the others. */
void usage_note(struct usage_windows *usage, const struct usage_reading readings[USAGE_WINDOWS]);

/* Another account: what was known is over. */
void usage_forget(struct usage_windows *usage);

/* How much of each window tasks leave to the owner, in percent; 0: nothing. */
void usage_keep(struct usage_windows *usage, int percent);

/* What is known of the windows that have not ended. */
void usage_read(struct usage_windows *usage, struct usage_reading ret_readings[USAGE_WINDOWS]);

/* Appends {"five_hour":{"used_percent":42,"resets_at":"…"},"seven_day":null}. */
void usage_print(struct usage_windows *usage, struct buf *out);

/* Prints the same for a page of metrics; arg is a struct usage_windows. */
struct metric_page;
void usage_metrics(struct metric_page *page, void *arg);

#endif
