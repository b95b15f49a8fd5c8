#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { THREAD_STACK = 512 * 1024 };

struct server_conn {
    int fd;
    bool open;                                /* the peer may still get bytes */
    bool head_only;                           /* HEAD: the answer has no body */
    const struct server_transport *transport; /* NULL: the bare socket */
    void *session;                            /* the transport's */
    server_handler *handler;
    void *ctx;
    void (*before)(void *arg); /* an answer; or NULL */
    void *before_arg;
    char *in; /* what was read and not yet consumed */
    size_t in_size, in_cap;
    bool streaming, chunked, body_over; /* the body is read by the handler */
    size_t body_left;                   /* of it, or of its chunk */
};

static bool (*streams)(const struct server_request *req);

static bool send_all(struct server_conn *conn, const void *data, size_t size)
{
    const char *p = data;
    while (conn->open && size) {
        ssize_t n = conn->session ? conn->transport->write(conn->session, p, size)
                                  : send(conn->fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            conn->open = false;
            break;
        }
        p += n;
        size -= (size_t)n;
    }
    return conn->open;
}

/* ---- reading ---- */

static bool read_more(struct server_conn *conn)
{
    if (conn->in_cap - conn->in_size < 65536) {
        size_t cap = conn->in_cap ? conn->in_cap * 2 : 131072;
        char *grown = realloc(conn->in, cap);
        if (!grown)
            return false;
        conn->in = grown;
        conn->in_cap = cap;
    }
    ssize_t n;
    do
        n = conn->session
                ? conn->transport->read(conn->session, conn->in + conn->in_size,
                                        conn->in_cap - conn->in_size)
                : recv(conn->fd, conn->in + conn->in_size, conn->in_cap - conn->in_size, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    conn->in_size += (size_t)n;
    return true;
}

static void consume(struct server_conn *conn, size_t size)
{
    memmove(conn->in, conn->in + size, conn->in_size - size);
    conn->in_size -= size;
}

/* Takes `size` bytes off the connection, NUL-terminated; NULL when the peer left before that. */
static char *take(struct server_conn *conn, size_t size)
{
    while (conn->in_size < size)
        if (!read_more(conn))
            return NULL;
    char *out = malloc(size + 1);
    if (!out)
        return NULL;
    memcpy(out, conn->in, size);
    out[size] = '\0';
    consume(conn, size);
    return out;
}

/* Takes bytes up to and with `end`; the result is without it. */
static char *take_until(struct server_conn *conn, const char *end, size_t max)
{
    size_t end_len = strlen(end);
    size_t seen = 0;
    for (;;) {
        char *hit = conn->in_size > seen
                        ? memmem(conn->in + seen, conn->in_size - seen, end, end_len)
                        : NULL;
        if (hit) {
            size_t size = (size_t)(hit - conn->in);
            char *out = take(conn, size + end_len);
            if (out)
                out[size] = '\0';
            return out;
        }
        seen = conn->in_size >= end_len ? conn->in_size - end_len + 1 : 0;
        if (conn->in_size > max || !read_more(conn))
            return NULL;
    }
}

static char *read_chunked(struct server_conn *conn, size_t *ret_size)
{
    char *body = calloc(1, 1);
    size_t size = 0;
    for (;;) {
        char *line = take_until(conn, "\r\n", 1024);
        char *end = NULL;
        unsigned long n = line ? strtoul(line, &end, 16) : 0;
        bool bad = !line || end == line || (*end && *end != ';') || size + n > SERVER_BODY_MAX;
        free(line);
        if (bad)
            break;
        char *chunk = n ? take(conn, n) : NULL;
        char *tail = n && !chunk ? NULL : take_until(conn, "\r\n", 1024);
        char *grown = chunk && tail ? realloc(body, size + n + 1) : NULL;
        if (grown) {
            body = grown;
            memcpy(body + size, chunk, n + 1);
            size += n;
        }
        bool ok = grown && !*tail;
        bool last = n == 0 && tail && !*tail;
        free(chunk);
        free(tail);
        if (last) {
            *ret_size = size;
            return body;
        }
        if (!ok)
            break;
    }
    free(body);
    return NULL;
}

/* Cuts `head` into the request's parts, in place. */
static bool parse_head(char *head, struct server_request *req)
{
    char *save = NULL;
    char *line = strtok_r(head, "\r\n", &save);
    char *word = NULL;
    char *method = line ? strtok_r(line, " ", &word) : NULL;
    char *target = method ? strtok_r(NULL, " ", &word) : NULL;
    char *version = target ? strtok_r(NULL, " ", &word) : NULL;
    if (!version || strncmp(version, "HTTP/1.", 7) != 0)
        return false;
    char *query = strchr(target, '?');
    if (query)
        *query++ = '\0';
    req->method = method;
    req->path = target;
    req->query = query ? query : "";
    while ((line = strtok_r(NULL, "\r\n", &save))) {
        char *colon = strchr(line, ':');
        if (!colon || colon == line || req->n_headers == SERVER_HEADERS_MAX)
            return false;
        *colon = '\0';
        req->headers[req->n_headers++] = (struct server_header){
            .name = line,
            .value = colon + 1 + strspn(colon + 1, " \t"),
        };
    }
    return true;
}

/* ---- a body that the handler reads ---- */

void server_stream_bodies(bool (*for_which)(const struct server_request *req))
{
    streams = for_which;
}

static bool next_chunk(struct server_conn *conn)
{
    char *line = take_until(conn, "\r\n", 1024);
    char *end = NULL;
    if (line && !*line) { /* the end of the chunk before */
        free(line);
        line = take_until(conn, "\r\n", 1024);
    }
    conn->body_left = line ? strtoul(line, &end, 16) : 0;
    bool good = line && end != line && (!*end || *end == ';');
    free(line);
    if (good && conn->body_left == 0) {
        conn->body_over = true;
        char *last = take_until(conn, "\r\n", 1024);
        good = last && !*last;
        free(last);
    }
    return good;
}

ssize_t server_body_read(struct server_conn *conn, void *to, size_t size)
{
    if (!conn->streaming)
        return 0;
    if (conn->chunked && !conn->body_over && conn->body_left == 0 && !next_chunk(conn))
        return -1;
    if (conn->body_left == 0)
        return 0;
    size_t n = conn->body_left < size ? conn->body_left : size;
    if (conn->in_size) {
        n = n < conn->in_size ? n : conn->in_size;
        memcpy(to, conn->in, n);
        consume(conn, n);
    } else {
        ssize_t got;
        do
            got = conn->session ? conn->transport->read(conn->session, to, n)
                                : recv(conn->fd, to, n, 0);
        while (got < 0 && errno == EINTR);
        if (got <= 0)
            return -1;
        n = (size_t)got;
    }
    conn->body_left -= n;
    return (ssize_t)n;
}

/* False when the request's framing makes no sense. */
static bool begin_body(struct server_conn *conn, const struct server_request *req)
{
    const char *coding = server_header(req, "transfer-encoding");
    const char *length = server_header(req, "content-length");
    const char *expect = server_header(req, "expect");
    char *end = NULL;
    conn->streaming = true;
    conn->chunked = coding != NULL;
    conn->body_over = false;
    conn->body_left = length ? strtoull(length, &end, 10) : 0;
    if (expect && strcasecmp(expect, "100-continue") == 0)
        send_all(conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return coding ? strcasecmp(coding, "chunked") == 0 && !length
                  : !length || (end != length && !*end);
}

/* What the handler left of it, so that the next request can be read. */
static bool drain_body(struct server_conn *conn)
{
    char rest[65536];
    ssize_t n = 0;
    while (conn->open && (n = server_body_read(conn, rest, sizeof rest)) > 0)
        ;
    conn->streaming = false;
    return n == 0;
}

/* NULL when the body can't be had. */
static char *read_body(struct server_conn *conn, const struct server_request *req, size_t *ret_size)
{
    const char *coding = server_header(req, "transfer-encoding");
    const char *length = server_header(req, "content-length");
    const char *expect = server_header(req, "expect");
    if (expect && strcasecmp(expect, "100-continue") == 0)
        send_all(conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (coding)
        return strcasecmp(coding, "chunked") == 0 && !length ? read_chunked(conn, ret_size) : NULL;
    char *end = NULL;
    unsigned long long n = length ? strtoull(length, &end, 10) : 0;
    if (length && (end == length || *end || n > SERVER_BODY_MAX))
        return NULL;
    char *body = take(conn, (size_t)n);
    *ret_size = (size_t)n;
    return body;
}

const char *server_header(const struct server_request *req, const char *name)
{
    for (size_t i = 0; i < req->n_headers; i++)
        if (strcasecmp(req->headers[i].name, name) == 0)
            return req->headers[i].value;
    return NULL;
}

/* ---- writing ---- */

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {206, "Partial Content"},
        {304, "Not Modified"},
        {308, "Resume Incomplete"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Payload Too Large"},
        {416, "Requested Range Not Satisfiable"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Other";
}

__attribute__((format(printf, 2, 3))) static void send_text(struct server_conn *conn,
                                                            const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n >= 0)
        send_all(conn, text, (size_t)n);
    free(text);
}

void server_before_answer(struct server_conn *conn, void (*fn)(void *arg), void *arg)
{
    conn->before = fn;
    conn->before_arg = arg;
}

static void begin_answer(struct server_conn *conn)
{
    void (*before)(void *arg) = conn->before;
    conn->before = NULL;
    if (before)
        before(conn->before_arg);
}

void server_reply(struct server_conn *conn, int status, const char *headers, const char *body,
                  size_t size)
{
    server_start(conn, status, headers, size);
    server_send(conn, body, size);
}

void server_start(struct server_conn *conn, int status, const char *headers, size_t size)
{
    begin_answer(conn);
    send_text(conn, "HTTP/1.1 %d %s\r\n%sContent-Length: %zu\r\n\r\n", status, reason(status),
              headers, size);
}

bool server_send(struct server_conn *conn, const void *data, size_t size)
{
    return conn->head_only ? conn->open : send_all(conn, data, size);
}

void server_begin(struct server_conn *conn, int status, const char *headers)
{
    begin_answer(conn);
    send_text(conn, "HTTP/1.1 %d %s\r\n%sTransfer-Encoding: chunked\r\n\r\n", status,
              reason(status), headers);
}

bool server_write(struct server_conn *conn, const void *data, size_t size)
{
    if (size == 0) /* an empty chunk would end the answer */
        return conn->open;
    send_text(conn, "%zx\r\n", size);
    send_all(conn, data, size);
    return send_all(conn, "\r\n", 2);
}

void server_end(struct server_conn *conn)
{
    send_all(conn, "0\r\n\r\n", 5);
}

void server_cut(struct server_conn *conn)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    conn->open = false;
}

bool server_wait(struct server_conn *conn, int ms)
{
    struct pollfd pfd = {.fd = conn->fd, .events = POLLRDHUP};
    if (conn->open && poll(&pfd, 1, ms) > 0)
        conn->open = false;
    return conn->open;
}

/* ---- connections ---- */

/* False when the connection is over. */
static bool serve_one(struct server_conn *conn)
{
    char *head = take_until(conn, "\r\n\r\n", SERVER_HEAD_MAX);
    if (!head)
        return false;
    struct server_request req = {0};
    if (!parse_head(head, &req)) {
        server_reply(conn, 400, "Connection: close\r\n", "", 0);
        free(head);
        return false;
    }
    conn->head_only = strcmp(req.method, "HEAD") == 0;
    bool stream = streams && streams(&req);
    char *body = stream ? begin_body(conn, &req) ? calloc(1, 1) : NULL
                        : read_body(conn, &req, &req.body_size);
    if (body) {
        req.body = body;
        conn->handler(conn, &req, conn->ctx);
    } else {
        server_reply(conn, 413, "Connection: close\r\n", "", 0);
    }
    const char *connection = server_header(&req, "connection");
    bool more = body && (!stream || drain_body(conn)) && conn->open &&
                !(connection && strcasecmp(connection, "close") == 0);
    free(body);
    free(head);
    return more;
}

static void *serve_connection(void *arg)
{
    struct server_conn *conn = arg;
    int one = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (conn->transport)
        conn->session = conn->transport->open(conn->fd, conn->transport->arg);
    while ((!conn->transport || conn->session) && serve_one(conn))
        ;
    if (conn->session)
        conn->transport->close(conn->session);
    close(conn->fd);
    free(conn->in);
    free(conn);
    return NULL;
}

static void start_connection(int fd, const struct server_transport *transport,
                             server_handler *handler, void *ctx)
{
    struct server_conn *conn = calloc(1, sizeof *conn);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    if (conn)
        *conn = (struct server_conn){
            .fd = fd, .open = true, .transport = transport, .handler = handler, .ctx = ctx};
    if (!conn || pthread_create(&thread, &attr, serve_connection, conn) != 0) {
        close(fd);
        free(conn);
    }
    pthread_attr_destroy(&attr);
}

int server_listen(int *port)
{
    signal(SIGPIPE, SIG_IGN);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)*port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof addr;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 511) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        close(fd);
        return -1;
    }
    *port = ntohs(addr.sin_port);
    return fd;
}

void server_serve(int fd, const struct server_transport *transport, server_handler *handler,
                  void *ctx)
{
    for (;;) {
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer >= 0)
            start_connection(peer, transport, handler, ctx);
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

int server_run(int port, server_handler *handler, void *ctx)
{
    int fd = server_listen(&port);
    if (fd < 0)
        return -1;
    printf("listening on http://127.0.0.1:%d\n", port);
    fflush(stdout);
    server_serve(fd, NULL, handler, ctx);
    return -1;
}
