/* A client that speaks bytes, for the tests of shared/http. Every wait has a time limit. */
#ifndef TESTS_HTTP_PEER_H
#define TESTS_HTTP_PEER_H

#include "base/buf.h"
#include "base/clock.h"
#include "http/http.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PEER_MS 200000
#define HOST "Host: test\r\n"

static inline int peer_connect(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static inline void peer_send_bytes(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return; /* refused early: what was answered is what counts */
        p += n;
        len -= (size_t)n;
    }
}

static inline void peer_send(int fd, const char *text)
{
    peer_send_bytes(fd, text, strlen(text));
}

/* One recv with a time limit: the count, 0 at the end, -1 reset or too late. */
static inline ssize_t peer_recv(int fd, struct buf *out, int ms)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    char data[65536];
    if (poll(&pfd, 1, ms) <= 0)
        return -1;
    ssize_t n = recv(fd, data, sizeof(data), 0);
    if (n > 0)
        buf_add(out, data, (size_t)n);
    return n;
}

/* Reads until the other side closes; false when it did not in time. */
static inline bool peer_read_end(int fd, struct buf *out)
{
    ssize_t n;
    while ((n = peer_recv(fd, out, PEER_MS)) > 0)
        ;
    return n == 0 || errno == ECONNRESET;
}

/* Reads until the text is there. */
static inline bool peer_read_until(int fd, struct buf *out, const char *text)
{
    while (!strstr(buf_str(out), text))
        if (peer_recv(fd, out, PEER_MS) <= 0)
            return false;
    return true;
}

/* Reads one answer with Content-Length; returns its status or 0. `out` then holds it alone. */
static inline int peer_answer(int fd, struct buf *out)
{
    buf_clear(out);
    if (!peer_read_until(fd, out, "\r\n\r\n"))
        return 0;
    const char *length = strcasestr(buf_str(out), "\r\nContent-Length: ");
    size_t head = (size_t)(strstr(buf_str(out), "\r\n\r\n") + 4 - buf_str(out));
    size_t want = head + (length ? strtoul(length + 18, NULL, 10) : 0);
    while (out->len < want)
        if (peer_recv(fd, out, PEER_MS) <= 0)
            return 0;
    return (int)strtol(buf_str(out) + 9, NULL, 10);
}

static inline int peer_status(const struct buf *answer)
{
    return answer->len > 12 ? (int)strtol(buf_str(answer) + 9, NULL, 10) : 0;
}

/* Entries of a directory of /proc/self: open descriptors, threads. */
static inline int peer_count(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Waits (bounded) until a condition holds. */
#define peer_wait_for(condition)                                     \
    do {                                                             \
        int64_t end_ms_ = clock_mono_ms() + PEER_MS;                 \
        bool holds_ = false;                                         \
        while (!(holds_ = (condition)) && clock_mono_ms() < end_ms_) \
            usleep(1000);                                            \
        if (!holds_)                                                 \
            fail_msg("it never held: %s", #condition);               \
    } while (0)

#endif
