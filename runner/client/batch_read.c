#include "runner/client/batch_read.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/str.h"
#include "runner/client/download.h"
#include "runner/client/fields.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (1u << 30)

/* --- CSV ----------------------------------------------------------------------------------- */

/* Reads one cell; *csv->at is then after it, at ',', a line end or the end. */
static int read_cell(struct csv *csv, struct buf *cell, struct err *err)
{
    size_t began = csv->line;
    if (csv->at == csv->end || *csv->at != '"') {
        while (csv->at < csv->end && *csv->at != ',' && *csv->at != '\n')
            buf_addc(cell, *csv->at++);
        if (cell->len > 0 && cell->data[cell->len - 1] == '\r' &&
            (csv->at == csv->end || *csv->at == '\n'))
            cell->data[--cell->len] = '\0';
        return 0;
    }
    for (csv->at++;; csv->at++) {
        if (csv->at == csv->end)
            return err_set(err, ERR_INVALID, "line %zu: a quote is not closed", began);
        if (*csv->at == '"' && csv->at + 1 < csv->end && csv->at[1] == '"')
            csv->at++;
        else if (*csv->at == '"')
            break;
        csv->line += *csv->at == '\n';
        buf_addc(cell, *csv->at);
    }
    csv->at++;
    if (csv->at < csv->end && *csv->at == '\r')
        csv->at++;
    if (csv->at < csv->end && *csv->at != ',' && *csv->at != '\n')
        return err_set(err, ERR_INVALID, "line %zu: text after a closing quote", csv->line);
    return 0;
}

int csv_next(struct csv *csv, struct strlist *cells, struct err *err)
{
    strlist_done(cells);
    *cells = (struct strlist)STRLIST_INIT;
    while (csv->at < csv->end && (*csv->at == '\n' || *csv->at == '\r')) {
        csv->line += *csv->at == '\n';
        csv->at++;
    }
    if (csv->at == csv->end)
        return 0;
    for (;;) {
        AUTO(buf) struct buf cell = BUF_INIT(BATCH_TASK_MAX);
        if (read_cell(csv, &cell, err) || buf_check(&cell, "a cell", err))
            return -1;
        strlist_add(cells, buf_str(&cell));
        bool more = csv->at < csv->end && *csv->at == ',';
        if (csv->at < csv->end)
            csv->line += *csv->at++ == '\n';
        if (!more)
            return cells->failed ? err_set(err, ERR_TOO_LARGE, "too many columns") : 1;
    }
}

static int add_row(struct batch_reading *reading, const struct strlist *heads,
                   const struct strlist *cells, size_t line, struct err *err)
{
    struct json_writer w;
    char where[40];
    AUTO(buf) struct buf object = BUF_INIT(BATCH_TASK_MAX);
    snprintf(where, sizeof(where), "line %zu", line);
    if (cells->count > heads->count)
        return err_set(err, ERR_INVALID, "%s: more cells than the heading has", where);
    json_write(&w, &object);
    json_open_object(&w, NULL);
    for (size_t i = 0; i < heads->count; i++)
        json_add_text(&w, heads->items[i], i < cells->count ? cells->items[i] : "");
    json_close(&w);
    if (buf_check(&object, where, err))
        return -1;
    return batch_tasks_add(reading, buf_str(&object), object.len, where, err);
}

static int read_csv(struct batch_reading *reading, const struct buf *text, struct err *err)
{
    AUTO(strlist) struct strlist heads = STRLIST_INIT, cells = STRLIST_INIT;
    const char *from = buf_str(text);
    from += str_starts(from, "\xef\xbb\xbf") ? 3 : 0;
    struct csv csv = {from, buf_str(text) + text->len, 1};
    if (csv_next(&csv, &heads, err) < 0)
        return -1;
    reading->table = true;
    for (;;) {
        size_t line = csv.line;
        int got = csv_next(&csv, &cells, err);
        if (got <= 0)
            return got;
        if (add_row(reading, &heads, &cells, line, err))
            return -1;
    }
}

/* --- JSON ---------------------------------------------------------------------------------- */

static int read_array(struct batch_reading *reading, const struct buf *text, struct err *err)
{
    AUTO(json) struct json *array = json_parse(buf_str(text), text->len, err);
    size_t number = 0;
    char where[40];
    if (!array)
        return -1;
    const struct json *items = json_type(array) == JSON_OBJECT ? json_get(array, "tasks") : array;
    if (json_type(items) != JSON_ARRAY)
        return err_set(err, ERR_INVALID, "must be an array of tasks");
    for (const struct json *at = json_first(items); at; at = json_next(at)) {
        AUTO(buf) struct buf one = BUF_INIT(BATCH_TASK_MAX);
        snprintf(where, sizeof(where), "task %zu", ++number);
        json_print(at, &one);
        if (buf_check(&one, where, err) ||
            batch_tasks_add(reading, buf_str(&one), one.len, where, err))
            return -1;
    }
    return 0;
}

