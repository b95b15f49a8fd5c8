#include "runner/egress/egress_private.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/lock.h"
#include "json/json.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS 64
#define ROUND_MS 1000
#define PAUSE_MS 50 /* pause before accepting again when descriptors run out */
#define QUESTIONS_AT_ONCE 32
#define DENIAL_BYTES 2048
#define CONGESTION "reno" /* every kernel has it */

/* --- denials -------------------------------------------------------------------------------- */

void gate_say_allow(const char *host, enum denial kind, char *to, size_t size)
{
    switch (kind) {
    case DENIED_NAME:
        snprintf(to, size, "add \"%s\" to the request's `egress`, or to EGRESS", host);
        break;
    case DENIED_LITERAL:
        snprintf(to, size,
                 "connect to a name, and add that to the request's `egress`, or to EGRESS");
        break;
    case DENIED_NETWORK:
        snprintf(to, size, "the runner's owner can open the network of %s with EGRESS_LAN", host);
        break;
    case DENIED_OWN:
        snprintf(to, size, "programs of the task reach it without the proxy: NO_PROXY names it");
        break;
    }
}

static void print_denial(const char *host, unsigned port, const char *why, enum denial kind,
                         struct buf *out)
{
    struct json_writer w;
    char allow[NAMES_HOST_SIZE + 160];
    gate_say_allow(host, kind, allow, sizeof(allow));
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "host", host);
    if (port > 0)
        json_add_int(&w, "port", port);
    json_add_text(&w, "reason", why);
    json_add_text(&w, "allow", allow);
    json_close(&w);
}

void gate_deny(struct egress_gate *gate, const char *host, unsigned port, const char *why,
               enum denial kind)
{
    char key[NAMES_HOST_SIZE + 8];
    snprintf(key, sizeof(key), "%s:%u", host, port);
    AUTO(buf) struct buf json = BUF_INIT(DENIAL_BYTES);
    print_denial(host, port, why, kind, &json);
    lock_take(&gate->lock);
    if (gate->told.count < GATE_DENIALS_MAX && !strlist_has(&gate->told, key) &&
        strlist_add(&gate->told, key) == 0)
        strlist_add(&gate->denials, buf_str(&json));
    lock_drop(&gate->lock);
}

bool egress_gate_denial(struct egress_gate *gate, struct buf *out)
{
    lock_take(&gate->lock);
    bool any = gate->denials_told < gate->denials.count;
    if (any)
        buf_adds(out, gate->denials.items[gate->denials_told++]);
    lock_drop(&gate->lock);
    return any;
}

/* --- life ----------------------------------------------------------------------------------- */

void gate_ref(struct egress_gate *gate)
{
    atomic_fetch_add(&gate->refs, 1);
}

static void free_closed(struct egress_gate *gate, bool all)
{
    struct conn **at = &gate->closed, *conn;
    while ((conn = *at)) {
        if (conn->awaited && !all) {
            at = &conn->next;
            continue;
        }
        *at = conn->next;
        free(conn->asking);
        free(conn);
    }
}

void gate_unref(struct egress_gate *gate)
{
    REQUIRE(gate->refs > 0);
    if (atomic_fetch_sub(&gate->refs, 1) > 1)
        return;
    for (struct lookup *lookup = gate->done, *next; lookup; lookup = next) {
        next = lookup->next;
        free(lookup);
    }
    lookup_forget_waiting(gate);
    free_closed(gate, true);
    for (size_t i = 0; i < gate->known_count; i++)
        free(gate->known[i].host);
    free(gate->known);
    for (int i = 0; i < 2; i++) {
        fd_close(&gate->sockets[i]);
        fd_close(&gate->next_sockets[i]);
    }
    fd_close(&gate->epoll);
    fd_close(&gate->wake);
    strlist_done(&gate->egress);
    strlist_done(&gate->lan);
    strlist_done(&gate->denials);
    strlist_done(&gate->told);
    free(gate->chunk);
    lock_done(&gate->lock);
    free(gate);
}

void gate_wake(struct egress_gate *gate)
{
    const uint64_t one = 1;
    (void)!write(gate->wake, &one, sizeof(one));
}

/* --- the thread ----------------------------------------------------------------------------- */

static void watch_socket(struct egress_gate *gate, int index)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &gate->sockets[index]};
    epoll_ctl(gate->epoll, EPOLL_CTL_ADD, gate->sockets[index], &event);
}

/* Serves another jail of the same task: the one before has ended. */
static void change_sockets(struct egress_gate *gate, const int sockets[2])
{
    while (gate->conns)
        way_close(gate->conns, true);
    for (int i = 0; i < 2; i++) {
        fd_close(&gate->sockets[i]);
        gate->sockets[i] = sockets[i];
        watch_socket(gate, i);
    }
    /* Accepted sockets inherit it. Between a program and its gate there is only memory: pacing,
     * which the system's own choice may do, only costs time. */
    setsockopt(sockets[0], IPPROTO_TCP, TCP_CONGESTION, CONGESTION, sizeof(CONGESTION) - 1);
    gate->accepting = true;
    gate->serving++;
}

