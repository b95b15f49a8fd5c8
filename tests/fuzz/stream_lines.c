/* Whatever Claude Code prints, however it comes in pieces: every event is strict JSON on one line,
 * no value in it holds a secret (names of members are the protocol's and stay), and the pieces make
 * no difference. The first byte says how long they are. */
#include "base/redact.h"
#include "runner/claude/stream_json.h"
#include "json/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* No escape ends with its first letter, and it can be no word of the protocol: those stay. */
#define SECRET "Quiet secret"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void must_be_clean(const struct json *node)
{
    const char *text = json_text(node);
    must(!text || !strstr(text, SECRET));
    for (const struct json *child = json_first(node); child; child = json_next(child))
        must_be_clean(child);
}

static void on_event(const char *json, size_t len, void *arg)
{
    struct err err;
    AUTO(json) struct json *event = json_parse(json, len, &err);
    must(event && json[0] == '{');
    must(!memchr(json, '\n', len));
    must_be_clean(event);
    buf_add(arg, json, len);
    buf_addc(arg, '\n');
}

static void run(const char *text, size_t len, size_t piece, struct buf *events, struct buf *output)
{
    struct claude_output stream;
    struct redact_set *redact = redact_new();
    must(redact && redact_add(redact, SECRET) == 0);
    claude_output_init(&stream, redact, on_event, events);
    for (size_t at = 0; at < len; at += piece)
        claude_output_feed(&stream, text + at, len - at < piece ? len - at : piece);
    claude_output_finish(&stream);
    if (stream.members.len > 0) {
        struct err err;
        AUTO(buf) struct buf object = BUF_INIT(2u << 20);
        buf_adds(&object, "{\"a\":1");
        buf_add(&object, stream.members.data, stream.members.len);
        buf_adds(&object, "}");
        must(json_check(object.data, object.len, &err) == 0);
    }
    buf_addf(output, "%d %d %s %s", stream.have_result, stream.is_error, stream.subtype,
             stream.last_error);
    buf_add(output, buf_str(&stream.output), stream.output.len);
    claude_output_done(&stream);
    redact_free(redact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    AUTO(buf) struct buf whole = BUF_INIT(64u << 20), pieces = BUF_INIT(64u << 20);
    AUTO(buf) struct buf output = BUF_INIT(64u << 20), again = BUF_INIT(64u << 20);
    if (size == 0)
        return 0;
    run(text, size - 1, size, &whole, &output);
    run(text, size - 1, 1u + data[0] % 32, &pieces, &again);
    must(whole.len == pieces.len && output.len == again.len);
    must(memcmp(buf_str(&whole), buf_str(&pieces), whole.len) == 0);
    must(memcmp(buf_str(&output), buf_str(&again), output.len) == 0);
    return 0;
}
