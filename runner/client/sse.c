#include "runner/client/sse.h"

#include <stdio.h>
#include <string.h>

#define KEEP_BYTES (256u << 10)

static void end_event(struct sse *sse)
{
    if (sse->has_data && buf_ok(&sse->data))
        sse->fn(sse->id, sse->name, buf_str(&sse->data), sse->data.len, sse->arg);
    if (sse->data.cap > KEEP_BYTES || sse->data.failed)
        buf_done(&sse->data);
    buf_clear(&sse->data);
    sse->has_data = false;
    sse->id[0] = sse->name[0] = '\0';
}

static void keep(char *to, size_t size, const char *value, size_t len)
{
    snprintf(to, size, "%.*s", (int)(len < size ? len : size - 1), value);
}

static void on_line(const char *line, size_t len, size_t whole_len, void *arg)
{
    struct sse *sse = arg;
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon ? (size_t)(colon - line) : len;
    (void)whole_len;
    if (len == 0) {
        end_event(sse);
        return;
    }
    const char *value = colon ? colon + 1 : line + len;
    value += value < line + len && *value == ' ';
    size_t value_len = (size_t)(line + len - value);
    if (name_len == 4 && memcmp(line, "data", 4) == 0) {
        if (sse->has_data)
            buf_addc(&sse->data, '\n');
        buf_add(&sse->data, value, value_len);
        sse->has_data = true;
    } else if (name_len == 5 && memcmp(line, "event", 5) == 0) {
        keep(sse->name, sizeof(sse->name), value, value_len);
    } else if (name_len == 2 && memcmp(line, "id", 2) == 0) {
        keep(sse->id, sizeof(sse->id), value, value_len);
    }
}

void sse_init(struct sse *sse, sse_fn *fn, void *arg)
{
    *sse = (struct sse){.fn = fn, .arg = arg};
    lines_init(&sse->lines, SSE_EVENT_MAX, on_line, sse);
    buf_init(&sse->data, SSE_EVENT_MAX);
}

void sse_done(struct sse *sse)
{
    lines_done(&sse->lines);
    buf_done(&sse->data);
}

void sse_feed(struct sse *sse, const char *data, size_t len)
{
    lines_feed(&sse->lines, data, len);
}

void sse_reset(struct sse *sse)
{
    sse_fn *fn = sse->fn;
    void *arg = sse->arg;
    sse_done(sse);
    sse_init(sse, fn, arg);
}
