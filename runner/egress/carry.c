/* Connections: from accept() to their end. */
#include "runner/egress/egress_private.h"

#include "base/clock.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_MS 15000
#define FULL_TRIES 15         /* of a unix socket of ours, a round apart */
#define OUR_PROXY 0xc0000201u /* 192.0.2.1: the credential proxy; with its port, the git gate */
#define OUR_GIT 0xc0000203u   /* 192.0.2.3: the git gate, where the port is always the same */
#define OUR_GIT_PORT 9418

/* Pairs of descriptors that all gates use: a connection is one, a tube too. Half of this process's
 * descriptors are for other purposes. */
static atomic_int everywhere;

void way_count(int more)
{
    atomic_fetch_add(&everywhere, more);
}

bool way_is_scarce(void)
{
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) == 0 &&
           (rlim_t)atomic_load(&everywhere) >= files.rlim_cur / 4;
}

static void close_end(struct end *end, bool reset)
{
    const struct linger at_once = {.l_onoff = 1};
    if (reset && end->fd >= 0)
        setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fd_close(&end->fd); /* Closing also removes it from epoll. */
    end->registered = false;
    flow_drop(end);
}

void way_close(struct conn *conn, bool reset)
{
    struct egress_gate *gate = conn->gate;
    if (conn->state == CONN_CLOSED)
        return;
    conn->state = CONN_CLOSED;
    for (int i = 0; i < 2; i++)
        close_end(&conn->ends[i], reset);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        gate->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    conn->next = gate->closed; /* Freed later: further events of this round may name it. */
    gate->closed = conn;
    gate->count--;
    way_count(-1);
}

void way_watch(struct end *end, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (end->fd < 0 || (end->registered && end->watched == events))
        return;
    if (epoll_ctl(end->conn->gate->epoll, end->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, end->fd,
                  &event)) {
        way_close(end->conn, true);
        return;
    }
    end->registered = true;
    end->watched = events;
}

void way_unwatch(struct end *end)
{
    if (end->registered)
        epoll_ctl(end->conn->gate->epoll, EPOLL_CTL_DEL, end->fd, NULL);
    end->registered = false;
}

/* --- relaying ------------------------------------------------------------------------------- */

/* Passes on the end of input, and sets the events that each end waits for. */
static void settle(struct conn *conn)
{
    struct end *ends = conn->ends;
    for (int i = 0; i < 2; i++)
        if (ends[!i].ended && !flow_holds(&ends[i]) && !ends[i].shut) {
            shutdown(ends[i].fd, SHUT_WR);
            ends[i].shut = true;
        }
    if (ends[0].shut && ends[1].shut) {
        way_close(conn, false);
        return;
    }
    for (int i = 0; i < 2 && conn->state == CONN_RELAY; i++) {
        unsigned events = (!ends[i].ended && !flow_holds(&ends[!i]) ? EPOLLIN : 0u) |
                          (flow_holds(&ends[i]) ? EPOLLOUT : 0u);
        if (events || !(ends[i].ended && ends[i].shut))
            way_watch(&ends[i], events);
        else
            way_unwatch(&ends[i]); /* Otherwise epoll would report its hang-up for ever. */
    }
}

static void relay(struct end *end, unsigned events)
{
    if (flow_move(end, events))
        settle(end->conn);
    else
        way_close(end->conn, true);
}

/* --- connecting ----------------------------------------------------------------------------- */

static void set_port(struct sockaddr_storage *address, unsigned port)
{
    struct sockaddr_in in; /* The port is at the same offset in both families. */
    if (address->ss_family == AF_UNIX)
        return;
    memcpy(&in, address, sizeof(in));
    in.sin_port = htons((uint16_t)port);
    memcpy(address, &in, sizeof(in));
}

static socklen_t size_of(const struct sockaddr_storage *address)
{
    switch (address->ss_family) {
    case AF_UNIX:
        return sizeof(struct sockaddr_un);
    case AF_INET:
        return sizeof(struct sockaddr_in);
    default:
        return sizeof(struct sockaddr_in6);
    }
}

