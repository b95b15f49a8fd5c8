/* The credential proxy in a keeper's world, with an untrusted client and an API that answers well,
 * badly or not at all. */
#ifndef TESTS_PROXY_SCENE_H
#define TESTS_PROXY_SCENE_H

#include "keeper_world.h"

#include "http_peer.h"
#include "runner/proxy/proxy.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#define TOKEN "access-1" /* of the login */
#define MEBI (INT64_C(1) << 20)

/* --- the API ------------------------------------------------------------------------------- */

enum manner {
    ANSWER,       /* `answer`, or an empty object; the connection stays */
    ANSWER_LEAVE, /* the same, then closes the connection without notice */
    SWALLOW,      /* reads the body and answers with its length */
    TAKE_LEAVE,   /* takes the whole request and closes without an answer */
    RESET,        /* resets after the head */
    BREAK_OFF,    /* sends half an answer */
    HOLD,         /* sends half an answer, then waits for the client */
};

struct upstream {
    struct loopback *http;
    _Atomic int manner;
    _Atomic int requests;
    _Atomic int left; /* clients that closed while the API held them */
    _Atomic int64_t bytes;
    pthread_mutex_t lock; /* protects the following members */
    char answer[1024];    /* a whole answer with its status line; "": {} */
    char head[16384];     /* of the last request */
};

static inline bool swallow(struct loopback_call *call, struct upstream *up)
{
    static _Thread_local char data[65536];
    char text[64];
    ssize_t n;
    while ((n = loopback_read(call, data, sizeof(data))) > 0)
        up->bytes += n;
    if (n < 0) {
        up->left++;
        return false;
    }
    snprintf(text, sizeof(text), "%lld", (long long)up->bytes);
    return loopback_answer(call, 200, "Content-Type: application/json\r\n", text);
}

static inline bool half(struct loopback_call *call, struct upstream *up, bool hold)
{
    loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n"
                        "d\r\ndata: first\n\n\r\n");
    if (hold && loopback_await_close(call, 120000))
        up->left++;
    return false;
}

static inline bool serve(struct loopback_call *call, void *arg)
{
    struct upstream *up = arg;
    char answer[sizeof(up->answer)];
    int manner = up->manner, one = 1;
    pthread_mutex_lock(&up->lock);
    memcpy(answer, up->answer, sizeof(answer));
    snprintf(up->head, sizeof(up->head), "%s\r\n", call->head);
    pthread_mutex_unlock(&up->lock);
    up->requests++;
    if (manner == SWALLOW)
        return swallow(call, up);
    if (manner == RESET)
        return false;
    free(loopback_body(call));
    if (manner == BREAK_OFF || manner == HOLD)
        return half(call, up, manner == HOLD);
    if (manner == TAKE_LEAVE)
        return false;
    if (manner == ANSWER_LEAVE) /* the end is sent with the answer, not after it */
        setsockopt(call->fd, IPPROTO_TCP, TCP_CORK, &one, sizeof(one));
    bool sent = answer[0] ? loopback_text(call, answer)
                          : loopback_answer(call, 200, "Content-Type: application/json\r\n", "{}");
    if (manner != ANSWER_LEAVE)
        return sent;
    shutdown(call->fd, SHUT_WR);
    return false;
}

/* --- the world: a keeper's, and a proxy ---------------------------------------------------- */

struct scene {
    struct world *w;
    struct upstream up;
    struct breaker *breaker;
    struct proxy *proxy;
    struct lease *lease;
    int port;
    struct buf in; /* what the client has read */
};

static inline void on_breaker(const struct breaker_status *status, void *arg)
{
    (void)status, (void)arg;
}

static inline struct config *config_with(const struct scene *s)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    char place[128], upstream[128];
    snprintf(place, sizeof(place), "CLAUDE_CONFIG_DIR=%s", s->w->dir);
    snprintf(upstream, sizeof(upstream), "ANTHROPIC_UPSTREAM=http://127.0.0.1:%d",
             loopback_port(s->up.http));
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"}, place, upstream, NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    if (!config)
        fail_msg("%s", err.msg);
    return config;
}

static inline void take_lease(struct scene *s, enum lease_kind kind, const char *secret)
{
    struct err err = ERR_INIT;
    proxy_end(s->lease);
    s->lease = proxy_lease(s->proxy, kind, secret, &err);
    assert_non_null(s->lease);
    const char *colon = strrchr(lease_url(s->lease), ':');
    s->port = colon ? (int)strtol(colon + 1, NULL, 10) : 0; /* 0: it has a unix socket */
}

/* `socket` is a path, or NULL. */
static inline struct scene *scene_at(const char *socket)
{
    struct err err = ERR_INIT;
    struct scene *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->w = world_new();
    pthread_mutex_init(&s->up.lock, NULL);
    s->up.http = loopback_start(serve, &s->up);
    config_replace(&s->w->in_force, config_with(s));
    put_pair(s->w, 1, 8 * HOUR_MS);
    open_keeper(s->w);
    s->breaker = breaker_new(on_breaker, s, &err);
    assert_non_null(s->breaker);
    const struct proxy_config proxy = {
        .config = &s->w->in_force, .keeper = s->w->keeper, .breaker = s->breaker, .socket = socket};
    s->proxy = proxy_new(&proxy, &err);
    assert_non_null(s->proxy);
    take_lease(s, LEASE_LOGIN, NULL);
    buf_init(&s->in, 16u << 20);
    return s;
}

static inline struct scene *scene_new(void)
{
    return scene_at(NULL);
}

static inline void scene_free(struct scene *s)
{
    proxy_end(s->lease);
    proxy_free(s->proxy);
    breaker_free(s->breaker);
    loopback_stop(s->up.http);
    pthread_mutex_destroy(&s->up.lock);
    world_free(s->w);
    buf_done(&s->in);
    free(s);
}

static inline void answer_with(struct scene *s, const char *text)
{
    pthread_mutex_lock(&s->up.lock);
    snprintf(s->up.answer, sizeof(s->up.answer), "%s", text);
    pthread_mutex_unlock(&s->up.lock);
}

/* --- the client ---------------------------------------------------------------------------- */

/* Sends a request with the lease's token; `more` is header lines. Returns the connection. */
static inline int ask(const struct scene *s, const char *target, const char *more, const char *body)
{
    AUTO(buf) struct buf text = BUF_INIT(65536);
    buf_addf(&text, "POST %s HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %s\r\n", target,
             lease_token(s->lease));
    if (body)
        buf_addf(&text, "Content-Length: %zu\r\n", strlen(body));
    buf_addf(&text, "%s\r\n%s", more, body ? body : "");
    int fd = peer_connect(s->port);
    peer_send_bytes(fd, text.data, text.len);
    return fd;
}

/* Makes a request on a connection of its own. Returns the status; the answer is in s->in. */
static inline int call(struct scene *s, const char *target, const char *more)
{
    AUTO(buf) struct buf close_it = BUF_INIT(65536);
    buf_addf(&close_it, "%sConnection: close\r\n", more);
    int fd = ask(s, target, buf_str(&close_it), "{}");
    buf_clear(&s->in);
    assert_true(peer_read_end(fd, &s->in));
    close(fd);
    return peer_status(&s->in);
}

/* Whether the head that the API received holds this text. */
static inline bool api_got(struct scene *s, const char *text)
{
    pthread_mutex_lock(&s->up.lock);
    bool got = strcasestr(s->up.head, text) != NULL;
    pthread_mutex_unlock(&s->up.lock);
    return got;
}

#endif
