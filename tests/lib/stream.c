#include "stream.h"

#include "testing.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct stream *stream_open(const char *base, const char *method, const char *path,
                           const char *headers, const char *body)
{
    struct stream *stream = calloc(1, sizeof *stream);
    assert_non_null(stream);
    stream->fd = http_begin(base, method, path, headers, body);
    stream->body = strdup("");
    return stream;
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    close(stream->fd);
    free(stream->head);
    free(stream->body);
    free(stream->raw);
    free(stream);
}

/* Makes room for `more` bytes and a NUL. */
static void grow(char **data, size_t *cap, size_t need)
{
    if (need + 1 <= *cap)
        return;
    *cap = (need + 1) * 2;
    *data = realloc(*data, *cap);
    assert_non_null(*data);
}

static void take_raw(struct stream *stream, size_t size)
{
    stream->raw_size -= size;
    memmove(stream->raw, stream->raw + size, stream->raw_size);
    stream->raw[stream->raw_size] = '\0';
}

static void take_body(struct stream *stream, size_t size)
{
    grow(&stream->body, &stream->body_cap, stream->body_size + size);
    memcpy(stream->body + stream->body_size, stream->raw, size);
    stream->body_size += size;
    stream->body[stream->body_size] = '\0';
    take_raw(stream, size);
}

static bool take_head(struct stream *stream)
{
    char *end = memmem(stream->raw, stream->raw_size, "\r\n\r\n", 4);
    if (!end)
        return false;
    size_t size = (size_t)(end - stream->raw) + 4;
    stream->head = strndup(stream->raw, size);
    assert_int_equal(sscanf(stream->head, "HTTP/1.%*d %d", &stream->status), 1);
    stream->chunked = strcasestr(stream->head, "Transfer-Encoding: chunked") != NULL;
    take_raw(stream, size);
    return true;
}

/* The next chunk's size line, or the line end after one. */
static bool take_frame(struct stream *stream)
{
    char *end = memmem(stream->raw, stream->raw_size, "\r\n", 2);
    if (!end)
        return false;
    if (stream->in_chunk) {
        assert_ptr_equal(end, stream->raw);
        stream->in_chunk = false;
    } else {
        char *after;
        stream->chunk_left = strtoul(stream->raw, &after, 16);
        assert_ptr_equal(after, end);
        stream->in_chunk = true;
        stream->ended = stream->chunk_left == 0;
    }
    take_raw(stream, (size_t)(end - stream->raw) + 2);
    return true;
}

static void decode(struct stream *stream)
{
    if (!stream->head && !take_head(stream))
        return;
    while (stream->raw_size > 0 && !stream->ended) {
        size_t size = stream->raw_size;
        if (stream->chunked && size > stream->chunk_left)
            size = stream->chunk_left;
        if (size > 0) {
            take_body(stream, size);
            stream->chunk_left -= stream->chunked ? size : 0;
        } else if (!take_frame(stream)) {
            return;
        }
    }
}

bool stream_read(struct stream *stream, int ms)
{
    struct pollfd pfd = {.fd = stream->fd, .events = POLLIN};
    grow(&stream->raw, &stream->raw_cap, stream->raw_size + 65536);
    if (stream->closed || poll(&pfd, 1, ms) <= 0)
        return false;
    ssize_t n = recv(stream->fd, stream->raw + stream->raw_size, 65536, 0);
    if (n <= 0) {
        stream->closed = true;
        return false;
    }
    stream->raw_size += (size_t)n;
    stream->raw[stream->raw_size] = '\0';
    decode(stream);
    return true;
}

bool stream_until_size(struct stream *stream, size_t size, int ms)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    while (stream->body_size < size && !stream->closed && !stream->ended && now_ms() < end)
        stream_read(stream, 100);
    return stream->body_size >= size;
}

void stream_until(struct stream *stream, const char *text, int ms)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    while (!strstr(stream->body, text)) {
        if (stream->closed || stream->ended || now_ms() >= end)
            fail_msg("'%s' did not come in %d ms:\n%s%.2000s", text, ms,
                     stream->head ? stream->head : "", stream->body);
        stream_read(stream, 100);
    }
}

void stream_until_end(struct stream *stream, int ms)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    while (!stream->closed && !stream->ended && now_ms() < end)
        stream_read(stream, 100);
    if (stream->status != 200 || !stream->ended)
        fail_msg("no whole stream in %d ms:\n%s%.2000s", ms, stream->head ? stream->head : "",
                 stream->body);
}

size_t text_count(const char *text, const char *wanted)
{
    size_t count = 0;
    for (; (text = strstr(text, wanted)); text++)
        count++;
    return count;
}

size_t stream_count(const struct stream *stream, const char *text)
{
    return text_count(stream->body, text);
}
