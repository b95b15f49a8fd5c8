/*
 * The report at the end of a batch: for each task how many runs succeeded, their costs and
 * durations, and how both are distributed; for the terminal, as Markdown, and as one self-contained
 * HTML page.
 */
#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/client/batch.h"
#include "runner/client/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_MAX (256u << 20)
#define PLOT_TASKS_MAX 2000 /* bars of one plot; the table has all tasks */
#define BINS 24

/* --- numbers ------------------------------------------------------------------------------- */

struct spread {
    size_t count;
    double sum, least, most, median, p90;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum quantity { SECONDS, COST };

static double value_of(const struct batch_run *run, enum quantity what)
{
    return (double)(what == SECONDS ? run->seconds : run->cost);
}

static bool has_ended(const struct batch_run *run)
{
    return run->state == RUN_OK || run->state == RUN_FAILED;
}

/* Statistics of the ended runs in [first, first + count). */
static struct spread spread_of(const struct batch *b, size_t first, size_t count,
                               enum quantity what)
{
    struct spread s = {0};
    double *values = calloc(count + 1, sizeof(*values));
    for (size_t i = first; values && i < first + count; i++)
        if (has_ended(&b->tasks.runs[i])) {
            values[s.count++] = value_of(&b->tasks.runs[i], what);
            s.sum += values[s.count - 1];
        }
    if (values && s.count > 0) {
        qsort(values, s.count, sizeof(*values), by_value);
        s.least = values[0];
        s.most = values[s.count - 1];
        s.median = values[s.count / 2];
        s.p90 = values[(s.count * 9) / 10 < s.count ? (s.count * 9) / 10 : s.count - 1];
    }
    free(values);
    return s;
}

/* --- the terminal and JSON ----------------------------------------------------------------- */

static void print_json(const struct batch *b, FILE *out)
{
    struct json_writer w;
    AUTO(buf) struct buf text = BUF_INIT(65536);
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "out", b->results.dir);
    json_add_int(&w, "runs", (int64_t)b->sums.total);
    json_add_int(&w, "ok", (int64_t)b->sums.ok);
    json_add_int(&w, "failed", (int64_t)b->sums.failed);
    json_add_int(&w, "notRun", (int64_t)b->sums.skipped);
    json_add_number(&w, "costUsd", b->sums.cost);
    json_add_int(&w, "inputTokens", b->sums.tokens_in);
    json_add_int(&w, "outputTokens", b->sums.tokens_out);
    json_add_number(&w, "seconds", b->sums.seconds);
    json_add_text(&w, "stopped", b->why);
    json_close(&w);
    fprintf(out, "%s\n", buf_str(&text));
}

static void print_summary(const struct batch *b, FILE *out)
{
    AUTO(buf) struct buf line = BUF_INIT(4096);
    buf_addf(&line, "%zu of %zu runs ok, %zu failed", b->sums.ok, b->sums.total, b->sums.failed);
    if (b->sums.skipped > 0)
        buf_addf(&line, ", %zu not run%s%s", b->sums.skipped, b->why ? ": " : "",
                 b->why ? b->why : "");
    buf_adds(&line, "; ");
    screen_add_cost(&line, b->sums.cost);
    buf_adds(&line, ", ");
    screen_add_duration(&line, b->sums.seconds);
    buf_addf(&line, "; %s", b->results.dir);
    fprintf(out, "%s\n", buf_str(&line));
}

/* --- Markdown ------------------------------------------------------------------------------ */

/* Adds a cell: one line, without a bar. */
static void add_cell(struct buf *out, const char *text)
{
    for (; *text; text++)
        if (*text == '|')
            buf_adds(out, "\\|");
        else
            buf_addc(out, *text == '\n' || *text == '\r' ? ' ' : *text);
}

static void add_totals(const struct batch *b, struct buf *out)
{
    buf_addf(out, "%zu runs of %zu tasks: %zu ok, %zu failed, %zu not run. ", b->sums.total,
             b->tasks.count, b->sums.ok, b->sums.failed, b->sums.skipped);
    screen_add_cost(out, b->sums.cost);
    buf_addf(out, ", %lld tokens in, %lld out.\n", (long long)b->sums.tokens_in,
             (long long)b->sums.tokens_out);
}

static void write_markdown(const struct batch *b, struct buf *out)
{
    buf_adds(out, "# ");
    add_cell(out, b->options.title ? b->options.title : "Batch");
    buf_adds(out, "\n\n");
    add_totals(b, out);
    buf_adds(out, "\n| task | ok | failed | cost | median | p90 | longest |\n"
                  "|---|---:|---:|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < b->tasks.count; i++) {
        const struct batch_task *t = &b->tasks.items[i];
        struct spread s = spread_of(b, t->first, t->count, SECONDS);
        struct spread c = spread_of(b, t->first, t->count, COST);
        buf_adds(out, "| ");
        add_cell(out, t->id);
        buf_addf(out, " | %u/%u | %u | ", t->ok, t->count, t->failed);
        screen_add_cost(out, c.sum);
        buf_addf(out, " | %.1f s | %.1f s | %.1f s |\n", s.median, s.p90, s.most);
    }
}

/* --- HTML ---------------------------------------------------------------------------------- */

