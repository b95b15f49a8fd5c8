/*
 * The readers of tests/bench/run.
 *
 *   bench-streams hold N PORT SECRET TASK     opens N streams of the task's events, prints "ready"
 *                                             once each has begun, and keeps them until stdin ends
 *   bench-streams read N PORT SECRET TASK     N readers follow to the end; the task prints the time
 *                                             (the stand-in's "stamps"): prints "p50_us p99_us
 *                                             bytes" from a line's writing to its reading
 *   bench-streams fetch PORT SECRET TASK      one replay: prints "bytes us"
 *   bench-streams append N DIR                N durable appends by one writer: prints "per_second"
 *
 * A reader's sample is the oldest line of each piece that it receives.
 */
#include "measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 18, EVENTS_MAX = 256, SAMPLES_MAX = 4 << 20 };

static char piece[PIECE_BYTES];

static int ask(const char *port, const char *secret, const char *task)
{
    char request[512];
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtol(port, NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    int n =
        snprintf(request, sizeof request,
                 "GET /tasks/%s/events HTTP/1.1\r\nHost: localhost\r\nX-Runner-Secret: %s\r\n\r\n",
                 task, secret);
    if (send(fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        die("send");
    return fd;
}

static void expect_head(int fd)
{
    ssize_t n = recv(fd, piece, sizeof piece - 1, 0);
    if (n < 12 || memcmp(piece, "HTTP/1.1 200", 12) != 0) {
        piece[n > 0 ? n : 0] = '\0';
        fprintf(stderr, "no stream: %.300s\n", piece);
        exit(1);
    }
}

static int do_hold(char **args)
{
    long count = strtol(args[0], NULL, 10);
    for (long i = 0; i < count; i++)
        expect_head(ask(args[1], args[2], args[3]));
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, piece, sizeof piece) > 0)
        continue;
    return 0;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* When the oldest line of the piece was written, or 0. */
static int64_t stamp_of(size_t size)
{
    static const char mark[] = "\"at\":\"";
    const char *at = memmem(piece, size, mark, sizeof mark - 1);
    if (!at || at + sizeof mark + 18 > piece + size)
        return 0;
    return strtoll(at + sizeof mark - 1, NULL, 10);
}

static int do_read(char **args)
{
    long count = strtol(args[0], NULL, 10), open = count;
    int64_t *samples = calloc(SAMPLES_MAX, sizeof *samples), bytes = 0;
    size_t taken = 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < count; i++) {
        int fd = ask(args[1], args[2], args[3]);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        expect_head(fd);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    while (open > 0) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll, events, EVENTS_MAX, 60000);
        if (ready <= 0)
            die("epoll");
        for (int i = 0; i < ready; i++) {
            ssize_t n = recv(events[i].data.fd, piece, sizeof piece, 0);
            int64_t stamp = n > 0 ? stamp_of((size_t)n) : 0;
            if (stamp && taken < SAMPLES_MAX)
                samples[taken++] = now_us() - stamp;
            bytes += n > 0 ? n : 0;
            if (n <= 0) {
                close(events[i].data.fd);
                open--;
            }
        }
    }
    if (taken == 0)
        return 1;
    qsort(samples, taken, sizeof *samples, by_size);
    printf("%lld %lld %lld\n", (long long)samples[taken / 2], (long long)samples[taken * 99 / 100],
           (long long)bytes);
    return 0;
}

static int do_fetch(char **args)
{
    int64_t bytes = 0, began = now_us();
    int fd = ask(args[0], args[1], args[2]);
    ssize_t n;
    while ((n = recv(fd, piece, sizeof piece, 0)) > 0)
        bytes += n;
    printf("%lld %lld\n", (long long)bytes, (long long)(now_us() - began));
    return n == 0 ? 0 : 1;
}

static int do_append(char **args)
{
    long count = strtol(args[0], NULL, 10);
    static char page[4096];
    char path[512];
    snprintf(path, sizeof path, "%s/append", args[1]);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int64_t began = now_us();
    for (long i = 0; i < count; i++)
        if (write(fd, page, sizeof page) != sizeof page || fdatasync(fd))
            die(path);
    printf("%.1f\n", (double)count * 1e6 / (double)(now_us() - began));
    unlink(path);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int args;
        int (*run)(char **args);
    } commands[] = {{"hold", 4, do_hold},
                    {"read", 4, do_read},
                    {"fetch", 3, do_fetch},
                    {"append", 2, do_append}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (argc > 1 && strcmp(argv[1], commands[i].name) == 0 && argc - 2 >= commands[i].args)
            return commands[i].run(argv + 2);
    fprintf(stderr, "bench-streams hold|read|fetch|append: see the top of streams.c\n");
    return 2;
}
