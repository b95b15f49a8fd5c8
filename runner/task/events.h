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
 * Ownership: the caller of events_open() closes it by events_close().
 */
#ifndef TASK_EVENTS_H
#define TASK_EVENTS_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENTS_BYTES_MAX                                                                \
    (INT64_C(8) << 30)              /* of one task; further lines are dropped, which an \
                                     * event says */
#define EVENT_BYTES_MAX (64u << 20) /* of one event */
#define EVENT_JSON_BYTES_MAX (EVENT_BYTES_MAX - 256)

struct events;

/* Opens the file for appending, or makes it. An unfinished event at its end, left by a crash, is
 * cut off. The caller closes it by events_close(). */
struct events *events_open(const char *path, struct err *err);
void events_close(struct events *events);
DEFINE_AUTO(events, struct events *, events_close)

/* Adds an event of one line of JSON; name NULL for unnamed events. Written by events_flush() at the
 * latest. Past EVENTS_BYTES_MAX unnamed events are dropped (events_truncated). */
int events_add(struct events *events, const char *name, const char *json, size_t len,
               struct err *err);
/* From now on written() is called whenever whole events have been written to the file, with the
 * offset after them; on the writer's thread. */
void events_tell(struct events *events, void (*written)(int64_t end, void *arg), void *arg);
/* Writes pending events. After a failure the events that were not written are dropped; the file has
 * whole events only. */
int events_flush(struct events *events, struct err *err);
int64_t events_size(const struct events *events);
/* Takes the file, of which everything is written, from the events, which end. The caller closes it;
 * -1 when there was none. */
int events_release(struct events *events);
bool events_truncated(const struct events *events);

/* One event that was read. */
struct event {
    int64_t id;       /* offset */
    int64_t next;     /* offset of the event after it */
    const char *name; /* "" for unnamed */
    const char *data;
    size_t data_len;
};

/* Reads the event that begins at `offset` of an open events file into scratch, into which the
 * event's strings point. Returns 1, 0 when there is no whole event at or after offset yet, or -1
 * with ERR_RANGE when no event begins at offset. */
int events_read(int fd, int64_t offset, struct buf *scratch, struct event *ret_event,
                struct err *err);

/* Reads an event at the beginning of text in memory, into which the event's strings point: line
 * ends become NULs. Returns 0 when it is not whole, else as events_read(). */
int events_parse(char *text, size_t len, int64_t offset, struct event *ret_event, struct err *err);

/* The offset after the last whole event of an open file, or -1 when it cannot be read. A writer may
 * still remove what follows it. */
int64_t events_end(int fd);

/* True when the file ends with a whole event of that name. Reads only that event. */
bool events_end_with(const char *path, const char *name);

/* Gives the last event another name of the same length, in place. Does nothing when the file does
 * not end with an event of the name `from`. */
int events_rename_last(const char *path, const char *from, const char *to, struct err *err);

#endif
