#include "base/metric.h"

#include "base/auto.h"
#include "base/check.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LABELS_BYTES_MAX 1024
#define WHOLE_MAX 9007199254740992.0 /* 2^53: up to there every whole number is one */

/* --- durations ----------------------------------------------------------------------------- */

#define MS INT64_C(1000)
#define S INT64_C(1000000)

static const int64_t bounds_us[][HISTOGRAM_BOUNDS] = {
    [HISTOGRAM_QUICK] = {1 * MS, 2500, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS,
                         500 * MS, 1 * S, 5 * S, 15 * S, 60 * S},
    [HISTOGRAM_LONG] = {100 * MS, 500 * MS, 1 * S, 5 * S, 15 * S, 60 * S, 180 * S, 600 * S,
                        1800 * S, 3600 * S, 10800 * S, 28800 * S, 86400 * S},
};

void histogram_add(struct histogram *histogram, int64_t us)
{
    const int64_t *bounds = bounds_us[histogram->scale];
    size_t i = 0;
    if (us < 0)
        us = 0;
    while (i < HISTOGRAM_BOUNDS && us > bounds[i])
        i++;
    atomic_fetch_add_explicit(&histogram->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, (uint64_t)us, memory_order_relaxed);
}

/* --- outcomes ------------------------------------------------------------------------------ */

enum row_state { ROW_FREE, ROW_TAKEN, ROW_READY };

static bool is_row(const struct tally_row *row, const char *first, const char *second)
{
    return strcmp(row->words[0], first) == 0 && strcmp(row->words[1], second) == 0;
}

/* True when the row belongs to this pair; takes a free row for it. A row that another thread is
 * just filling is waited for: that is two short copies. */
static bool claim_row(struct tally_row *row, const char *first, const char *second)
{
    int state = ROW_FREE;
    if (atomic_compare_exchange_strong(&row->state, &state, ROW_TAKEN)) {
        memcpy(row->words[0], first, strlen(first) + 1);
        memcpy(row->words[1], second, strlen(second) + 1);
        atomic_store(&row->state, ROW_READY);
        return true;
    }
    while (atomic_load(&row->state) != ROW_READY)
        continue;
    return is_row(row, first, second);
}

void tally_add(struct tally *tally, const char *first, const char *second)
{
    bool fits = strlen(first) < TALLY_TEXT && strlen(second) < TALLY_TEXT;
    for (size_t i = 0; fits && i < TALLY_ROWS; i++)
        if (claim_row(&tally->rows[i], first, second)) {
            atomic_fetch_add_explicit(&tally->rows[i].count, 1, memory_order_relaxed);
            return;
        }
    atomic_fetch_add_explicit(&tally->others, 1, memory_order_relaxed);
}

/* --- the page ------------------------------------------------------------------------------ */

/* Appends text with the escapes that HELP lines and label values need. */
static void add_escaped(struct buf *out, const char *text, bool quoted)
{
    for (; *text; text++) {
        if (*text == '\n')
            buf_adds(out, "\\n");
        else if (*text == '\\' || (quoted && *text == '"'))
            buf_addf(out, "\\%c", *text);
        else
            buf_addc(out, *text);
    }
}

void metric_family(struct metric_page *page, const char *name, enum metric_type type,
                   const char *help)
{
    REQUIRE(page && name);
    static const char *const types[] = {"counter", "gauge", "histogram"};
    page->family = name;
    buf_addf(page->out, "# HELP %s ", name);
    add_escaped(page->out, help, false);
    buf_addf(page->out, "\n# TYPE %s %s\n", name, types[type]);
}

/* Appends one label to a set of labels; the first one also writes the '{'. */
static void add_label(struct buf *labels, const char *name, const char *value)
{
    buf_addf(labels, "%c%s=\"", labels->len == 0 ? '{' : ',', name);
    add_escaped(labels, value, true);
    buf_addc(labels, '"');
}

static void add_labels(struct buf *labels, va_list pairs)
{
    const char *name;
    while ((name = va_arg(pairs, const char *)))
        add_label(labels, name, va_arg(pairs, const char *));
}

static void add_sample(struct metric_page *page, const char *suffix, const struct buf *labels)
{
    buf_addf(page->out, "%s%s%s%s ", page->family, suffix, buf_str(labels),
             labels->len > 0 ? "}" : "");
}

void metric_value(struct metric_page *page, double value, ...)
{
    va_list pairs;
    AUTO(buf) struct buf labels = BUF_INIT(LABELS_BYTES_MAX);
    va_start(pairs, value);
    add_labels(&labels, pairs);
    va_end(pairs);
    add_sample(page, "", &labels);
    bool whole = value > -WHOLE_MAX && value < WHOLE_MAX && value == (double)(int64_t)value;
    buf_addf(page->out, whole ? "%.0f\n" : "%.15g\n", value);
}

static void add_bucket(struct metric_page *page, const struct buf *labels, const char *bound,
                       uint64_t count)
{
    buf_addf(page->out, "%s_bucket%s%sle=\"%s\"} %llu\n", page->family,
             labels->len > 0 ? buf_str(labels) : "{", labels->len > 0 ? "," : "", bound,
             (unsigned long long)count);
}

void metric_histogram(struct metric_page *page, const struct histogram *histogram, ...)
{
    va_list pairs;
    char bound[32];
    uint64_t count = 0; /* The count is summed from the same values that are printed, so that
                         * increments that arrive meanwhile cannot make the page inconsistent. */
    AUTO(buf) struct buf labels = BUF_INIT(LABELS_BYTES_MAX);
    va_start(pairs, histogram);
    add_labels(&labels, pairs);
    va_end(pairs);
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        if (i < HISTOGRAM_BOUNDS)
            snprintf(bound, sizeof(bound), "%.15g",
                     (double)bounds_us[histogram->scale][i] / (double)S);
        add_bucket(page, &labels, i < HISTOGRAM_BOUNDS ? bound : "+Inf", count);
    }
    add_sample(page, "_sum", &labels);
    buf_addf(page->out, "%.15g\n",
             (double)atomic_load_explicit(&histogram->sum_us, memory_order_relaxed) / (double)S);
    add_sample(page, "_count", &labels);
    buf_addf(page->out, "%llu\n", (unsigned long long)count);
}

void metric_tally(struct metric_page *page, const struct tally *tally, const char *first,
                  const char *second, ...)
{
    va_list pairs;
    AUTO(buf) struct buf labels = BUF_INIT(LABELS_BYTES_MAX);
    va_start(pairs, second);
    add_labels(&labels, pairs);
    va_end(pairs);
    size_t len = labels.len;
    for (size_t i = 0; i <= TALLY_ROWS; i++) {
        const struct tally_row *row = i < TALLY_ROWS ? &tally->rows[i] : NULL;
        const _Atomic uint64_t *count = row ? &row->count : &tally->others;
        if (row ? atomic_load(&row->state) != ROW_READY : atomic_load(count) == 0)
            continue;
        add_label(&labels, first, row ? row->words[0] : "other");
        add_label(&labels, second, row ? row->words[1] : "other");
        add_sample(page, "", &labels);
        buf_addf(page->out, "%llu\n", (unsigned long long)atomic_load(count));
        labels.len = len;
    }
}

void metric_counter(struct metric_page *page, const char *name, int64_t value, const char *help)
{
    metric_family(page, name, METRIC_COUNTER, help);
    metric_count(page, value, NULL);
}

void metric_gauge(struct metric_page *page, const char *name, int64_t value, const char *help)
{
    metric_family(page, name, METRIC_GAUGE, help);
    metric_count(page, value, NULL);
}
