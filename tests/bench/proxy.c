/*
 * What the credential proxy costs: one program in three parts.
 *
 *   bench-proxy upstream           an API that streams as asked; prints its port
 *   bench-proxy … (as CLAUDE_BIN)  the CLI of a task: measures the way through the proxy beside the
 *                                  way around it, and gives the numbers as its result
 *
 * The prompt says what to measure: "first PORT COUNT" (microseconds to the first byte, one at a
 * time), "stream PORT STREAMS EVENTS BYTES PAUSE" (MB/s of all together; so many microseconds from
 * one event to the next), "long PORT EVENTS BYTES" (through the proxy only). The answer's text is
 * "p50-proxied p50-direct" or "rate rate".
 */
#include "measure.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 256, SAMPLES_MAX = 10000, CHUNK_MAX = 1 << 20 };

static void wait_until(int64_t us)
{
    int64_t left = us - now_us();
    if (left > 0)
        usleep((useconds_t)left);
}

/* ---- the API ---- */

/* What a request asks for: so many events of so many bytes each, with a pause between them. */
struct wish {
    long events, bytes, pause_us;
};

/* Reads a head and its short body. */
static bool read_request(int fd, struct wish *ret_wish)
{
    char text[16384];
    size_t len = 0;
    for (;;) {
        ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        char *body = strstr(text, "\r\n\r\n");
        char *end;
        if (!body || !strchr(body + 4, ';'))
            continue;
        ret_wish->events = strtol(body + 4, &end, 10);
        ret_wish->bytes = strtol(end, &end, 10);
        ret_wish->pause_us = strtol(end, NULL, 10);
        return true;
    }
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct wish wish;
    char *chunk = malloc(CHUNK_MAX + 64);
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    while (chunk && read_request(fd, &wish) && send_all(fd, head, sizeof(head) - 1)) {
        int n = snprintf(chunk, 32, "%lx\r\n", (unsigned long)wish.bytes);
        memset(chunk + n, 'x', (size_t)wish.bytes);
        memcpy(chunk + n, "data: ", 6);
        memcpy(chunk + n + wish.bytes - 2, "\n\n\r\n", 4);
        bool alive = true;
        int64_t start = now_us();
        for (long i = 0; i < wish.events && alive; i++) {
            wait_until(start + i * wish.pause_us);
            alive = send_all(fd, chunk, (size_t)(n + wish.bytes + 2));
        }
        if (!alive || !send_all(fd, "0\r\n\r\n", 5))
            break;
    }
    free(chunk);
    close(fd);
    return NULL;
}

static int listen_on_loopback(uint16_t *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) || listen(fd, 512) ||
        getsockname(fd, (struct sockaddr *)&at, &len))
        die("listen");
    *ret_port = ntohs(at.sin_port);
    return fd;
}

static _Noreturn void upstream(void)
{
    uint16_t port;
    const int one = 1;
    int fd = listen_on_loopback(&port);
    printf("%u\n", port);
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int client = accept(fd, NULL, NULL);
        if (client < 0)
            die("accept");
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)client))
            die("thread");
        pthread_detach(thread);
    }
}

/* ---- the CLI ---- */

struct way {
    uint16_t port;
    const char *token;
    long events, bytes, pause_us;
    int64_t received;
};

