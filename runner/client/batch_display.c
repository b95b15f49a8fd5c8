/*
 * What a person sees of a batch: on a terminal a few lines that are drawn again and again, else a
 * line for each run that ends.
 *
 * A drawing never takes more lines than the window has, and none wider than it, so that going back
 * to its beginning is right also after the window has changed: then the screen below the cursor is
 * cleared first.
 */
#include "base/auto.h"
#include "base/clock.h"
#include "runner/client/batch.h"
#include "runner/client/narrate.h"
#include "runner/client/screen.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRAW_EVERY_MS 100
#define VIEWS_MAX 64
#define DRAWING_MAX (1u << 20)
#define LINE_BYTES 4096

struct batch_display {
    bool live, quiet, colour;
    int columns, rows; /* size of the window at the last drawing */
    int lines;         /* lines of the last drawing */
    int64_t drawn_ms;
    size_t failed_said;
};

struct batch_display *batch_display_new(const struct batch *batch)
{
    struct batch_display *d = calloc(1, sizeof(*d));
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    if (!d)
        return NULL;
    d->quiet = batch->options.quiet;
    d->live = !d->quiet && isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    d->colour = d->live && !(no_colour && *no_colour);
    return d;
}

void batch_display_free(struct batch_display *d)
{
    free(d);
}

/* --- drawing ------------------------------------------------------------------------------- */

static size_t ended(const struct batch *b)
{
    return b->sums.ok + b->sums.failed;
}

static void add_count(struct buf *out, double n)
{
    if (n >= 1e6)
        buf_addf(out, "%.1fM", n / 1e6);
    else if (n >= 1e4)
        buf_addf(out, "%.0fk", n / 1e3);
    else
        buf_addf(out, "%.0f", n);
}

/* Adds the progress: "[#####.....] 50/100 49 ok 1 failed 8 under way". */
static void add_head(const struct batch *b, int columns, struct buf *line)
{
    int width = columns / 4 < 40 ? columns / 4 : 40;
    int full = b->sums.total ? (int)((size_t)width * ended(b) / b->sums.total) : 0;
    buf_addc(line, '[');
    for (int i = 0; i < width; i++)
        buf_addc(line, i < full ? '#' : '.');
    buf_addf(line, "] %zu/%zu  %zu ok  %zu failed  %zu under way", ended(b), b->sums.total,
             b->sums.ok, b->sums.failed, b->sums.under_way);
}

/* Adds the rate, tokens, cost, and the expected end. */
static void add_numbers(const struct batch *b, struct buf *line)
{
    double seconds = (double)(clock_mono_ms() - b->begun_ms) / 1000;
    size_t now = ended(b) - b->sums.kept_before;
    double rate = seconds > 0 ? (double)now / seconds : 0;
    buf_addf(line, "%.1f/min  ", rate * 60);
    add_count(line, (double)b->sums.tokens_in);
    buf_adds(line, " in  ");
    add_count(line, (double)b->sums.tokens_out);
    buf_adds(line, " out  ");
    screen_add_cost(line, b->sums.cost);
    buf_adds(line, "  ");
    screen_add_duration(line, seconds);
    if (rate > 0 && ended(b) < b->sums.total) {
        buf_adds(line, "  left ");
        screen_add_duration(line, (double)(b->sums.total - ended(b)) / rate);
    }
    if (b->limit < b->options.parallel)
        buf_addf(line, "  limit %.0f", b->limit);
    if (b->pause_until_ms > clock_mono_ms())
        buf_addf(line, "  %s", b->away_since_ms ? "the runner is away" : "held by the runner");
}

static void add_view(const struct batch_view *view, struct buf *line)
{
    buf_addf(line, "  %s #%zu  ", view->task, view->run);
    screen_add_duration(line, (double)(clock_mono_ms() - view->begun_ms) / 1000);
    buf_addf(line, "  %s", view->doing);
}

/* Prints one line of the drawing, cut to the window; the last column stays free, so that no
 * terminal wraps. */
