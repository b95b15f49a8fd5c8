/* Frames of a WebSocket, as a server and as a client reads them: pieces change nothing. */
#include "websocket/websocket.h"
#include "base/auto.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

struct seen {
    struct buf text;
    int last;
};

static int note(enum websocket_kind kind, int code, const char *data, size_t len, void *arg)
{
    struct seen *seen = arg;
    check(kind != WEBSOCKET_TEXT || (len <= TEXT_MAX && str_is_utf8(data, len)));
    check(kind < WEBSOCKET_CLOSE || len <= 125);
    check(kind != WEBSOCKET_BINARY || len > 0);
    if (kind != WEBSOCKET_BINARY || seen->last != WEBSOCKET_BINARY)
        buf_addf(&seen->text, "<%d %d>", (int)kind, code);
    buf_add(&seen->text, data, len);
    seen->last = kind;
    return 0;
}

static int feed(const uint8_t *data, size_t size, size_t step, bool masked, struct seen *seen)
{
    struct websocket_reader reader;
    int code = 0;
    websocket_reader_init(&reader, masked, TEXT_MAX);
    for (size_t at = 0; at < size && code == 0; at += step) {
        size_t n = size - at < step ? size - at : step;
        char *copy = malloc(n); /* exactly as long: a step too far is seen */
        check(copy != NULL);
        memcpy(copy, data + at, n);
        code = websocket_read(&reader, copy, n, note, seen);
        free(copy);
    }
    check(code == 0 || (code >= 1000 && code < 5000));
    check(code == 0 || websocket_read(&reader, "\x81\x00", 2, note, seen) == 0);
    websocket_reader_done(&reader);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int masked = 0; masked < 2; masked++) {
        struct seen whole = {.text = BUF_INIT(16u << 20)}, cut = {.text = BUF_INIT(16u << 20)};
        int code = feed(data, size, size ? size : 1, masked, &whole);
        check(code == feed(data, size, 1 + (size ? data[size - 1] % 7u : 0), masked, &cut));
        check(whole.text.len == cut.text.len &&
              (whole.text.len == 0 || memcmp(whole.text.data, cut.text.data, cut.text.len) == 0));
        buf_done(&whole.text);
        buf_done(&cut.text);
    }
    return 0;
}
