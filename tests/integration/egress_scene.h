/* A service on the host's loopback, and commands that try to reach it through the gate. */
#ifndef TESTS_EGRESS_SCENE_H
#define TESTS_EGRESS_SCENE_H

#include "testing.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A service on the host's loopback: greets over HTTP and counts its visitors. */
struct service {
    int fd, port;
    atomic_int came;
    pthread_t thread;
};

static struct service service;
static char host[256]; /* a name of this machine that resolves to its loopback; "": it has none */

/* Reads to the head's end: what was left unread would reset the connection. */
static inline void read_request(int fd)
{
    char request[4096];
    size_t len = 0;
    ssize_t n;
    while (len < sizeof(request) && (n = read(fd, request + len, sizeof(request) - len)) > 0) {
        len += (size_t)n;
        if (memmem(request, len, "\r\n\r\n", 4))
            return;
    }
}

static inline void *greet(void *arg)
{
    struct service *s = arg;
    static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    int fd;
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        atomic_fetch_add(&s->came, 1);
        read_request(fd);
        (void)!send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static inline int open_service(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    service.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(service.fd, (struct sockaddr *)&at, size) || listen(service.fd, 64) ||
        getsockname(service.fd, (struct sockaddr *)&at, &size))
        return -1;
    service.port = ntohs(at.sin_port);
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (gethostname(host, sizeof(host)) || getaddrinfo(host, NULL, &hints, &found))
        host[0] = '\0';
    if (found) {
        memcpy(&at, found->ai_addr, sizeof(at));
        if (ntohl(at.sin_addr.s_addr) >> 24 != 127)
            host[0] = '\0';
        freeaddrinfo(found);
    }
    return pthread_create(&service.thread, NULL, greet, &service);
}

static inline void end_service(void)
{
    shutdown(service.fd, SHUT_RDWR);
    pthread_join(service.thread, NULL);
    close(service.fd);
}

/* Runs a command (no escapes in it) with that egress (JSON), and returns the answer. */
static inline struct reply *run(struct runner *runner, const char *command, const char *egress)
{
    char *json = textf("{\"command\":\"%s\",\"egress\":%s,\"timeout_ms\":180000}", command, egress);
    struct reply *reply = runner_post(runner, "/exec", json);
    free(json);
    assert_status(reply, 200);
    return reply;
}

static inline void expect_denied(struct runner *runner, const struct reply *reply, const char *word)
{
    char *path = textf("/tasks/%s/events", json_text(reply->json, "taskId"));
    struct reply *events = runner_get(runner, path);
    if (!strstr(events->body, "egress_denied") || !strstr(events->body, word))
        fail_msg("no denial with '%s' in %s", word, events->body);
    reply_free(events);
    free(path);
}

#endif
