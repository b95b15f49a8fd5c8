#include "runner/command/capture.h"

#include "base/check.h"
#include "base/str.h"
#include "runner/command/command.h"
#include "json/json.h"

#define PART_BYTES 16384u /* bytes of one event, without what the marks of secrets add */
#define CLEAN_BYTES_MAX (16u * PART_BYTES + REDACT_MAX_BYTES)
#define EVENT_JSON_MAX (6u * CLEAN_BYTES_MAX + 64u) /* A control character takes six bytes. */

void capture_init(struct capture *capture, struct task_run *run, const char *event,
                  struct buf *text)
{
    REQUIRE(run && text);
    *capture = (struct capture){.run = run, .event = event, .text = text};
    redact_stream_init(&capture->redact, task_run_redact(run));
    buf_init(&capture->clean, CLEAN_BYTES_MAX);
}

/* How many bytes at the beginning are whole characters, as far as more bytes could complete the
 * last one. */
static size_t whole_characters(const struct buf *clean)
{
    const unsigned char *bytes = (const unsigned char *)clean->data;
    for (size_t back = 1; back <= 3 && back <= clean->len; back++) {
        unsigned char c = bytes[clean->len - back];
        size_t needs = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if ((c & 0xc0) == 0x80)
            continue; /* It continues the character before. */
        return needs > back ? clean->len - back : clean->len;
    }
    return clean->len;
}

static void keep_text(struct capture *capture, size_t len)
{
    size_t room = capture->text->len < COMMAND_TEXT_MAX ? COMMAND_TEXT_MAX - capture->text->len : 0;
    if (len > room) {
        struct buf cut = {.data = capture->clean.data, .len = room};
        capture->truncated = true;
        len = room > 0 ? whole_characters(&cut) : 0;
    }
    buf_add(capture->text, capture->clean.data, len);
}

/* Passes on the first `len` clean bytes. */
static void pass_on(struct capture *capture, size_t len)
{
    AUTO(buf) struct buf json = BUF_INIT(EVENT_JSON_MAX);
    if (len == 0)
        return;
    keep_text(capture, len);
    buf_adds(&json, "{\"text\":\"");
    str_add_json(&json, capture->clean.data, len);
    buf_adds(&json, "\"}");
    if (buf_ok(&json))
        task_run_event(capture->run, capture->event, json.data, json.len);
    buf_drop(&capture->clean, len);
}

void capture_take(struct capture *capture, const char *data, size_t len)
{
    while (len > 0) {
        size_t part = len < PART_BYTES ? len : PART_BYTES;
        redact_feed(&capture->redact, data, part, &capture->clean);
        pass_on(capture, whole_characters(&capture->clean));
        data += part;
        len -= part;
    }
}

void capture_finish(struct capture *capture)
{
    redact_finish(&capture->redact, &capture->clean);
    pass_on(capture, capture->clean.len);
}

void capture_done(struct capture *capture)
{
    redact_stream_done(&capture->redact);
    buf_done(&capture->clean);
}
