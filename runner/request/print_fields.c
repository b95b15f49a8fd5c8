#include "runner/request/rows.h"

#include "base/check.h"

#include <string.h>

int request_field_at(size_t index, struct request_field *ret_field)
{
    REQUIRE(ret_field);
    if (index >= REQUEST_ROWS)
        return -1;
    const struct request_row *row = &request_rows[index];
    *ret_field = (struct request_field){
        .name = row->name,
        .aliases = row->aliases,
        .type = request_type(row),
        .takes = row->takes,
        .default_text = row->default_text,
        .flags = row->flags,
        .cli = row->cli,
        .help = row->help,
    };
    return 0;
}

/* Appends several names to one cell: "a|b" as `a`, `b`. */
static void add_names(const char *names, const char *before, struct buf *out)
{
    while (names) {
        size_t n = strcspn(names, "|");
        buf_addf(out, "%s`%.*s`", before, (int)n, names);
        before = ", ";
        names = names[n] ? names + n + 1 : NULL;
    }
}

static void add_takes(const struct request_row *row, struct buf *out)
{
    buf_adds(out, request_type(row));
    if (row->takes.choices)
        add_names(row->takes.choices, ": ", out);
    else if (row->kind == KIND_INT || row->kind == KIND_NUMBER)
        buf_addf(out, " %.15g..%.15g", row->takes.min, row->takes.max);
    else if (row->kind == KIND_LIST || row->kind == KIND_LINES || row->kind == KIND_DOMAINS)
        buf_addf(out, ", at most %.0f", row->takes.max);
    else if (row->takes.max > 0)
        buf_addf(out, ", at most %.0f bytes", row->takes.max);
}

static void add_row(const struct request_row *row, struct buf *out)
{
    buf_addf(out, "| `%s`", row->name);
    add_names(row->aliases, ", ", out);
    buf_adds(out, " | ");
    add_takes(row, out);
    buf_addf(out, " | %s%s%s | %s", row->default_text ? "`" : "",
             row->default_text ? row->default_text : "", row->default_text ? "`" : "", row->help);
    if (row->cli)
        buf_addf(out, " (`%s`)", row->cli);
    buf_addf(out, "%s%s |\n", row->flags & REQUEST_SECRET ? "; a secret" : "",
             row->flags & REQUEST_LATER ? " *(not supported yet)*" : "");
}

void request_print_markdown(unsigned where, struct buf *out)
{
    buf_adds(out, "| field | takes | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        if (request_rows[i].flags & where)
            add_row(&request_rows[i], out);
}
