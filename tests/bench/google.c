/*
 * Uploads to and downloads from Cloud Storage, as tests/bench/run measures them beside curl.
 *
 *   bench-google serve                 the simplest storage: takes whatever is put, gives zeros;
 *                                      prints its port
 *   bench-google put PORT FILE BYTES   one upload of that many bytes of the file; prints "us kib":
 *                                      how long, and by how much the peak RSS rose
 *   bench-google get PORT BYTES        one download; the same
 *   bench-google crc                   prints "fast portable", MB/s
 *   bench-google calls PORT THREADS N  N metadata calls by each; prints "per_second kib"
 */
#include "measure.h"

#include "base/clock.h"
#include "base/str.h"
#include "google/storage.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 18, HEAD_MAX = 16384, THREADS_MAX = 256 };

/* ---- the server ---- */

struct peer {
    int fd;
    char data[HEAD_MAX + 1]; /* what came and was not used yet */
    size_t len;
    char head[HEAD_MAX + 1];
    char piece[PIECE];
};

static bool read_head(struct peer *peer)
{
    char *end;
    peer->data[peer->len] = '\0';
    while (!(end = strstr(peer->data, "\r\n\r\n"))) {
        ssize_t n = recv(peer->fd, peer->data + peer->len, HEAD_MAX - peer->len, 0);
        if (n <= 0)
            return false;
        peer->len += (size_t)n;
        peer->data[peer->len] = '\0';
    }
    size_t size = (size_t)(end - peer->data) + 4;
    memcpy(peer->head, peer->data, size);
    peer->head[size] = '\0';
    peer->len -= size;
    memmove(peer->data, peer->data + size, peer->len);
    return true;
}

static long long header_number(const struct peer *peer, const char *name)
{
    const char *at = strcasestr(peer->head, name);
    return at ? strtoll(at + strlen(name), NULL, 10) : 0;
}

/* Takes a body; its checksum goes on from *crc. */
static bool drain(struct peer *peer, uint32_t *crc)
{
    long long left = header_number(peer, "\ncontent-length:");
    size_t n = (long long)peer->len < left ? peer->len : (size_t)left;
    *crc = google_crc32c(*crc, peer->data, n);
    left -= (long long)n;
    peer->len -= n;
    memmove(peer->data, peer->data + n, peer->len);
    while (left > 0) {
        ssize_t got = recv(peer->fd, peer->piece, left < PIECE ? (size_t)left : (size_t)PIECE, 0);
        if (got <= 0)
            return false;
        *crc = google_crc32c(*crc, peer->piece, (size_t)got);
        left -= got;
    }
    return true;
}

static void crc_text(uint32_t crc, char text[16])
{
    const unsigned char bytes[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                    (unsigned char)(crc >> 8), (unsigned char)crc};
    struct buf out = BUF_INIT(16);
    str_add_base64(&out, BASE64_STD, bytes, sizeof(bytes));
    snprintf(text, 16, "%s", buf_str(&out));
    buf_done(&out);
}

static bool say(const struct peer *peer, const char *status, const char *headers, const char *body)
{
    char text[2048];
    int n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status,
                     strlen(body), headers, body);
    return send_all(peer->fd, text, (size_t)n);
}

static bool say_object(const struct peer *peer, long long size, uint32_t crc)
{
    char text[16], body[512];
    crc_text(crc, text);
    snprintf(body, sizeof(body),
             "{\"name\":\"o\",\"generation\":\"7\",\"size\":\"%lld\",\"crc32c\":\"%s\"}", size,
             text);
    return say(peer, "200 OK", "", body);
}

/* Each piece of an upload comes on the same connection. */
static bool take_piece(struct peer *peer, uint32_t *crc)
{
    long long first = 0, last = -1, total = -1;
    char range[96];
    const char *at = strcasestr(peer->head, "\ncontent-range: bytes ");
    if (at)
        sscanf(at + 22, "%lld-%lld/%lld", &first, &last, &total);
    if (first == 0)
        *crc = 0;
    if (!drain(peer, crc))
        return false;
    if (at && last + 1 != total) {
        snprintf(range, sizeof(range), "Range: bytes=0-%lld\r\n", last);
        return say(peer, "308 Resume Incomplete", range, "");
    }
    return say_object(peer, last + 1, *crc);
}

static bool give_zeros(const struct peer *peer, long long size)
{
    static const char zeros[PIECE];
    static _Atomic long long known_size = -1; /* of the last one asked for */
    static _Atomic uint32_t known_crc;
    char head[256], text[16];
    if (known_size != size) {
        uint32_t crc = 0;
        for (long long left = size; left > 0; left -= PIECE)
            crc = google_crc32c(crc, zeros, left < PIECE ? (size_t)left : (size_t)PIECE);
        known_crc = crc;
        known_size = size;
    }
    crc_text(known_crc, text);
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nX-Goog-Generation: 7\r\n"
                     "X-Goog-Hash: crc32c=%s\r\n\r\n",
                     size, text);
    bool sent = send_all(peer->fd, head, (size_t)n);
    for (; sent && size > 0; size -= PIECE)
        sent = send_all(peer->fd, zeros, size < PIECE ? (size_t)size : (size_t)PIECE);
    return sent;
}

