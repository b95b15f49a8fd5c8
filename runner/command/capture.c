#include "runner/command/capture.h"

#include "base/fd.h"
#include "base/str.h"
#include "runner/command/command.h"
#include "json/json.h"

#include <fcntl.h>
#include <unistd.h>

#define READ_BYTES 65536u
#define READS_AT_ONCE 16
#define CLEAN_BYTES_MAX (4u * READ_BYTES + REDACT_MAX_BYTES)
#define EVENT_JSON_MAX (6u * CLEAN_BYTES_MAX + 64u) /* a control character takes six bytes */

int capture_open(struct capture *capture, struct task_run *run, const char *event, struct buf *text,
                 int *ret_write_fd, struct err *err)
{
    int ends[2];
    *capture = (struct capture){.run = run, .event = event, .text = text, .read_fd = -1};
    redact_stream_init(&capture->redact, task_run_redact(run));
    buf_init(&capture->clean, CLEAN_BYTES_MAX);
    if (pipe2(ends, O_CLOEXEC))
        return err_sys(err, "cannot make a pipe for the command's %s", event);
    capture->read_fd = ends[0];
    *ret_write_fd = ends[1];
    /* only our end: a program may not know what to do with EAGAIN */
    return fcntl(ends[0], F_SETFL, O_NONBLOCK) ? err_sys(err, "pipe") : 0;
}

/* Bytes at the beginning that end with a whole character, as far as more could complete it. */
static size_t whole_characters(const struct buf *clean)
{
    const unsigned char *bytes = (const unsigned char *)clean->data;
    for (size_t back = 1; back <= 3 && back <= clean->len; back++) {
        unsigned char c = bytes[clean->len - back];
        size_t needs = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if ((c & 0xc0) == 0x80)
            continue; /* it goes on from the one before */
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

bool capture_read(struct capture *capture)
{
    char chunk[READ_BYTES / 4];
    bool any = false;
    for (int i = 0; i < READS_AT_ONCE && capture->read_fd >= 0; i++) {
        ssize_t n = read(capture->read_fd, chunk, sizeof(chunk));
        if (n == 0)
            fd_close(&capture->read_fd);
        if (n <= 0)
            break;
        redact_feed(&capture->redact, chunk, (size_t)n, &capture->clean);
        pass_on(capture, whole_characters(&capture->clean));
        any = true;
    }
    return any;
}

void capture_finish(struct capture *capture)
{
    redact_finish(&capture->redact, &capture->clean);
    pass_on(capture, capture->clean.len);
}

void capture_done(struct capture *capture)
{
    fd_close(&capture->read_fd);
    redact_stream_done(&capture->redact);
    buf_done(&capture->clean);
}