static int connect_to(uint16_t port)
{
    const int one = 1;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* One request on an open connection. Returns the microseconds to the first byte of the body. */
static int64_t ask(int fd, struct way *way)
{
    static _Thread_local char data[1 << 17];
    char request[1024], body[64];
    int body_len =
        snprintf(body, sizeof(body), "%ld %ld %ld;", way->events, way->bytes, way->pause_us);
    int len = snprintf(request, sizeof(request),
                       "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: %s\r\n"
                       "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                       way->token, body_len, body);
    int64_t start = now_us(), first = 0;
    size_t tail = 0;
    char last[8] = "";
    if (!send_all(fd, request, (size_t)len))
        die("send");
    for (;;) {
        ssize_t n = recv(fd, data, sizeof(data), 0);
        if (n <= 0)
            die("recv");
        if (way->received == 0 && memcmp(data, "HTTP/1.1 200", 12) != 0) {
            fprintf(stderr, "%.*s\n", (int)n, data);
            exit(1);
        }
        if (!first && (way->received > 0 || memmem(data, (size_t)n, "data:", 5)))
            first = now_us() - start;
        way->received += n;
        size_t keep = n < 5 ? (size_t)n : 5;
        memmove(last, last + keep, 5 - keep);
        memcpy(last + 5 - keep, data + n - keep, keep);
        tail += keep;
        if (tail >= 5 && memcmp(last, "0\r\n\r\n", 5) == 0)
            return first;
    }
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t first_byte_p50(struct way way, long count)
{
    static int64_t samples[SAMPLES_MAX];
    int fd = connect_to(way.port);
    way.events = 1;
    way.bytes = 200;
    for (long i = 0; i < 20; i++)
        ask(fd, &way);
    for (long i = 0; i < count; i++)
        samples[i] = ask(fd, &way);
    close(fd);
    qsort(samples, (size_t)count, sizeof(*samples), by_size);
    return samples[count / 2];
}

static void *stream(void *arg)
{
    struct way *way = arg;
    int fd = connect_to(way->port);
    ask(fd, way);
    close(fd);
    return NULL;
}

/* MB/s of `count` streams at once. */
static double rate(struct way way, long count)
{
    static struct way ways[STREAMS_MAX];
    pthread_t threads[STREAMS_MAX];
    int64_t start = now_us(), received = 0;
    for (long i = 0; i < count; i++) {
        ways[i] = way;
        if (pthread_create(&threads[i], NULL, stream, &ways[i]))
            die("thread");
    }
    for (long i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        received += ways[i].received;
    }
    return (double)received / (double)(now_us() - start);
}

static void measure(char *prompt, struct way proxied, struct way direct, char *text, size_t size)
{
    char *save = NULL, *what = strtok_r(prompt, " \n", &save);
    long numbers[5] = {0};
    for (size_t i = 0; i < 5; i++) {
        char *word = strtok_r(NULL, " \n", &save);
        numbers[i] = word ? strtol(word, NULL, 10) : 0;
    }
    direct.port = (uint16_t)numbers[0];
    if (what && strcmp(what, "first") == 0) {
        snprintf(text, size, "%ld %ld", (long)first_byte_p50(proxied, numbers[1]),
                 (long)first_byte_p50(direct, numbers[1]));
    } else if (what && strcmp(what, "stream") == 0) {
        proxied.events = direct.events = numbers[2];
        proxied.bytes = direct.bytes = numbers[3];
        proxied.pause_us = direct.pause_us = numbers[4];
        double around = rate(direct, numbers[1]), through = rate(proxied, numbers[1]);
        snprintf(text, size, "%.1f %.1f", through, around);
    } else if (what && strcmp(what, "long") == 0) {
        proxied.events = numbers[1];
        proxied.bytes = numbers[2];
        snprintf(text, size, "%.0f 0", rate(proxied, 1));
    } else {
        die("what?");
    }
}

static int cli(void)
{
    static char prompt[4096], text[256];
    const char *base = getenv("ANTHROPIC_BASE_URL"), *token = getenv("ANTHROPIC_API_KEY");
    size_t n = fread(prompt, 1, sizeof(prompt) - 1, stdin);
    const char *colon = base ? strrchr(base, ':') : NULL;
    prompt[n] = '\0';
    if (!colon || !token)
        die("no proxy in the environment");
    const struct way proxied = {.port = (uint16_t)strtol(colon + 1, NULL, 10), .token = token};
    const struct way direct = {.token = token};
    puts("{\"type\":\"system\",\"subtype\":\"init\"}");
    fflush(stdout);
    measure(prompt, proxied, direct, text, sizeof(text));
    printf("{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"%s\"}\n",
           text);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "upstream") == 0)
        upstream();
    return cli();
}