static bool answer(struct peer *peer, uint32_t *crc)
{
    uint32_t ignored = 0;
    if (strncmp(peer->head, "PUT ", 4) == 0)
        return take_piece(peer, crc);
    if (!drain(peer, &ignored))
        return false;
    if (strncmp(peer->head, "POST /token", 11) == 0)
        return say(peer, "200 OK", "", "{\"access_token\":\"t\",\"expires_in\":3600}");
    if (strstr(peer->head, "uploadType=resumable"))
        return say(peer, "200 OK", "Location: /upload/session\r\n", "");
    const char *zeros = strstr(peer->head, "/zeros-");
    return zeros ? give_zeros(peer, strtoll(zeros + 7, NULL, 10)) : say_object(peer, 0, 0);
}

static void *serve(void *arg)
{
    struct peer *peer = arg;
    uint32_t crc = 0;
    while (read_head(peer) && answer(peer, &crc))
        continue;
    close(peer->fd);
    free(peer);
    return NULL;
}

static _Noreturn void serve_all(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) || listen(fd, 512) ||
        getsockname(fd, (struct sockaddr *)&at, &len))
        die("listen");
    printf("%u\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        struct peer *peer = calloc(1, sizeof(*peer));
        if (!peer || (peer->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) < 0)
            die("accept");
        setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (pthread_create(&thread, NULL, serve, peer))
            die("pthread_create");
        pthread_detach(thread);
    }
}

/* ---- the measurements ---- */

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static struct google *client(const char *port)
{
    struct err err = ERR_INIT;
    char url[64], path[] = "/tmp/bench-google-XXXXXX";
    struct google_config config = {.credentials = path};
    snprintf(url, sizeof(url), "http://127.0.0.1:%s", port);
    config.endpoints[GOOGLE_STORAGE] = url;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0 ||
        dprintf(fd,
                "{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\","
                "\"refresh_token\":\"r\",\"token_uri\":\"%s/token\"}",
                url) < 0)
        die(path);
    close(fd);
    struct google *google = google_new(&config, &err);
    unlink(path);
    struct storage_object object = {0};
    if (!google || storage_stat(google, "b", "warm", &object, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    storage_object_done(&object);
    return google;
}

static int ignore(const char *data, size_t len, void *arg)
{
    (void)data, (void)len, (void)arg;
    return 0;
}

static void report(int rc, const struct err *err, int64_t began, long before)
{
    if (rc) {
        fprintf(stderr, "%s\n", err->msg);
        exit(1);
    }
    printf("%lld %ld\n", (long long)(clock_mono_us() - began), peak_kib() - before);
}

static void put(const char *port, const char *file, int64_t bytes)
{
    struct err err = ERR_INIT;
    struct google *google = client(port);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    long before = peak_kib();
    int64_t began = clock_mono_us();
    int rc = storage_put_file(google, &(const struct storage_at){"b", "o", NULL, STORAGE_ANY}, fd,
                              0, bytes, NULL, NULL, &err);
    report(rc, &err, began, before);
    close(fd);
    google_free(google);
}

static void get(const char *port, const char *bytes)
{
    struct err err = ERR_INIT;
    struct google *google = client(port);
    const struct storage_sink sink = {.write = ignore};
    char name[64];
    snprintf(name, sizeof(name), "zeros-%s", bytes);
    long before = peak_kib();
    int64_t began = clock_mono_us();
    int rc = storage_read(google, "b", name, 0, -1, &sink, &err);
    report(rc, &err, began, before);
    google_free(google);
}

static int64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int crc_speed(uint32_t (*fn)(uint32_t, const void *, size_t))
{
    static char data[1 << 20];
    volatile uint32_t crc = 0;
    int64_t began = cpu_us(), took;
    int64_t bytes = 0;
    while ((took = cpu_us() - began) < 300000)
        for (int i = 0; i < 16; i++, bytes += (int64_t)sizeof(data))
            crc = fn(crc, data, sizeof(data));
    return (int)(bytes / took);
}

struct calls {
    struct google *google;
    int count;
};

static void *make_calls(void *arg)
{
    const struct calls *calls = arg;
    for (int i = 0; i < calls->count; i++) {
        struct err err = ERR_INIT;
        struct storage_object object = {0};
        if (storage_stat(calls->google, "b", "o", &object, &err))
            fprintf(stderr, "%s\n", err.msg);
        storage_object_done(&object);
    }
    return NULL;
}

static void calls(const char *port, int threads, int count)
{
    pthread_t ids[THREADS_MAX];
    struct calls what = {client(port), count};
    long before = peak_kib();
    int64_t began = clock_mono_us();
    threads = threads < THREADS_MAX ? threads : THREADS_MAX;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, make_calls, &what))
            die("pthread_create");
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("%lld %ld\n", threads * (long long)count * 1000000 / (clock_mono_us() - began),
           peak_kib() - before);
    google_free(what.google);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (argc == 2 && strcmp(what, "serve") == 0)
        serve_all();
    else if (argc == 5 && strcmp(what, "put") == 0)
        put(argv[2], argv[3], strtoll(argv[4], NULL, 10));
    else if (argc == 4 && strcmp(what, "get") == 0)
        get(argv[2], argv[3]);
    else if (argc == 2 && strcmp(what, "crc") == 0)
        printf("%d %d\n", crc_speed(google_crc32c), crc_speed(google_crc32c_portable));
    else if (argc == 5 && strcmp(what, "calls") == 0)
        calls(argv[2], (int)strtol(argv[3], NULL, 10), (int)strtol(argv[4], NULL, 10));
    else
        die("usage: see the top of tests/bench/google.c");
    return 0;
}
