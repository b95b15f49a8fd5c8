#include "socket.h"

#include "http.h"
#include "testbase.h"
#include "wait.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DEADLINE_MS = 60000 };

static void append(char **to, size_t *size, const void *data, size_t len)
{
    *to = realloc(*to, *size + len + 1);
    assert_non_null(*to);
    memcpy(*to + *size, data, len);
    *size += len;
    (*to)[*size] = '\0';
}

static void add_text(struct socket *socket, const char *data, size_t len)
{
    size_t size = socket->text ? strlen(socket->text) : 0;
    append(&socket->text, &size, data, len);
    append(&socket->text, &size, "\n", 1);
}

/* Takes one frame from the input; false when it is incomplete. A server's frames are whole messages
 * here. */
static bool take_frame(struct socket *socket)
{
    const unsigned char *raw = (const unsigned char *)socket->raw;
    if (socket->raw_size < 2)
        return false;
    assert_int_equal(raw[0] & 0xf0, 0x80);
    assert_int_equal(raw[1] & 0x80, 0); /* a server does not mask */
    size_t len = raw[1], head = len == 127 ? 10 : len == 126 ? 4 : 2;
    if (socket->raw_size < head)
        return false;
    if (head > 2)
        len = 0;
    for (size_t i = 2; i < head; i++)
        len = len << 8 | raw[i];
    if (socket->raw_size < head + len)
        return false;
    int kind = raw[0] & 0x0f;
    const char *data = socket->raw + head;
    if (kind == 2)
        append(&socket->binary, &socket->binary_size, data, len);
    else if (kind == 1)
        add_text(socket, data, len);
    else if (kind == 8)
        socket->code = len >= 2 ? (unsigned char)data[0] << 8 | (unsigned char)data[1] : 1005;
    else
        *(kind == 9 ? &socket->pings : &socket->pongs) += 1;
    socket->raw_size -= head + len;
    memmove(socket->raw, socket->raw + head + len, socket->raw_size);
    return true;
}

bool socket_read(struct socket *socket, int ms)
{
    char piece[65536];
    struct pollfd wait = {.fd = socket->fd, .events = POLLIN};
    if (socket->ended || poll(&wait, 1, ms) <= 0)
        return false;
    ssize_t n = recv(socket->fd, piece, sizeof(piece), 0);
    if (n <= 0) {
        socket->ended = true;
        return false;
    }
    append(&socket->raw, &socket->raw_size, piece, (size_t)n);
    while (socket->status == 101 && take_frame(socket))
        continue;
    return true;
}

static void read_head(struct socket *socket)
{
    char *end = NULL;
    EVENTUALLY(DEADLINE_MS,
               (socket_read(socket, 100) || true) &&
                   ((socket->raw && (end = strstr(socket->raw, "\r\n\r\n"))) || socket->ended));
    if (!end)
        return;
    size_t head = (size_t)(end - socket->raw) + 4, size = 0;
    append(&socket->head, &size, socket->raw, head);
    sscanf(socket->head, "HTTP/1.1 %d", &socket->status);
    socket->raw_size -= head;
    memmove(socket->raw, socket->raw + head, socket->raw_size);
    while (socket->status == 101 && take_frame(socket))
        continue;
}

struct socket *socket_open(const char *base, const char *path, const char *headers)
{
    struct socket *socket = calloc(1, sizeof(*socket));
    assert_non_null(socket);
    socket->fd = http_connect(base);
    char *ask = textf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\n"
                      "Upgrade: websocket\r\n"
                      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                      "%s\r\n",
                      path, strstr(base, "://") + 3, headers);
    assert_true(http_send_text(socket->fd, ask));
    free(ask);
    read_head(socket);
    return socket;
}

void socket_free(struct socket *socket)
{
    close(socket->fd);
    free(socket->head);
    free(socket->binary);
    free(socket->text);
    free(socket->raw);
    free(socket);
}

bool socket_send(struct socket *socket, int kind, bool last, const void *data, size_t size,
                 size_t step)
{
    static const unsigned char mask[] = {0xa5, 0x00, 0xff, 0x3c};
    size_t head = size < 126 ? 2 : size < 65536 ? 4 : 10, len = head + 4 + size;
    unsigned char *frame = malloc(len);
    bool sent = true;
    assert_non_null(frame);
    frame[0] = (unsigned char)((last ? 0x80 : 0) | kind);
    frame[1] = (unsigned char)(0x80 | (head == 2 ? size : head == 4 ? 126 : 127));
    for (size_t i = 2; i < head; i++)
        frame[i] = (unsigned char)(size >> 8 * (head - 1 - i));
    memcpy(frame + head, mask, 4);
    for (size_t i = 0; i < size; i++)
        frame[head + 4 + i] = ((const unsigned char *)data)[i] ^ mask[i % 4];
    for (size_t at = 0; at < len && sent; at += step)
        sent = http_send(socket->fd, frame + at, len - at < step ? len - at : step);
    free(frame);
    return sent;
}

void socket_say(struct socket *socket, const char *json)
{
    socket_send(socket, 1, true, json, strlen(json), 4096);
}

void socket_type(struct socket *socket, const char *keys)
{
    socket_send(socket, 2, true, keys, strlen(keys), 4096);
}

void socket_raw(struct socket *socket, const void *data, size_t size)
{
    http_send(socket->fd, data, size);
}

/* The search does not read the same bytes twice. */
static void until(struct socket *socket, char *const *where, const char *text)
{
    int64_t end = now_ms() + (int64_t)DEADLINE_MS * slowness();
    for (size_t from = 0;;) {
        size_t size = !*where ? 0 : where == &socket->binary ? socket->binary_size : strlen(*where);
        if (size > from && memmem(*where + from, size - from, text, strlen(text)))
            return;
        from = size > strlen(text) ? size - strlen(text) : 0;
        if (now_ms() > end || (socket->ended && !socket_read(socket, 0)))
            fail_msg("'%s' did not come; text '%s', binary '%s'", text,
                     socket->text ? socket->text : "", socket->binary ? socket->binary : "");
        socket_read(socket, 100);
    }
}

void socket_until(struct socket *socket, const char *text)
{
    until(socket, &socket->binary, text);
}

void socket_until_said(struct socket *socket, const char *text)
{
    until(socket, &socket->text, text);
}

int socket_until_closed(struct socket *socket)
{
    EVENTUALLY(DEADLINE_MS, (socket_read(socket, 100) || true) && socket->ended);
    return socket->code;
}