/* Reads line by line, so that memory does not grow with the file. */
static int read_lines(struct batch_reading *reading, FILE *in, struct err *err)
{
    AUTO(str) char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t len;
    char where[40];
    while ((len = getline(&line, &room, in)) >= 0) {
        snprintf(where, sizeof(where), "line %zu", ++number);
        if (len > (ssize_t)BATCH_TASK_MAX)
            return err_set(err, ERR_TOO_LARGE, "%s is longer than %u MiB", where,
                           BATCH_TASK_MAX >> 20);
        if (!str_is_blank(line, (size_t)len) &&
            batch_tasks_add(reading, line, (size_t)len, where, err))
            return -1;
    }
    return ferror(in) ? err_sys(err, "cannot read the tasks") : 0;
}

/* --- the file ------------------------------------------------------------------------------ */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && str_equal_nocase(text + n - m, end);
}

enum form { FORM_JSONL, FORM_ARRAY, FORM_CSV };

/* Guesses the form by the name, else by the first character. */
static enum form guess(const char *path, FILE *in)
{
    int c;
    if (ends_with(path, ".csv"))
        return FORM_CSV;
    if (ends_with(path, ".jsonl") || ends_with(path, ".ndjson"))
        return FORM_JSONL;
    while ((c = getc(in)) != EOF && strchr(" \t\r\n", c))
        continue;
    ungetc(c, in);
    if (ends_with(path, ".json") && c == '{')
        return FORM_ARRAY; /* {"tasks":[…]} */
    return c == '[' ? FORM_ARRAY : c == '{' ? FORM_JSONL : FORM_CSV;
}

static int read_whole(FILE *in, struct buf *out, struct err *err)
{
    char piece[65536];
    size_t n;
    while ((n = fread(piece, 1, sizeof(piece), in)) > 0)
        buf_add(out, piece, n);
    if (ferror(in))
        return err_sys(err, "cannot read the tasks");
    return buf_check(out, "the file of tasks", err);
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct batch_task *const *)a)->id, (*(struct batch_task *const *)b)->id);
}

static int check_ids(const struct batch_tasks *tasks, struct err *err)
{
    const struct batch_task **sorted = calloc(tasks->count, sizeof(struct batch_task *));
    int rc = sorted ? 0 : err_sys(err, "tasks");
    for (size_t i = 0; sorted && i < tasks->count; i++)
        sorted[i] = &tasks->items[i];
    if (sorted)
        qsort(sorted, tasks->count, sizeof(struct batch_task *), by_id);
    for (size_t i = 1; rc == 0 && i < tasks->count; i++)
        if (strcmp(sorted[i - 1]->id, sorted[i]->id) == 0)
            rc = err_set(err, ERR_INVALID, "two tasks have the id '%.100s'", sorted[i]->id);
    free(sorted);
    return rc;
}

static int read_form(struct batch_reading *reading, enum form form, FILE *in, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(FILE_MAX);
    if (form == FORM_JSONL)
        return read_lines(reading, in, err);
    if (read_whole(in, &text, err))
        return -1;
    return form == FORM_CSV ? read_csv(reading, &text, err) : read_array(reading, &text, err);
}

int batch_tasks_read(struct batch_tasks *tasks, const char *path,
                     const struct batch_defaults *defaults, struct err *err)
{
    struct batch_reading reading = {.tasks = tasks, .defaults = defaults};
    bool ours = strcmp(path, "-") != 0;
    FILE *in = ours ? fopen(path, "re") : stdin;
    *tasks = (struct batch_tasks){.spool = -1};
    if (!in)
        return err_set(err, ERR_NOT_FOUND, "cannot open %.150s: %s", path, strerror(errno));
    int rc = (tasks->spool = temporary_open(err)) < 0;
    if (rc == 0)
        rc = read_form(&reading, guess(path, in), in, err);
    if (ours)
        fclose(in);
    if (rc)
        return err_wrap(err, "%.150s", ours ? path : "standard input");
    if (tasks->count == 0)
        return err_set(err, ERR_INVALID, "%.150s has no tasks", ours ? path : "standard input");
    tasks->runs = calloc(tasks->run_count, sizeof(*tasks->runs));
    return tasks->runs ? check_ids(tasks, err) : err_sys(err, "tasks");
}
