/*
 * What a jail's way to the network costs: a server, and a client that runs in a jail and beside it.
 *
 *   bench-gate serve                      answers on a loopback port, which it prints
 *   bench-gate without-nftables PROGRAM…  runs a program as on a kernel that has no nf_tables
 *   bench-gate first HOST PORT COUNT      prints the median time to the first byte, in us
 *   bench-gate bulk HOST PORT MB          prints MB/s of one download
 *   bench-gate upload HOST PORT MB        prints MB/s of one upload
 *   bench-gate hold HOST PORT COUNT MS    keeps so many connections so long, prints COUNT
 *
 * A client sends how many MB it wants, as text with a line's end; the server sends one byte more. A
 * negative number announces as many MB from the client, before that byte. Where HTTPS_PROXY is set
 * a client asks for the server there, by its name.
 */
#include "measure.h"

#include "situation.h"

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES_MAX = 10000, CHUNK = 1 << 16, MB = 1000000 };

/* Receives so many bytes. */
static bool take(int fd, int64_t left)
{
    char chunk[CHUNK / 2]; /* the server's threads have small stacks */
    ssize_t n = 1;
    for (; left > 0 && n > 0; left -= n)
        n = recv(fd, chunk, left < (int64_t)sizeof(chunk) ? (size_t)left : sizeof(chunk), 0);
    return left <= 0 && n > 0;
}

/* ---- the server ---- */

static void *answer(void *arg)
{
    static const char chunk[CHUNK];
    int fd = (int)(intptr_t)arg;
    char asked[32] = "";
    size_t len = 0;
    while (len + 1 < sizeof(asked) && recv(fd, asked + len, 1, 0) == 1 && asked[len++] != '\n')
        continue;
    int64_t wanted = strtol(asked, NULL, 10) * MB, left = wanted > 0 ? wanted + 1 : 1;
    if (wanted < 0 && !take(fd, -wanted))
        left = 0;
    while (left > 0 && send_all(fd, chunk, left < CHUNK ? (size_t)left : CHUNK))
        left -= CHUNK;
    while (recv(fd, asked, sizeof(asked), 0) > 0)
        continue;
    close(fd);
    return NULL;
}

static _Noreturn void serve(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    pthread_attr_t small;
    pthread_t thread;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&at, size) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&at, &size))
        die("serve");
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, CHUNK);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int client = accept(fd, NULL, NULL);
        if (client >= 0 && pthread_create(&thread, &small, answer, (void *)(intptr_t)client))
            close(client);
    }
}

/* ---- the client ---- */

/* The server, or the proxy that leads to it. */
struct place {
    struct addrinfo *at;
    char request[512]; /* for the proxy; "": there is none */
};

static struct addrinfo *find(const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *at = NULL;
    if (getaddrinfo(host, port, &hints, &at)) {
        fprintf(stderr, "no such host: %s\n", host);
        exit(1);
    }
    return at;
}

static void find_place(const char *host, const char *port, struct place *ret_place)
{
    const char *proxy = getenv("HTTPS_PROXY");
    char name[64], number[8];
    ret_place->request[0] = '\0';
    if (!proxy) {
        ret_place->at = find(host, port);
        return;
    }
    if (sscanf(proxy, "http://%63[^:]:%7[0-9]", name, number) != 2)
        die("HTTPS_PROXY");
    ret_place->at = find(name, number);
    snprintf(ret_place->request, sizeof(ret_place->request),
             "CONNECT %s:%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", host, port, host, port);
}

/* Reads a proxy's answer, byte by byte: what follows is the server's. */
static bool is_let_through(int fd)
{
    char answer[1024] = "";
    size_t len = 0;
    while (len + 1 < sizeof(answer) && !strstr(answer, "\r\n\r\n"))
        if (recv(fd, answer + len++, 1, 0) != 1)
            return false;
    return strncmp(answer, "HTTP/1.1 200 ", 13) == 0;
}

/* Connects, and asks for so many MB. */
static int ask(const struct place *to, int mb)
{
    char line[32];
    int len = snprintf(line, sizeof(line), "%d\n", mb);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, to->at->ai_addr, to->at->ai_addrlen))
        die("connect");
    if (to->request[0] && (!send_all(fd, to->request, strlen(to->request)) || !is_let_through(fd)))
        die("the proxy");
    if (!send_all(fd, line, (size_t)len))
        die("send");
    return fd;
}

static void take_byte(int fd)
{
    char byte;
    if (recv(fd, &byte, 1, 0) != 1)
        die("the first byte");
}

static void upload(const struct place *to, int mb)
{
    static const char chunk[CHUNK];
    int64_t left = (int64_t)mb * MB, began = now_us();
    int fd = ask(to, -mb);
    for (; left > 0; left -= CHUNK)
        if (!send_all(fd, chunk, left < CHUNK ? (size_t)left : CHUNK))
            die("the upload");
    take_byte(fd);
    printf("%.0f\n", (double)mb * MB / (double)(now_us() - began));
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void first(const struct place *to, int count)
{
    static int64_t took[SAMPLES_MAX];
    for (int i = 0; i < count && i < SAMPLES_MAX; i++) {
        int64_t began = now_us();
        int fd = ask(to, 0);
        take_byte(fd);
        took[i] = now_us() - began;
        close(fd);
    }
    qsort(took, (size_t)count, sizeof(*took), compare);
    printf("%lld\n", (long long)took[count / 2]);
}

static void bulk(const struct place *to, int mb)
{
    static char chunk[CHUNK];
    int64_t got = 0, began = now_us();
    int fd = ask(to, mb);
    ssize_t n;
    while (got <= (int64_t)mb * MB && (n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
        got += n;
    if (got <= (int64_t)mb * MB)
        die("the download");
    printf("%.0f\n", (double)got / (double)(now_us() - began));
}

static void hold(const struct place *to, int count, int ms)
{
    for (int i = 0; i < count; i++)
        take_byte(ask(to, 0));
    usleep((useconds_t)ms * 1000);
    printf("%d\n", count);
}

static _Noreturn void run_without_nftables(char **argv)
{
    if (!situation_enter(situation_find("no-nftables")))
        die("a filter of calls");
    execv(argv[0], argv);
    die(argv[0]);
}

int main(int argc, char **argv)
{
    struct place to;
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        serve();
    if (argc >= 3 && strcmp(argv[1], "without-nftables") == 0)
        run_without_nftables(argv + 2);
    if (argc < 5)
        return 2;
    find_place(argv[2], argv[3], &to);
    int count = (int)strtol(argv[4], NULL, 10);
    if (count < 1 || count > SAMPLES_MAX)
        return 2;
    if (strcmp(argv[1], "first") == 0)
        first(&to, count);
    else if (strcmp(argv[1], "bulk") == 0)
        bulk(&to, count);
    else if (strcmp(argv[1], "upload") == 0)
        upload(&to, count);
    else if (argc == 6 && strcmp(argv[1], "hold") == 0)
        hold(&to, count, (int)strtol(argv[5], NULL, 10));
    freeaddrinfo(to.at);
    return 0;
}
