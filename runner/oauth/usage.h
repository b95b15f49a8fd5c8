/*
 * How much of the subscription's windows is used, as the API last reported, and which share of them
 * is kept for the owner.
 *
 * A subscription has two windows, of five hours and of seven days. The API reports them in the
 * heads of its answers (read by the proxy), and the CLI in its `rate_limit_event` lines (read by
 * the kind claude). A window that has ended is forgotten until the next answer. With a share kept
 * for the owner (USAGE_KEEP_PERCENT), a window that is used beyond the rest makes the breaker hold
 * tasks until it ends. The readings survive the process, in a file that a thread writes soon after
 * a change.
 *
 * Threads: any. Ownership: the caller of usage_new() frees it by usage_free().
 */
#ifndef OAUTH_USAGE_H
#define OAUTH_USAGE_H

#include "base/buf.h"
#include "runner/oauth/breaker.h"

#include <stdbool.h>
#include <stdint.h>

struct usage_windows;

enum usage_window { USAGE_FIVE_HOUR, USAGE_SEVEN_DAY, USAGE_WINDOWS };

/* The state of one window, as it was reported. */
struct usage_reading {
    bool known;
    double ratio;      /* used part; 1: all of it. Paid extra use is more than 1 */
    int64_t resets_ms; /* real time of its end */
};

/* The window's name: "five_hour", "seven_day". */
const char *usage_window_name(enum usage_window window);

/* `breaker` is borrowed; NULL: no task is held. */
struct usage_windows *usage_new(struct breaker *breaker, struct err *err);
void usage_free(struct usage_windows *usage);

/* Restores the readings in the file `path`, and keeps them there from now on. A file that cannot be
 * read counts as empty. Call once. */
int usage_remember(struct usage_windows *usage, const char *path, struct err *err);

/* Takes over the known readings, and leaves the other windows unchanged. */
void usage_note(struct usage_windows *usage, const struct usage_reading readings[USAGE_WINDOWS]);

/* Forgets all readings: there is another account. */
void usage_forget(struct usage_windows *usage);

/* Sets the share of each window that tasks leave to the owner, in percent; 0: none. */
void usage_keep(struct usage_windows *usage, int percent);

/* The readings of the windows that have not ended. */
void usage_read(struct usage_windows *usage, struct usage_reading ret_readings[USAGE_WINDOWS]);

/* Appends {"five_hour":{"used_percent":42,"resets_at":"…"},"seven_day":null}. */
void usage_print(struct usage_windows *usage, struct buf *out);

/* Prints the readings for a page of metrics; arg is a struct usage_windows. */
struct metric_page;
void usage_metrics(struct metric_page *page, void *arg);

#endif
