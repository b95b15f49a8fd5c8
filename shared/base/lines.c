#include "base/lines.h"
#include "base/check.h"

#include <string.h>

#define KEEP_BYTES (256u << 10) /* a buffer that grew larger is given back after its line */

void lines_init(struct lines *lines, size_t max, lines_fn *fn, void *arg)
{
    REQUIRE(max > 0 && fn);
    *lines = (struct lines){.max = max, .fn = fn, .arg = arg};
    buf_init(&lines->held, max);
}

void lines_done(struct lines *lines)
{
    buf_done(&lines->held);
}

static void say(struct lines *lines, const char *line, size_t len, size_t whole_len)
{
    if (len > 0 && len == whole_len && line[len - 1] == '\r')
        whole_len = --len;
    lines->fn(line, len, whole_len, lines->arg);
}

static void hold(struct lines *lines, const char *data, size_t len)
{
    size_t room = lines->max - lines->held.len;
    buf_add(&lines->held, data, len < room ? len : room);
    lines->held_whole += len;
}

static void release(struct lines *lines)
{
    size_t len = lines->held.len;
    say(lines, buf_str(&lines->held), len, lines->held_whole);
    if (lines->held.cap > KEEP_BYTES)
        buf_done(&lines->held);
    buf_clear(&lines->held);
    lines->held.failed = false;
    lines->held_whole = 0;
}

void lines_feed(struct lines *lines, const char *data, size_t len)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) : len;
        if (!end || lines->held_whole > 0 || n > lines->max) {
            hold(lines, data, n);
            if (end)
                release(lines);
        } else {
            say(lines, data, n, n);
        }
        data += n + (end ? 1 : 0);
        len -= n + (end ? 1 : 0);
    }
}

void lines_finish(struct lines *lines)
{
    if (lines->held_whole > 0)
        release(lines);
}
