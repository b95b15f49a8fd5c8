#include "runner/proxy/reader.h"

#include "base/auto.h"
#include "base/str.h"
#include "json/json.h"

#include <string.h>

#define LINE_MAX_BYTES 65536  /* Lines with usage are short. */
#define BODY_MAX_BYTES 524288 /* Usage in a larger JSON answer is not counted. */

static void keep_larger(const struct json *usage, const char *name, int64_t *value)
{
    int64_t said = 0;
    if (json_int(json_get(usage, name), &said) == 0 && said > *value)
        *value = said; /* message_delta repeats the numbers of message_start, increased. */
}

static void take_usage(struct reader *reader, const struct json *usage)
{
    keep_larger(usage, "input_tokens", &reader->usage.input_tokens);
    keep_larger(usage, "output_tokens", &reader->usage.output_tokens);
    keep_larger(usage, "cache_read_input_tokens", &reader->usage.cache_read_tokens);
    keep_larger(usage, "cache_creation_input_tokens", &reader->usage.cache_creation_tokens);
}

static void take_json(struct reader *reader, const char *text, size_t len)
{
    struct err ignored;
    AUTO(json) struct json *root = json_parse(text, len, &ignored);
    take_usage(reader, json_get(root, "usage"));
    take_usage(reader, json_get(json_get(root, "message"), "usage"));
}

static void take_line(const char *line, size_t len, size_t whole_len, void *arg)
{
    static const char *const wanted[] = {"message_start", "message_delta"};
    if (len != whole_len || len < 6 || memcmp(line, "data:", 5) != 0)
        return;
    size_t look = len < 64 ? len : 64; /* The type comes first. */
    for (size_t i = 0; i < COUNT_OF(wanted); i++)
        if (memmem(line, look, wanted[i], strlen(wanted[i]))) {
            take_json(arg, line + 5, len - 5);
            return;
        }
}

void reader_init(struct reader *reader, const char *type)
{
    *reader = (struct reader){.is_stream = type && str_starts(type, "text/event-stream")};
    lines_init(&reader->lines, LINE_MAX_BYTES, take_line, reader);
    buf_init(&reader->body, BODY_MAX_BYTES);
}

void reader_done(struct reader *reader)
{
    lines_done(&reader->lines);
    buf_done(&reader->body);
}

void reader_feed(struct reader *reader, const char *data, size_t len)
{
    if (reader->is_stream)
        lines_feed(&reader->lines, data, len);
    else
        buf_add(&reader->body, data, len);
}

void reader_finish(struct reader *reader)
{
    if (reader->is_stream)
        lines_finish(&reader->lines);
    else if (buf_ok(&reader->body) && reader->body.len > 0)
        take_json(reader, reader->body.data, reader->body.len);
}
