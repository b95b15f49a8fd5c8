/* Whatever an events file holds after a crash or worse: reading it at any offset gives an event
 * that lies inside it, or an error; opening it for writing mends it, so that what is added can be
 * read.
 */
#include "runner/task/events.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void read_everywhere(int fd, int64_t size)
{
    struct err err;
    struct event event;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    for (int64_t at = 0; at <= size + 1; at++) {
        int got = events_read(fd, at, &scratch, &event, &err);
        if (got != 1)
            continue;
        must(event.id == at && event.next > at && event.next <= size);
        must(strlen(event.data) == event.data_len && !strchr(event.data, '\n'));
    }
}

static void add_and_read(const char *path)
{
    struct err err;
    struct event event;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    struct events *events = events_open(path, &err);
    must(events != NULL);
    int64_t at = events_size(events);
    must(events_add(events, "done", "{}", 2, &err) == 0);
    events_close(events);
    must(events_end_with(path, "done"));
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(events_read(fd, at, &scratch, &event, &err) == 1);
    must(strcmp(event.name, "done") == 0 && strcmp(event.data, "{}") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    if (!path[0])
        snprintf(path, sizeof(path), "/dev/shm/fuzz-events.%d", (int)getpid());
    if (size > 4096)
        return 0;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && fd_write_all(fd, data, size) == 0);
    read_everywhere(fd, (int64_t)size);
    events_end_with(path, "done");
    close(fd);
    add_and_read(path);
    unlink(path);
    return 0;
}