/* Handles what other threads have requested. False when the gate must end. */
static bool heed(struct egress_gate *gate)
{
    uint64_t ignored;
    int sockets[2];
    (void)!read(gate->wake, &ignored, sizeof(ignored));
    lock_take(&gate->lock);
    struct lookup *done = gate->done;
    bool stopping = gate->stopping;
    gate->done = NULL;
    memcpy(sockets, gate->next_sockets, sizeof(sockets));
    gate->next_sockets[0] = gate->next_sockets[1] = -1;
    lock_drop(&gate->lock);
    for (struct lookup *next; done; done = next) {
        next = done->next;
        lookup_finish(gate, done);
    }
    if (sockets[0] >= 0)
        change_sockets(gate, sockets);
    return !stopping;
}

static void read_questions(struct egress_gate *gate)
{
    unsigned char data[NAMES_MESSAGE_MAX];
    struct sockaddr_in client;
    for (int i = 0; i < QUESTIONS_AT_ONCE; i++) {
        socklen_t size = sizeof(client);
        ssize_t n = recvfrom(gate->sockets[1], data, sizeof(data), MSG_DONTWAIT,
                             (struct sockaddr *)&client, &size);
        if (n < 0)
            return;
        lookup_question(gate, data, (size_t)n, NULL, &client);
    }
}

static bool dispatch(struct egress_gate *gate, const struct epoll_event *event)
{
    if (event->data.ptr == &gate->wake)
        return heed(gate);
    if (event->data.ptr == &gate->sockets[0])
        way_accept(gate);
    else if (event->data.ptr == &gate->sockets[1])
        read_questions(gate);
    else
        way_event(event->data.ptr, event->events);
    return true;
}

static void *serve(void *arg)
{
    struct egress_gate *gate = arg;
    struct epoll_event events[EVENTS];
    bool on = true;
    sigset_t pipe; /* splice() cannot be told to send none */
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    while (on) {
        bool full = gate->sockets[0] >= 0 && !gate->accepting;
        int n = epoll_wait(gate->epoll, events, EVENTS,
                           full          ? PAUSE_MS
                           : gate->conns ? ROUND_MS
                                         : -1);
        for (int i = 0; i < n && on; i++)
            on = dispatch(gate, &events[i]);
        way_expire(gate);
        free_closed(gate, false);
        if (!gate->conns)
            flow_rest(gate);
        if (on && gate->sockets[0] >= 0 && !gate->accepting && gate->count < GATE_CONNECTIONS_MAX) {
            gate->accepting = true;
            watch_socket(gate, 0);
        }
    }
    while (gate->conns)
        way_close(gate->conns, true);
    flow_rest(gate);
    for (int i = 0; i < 2; i++) /* a lookup that still runs may keep the gate, nobody's sockets */
        fd_close(&gate->sockets[i]);
    return NULL;
}

/* --- addresses ------------------------------------------------------------------------------ */

const char *egress_proxy_url(enum egress_way way)
{
    return way == EGRESS_ASKED ? "http://192.0.2.1:880" : "http://192.0.2.1";
}

const char *egress_git_url(enum egress_way way)
{
    return way == EGRESS_ASKED ? "http://192.0.2.3:880" : "http://192.0.2.1:9418";
}

/* --- for others ----------------------------------------------------------------------------- */

static int copy(struct strlist *to, const struct strlist *from)
{
    for (size_t i = 0; i < from->count; i++)
        if (strlist_add(to, from->items[i]))
            return -1;
    return 0;
}

static int open_gate(struct egress_gate *gate)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &gate->wake};
    gate->chunk = malloc(GATE_CHUNK_BYTES);
    gate->epoll = epoll_create1(EPOLL_CLOEXEC);
    gate->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return !gate->chunk || gate->epoll < 0 || gate->wake < 0 ||
                   epoll_ctl(gate->epoll, EPOLL_CTL_ADD, gate->wake, &event)
               ? -1
               : 0;
}

struct egress_gate *egress_gate_new(const struct strlist *egress, const struct strlist *lan,
                                    const struct egress_ours *ours, struct err *err)
{
    REQUIRE(ours);
    struct egress_gate *gate = calloc(1, sizeof(*gate));
    if (!gate) {
        err_sys(err, "gate");
        return NULL;
    }
    gate->refs = 1;
    gate->ours = *ours;
    gate->epoll = gate->wake = -1;
    for (int i = 0; i < 2; i++)
        gate->sockets[i] = gate->next_sockets[i] = -1;
    lock_init(&gate->lock);
    if (copy(&gate->egress, egress) || copy(&gate->lan, lan) || open_gate(gate)) {
        err_sys(err, "gate");
        gate_unref(gate);
        return NULL;
    }
    if (thread_start(&gate->thread, "egress", THREAD_STACK_SMALL, serve, gate, err)) {
        gate_unref(gate);
        return NULL;
    }
    return gate;
}

void egress_gate_be_asked(struct egress_gate *gate)
{
    gate->asked = true; /* Its thread reads this once there are sockets. */
}

void egress_gate_serve(struct egress_gate *gate, const int sockets[2])
{
    REQUIRE(sockets[0] >= 0 && sockets[1] >= 0);
    lock_take(&gate->lock);
    for (int i = 0; i < 2; i++) {
        fd_close(&gate->next_sockets[i]);
        gate->next_sockets[i] = sockets[i];
    }
    lock_drop(&gate->lock);
    gate_wake(gate);
}

void egress_gate_free(struct egress_gate *gate)
{
    if (!gate)
        return;
    lock_take(&gate->lock);
    gate->stopping = true;
    lock_drop(&gate->lock);
    gate_wake(gate);
    thread_join(&gate->thread);
    gate_unref(gate);
}
