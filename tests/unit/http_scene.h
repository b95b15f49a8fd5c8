/* A server with routes of every sort, for the tests of shared/http. */
#ifndef TESTS_HTTP_SCENE_H
#define TESTS_HTTP_SCENE_H

#include "http_cut.h"
#include "http_peer.h"

#include "base/auto.h"
#include "http/chunk.h"
#include "http/request.h"

#include <pthread.h>
#include <stdatomic.h>

#define BODY_MAX 100000
#define GET "GET /hello HTTP/1.1\r\n" HOST "\r\n"

static struct http_server *server;
static int quiet_fds; /* open while nobody is connected */
static _Atomic int done_count, gate_count, last_status, last_gate_had_route, trouble_count;
static _Atomic size_t stack_seen;

static inline void hello(struct http_request *req, void *arg)
{
    pthread_attr_t attr;
    size_t size = 0;
    (void)arg;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstacksize(&attr, &size);
    pthread_attr_destroy(&attr);
    atomic_store(&stack_seen, size);
    http_send(req, 200, "text/plain", "hello", 5);
}

static inline void echo(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf body = BUF_INIT(BODY_MAX);
    struct err err;
    (void)arg;
    if (http_body(req, BODY_MAX, &body, &err) < 0)
        http_send_error(req, &err, NULL);
    else
        http_send(req, 200, "text/plain", buf_str(&body), body.len);
}

/* Says what the accessors say. */
static inline void tell(struct http_request *req, void *arg)
{
    AUTO(buf) struct buf text = BUF_INIT(BODY_MAX);
    const char *id = http_param(req, "id"), *rest = http_param(req, "rest");
    (void)arg;
    buf_addf(&text, "%s %s id=%s rest=%s peer=%s a=%s", http_method(req), http_path(req),
             id ? id : "-", rest ? rest : "-", http_peer(req),
             http_query(req, "a") ? http_query(req, "a") : "-");
    for (size_t i = 0; http_query_name(req, i); i++)
        buf_addf(&text, " q%zu=%s", i, http_query_name(req, i));
    buf_addf(&text, " header=%s", http_header(req, "x-some") ? http_header(req, "X-SOME") : "-");
    http_add_header(req, "X-Added", "one\r\nX-Forged: two");
    http_send(req, 200, "text/plain", buf_str(&text), text.len);
}

static inline void negotiate(struct http_request *req, void *arg)
{
    char text[3] = {http_accepts(req, "application/json") ? 'y' : 'n',
                    http_prefers(req, "application/json") ? 'y' : 'n'};
    (void)arg;
    http_send(req, 200, "text/plain", text, 2);
}

static inline void nothing(struct http_request *req, void *arg)
{
    (void)arg;
    http_send(req, 204, "text/plain", "ignored", 7);
}

static inline void mute(struct http_request *req, void *arg)
{
    (void)req;
    (void)arg;
}

static inline void early(struct http_request *req, void *arg)
{
    struct err err;
    (void)arg;
    err_set(&err, ERR_FORBIDDEN, "no \"body\" wanted");
    http_send_error(req, &err, ",\"more\":[1]");
}

static _Atomic int seen_leaving; /* 1: while the client was there, 2: once it had gone */

static inline void cut_off(struct http_request *req, void *arg)
{
    (void)arg;
    cut_off_too_late(req);
    atomic_store(&seen_leaving, http_client_left(req) ? 1 : 0);
    http_begin(req, 200, "text/plain");
    http_write(req, "there", 5);
    int64_t end_ms = clock_mono_ms() + PEER_MS;
    while (!http_client_left(req) && clock_mono_ms() < end_ms)
        usleep(1000);
    if (http_client_left(req))
        atomic_fetch_add(&seen_leaving, 2);
    http_end(req, true);
}

static const struct http_route routes[] = {
    {"GET", "/cut-off", cut_off, 0},
    {"GET", "/hello", hello, 0},
    {"GET", "/health", hello, 0},
    {"POST", "/echo", echo, 0},
    {"GET", "/things/{id}", tell, 0},
    {"DELETE", "/things/{id}", tell, 0},
    {"GET", "/things/special", hello, 0},
    {"GET", "/files/{id}/{rest...}", tell, 0},
    {"GET", "/paths/{rest...}", tell, HTTP_FILE_PATH},
    {"GET", "/negotiate", negotiate, 0},
    {"GET", "/nothing", nothing, 0},
    {"GET", "/mute", mute, 0},
    {"POST", "/early", early, 0},
};

static inline bool gate(struct http_request *req, const struct http_route *route, void *arg)
{
    (void)arg;
    atomic_fetch_add(&gate_count, 1);
    atomic_store(&last_gate_had_route, route != NULL);
    if (!http_header(req, "X-Refuse"))
        return true;
    http_send(req, 429, "text/plain", "slower", 6);
    return false;
}

static inline void count_done(const struct http_request *req, int status, int64_t duration_us,
                              void *arg)
{
    (void)arg;
    assert_non_null(http_method(req));
    assert_non_null(http_path(req));
    assert_true(duration_us >= 0);
    atomic_store(&last_status, status);
    atomic_fetch_add(&done_count, 1);
}

static inline void count_trouble(const char *message, void *arg)
{
    (void)arg;
    assert_non_null(message);
    atomic_fetch_add(&trouble_count, 1);
}

static inline struct http_config config_for(int workers)
{
    return (struct http_config){.bind = "127.0.0.1",
                                .workers = workers,
                                .routes = routes,
                                .route_count = COUNT_OF(routes),
                                .gate = gate,
                                .done = count_done,
                                .trouble = count_trouble,
                                .head_ms = 20000,
                                .body_idle_ms = 20000,
                                .body_total_ms = 20000,
                                .idle_ms = 20000,
                                .parked_max = 10};
}

static inline int start(void **state)
{
    struct http_config config = config_for(16);
    struct err err;
    (void)state;
    server = http_start(&config, &err);
    if (!server)
        print_error("%s\n", err.msg);
    quiet_fds = peer_count("/proc/self/fd");
    return server ? 0 : -1;
}

static inline int stop(void **state)
{
    (void)state;
    int64_t began_ms = clock_mono_ms();
    http_stop(server, 0);
    return clock_mono_ms() - began_ms < 15000 ? 0 : -1;
}

/* Sends bytes, says that no more come, and returns the status of the answer. */
static inline int ask_bytes(const void *data, size_t len, struct buf *out)
{
    int fd = peer_connect(http_port(server));
    peer_send_bytes(fd, data, len);
    shutdown(fd, SHUT_WR);
    assert_true(peer_read_end(fd, out));
    close(fd);
    return peer_status(out);
}

static inline int ask(const char *request, struct buf *out)
{
    return ask_bytes(request, strlen(request), out);
}

#define G(target) "GET " target " HTTP/1.1\r\n" HOST "\r\n"
#define H(lines) "GET /hello HTTP/1.1\r\n" HOST lines "\r\n"
#define P(lines, body) "POST /echo HTTP/1.1\r\n" HOST lines "\r\n" body
#define CHUNKED(body) P("Transfer-Encoding: chunked\r\n", body)

/* Fills a text with `count` bytes. */
static inline void add_many(struct buf *out, char c, size_t count)
{
    memset(buf_room(out, count), c, count);
    buf_grew(out, count);
}

#endif
