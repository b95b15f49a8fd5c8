/*
 * A task's events: an append-only file, and the only way its output travels.
 *
 * The file holds events as they go over the wire (text/event-stream); an event's id is the byte
 * offset at which it begins:
 *
 *     id: 0\nevent: task\ndata: {…}\n\nid: 57\ndata: {…}\n\n…
 *
 * So a reader that comes back with an id continues at that byte, a replay is a copy, and nobody
 * holds events in memory.
 *
 * Threads: one writer a file; any number of readers.
 */
#ifndef TASK_EVENTS_H
#define TASK_EVENTS_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENTS_BYTES_MAX (INT64_C(8) << 30) /* of one task; then lines are dropped, and said so */
#define EVENT_BYTES_MAX (64u << 20)         /* of one event */
#define EVENT_JSON_BYTES_MAX (EVENT_BYTES_MAX - 256)

struct events;

/* Opens (or makes) the file for appending. What a crash left unfinished at its end is cut off. */
struct events *events_open(const char *path, struct err *err);
void events_close(struct events *events);
DEFINE_AUTO(events, struct events *, events_close)

/* Adds an event of one line of JSON; name NULL for the unnamed ones. Written by events_flush() at
 * the latest. Events past EVENTS_BYTES_MAX are dropped (events_truncated), but those with a name.
 */
int events_add(struct events *events, const char *name, const char *json, size_t len,
               struct err *err);
/* From now on calls written() whenever whole events have reached the file, with the offset after
 * them; on the writer's thread. */
void events_tell(struct events *events, void (*written)(int64_t end, void *arg), void *arg);
/* On failure the events that are not on the file are dropped; those that are, are whole. */
int events_flush(struct events *events, struct err *err);
int64_t events_size(const struct events *events);
/* Waits until all that was written is on the disk. */
int events_sync(struct events *events, struct err *err);
bool events_truncated(const struct events *events);

/* Reading. */
struct event {
    int64_t id;       /* offset */
    int64_t next;     /* offset of the event after it */
    const char *name; /* "" for unnamed */
    const char *data;
    size_t data_len;
};

/* Reads the event that begins at `offset` from an open events file into scratch, which the
 * event's strings point into. 1, 0 when there is no whole event at or after offset yet, -1 with
 * ERR_RANGE when offset is no event's. */
int events_read(int fd, int64_t offset, struct buf *scratch, struct event *ret_event,
                struct err *err);

/* The same of text in memory that begins with the event, and which the event's strings point into:
 * line ends become NULs. 0 when it is not whole. */
int events_parse(char *text, size_t len, int64_t offset, struct event *ret_event, struct err *err);

/* The offset after the last whole event of an open file, -1 when it cannot be read. A writer may
 * still take back what lies behind it. */
int64_t events_end(int fd);

/* True when the file ends with a whole event of that name. Looks at that event alone. */
bool events_end_with(const char *path, const char *name);

#endif