static void established(struct conn *conn)
{
    setsockopt(conn->ends[1].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(conn->ends[0].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (conn->asking && !asking_connected(conn)) {
        way_close(conn, true);
        return;
    }
    conn->state = CONN_RELAY;
    settle(conn);
}

/* A unix socket has no room at the moment: tries again with the gate's next round. */
static bool wait_for_room(struct conn *conn)
{
    if (conn->full++ >= FULL_TRIES)
        return false;
    conn->tried--;
    conn->until_ms = clock_mono_ms();
    return true;
}

/* Begins to connect to one address. It is checked here, immediately before the connection. */
static bool try_address(struct conn *conn, struct sockaddr_storage *address, const char **ret_why)
{
    struct end *end = &conn->ends[1];
    set_port(address, conn->port);
    const char *why =
        conn->trusted ? NULL : egress_refuses(&conn->gate->lan, (const struct sockaddr *)address);
    if (why) {
        *ret_why = why;
        return false;
    }
    end->fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (end->fd < 0)
        return false;
    conn->state = CONN_CONNECT;
    conn->until_ms = clock_mono_ms() + CONNECT_MS;
    if (connect(end->fd, (const struct sockaddr *)address, size_of(address)) == 0) {
        established(conn);
        return true;
    }
    if (errno == EINPROGRESS) {
        way_watch(end, EPOLLOUT);
        return true;
    }
    const bool full = errno == EAGAIN && address->ss_family == AF_UNIX;
    fd_close(&end->fd);
    return full && wait_for_room(conn);
}

/* Tries the next address that was found, or ends the connection. */
static void connect_next(struct conn *conn)
{
    const char *why = NULL;
    close_end(&conn->ends[1], false);
    while (conn->tried < conn->found.count)
        if (try_address(conn, &conn->found.at[conn->tried++], &why))
            return;
    if (why)
        way_deny(conn, why, DENIED_NETWORK);
    else if (conn->asking)
        asking_failed(conn);
    else
        way_close(conn, true);
}

void way_resolved(struct conn *conn)
{
    conn->tried = 0;
    connect_next(conn);
}

static void connected(struct conn *conn)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(conn->ends[1].fd, SOL_SOCKET, SO_ERROR, &error, &size) || error)
        connect_next(conn);
    else
        established(conn);
}

void way_expire(struct egress_gate *gate)
{
    int64_t now = clock_mono_ms();
    for (struct conn *conn = gate->conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->state == CONN_CONNECT && now >= conn->until_ms)
            connect_next(conn);
        else if ((conn->state == CONN_ASKS || conn->state == CONN_PARTS) && now >= conn->until_ms)
            asking_expire(conn);
    }
}

/* --- names by TCP --------------------------------------------------------------------------- */

void way_answer(struct conn *conn, const unsigned char *answer, size_t len)
{
    unsigned char text[2 + NAMES_MESSAGE_MAX] = {(unsigned char)(len >> 8), (unsigned char)len};
    memcpy(text + 2, answer, len);
    conn->question_len = 0;
    if (send(conn->ends[0].fd, text, len + 2, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)(len + 2))
        way_close(conn, true);
    else
        way_watch(&conn->ends[0], EPOLLIN);
}

static void read_question(struct conn *conn)
{
    struct end *end = &conn->ends[0];
    size_t wanted = 2;
    if (conn->question_len >= 2)
        wanted += (size_t)conn->question[0] << 8 | conn->question[1];
    if (wanted > sizeof(conn->question)) {
        way_close(conn, true);
        return;
    }
    ssize_t n = recv(end->fd, conn->question + conn->question_len, wanted - conn->question_len,
                     MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        way_close(conn, false);
        return;
    }
    conn->question_len += (size_t)n;
    if (conn->question_len == wanted && wanted > 2) {
        way_unwatch(end); /* One question at a time. */
        lookup_question(conn->gate, conn->question + 2, wanted - 2, conn, NULL);
    }
}

/* --- where to ------------------------------------------------------------------------------- */

void way_deny(struct conn *conn, const char *why, enum denial kind)
{
    gate_deny(conn->gate, conn->host, conn->port, why, kind);
    if (conn->asking)
        asking_denied(conn, why, kind);
    else
        way_close(conn, true);
}

static void found_one(struct conn *conn, const void *to, size_t size)
{
    memcpy(&conn->found.at[0], to, size);
    conn->found.count = 1;
    way_resolved(conn);
}

void way_to_name(struct conn *conn, const struct known *known)
{
    struct egress_gate *gate = conn->gate;
    if (!egress_allows_name(&gate->egress, conn->host, conn->port)) {
        way_deny(conn, "it is not in the task's egress", DENIED_NAME);
        return;
    }
    if (known && clock_mono_ms() < known->until_ms) {
        conn->found = known->found;
        way_resolved(conn);
        return;
    }
    conn->state = CONN_LOOKUP;
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (!lookup) {
        way_close(conn, true);
        return;
    }
    memcpy(lookup->host, conn->host, sizeof(conn->host));
    lookup->conn = conn;
    lookup_start(gate, lookup);
}