static void put_line(struct batch_display *d, const struct buf *line, enum narrate_colour hue,
                     struct buf *out)
{
    buf_adds(out, narrate_colour(d->colour && hue != PLAIN, hue));
    screen_add_line(out, buf_str(line), d->columns > 1 ? (size_t)d->columns - 1 : 1);
    buf_adds(out, narrate_colour(d->colour && hue != PLAIN, PLAIN));
    buf_adds(out, "\033[K\n");
    d->lines++;
}

static void go_back(const struct batch_display *d, struct buf *out)
{
    if (d->lines > 0)
        buf_addf(out, "\033[%dA", d->lines);
    buf_adds(out, "\r");
}

static void draw(struct batch_display *d, const struct batch *b)
{
    struct batch_view views[VIEWS_MAX];
    AUTO(buf) struct buf out = BUF_INIT(DRAWING_MAX);
    int columns, rows;
    screen_size(STDERR_FILENO, &columns, &rows);
    go_back(d, &out);
    if (columns != d->columns || rows != d->rows)
        buf_adds(&out, "\033[J"); /* The terminal may have wrapped lines. */
    d->columns = columns;
    d->rows = rows;
    d->lines = 0;
    int room = rows - 3; /* The cursor's own line stays free. */
    size_t count = batch_views(b, views,
                               room < 1           ? 0
                               : room < VIEWS_MAX ? (size_t)room
                                                  : VIEWS_MAX);
    for (size_t i = 0; i < count + 2; i++) {
        AUTO(buf) struct buf line = BUF_INIT(LINE_BYTES);
        if (i == 0)
            add_head(b, columns, &line);
        else if (i == 1)
            add_numbers(b, &line);
        else
            add_view(&views[i - 2], &line);
        if (d->lines < rows - 1)
            put_line(d, &line, i == 0 ? BOLD : i == 1 ? PLAIN : DIM, &out);
    }
    buf_adds(&out, "\033[J");
    fwrite(buf_str(&out), 1, out.len, stderr);
    fflush(stderr);
}

void batch_display_tick(struct batch_display *d, const struct batch *b, bool now)
{
    if (!d || !d->live || (!now && clock_mono_ms() - d->drawn_ms < DRAW_EVERY_MS))
        return;
    draw(d, b);
    d->drawn_ms = clock_mono_ms();
}

bool batch_display_lives(const struct batch_display *d)
{
    return d && d->live;
}

void batch_display_clear(struct batch_display *d)
{
    AUTO(buf) struct buf out = BUF_INIT(LINE_BYTES);
    if (!d || !d->live || d->lines == 0)
        return;
    go_back(d, &out);
    buf_adds(&out, "\033[J");
    fwrite(buf_str(&out), 1, out.len, stderr);
    fflush(stderr);
    d->lines = 0;
}

/* --- lines --------------------------------------------------------------------------------- */

/* Prints the end of a run; on a terminal only of a failed one, above the drawing. */
void batch_display_ended(struct batch_display *d, const struct batch *b,
                         const struct batch_task *task, size_t run, bool ok, double seconds,
                         double cost, const char *error)
{
    AUTO(buf) struct buf line = BUF_INIT(LINE_BYTES), cut = BUF_INIT(LINE_BYTES);
    if (!d || d->quiet || (d->live && ok))
        return;
    buf_addf(&line, "%zu/%zu %s #%zu %s ", ended(b), b->sums.total, task->id, run,
             ok ? "ok" : "failed");
    screen_add_duration(&line, seconds);
    buf_addc(&line, ' ');
    screen_add_cost(&line, cost);
    if (*error)
        buf_addf(&line, ": %.400s", error);
    screen_add_line(&cut, buf_str(&line), d->live && d->columns > 1 ? (size_t)d->columns - 1 : 500);
    batch_display_clear(d);
    fprintf(stderr, "%s\n", buf_str(&cut));
}
