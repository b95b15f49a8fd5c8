/* Bodies that pass through a handler in pieces, both ways, while the handler keeps its worker. */
#include "http/pieces.h"

#include "http/reply.h"
#include "http/request.h"

#include "base/auto.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

int pieces_wait_for_room(int fd, int wait_ms)
{
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};
    const struct timespec limit = {wait_ms / 1000, (long)(wait_ms % 1000) * 1000000};
    int ready;
    while ((ready = ppoll(&pfd, 1, &limit, NULL)) < 0 && errno == EINTR)
        continue;
    return ready == 1 ? 0 : -1;
}

/* Sends all parts; waits for a slow client. `flags`: MSG_MORE or 0. */
static int send_parts(int fd, struct iovec *parts, size_t count, int flags)
{
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = count};
    while (msg.msg_iovlen > 0) {
        ssize_t n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno != EAGAIN || pieces_wait_for_room(fd, PIECES_STUCK_MS)))
            return -1;
        if (n < 0)
            n = 0;
        /* Skip empty parts too, because no byte of them would ever be sent. */
        for (; msg.msg_iovlen > 0 && (size_t)n >= msg.msg_iov->iov_len; msg.msg_iovlen--)
            n -= (ssize_t)(msg.msg_iov++)->iov_len;
        if (n > 0) {
            msg.msg_iov->iov_base = (char *)msg.msg_iov->iov_base + n;
            msg.msg_iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

/* The client has gone: nothing more is sent, and the connection ends with the request. */
int pieces_lose_client(struct http_request *req)
{
    req->conn->closing = true;
    req->status = 0;
    if (req->mg)
        mg_disable_connection_keep_alive(req->mg);
    return -1;
}

int pieces_begin(struct http_request *req, int status, const char *type, int64_t len, int flags)
{
    AUTO(buf) struct buf head = BUF_INIT(REPLY_HEAD_MAX);
    if (req->state != REQUEST_OPEN)
        return -1;
    bool chunked = len < 0 && req->head.minor >= 1 && reply_has_body(status);
    req->flow_keeps = http_request_keeps(req) && (chunked || len >= 0 || !reply_has_body(status));
    req->flow_chunked = chunked && strcmp(req->head.method, "HEAD") != 0;
    reply_add_head(&head, &(struct reply){.status = status,
                                          .type = type,
                                          .id = req->id,
                                          .added = req->added.data,
                                          .len = len < 0 ? 0 : (size_t)len,
                                          .chunked = chunked,
                                          .until_close = !chunked && len < 0,
                                          .keep = req->flow_keeps});
    req->state = REQUEST_ANSWERED;
    req->status = status;
    http_request_announce(req, status);
    struct iovec part = {head.data, head.len};
    return buf_ok(&head) && send_parts(req->conn->fd, &part, 1, flags) == 0
               ? 0
               : pieces_lose_client(req);
}

int http_begin(struct http_request *req, int status, const char *type)
{
    return pieces_begin(req, status, type, -1, 0);
}

int http_begin_sized(struct http_request *req, int status, const char *type, int64_t len)
{
    return pieces_begin(req, status, type, len, 0);
}

int http_write(struct http_request *req, const void *data, size_t len)
{
    char size[24];
    if (req->conn->closing || strcmp(req->head.method, "HEAD") == 0)
        return req->conn->closing ? -1 : 0;
    if (len == 0)
        return 0;
    int n = snprintf(size, sizeof(size), "%zx\r\n", len);
    struct iovec parts[] = {{size, req->flow_chunked ? (size_t)n : 0},
                            {(void *)(uintptr_t)data, len},
                            {(char[]){"\r\n"}, req->flow_chunked ? 2 : 0}};
    return send_parts(req->conn->fd, parts, COUNT_OF(parts), 0) == 0 ? 0 : pieces_lose_client(req);
}

void http_end(struct http_request *req, bool whole)
{
    struct iovec last = {(char[]){"0\r\n\r\n"}, 5};
    bool sent = whole && !req->conn->closing &&
                (!req->flow_chunked || send_parts(req->conn->fd, &last, 1, 0) == 0);
    if (sent && req->flow_keeps)
        return;
    req->conn->closing = true;
    if (req->mg)
        mg_disable_connection_keep_alive(req->mg);
}

bool http_client_left(struct http_request *req)
{
    char byte;
    ssize_t n = recvfrom(req->conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
    if (n == 0)
        return !atomic_load(&req->conn->cut) || conn_client_ended(req->conn->fd);
    return n < 0 && errno != EAGAIN && errno != EINTR;
}
