/*
 * Metrics for a monitor: histograms, tallies, and the page that shows them all in Prometheus' text
 * format (0.0.4).
 *
 * Who counts owns the counters: _Atomic integers, histograms and tallies in its own struct, all
 * valid when zeroed. They begin at 0 with the program. Counting takes no lock and no memory. A
 * source is a function that prints the families of one module; a page is a list of sources:
 *
 *     void x_metrics(struct metric_page *page, void *arg)
 *     {
 *         metric_family(page, "x_ends_total", METRIC_COUNTER, "How many ended, by outcome.");
 *         metric_count(page, n, "outcome", "good", NULL);
 *     }
 *
 * A label's values come from our own tables, never from a caller, so their number is bounded.
 *
 * Threads: counting and printing from any, at once; a page belongs to one thread.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdint.h>

/* --- durations ----------------------------------------------------------------------------- */

enum histogram_scale {
    HISTOGRAM_QUICK, /* 1 ms to 60 s: what somebody waits for */
    HISTOGRAM_LONG,  /* 0.1 s to a day: what runs by itself */
};

#define HISTOGRAM_BOUNDS 13

struct histogram {
    enum histogram_scale scale;
    _Atomic uint64_t
        counts[HISTOGRAM_BOUNDS + 1]; /* not cumulative; the last is beyond all bounds */
    _Atomic uint64_t sum_us;
};

/* Adds a duration. A negative one counts as 0: the clock was set back. */
void histogram_add(struct histogram *histogram, int64_t us);

/* --- outcomes ------------------------------------------------------------------------------ */

#define TALLY_ROWS 48
#define TALLY_TEXT 32

/* Counts by a pair of words. Rows are taken as pairs appear; a pair that finds no row free, or is
 * too long, counts under "other". */
struct tally {
    struct tally_row {
        _Atomic int state;
        char words[2][TALLY_TEXT];
        _Atomic uint64_t count;
    } rows[TALLY_ROWS];
    _Atomic uint64_t others;
};

void tally_add(struct tally *tally, const char *first, const char *second);

/* --- the page ------------------------------------------------------------------------------ */

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_page {
    struct buf *out; /* borrowed */
    const char *family;
};

struct metric_source {
    void (*print)(struct metric_page *page, void *arg);
    void *arg;
};

/* Begins a family. All its samples follow before the next family begins. */
void metric_family(struct metric_page *page, const char *name, enum metric_type type,
                   const char *help);

/* A sample of the family. Labels are pairs of name and value, ended by NULL. */
#define metric_count(page, value, ...) metric_value((page), (double)(value), __VA_ARGS__)
void metric_value(struct metric_page *page, double value, ...) __attribute__((sentinel));
void metric_histogram(struct metric_page *page, const struct histogram *histogram, ...)
    __attribute__((sentinel));

/* A sample for each pair of words that was counted, with `first` and `second` as label names.
 * Labels in the further arguments come before them. */
void metric_tally(struct metric_page *page, const struct tally *tally, const char *first,
                  const char *second, ...) __attribute__((sentinel));

/* Families of one sample without labels. */
void metric_counter(struct metric_page *page, const char *name, int64_t value, const char *help);
void metric_gauge(struct metric_page *page, const char *name, int64_t value, const char *help);

#endif
