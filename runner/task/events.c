#include "runner/task/events.h"

#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_BACK_BYTES 8192
#define PENDING_BYTES (256u << 10) /* events are written at once when they exceed this */
#define READ_BYTES 4096            /* first guess of an event's size */

struct events {
    int fd;
    int64_t size; /* of the file with the pending events */
    struct buf pending;
    bool truncated;
    void (*written)(int64_t end, void *arg); /* or NULL */
    void *arg;
};

/* The offset after the last whole event that ends at or before `end`, found by reading
 * backwards. */
static int64_t whole_size(int fd, int64_t end)
{
    char chunk[LOOK_BACK_BYTES];
    while (end > 1) {
        int64_t from = end > LOOK_BACK_BYTES ? end - LOOK_BACK_BYTES : 0;
        ssize_t n = fd_pread_full(fd, chunk, (size_t)(end - from), from);
        if (n != end - from)
            return -1;
        for (const char *at = chunk + n; (at = memrchr(chunk, '\n', (size_t)(at - chunk)));)
            if (at > chunk && at[-1] == '\n')
                return from + (at - chunk) + 1;
        if (from == 0)
            break;
        end = from + 1; /* The two line ends may lie in two chunks. */
    }
    return 0;
}

static int adopt(struct events *events, const char *path, struct err *err)
{
    struct stat st;
    events->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (events->fd < 0 || fstat(events->fd, &st))
        return err_sys(err, "cannot open the events '%s'", path);
    events->size = whole_size(events->fd, st.st_size);
    if (events->size < 0 || (events->size < st.st_size && ftruncate(events->fd, events->size)))
        return err_sys(err, "cannot mend the events '%s'", path);
    return 0;
}

struct events *events_open(const char *path, struct err *err)
{
    AUTO(events) struct events *events = calloc(1, sizeof(*events));
    if (!events) {
        err_sys(err, "events");
        return NULL;
    }
    events->fd = -1;
    buf_init(&events->pending, EVENT_BYTES_MAX + PENDING_BYTES);
    if (adopt(events, path, err))
        return NULL;
    return STEAL_PTR(events);
}

int events_release(struct events *events)
{
    struct err ignored;
    if (!events)
        return -1;
    if (events->fd >= 0)
        events_flush(events, &ignored);
    int fd = events->fd;
    buf_done(&events->pending);
    free(events);
    return fd;
}

void events_close(struct events *events)
{
    int fd = events_release(events);
    fd_close(&fd);
}

/* Cuts the file after the last whole event when a write failed: half an event is worse than none,
 * and whole ones may have been read. */
static void keep_whole(struct events *events, int64_t at)
{
    struct stat st;
    int64_t whole = fstat(events->fd, &st) ? at : whole_size(events->fd, st.st_size);
    events->size = whole > at ? whole : at;
    (void)!ftruncate(events->fd, events->size);
    buf_clear(&events->pending);
}

int events_flush(struct events *events, struct err *err)
{
    struct buf *pending = &events->pending;
    if (pending->len == 0)
        return 0;
    int64_t at = events->size - (int64_t)pending->len;
    if (fd_pwrite_all(events->fd, pending->data, pending->len, at)) {
        err_sys(err, "cannot write events");
        keep_whole(events, at);
        return -1;
    }
    if (pending->cap > 2 * PENDING_BYTES)
        buf_done(pending);
    else
        buf_clear(pending);
    if (events->written)
        events->written(events->size, events->arg);
    return 0;
}

/* Appends "id: N\n" without printf, which would take longer than the rest of an event. */
static void add_id(struct buf *out, int64_t id)
{
    char text[32], *at = text + sizeof(text);
    *--at = '\n';
    do {
        *--at = (char)('0' + id % 10);
        id /= 10;
    } while (id > 0);
    buf_add(out, "id: ", 4);
    buf_add(out, at, (size_t)(text + sizeof(text) - at));
}

int events_add(struct events *events, const char *name, const char *json, size_t len,
               struct err *err)
{
    struct buf *pending = &events->pending;
    if (len > EVENT_JSON_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "an event of %zu bytes", len);
    if (!name && events->size + (int64_t)len > EVENTS_BYTES_MAX) {
        events->truncated = true;
        return 0;
    }
    size_t before = pending->len;
    add_id(pending, events->size);
    if (name)
        buf_addf(pending, "event: %s\n", name);
    buf_adds(pending, "data: ");
    buf_add(pending, json, len);
    buf_adds(pending, "\n\n");
    if (buf_check(pending, "events that wait to be written", err)) {
        pending->failed = false; /* Memory ran out for this event. */
        pending->len = before;
        return -1;
    }
    events->size += (int64_t)(pending->len - before);
    return pending->len > PENDING_BYTES ? events_flush(events, err) : 0;
}

void events_tell(struct events *events, void (*written)(int64_t end, void *arg), void *arg)
{
    events->written = written;
    events->arg = arg;
}

int64_t events_size(const struct events *events)
{
    return events->size;
}

bool events_truncated(const struct events *events)
{
    return events->truncated;
}

