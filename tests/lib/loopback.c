#include "loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, HEAD_MAX = 65536 };

struct connection {
    struct loopback *server;
    int fd;
    pthread_t thread;
    char data[HEAD_MAX + 1]; /* bytes that arrived and were not used yet */
    size_t size;
    char head[HEAD_MAX + 1];
    char method[16], path[4096];
    bool chunked;
    size_t left; /* bytes left of the body, or of the chunk */
    bool body_over;
};

struct loopback {
    loopback_handler *handler;
    void *arg;
    int fd, port;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stopping;
    struct connection *connections[CONNECTIONS_MAX];
    int count, requests;
};

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

/* ---- reading ---- */

static bool fill(struct connection *c)
{
    ssize_t n;
    do
        n = recv(c->fd, c->data + c->size, HEAD_MAX - c->size, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    c->size += (size_t)n;
    c->data[c->size] = '\0';
    return true;
}

static void drop(struct connection *c, size_t n)
{
    memmove(c->data, c->data + n, c->size - n + 1);
    c->size -= n;
}

/* Takes the text before `end`, and `end`, from the input; NULL when `end` does not come. */
static char *take_until(struct connection *c, const char *end, char *to, size_t size)
{
    char *at;
    c->data[c->size] = '\0';
    while (!(at = memmem(c->data, c->size, end, strlen(end))))
        if (c->size == HEAD_MAX || !fill(c))
            return NULL;
    snprintf(to, size, "%.*s", (int)(at - c->data), c->data);
    drop(c, (size_t)(at - c->data) + strlen(end));
    return to;
}

const char *loopback_header(const struct loopback_call *call, const char *name, char *value,
                            size_t size)
{
    size_t n = strlen(name);
    for (const char *line = strchr(call->head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *from = line + n + 1 + strspn(line + n + 1, " \t");
        snprintf(value, size, "%.*s", (int)strcspn(from, "\r\n"), from);
        return value;
    }
    return NULL;
}

static bool next_chunk(struct connection *c)
{
    char line[64];
    if (!take_until(c, "\r\n", line, sizeof line))
        return false;
    if (!*line && !take_until(c, "\r\n", line, sizeof line)) /* the line end of the previous
                                                              * chunk */
        return false;
    c->left = strtoul(line, NULL, 16);
    if (c->left == 0) {
        c->body_over = true;
        return take_until(c, "\r\n", line, sizeof line) != NULL;
    }
    return true;
}

ssize_t loopback_read(struct loopback_call *call, void *to, size_t size)
{
    struct connection *c = call->state;
    if (c->chunked && !c->body_over && c->left == 0 && !next_chunk(c))
        return -1;
    if (c->left == 0)
        return 0;
    if (c->size == 0 && !fill(c))
        return -1;
    size_t n = c->size < c->left ? c->size : c->left;
    n = n < size ? n : size;
    memcpy(to, c->data, n);
    drop(c, n);
    c->left -= n;
    return (ssize_t)n;
}

char *loopback_body(struct loopback_call *call)
{
    size_t size = 0, cap = 65536;
    char *data = malloc(cap + 1);
    ssize_t n;
    must(data != NULL, "body");
    while ((n = loopback_read(call, data + size, cap - size)) > 0) {
        size += (size_t)n;
        if (size == cap)
            data = realloc(data, (cap *= 2) + 1);
        must(data != NULL, "body");
    }
    data[size] = '\0';
    return data;
}

/* ---- writing ---- */

bool loopback_send(struct loopback_call *call, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = send(call->fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

bool loopback_text(struct loopback_call *call, const char *text)
{
    return loopback_send(call, text, strlen(text));
}

bool loopback_answer(struct loopback_call *call, int status, const char *headers, const char *body)
{
    char *text = NULL;
    int n = asprintf(&text, "HTTP/1.1 %d Test\r\nContent-Length: %zu\r\n%s\r\n%s", status,
                     strlen(body), headers, body);
    must(n >= 0, "answer");
    bool sent = loopback_send(call, text, (size_t)n);
    free(text);
    return sent;
}

bool loopback_await_close(struct loopback_call *call, int ms)
{
    struct pollfd pfd = {.fd = call->fd, .events = POLLRDHUP};
    return poll(&pfd, 1, ms) > 0;
}

/* ---- connections ---- */

static bool read_request(struct connection *c, struct loopback_call *call)
{
    char value[64];
    if (!take_until(c, "\r\n\r\n", c->head, sizeof c->head) ||
        sscanf(c->head, "%15s %4095s", c->method, c->path) != 2)
        return false;
    *call = (struct loopback_call){.fd = c->fd,
                                   .method = c->method,
                                   .path = c->path,
                                   .head = c->head,
                                   .server = c->server,
                                   .state = c};
    c->left =
        loopback_header(call, "Content-Length", value, sizeof value) ? strtoul(value, NULL, 10) : 0;
    c->chunked = loopback_header(call, "Transfer-Encoding", value, sizeof value) != NULL;
    c->body_over = false;
    return true;
}

static void *serve(void *arg)
{
    struct connection *c = arg;
    struct loopback *server = c->server;
    struct loopback_call call;
    char rest[4096];
    while (read_request(c, &call)) {
        pthread_mutex_lock(&server->lock);
        server->requests++;
        pthread_mutex_unlock(&server->lock);
        if (!server->handler(&call, server->arg))
            break;
        while (loopback_read(&call, rest, sizeof rest) > 0)
            continue;
    }
    pthread_mutex_lock(&server->lock); /* loopback_stop() may be shutting it down at this moment */
    close(c->fd);
    c->fd = -1;
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

static void add(struct loopback *server, int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    int one = 1;
    must(c != NULL, "connection");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->server = server;
    c->fd = fd;
    pthread_mutex_lock(&server->lock);
    must(server->count < CONNECTIONS_MAX, "connections");
    server->connections[server->count++] = c;
    must(pthread_create(&c->thread, NULL, serve, c) == 0, "thread");
    pthread_mutex_unlock(&server->lock);
}

static bool is_stopping(struct loopback *server)
{
    pthread_mutex_lock(&server->lock);
    bool stopping = server->stopping;
    pthread_mutex_unlock(&server->lock);
    return stopping;
}

static void *accept_all(void *arg)
{
    struct loopback *server = arg;
    while (!is_stopping(server)) {
        struct pollfd pfd = {.fd = server->fd, .events = POLLIN};
        if (poll(&pfd, 1, 20) <= 0)
            continue;
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            add(server, fd);
    }
    return NULL;
}

struct loopback *loopback_reserve(loopback_handler *handler, void *arg)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct loopback *server = calloc(1, sizeof *server);
    must(server != NULL, "server");
    server->handler = handler;
    server->arg = arg;
    pthread_mutex_init(&server->lock, NULL);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(server->fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    must(getsockname(server->fd, (struct sockaddr *)&address, &size) == 0, "getsockname");
    server->port = ntohs(address.sin_port);
    return server;
}

void loopback_listen(struct loopback *server)
{
    must(listen(server->fd, 1024) == 0, "listen");
    must(pthread_create(&server->thread, NULL, accept_all, server) == 0, "thread");
}

struct loopback *loopback_start(loopback_handler *handler, void *arg)
{
    struct loopback *server = loopback_reserve(handler, arg);
    loopback_listen(server);
    return server;
}

void loopback_stop(struct loopback *server)
{
    if (!server)
        return;
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->thread, NULL);
    pthread_mutex_lock(&server->lock);
    for (int i = 0; i < server->count; i++)
        if (server->connections[i]->fd >= 0)
            shutdown(server->connections[i]->fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    for (int i = 0; i < server->count; i++) {
        pthread_join(server->connections[i]->thread, NULL);
        free(server->connections[i]);
    }
    close(server->fd);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

char *loopback_url(const struct loopback *server, const char *path)
{
    char *url = NULL;
    must(asprintf(&url, "http://127.0.0.1:%d%s", server->port, path) >= 0, "url");
    return url;
}

int loopback_port(const struct loopback *server)
{
    return server->port;
}

int loopback_connections(struct loopback *server)
{
    pthread_mutex_lock(&server->lock);
    int count = server->count;
    pthread_mutex_unlock(&server->lock);
    return count;
}

int loopback_requests(struct loopback *server)
{
    pthread_mutex_lock(&server->lock);
    int requests = server->requests;
    pthread_mutex_unlock(&server->lock);
    return requests;
}
