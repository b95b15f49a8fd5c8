#include "http/reply.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "http/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

static const struct {
    int status;
    const char *text;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

static const char *reason(int status)
{
    for (size_t i = 0; i < COUNT_OF(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Status";
}

bool reply_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* The Date header's value; each thread makes it anew once a second. */
static const char *date(void)
{
    static _Thread_local time_t made;
    static _Thread_local char text[40];
    time_t now = (time_t)(clock_real_ms() / 1000);
    struct tm tm;
    if (now != made && gmtime_r(&now, &tm)) {
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        made = now;
    }
    return text;
}

void reply_add_head(struct buf *out, const struct reply *reply)
{
    buf_addf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", reply->status, reason(reply->status), date());
    if (reply->type)
        buf_addf(out, "Content-Type: %s\r\n", reply->type);
    if (reply->chunked)
        buf_adds(out, "Transfer-Encoding: chunked\r\n");
    else if (!reply->until_close && reply_has_body(reply->status))
        buf_addf(out, "Content-Length: %zu\r\n", reply->len);
    if (!reply->added || !strcasestr(reply->added, "Cache-Control:"))
        buf_adds(out, "Cache-Control: no-store\r\n");
    buf_addf(out, "X-Request-ID: %s\r\nX-Content-Type-Options: nosniff\r\n%sConnection: %s\r\n\r\n",
             reply->id, reply->added ? reply->added : "", reply->keep ? "keep-alive" : "close");
}

void http_add_header(struct http_request *req, const char *name, const char *value)
{
    buf_addf(&req->added, "%s: ", name);
    size_t at = req->added.len;
    buf_addf(&req->added, "%s\r\n", value);
    if (!buf_ok(&req->added))
        return;
    for (char *p = req->added.data + at; p + 2 < req->added.data + req->added.len; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' '; /* A line end here would let the caller add a header. */
}

/* Sends what the socket takes without waiting. Returns the count, or -1 when the client is gone. */
static ssize_t send_now(int fd, const struct buf *head, const void *body, size_t len)
{
    struct iovec parts[2] = {{head->data, head->len}, {(void *)(uintptr_t)body, len}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = len > 0 ? 2 : 1};
    for (;;) {
        ssize_t n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            return n;
        if (errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -1;
    }
}

/* The client reads its answer more slowly than it was made: the park sends the rest. */
static void hand_over(struct http_request *req, const struct buf *head, const void *body,
                      size_t len, size_t sent)
{
    AUTO(buf) struct buf rest = BUF_INIT(head->len + len);
    if (sent < head->len) {
        buf_add(&rest, head->data + sent, head->len - sent);
        sent = head->len;
    }
    if (len > 0)
        buf_add(&rest, (const char *)body + (sent - head->len), len - (sent - head->len));
    int fd = buf_ok(&rest) ? http_request_detach(req) : -1;
    if (fd >= 0)
        park_rest(req->server->park, fd, &rest);
}

/* Ends the connection so that the answer arrives although there are unread bytes. */
static void close_after(struct http_request *req)
{
    struct buf nothing = BUF_INIT(0);
    req->conn->closing = true;
    if (req->mg)
        mg_disable_connection_keep_alive(req->mg);
    if (!http_request_has_unread(req))
        return;
    int fd = http_request_detach(req);
    if (fd >= 0)
        park_rest(req->server->park, fd, &nothing);
}

void http_send(struct http_request *req, int status, const char *type, const void *body, size_t len)
{
    if (req->state != REQUEST_OPEN)
        return;
    AUTO(buf) struct buf head = BUF_INIT(REPLY_HEAD_MAX);
    bool keep = http_request_keeps(req);
    if (!reply_has_body(status))
        type = NULL, len = 0;
    reply_add_head(&head, &(struct reply){.status = status,
                                          .type = type,
                                          .id = req->id,
                                          .added = req->added.data,
                                          .len = len,
                                          .keep = keep});
    if (strcmp(req->head.method, "HEAD") == 0)
        len = 0;
    req->state = REQUEST_ANSWERED;
    http_request_announce(req, status);
    ssize_t sent = buf_ok(&head) ? send_now(req->conn->fd, &head, body, len) : -1;
    req->status = sent < 0 ? 0 : status;
    if (sent >= 0 && (size_t)sent < head.len + len) {
        req->conn->closing = true;
        if (req->mg)
            mg_disable_connection_keep_alive(req->mg);
        hand_over(req, &head, body, len, (size_t)sent);
    } else if (!keep || sent < 0) {
        close_after(req);
    }
}

void http_add_problem(struct buf *out, const struct err *err, const char *request_id,
                      int64_t duration_ms, const char *members)
{
    buf_addf(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"",
             err_title(err->code), err_http(err->code));
    str_add_json(out, err->msg, strlen(err->msg));
    buf_addf(out, "\",\"code\":\"%s\",\"request_id\":\"%s\",\"success\":false,\"error\":\"",
             err_wire(err->code), request_id);
    str_add_json(out, err->msg, strlen(err->msg));
    buf_addf(out, "\",\"duration_ms\":%lld%s}\n", (long long)duration_ms, members ? members : "");
}

void http_send_error(struct http_request *req, const struct err *err, const char *members)
{
    AUTO(buf) struct buf body = BUF_INIT(1 << 20);
    http_add_problem(&body, err, req->id, http_age_us(req) / 1000, members);
    http_send(req, err_http(err->code), "application/problem+json", buf_str(&body), body.len);
}