/* Adds a histogram of a quantity over all runs. */
static void add_histogram(const struct batch *b, const char *title, enum quantity what,
                          struct buf *out)
{
    struct spread s = spread_of(b, 0, b->tasks.run_count, what);
    size_t bins[BINS] = {0}, most = 1;
    double width = s.most > s.least ? (s.most - s.least) / BINS : 1;
    for (size_t i = 0; i < b->tasks.run_count; i++)
        if (has_ended(&b->tasks.runs[i])) {
            size_t bin = (size_t)((value_of(&b->tasks.runs[i], what) - s.least) / width);
            bin = bin < BINS ? bin : BINS - 1;
            bins[bin]++;
            most = bins[bin] > most ? bins[bin] : most;
        }
    buf_addf(out, "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 480 140\" role=\"img\">",
             title);
    for (size_t i = 0; i < BINS; i++) {
        double h = 110.0 * (double)bins[i] / (double)most;
        buf_addf(out,
                 "<rect x=\"%zu\" y=\"%.1f\" width=\"18\" height=\"%.1f\"><title>%.4g to %.4g: "
                 "%zu</title></rect>",
                 i * 20, 115 - h, h, s.least + width * (double)i, s.least + width * (double)(i + 1),
                 bins[i]);
    }
    buf_addf(out,
             "<text x=\"0\" y=\"134\">%.4g</text><text x=\"478\" y=\"134\" "
             "text-anchor=\"end\">%.4g</text></svg></figure>\n",
             s.least, s.most);
}

/* Adds a bar per task with the share of its successful runs. */
static void add_successes(const struct batch *b, struct buf *out)
{
    size_t count = b->tasks.count < PLOT_TASKS_MAX ? b->tasks.count : PLOT_TASKS_MAX;
    double step = 480.0 / (double)(count ? count : 1);
    buf_addf(out,
             "<figure><figcaption>Runs that were ok, by task%s</figcaption>"
             "<svg viewBox=\"0 0 480 140\" role=\"img\">",
             count < b->tasks.count ? " (the first of them)" : "");
    for (size_t i = 0; i < count; i++) {
        const struct batch_task *t = &b->tasks.items[i];
        double ok = 110.0 * t->ok / t->count, failed = 110.0 * t->failed / t->count;
        double wide = step > 3 ? step - 1 : step;
        buf_addf(out,
                 "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"/>"
                 "<rect class=\"bad\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"/>",
                 (double)i * step, 115 - ok, wide, ok, (double)i * step, 115 - ok - failed, wide,
                 failed);
    }
    buf_adds(out, "</svg></figure>\n");
}

static const char html_head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;"
    "margin:2rem auto;padding:0 1rem}\n"
    "table{border-collapse:collapse;width:100%}th,td{padding:.25rem .6rem;text-align:right;"
    "border-bottom:1px solid #8884}\n"
    "th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}"
    "figure{display:inline-block;width:min(100%,30rem);margin:0 1rem 1rem 0}\n"
    "svg{width:100%}rect{fill:#3a7d44}rect.bad{fill:#c0392b}text{font-size:11px;fill:currentColor}"
    ".bad{color:#c0392b}\n</style>\n<title>";

static void write_html(const struct batch *b, struct buf *out)
{
    const char *title = b->options.title ? b->options.title : "Batch";
    buf_adds(out, html_head);
    str_add_html(out, title);
    buf_adds(out, "</title></head><body>\n<h1>");
    str_add_html(out, title);
    buf_adds(out, "</h1>\n<p>");
    add_totals(b, out);
    buf_adds(out, "</p>\n");
    add_successes(b, out);
    add_histogram(b, "Seconds of a run", SECONDS, out);
    add_histogram(b, "Cost of a run, USD", COST, out);
    buf_adds(out, "<table><thead><tr><th>task<th>ok<th>failed<th>cost<th>median<th>p90<th>longest"
                  "</tr></thead><tbody>\n");
    for (size_t i = 0; i < b->tasks.count; i++) {
        const struct batch_task *t = &b->tasks.items[i];
        struct spread s = spread_of(b, t->first, t->count, SECONDS);
        struct spread c = spread_of(b, t->first, t->count, COST);
        buf_adds(out, "<tr><td>");
        str_add_html(out, t->id);
        buf_addf(out, "<td>%u/%u<td%s>%u<td>", t->ok, t->count, t->failed ? " class=\"bad\"" : "",
                 t->failed);
        screen_add_cost(out, c.sum);
        buf_addf(out, "<td>%.1f s<td>%.1f s<td>%.1f s</tr>\n", s.median, s.p90, s.most);
    }
    buf_adds(out, "</tbody></table>\n</body></html>\n");
}

/* --- all ----------------------------------------------------------------------------------- */

static int write_file(const struct batch *b, const char *name,
                      void (*write)(const struct batch *b, struct buf *out), struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(REPORT_MAX);
    AUTO(str) char *path = path_join(b->results.dir, name);
    write(b, &text);
    if (!path || buf_check(&text, name, err))
        return -1;
    return file_replace(path, buf_str(&text), text.len, 0666, err);
}

int batch_report(const struct batch *b, FILE *out, bool json, struct err *err)
{
    (json ? print_json : print_summary)(b, out);
    return write_file(b, "summary.md", write_markdown, err) ||
                   write_file(b, "report.html", write_html, err)
               ? -1
               : 0;
}
