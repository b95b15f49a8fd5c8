#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

int http_connect(const char *base)
{
    char host[64];
    int port = 0;
    assert_int_equal(sscanf(base, "http://%63[^:]:%d", host, &port), 2);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    assert_int_equal(inet_pton(AF_INET, host, &addr.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        fail_msg("cannot connect to %s: %s", base, strerror(errno));
    return fd;
}

bool http_send(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

bool http_send_text(int fd, const char *text)
{
    return http_send(fd, text, strlen(text));
}

/* ---- reading ---- */

struct reader {
    int fd;
    int64_t end;
    char *data;
    size_t size, cap;
    bool closed;
};

/* False at the deadline or when the peer has closed. */
static bool read_some(struct reader *reader)
{
    if (reader->cap - reader->size < 65536) {
        reader->cap = reader->cap ? reader->cap * 2 : 131072;
        reader->data = realloc(reader->data, reader->cap + 1);
        assert_non_null(reader->data);
    }
    struct pollfd pfd = {.fd = reader->fd, .events = POLLIN};
    int64_t left = reader->end - now_ms();
    if (left <= 0 || poll(&pfd, 1, (int)left) <= 0)
        return false;
    ssize_t n = recv(reader->fd, reader->data + reader->size, reader->cap - reader->size, 0);
    if (n <= 0) {
        reader->closed = true;
        return false;
    }
    reader->size += (size_t)n;
    reader->data[reader->size] = '\0';
    return true;
}

static bool read_until_size(struct reader *reader, size_t size)
{
    while (reader->size < size)
        if (!read_some(reader))
            return false;
    return true;
}

/* The place of `end` at or after `from`, reading more as needed; -1 when it does not come. */
static long read_until_text(struct reader *reader, size_t from, const char *end)
{
    for (;;) {
        const char *hit = reader->size > from
                              ? memmem(reader->data + from, reader->size - from, end, strlen(end))
                              : NULL;
        if (hit)
            return hit - reader->data;
        if (!read_some(reader))
            return -1;
    }
}

static void append(struct reply *reply, const char *data, size_t size)
{
    reply->body = realloc(reply->body, reply->body_size + size + 1);
    assert_non_null(reply->body);
    if (size)
        memcpy(reply->body + reply->body_size, data, size);
    reply->body_size += size;
    reply->body[reply->body_size] = '\0';
}

static void read_chunked(struct reader *reader, size_t at, struct reply *reply)
{
    for (;;) {
        long eol = read_until_text(reader, at, "\r\n");
        if (eol < 0)
            return;
        char *end;
        size_t size = strtoul(reader->data + at, &end, 16);
        if (end == reader->data + at)
            return;
        size_t start = (size_t)eol + 2;
        if (!read_until_size(reader, start + size + 2)) {
            if (reader->size > start)
                append(reply, reader->data + start, reader->size - start);
            return;
        }
        if (size == 0) {
            reply->complete = true;
            return;
        }
        reply->n_chunks++;
        append(reply, reader->data + start, size);
        at = start + size + 2;
    }
}

static void read_sized(struct reader *reader, size_t at, struct reply *reply, size_t size)
{
    reply->complete = read_until_size(reader, at + size);
    size_t have = reader->size - at;
    append(reply, reader->data + at, have < size ? have : size);
}

static void read_body(struct reader *reader, size_t at, struct reply *reply)
{
    char value[64];
    if (reply->status == 204 || reply->status == 304) {
        reply->complete = true;
    } else if (reply_header(reply, "Transfer-Encoding", value, sizeof value)) {
        read_chunked(reader, at, reply);
    } else if (reply_header(reply, "Content-Length", value, sizeof value)) {
        read_sized(reader, at, reply, strtoul(value, NULL, 10));
    } else {
        while (read_some(reader))
            ;
        append(reply, reader->data + at, reader->size - at);
        reply->complete = reader->closed;
    }
}

struct reply *http_read(int fd, int deadline_ms)
{
    struct reply *reply = calloc(1, sizeof *reply);
    assert_non_null(reply);
    append(reply, NULL, 0);
    int64_t start = now_ms();
    struct reader reader = {.fd = fd, .end = start + (int64_t)deadline_ms * slowness()};
    size_t at = 0;
    do {
        long end = read_until_text(&reader, at, "\r\n\r\n");
        if (end < 0 || sscanf(reader.data + at, "HTTP/1.%*d %d", &reply->status) != 1) {
            reply->status = 0;
            break;
        }
        free(reply->head);
        reply->head = strndup(reader.data + at, (size_t)end + 2 - at);
        at = (size_t)end + 4;
    } while (reply->status < 200);
    reply->head_ms = now_ms() - start;
    if (reply->status)
        read_body(&reader, at, reply);
    else if (reader.size) /* the peer does not speak HTTP: show what it said */
        append(reply, reader.data, reader.size);
    reply->closed = reader.closed;
    reply->total_ms = now_ms() - start;
    reply->json = cJSON_ParseWithLength(reply->body, reply->body_size);
    free(reader.data);
    return reply;
}

bool reply_header(const struct reply *reply, const char *name, char *out, size_t size)
{
    size_t len = strlen(name);
    for (const char *line = reply->head; line && (line = strstr(line, "\r\n"));) {
        line += 2;
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        const char *value = line + len + 1;
        value += strspn(value, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
        return true;
    }
    return false;
}

/* ---- calls ---- */

int http_begin(const char *base, const char *method, const char *path, const char *headers,
               const char *body)
{
    int fd = http_connect(base);
    char length[64] = "";
    if (body)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", strlen(body));
    char *head = textf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s%s\r\n", method, path,
                       base + strlen("http://"), length, headers ? headers : "");
    if (http_send_text(fd, head) && body)
        http_send_text(fd, body);
    free(head);
    return fd;
}

struct reply *http_call(const char *base, const char *method, const char *path, const char *headers,
                        const char *body)
{
    int fd = http_begin(base, method, path, headers, body);
    struct reply *reply = http_read(fd, HTTP_DEADLINE_MS);
    close(fd);
    return reply;
}

static void show(const struct reply *reply)
{
    print_error("answer: %s%.2000s\n", reply->head ? reply->head : "(none)\n", reply->body);
}

void assert_status(const struct reply *reply, int status)
{
    if (reply->status == status)
        return;
    show(reply);
    fail_msg("status %d, expected %d", reply->status, status);
}

void assert_problem(const struct reply *reply, int status, const char *code)
{
    char type[128] = "";
    assert_status(reply, status);
    reply_header(reply, "Content-Type", type, sizeof type);
    if (strncmp(type, "application/problem+json", 24) != 0 || !reply->complete) {
        show(reply);
        fail_msg("not a whole problem+json answer");
    }
    assert_json_number(reply->json, "status", status);
    assert_json_bool(reply->json, "success", false);
    assert_json_has(reply->json, "type");
    assert_json_has(reply->json, "title");
    assert_json_has(reply->json, "detail");
    assert_json_has(reply->json, "request_id");
    assert_json_has(reply->json, "duration_ms");
    assert_json_text(reply->json, "error", json_text(reply->json, "detail"));
    if (code)
        assert_json_text(reply->json, "code", code);
    else
        assert_json_has(reply->json, "code");
}

void reply_free(struct reply *reply)
{
    if (!reply)
        return;
    cJSON_Delete(reply->json);
    free(reply->head);
    free(reply->body);
    free(reply);
}
