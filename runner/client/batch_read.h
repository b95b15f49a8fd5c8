/*
 * The forms that tasks come in: JSON lines, a JSON array, CSV. Private to the files batch*.c.
 *
 * Threads: one.
 */
#ifndef CLIENT_BATCH_READ_H
#define CLIENT_BATCH_READ_H

#include "runner/client/batch.h"

struct batch_reading {
    struct batch_tasks *tasks;
    const struct batch_defaults *defaults;
    bool table; /* CSV: every column is a member */
};

/* A row of CSV after the other: RFC 4180, line ends inside quotes included. */
struct csv {
    const char *at, *end;
    size_t line;
};

/* The next row's cells into `cells` (cleared first). 1, 0 at the end, -1 with *err. */
int csv_next(struct csv *csv, struct strlist *cells, struct err *err);

#endif
