/*
 * A program put together from a table of parts.
 *
 * Theory of operation. A row says how one part comes to be and goes. The rows are built in their
 * order, then started in their order; they are stopped and freed in the reverse of it:
 *
 *     build  a b c d      makes the part; nothing of it acts yet
 *     start  a b c d      it acts: threads, listening, what earlier parts must be there for
 *     stop   d c b a      it begins nothing new, and what it waits for is woken
 *     settle d c b a      true once nothing of it runs any more
 *     free   d c b a      it is gone
 *
 * When a build or a start fails, the error names the part, and the caller takes apart what is
 * there (parts_end): stop and free are called for every part that was built, and free also for the
 * one whose build failed; both must cope with a part that is not whole. When a part does not
 * settle, a thread of its is stuck in the kernel and may need anything: nothing is freed then.
 *
 * Threads: one at a time.
 */
#ifndef PARTS_PARTS_H
#define PARTS_PARTS_H

#include "base/err.h"
#include "base/metric.h"

#include <stdbool.h>
#include <stddef.h>

/* One part. Its functions get the `whole` of the table; NULL: there is nothing to do. */
struct part {
    const char *name;
    int (*build)(void *whole, struct err *err);
    int (*start)(void *whole, struct err *err);
    void (*stop)(void *whole);
    bool (*settle)(void *whole);
    void (*free)(void *whole);
    void (*metrics)(struct metric_page *page, void *whole); /* at /metrics */
};

#define PARTS_MAX 32

struct parts {
    struct part rows[PARTS_MAX];
    size_t count;
    void *whole;  /* borrowed */
    size_t begun; /* rows whose build was called */
    size_t built; /* rows whose build succeeded */
};

/* Appends rows to the table, at most PARTS_MAX together. Call before parts_begin(). */
void parts_add(struct parts *parts, const struct part *rows, size_t count);

/* Builds all parts, then starts all. -1 with *err, which begins with the name of the part that
 * failed. In both cases the caller calls parts_end(). */
int parts_begin(struct parts *parts, struct err *err);

/* Stops all parts, waits until they have settled, frees all. False when one does not settle: then
 * everything stays as it is. Does nothing when nothing was begun. */
bool parts_end(struct parts *parts);

/* Lists the parts' metrics for struct api: up to `max` - 1 sources and an empty one. */
void parts_metrics(const struct parts *parts, struct metric_source *sources, size_t max);

#endif