/* The socket that one of our own addresses stands for; NULL for any other address. */
static const char *our_socket(const struct egress_gate *gate, const struct conn *conn,
                              const struct sockaddr_in *to)
{
    const uint32_t address = ntohl(to->sin_addr.s_addr);
    const unsigned proxy_port = gate->asked ? GATE_ASKED_PORT : 80;
    if (address == OUR_PROXY && conn->port == proxy_port)
        return gate->ours.proxy;
    if (address == (gate->asked ? OUR_GIT : OUR_PROXY) &&
        conn->port == (gate->asked ? GATE_ASKED_PORT : OUR_GIT_PORT))
        return gate->ours.git;
    return NULL;
}

static void connect_ours(struct conn *conn, const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    conn->trusted = true;
    found_one(conn, &un, sizeof(un));
}

static void to_literal(struct conn *conn, const void *to, size_t size)
{
    if (egress_allows_literal(&conn->gate->egress))
        found_one(conn, to, size);
    else
        way_deny(conn, "the task's egress names hosts, and this is an address", DENIED_LITERAL);
}

void way_to_six(struct conn *conn, const struct sockaddr_in6 *to)
{
    to_literal(conn, to, sizeof(*to));
}

void way_to_four(struct conn *conn, const struct sockaddr_in *to)
{
    const struct known *known = lookup_known(conn->gate, &to->sin_addr);
    const char *ours = our_socket(conn->gate, conn, to);
    if (ours) {
        connect_ours(conn, ours);
    } else if (known) {
        snprintf(conn->host, sizeof(conn->host), "%s", known->host);
        way_to_name(conn, known);
    } else {
        to_literal(conn, to, sizeof(*to));
    }
}

static bool is_ours(const struct sockaddr_in *to)
{
    const uint32_t address = ntohl(to->sin_addr.s_addr);
    return address == OUR_PROXY || address == OUR_GIT;
}

static void begin(struct conn *conn, const struct sockaddr_in *to)
{
    conn->port = ntohs(to->sin_port);
    inet_ntop(AF_INET, &to->sin_addr, conn->host, sizeof(conn->host));
    if (conn->gate->asked && !is_ours(to)) {
        asking_begin(conn);
    } else if (conn->port == 53) {
        conn->state = CONN_NAMES;
        way_watch(&conn->ends[0], EPOLLIN);
    } else {
        way_to_four(conn, to);
    }
}

static void take(struct egress_gate *gate, int fd)
{
    struct sockaddr_in to;
    socklen_t size = sizeof(to);
    struct conn *conn = calloc(1, sizeof(*conn));
    if (!conn || getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &to, &size)) {
        size = sizeof(to);
        if (!conn || getsockname(fd, (struct sockaddr *)&to, &size)) { /* The connection was not
                                                                        * redirected. */
            free(conn);
            close(fd);
            return;
        }
    }
    conn->gate = gate;
    for (int i = 0; i < 2; i++)
        conn->ends[i] = (struct end){.conn = conn, .fd = i ? -1 : fd};
    conn->next = gate->conns;
    if (conn->next)
        conn->next->prev = conn;
    gate->conns = conn;
    gate->count++;
    way_count(1);
    begin(conn, &to);
}

void way_accept(struct egress_gate *gate)
{
    while (gate->count < GATE_CONNECTIONS_MAX && !way_is_scarce()) {
        int fd = accept4(gate->sockets[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            take(gate, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            break;
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
    /* Waiting connections are accepted when another has ended, or after a moment. */
    gate->accepting = false;
    epoll_ctl(gate->epoll, EPOLL_CTL_DEL, gate->sockets[0], NULL);
}

void way_event(struct end *end, unsigned events)
{
    struct conn *conn = end->conn;
    switch (conn->state) {
    case CONN_RELAY:
        relay(end, events);
        break;
    case CONN_CONNECT:
        if (end == &conn->ends[1])
            connected(conn);
        break;
    case CONN_NAMES:
        read_question(conn);
        break;
    case CONN_ASKS:
    case CONN_PARTS:
        asking_event(conn);
        break;
    case CONN_LOOKUP:
    case CONN_CLOSED:
        break;
    }
}