/* Reads until scratch holds the end of an event. Returns the event's length with both line ends, 0
 * when the file does not have its end yet, or -1. */
static ssize_t read_whole(int fd, int64_t offset, struct buf *scratch, struct err *err)
{
    buf_clear(scratch);
    for (size_t want = READ_BYTES;; want *= 2) {
        size_t room = scratch->max - scratch->len;
        if (want > room && room > 0)
            want = room;
        char *to = buf_room(scratch, want);
        if (!to)
            return buf_check(scratch, "an event", err);
        ssize_t n = fd_pread_full(fd, to, want, offset + (int64_t)scratch->len);
        if (n < 0 && errno == EINVAL) /* No file has such a large offset. */
            n = 0;
        if (n < 0)
            return err_sys(err, "cannot read events");
        size_t from = scratch->len > 0 ? scratch->len - 1 : 0;
        buf_grew(scratch, (size_t)n);
        const char *end = memmem(scratch->data + from, scratch->len - from, "\n\n", 2);
        if (end)
            return end - scratch->data + 2;
        if ((size_t)n < want)
            return 0;
    }
}

/* Reads "FIELD: value\n" at *at and ends the value with a NUL. NULL for anything else, or when
 * there is a NUL in it: after a power failure a file may hold zeros. `end` is the event's end, a
 * line end. */
static const char *take_field(char **at, const char *end, const char *field)
{
    size_t n = strlen(field);
    if (strncmp(*at, field, n) != 0)
        return NULL;
    char *value = *at + n, *stop = memchr(value, '\n', (size_t)(end - value));
    if (!stop || memchr(value, '\0', (size_t)(stop - value)))
        return NULL;
    *stop = '\0';
    *at = stop + 1;
    return value;
}

/* Parses a whole event, including the empty line. */
static int parse_whole(char *at, size_t len, int64_t offset, struct event *ret_event,
                       struct err *err)
{
    char *end;
    const char *event_end = at + len;
    const char *id = take_field(&at, event_end, "id: ");
    if (!id || strtoll(id, &end, 10) != offset || *end)
        return err_set(err, ERR_RANGE, "offset %lld is not that of an event", (long long)offset);
    const char *name = take_field(&at, event_end, "event: ");
    const char *data = take_field(&at, event_end, "data: ");
    if (!data || at + 1 != event_end)
        return err_set(err, ERR_INTERNAL, "the event at %lld is damaged", (long long)offset);
    *ret_event = (struct event){.id = offset,
                                .next = offset + (int64_t)len,
                                .name = name ? name : "",
                                .data = data,
                                .data_len = (size_t)(at - 1 - data)};
    return 1;
}

int events_parse(char *text, size_t len, int64_t offset, struct event *ret_event, struct err *err)
{
    REQUIRE(text && ret_event);
    const char *end = memmem(text, len, "\n\n", 2);
    return end ? parse_whole(text, (size_t)(end - text) + 2, offset, ret_event, err) : 0;
}

int events_read(int fd, int64_t offset, struct buf *scratch, struct event *ret_event,
                struct err *err)
{
    struct stat st;
    ssize_t len = read_whole(fd, offset, scratch, err);
    if (len < 0)
        return -1;
    if (len == 0 && scratch->len == 0) { /* Only the file's end is an offset without an event. */
        if (fstat(fd, &st) == 0 && st.st_size == offset)
            return 0;
        return err_set(err, ERR_RANGE, "offset %lld is past the last event", (long long)offset);
    }
    if (len > 0)
        return parse_whole(scratch->data, (size_t)len, offset, ret_event, err);
    if (strncmp(scratch->data, "id: ", scratch->len < 4 ? scratch->len : 4) == 0)
        return 0;
    return err_set(err, ERR_RANGE, "offset %lld is not that of an event", (long long)offset);
}

int64_t events_end(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? -1 : whole_size(fd, st.st_size);
}

/* The offset of the last event's name, when it has that name; else -1. */
static int64_t find_last_name(int fd, const char *name)
{
    struct stat st;
    char head[128] = {0}, wanted[128];
    if (fd < 0 || fstat(fd, &st) || whole_size(fd, st.st_size) != st.st_size)
        return -1;
    int64_t at = st.st_size > 0 ? whole_size(fd, st.st_size - 1) : -1;
    if (at < 0 || fd_pread_full(fd, head, sizeof(head) - 1, at) < 0)
        return -1;
    int n = snprintf(wanted, sizeof(wanted), "id: %lld\nevent: %s\n", (long long)at, name);
    return n > 0 && strncmp(head, wanted, (size_t)n) == 0 ? at + n - 1 - (int64_t)strlen(name) : -1;
}

bool events_end_with(const char *path, const char *name)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return find_last_name(fd, name) >= 0;
}

int events_rename_last(const char *path, const char *from, const char *to, struct err *err)
{
    REQUIRE(strlen(from) == strlen(to));
    AUTO(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
    int64_t at = find_last_name(fd, from);
    if (at >= 0 && fd_pwrite_all(fd, to, strlen(to), at))
        return err_sys(err, "cannot write '%s'", path);
    return 0;
}
