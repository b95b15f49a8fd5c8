/*
 * The forms of a file of tasks: JSON lines, a JSON array, CSV. Private to the files batch*.c.
 *
 * Threads: one. Ownership: everything is borrowed.
 */
#ifndef CLIENT_BATCH_READ_H
#define CLIENT_BATCH_READ_H

#include "runner/client/batch.h"

struct batch_reading {
    struct batch_tasks *tasks;
    const struct batch_defaults *defaults;
    bool table; /* CSV: every column is a member */
};

/* Reads CSV row by row: RFC 4180, with line ends inside quotes. */
struct csv {
    const char *at, *end;
    size_t line;
};

/* Reads the next row's cells into `cells` (cleared first). Returns 1, 0 at the end, or -1 with
 * *err. */
int csv_next(struct csv *csv, struct strlist *cells, struct err *err);

#endif
