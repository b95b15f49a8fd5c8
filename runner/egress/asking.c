/*
 * Connections of programs that use the gate as their HTTP proxy.
 *
 *     CONN_ASKS ──a head──▶ way_to_name(), way_to_four() … ──connected──▶ CONN_RELAY
 *         │ wrong, late            │ denied, or out of reach
 *         └────────────▶ an answer with the reason, CONN_PARTS ──▶ closed
 *
 * A tunnel (CONNECT) is passed on as it is. Of any other request the head is rewritten for its
 * server, and what follows is passed on as far as it belongs to that request: a connection never
 * carries a second one, which might be meant for another host.
 */
#include "runner/egress/egress_private.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define ASK_MS 30000  /* from its first byte to the head's end, or to when it is given up */
#define PART_MS 2000  /* for a program to read its answer; what it still sends is dropped */
#define LINE_MAX 1024 /* a reason */

/* What a program has sent, until its destination is connected. */
struct asking {
    struct ask ask;
    size_t seen, len;
    size_t head; /* the head's size; 0: not known yet */
    char data[ASK_HEAD_MAX];
};

static void forget(struct conn *conn)
{
    free(conn->asking);
    conn->asking = NULL;
}

/* --- answers -------------------------------------------------------------------------------- */

/* Sends a last answer. Closing at once could destroy it: a program may still be sending. */
static void part(struct conn *conn, int status, const char *reason)
{
    char text[2 * LINE_MAX + 160];
    struct end *end = &conn->ends[0];
    const int len = snprintf(text, sizeof(text),
                             "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                             "Connection: close\r\n\r\n%s\n",
                             status, reason, strlen(reason) + 1, reason);
    forget(conn);
    if (send(end->fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len ||
        shutdown(end->fd, SHUT_WR)) {
        way_close(conn, true);
        return;
    }
    conn->state = CONN_PARTS;
    conn->until_ms = clock_mono_ms() + PART_MS;
    way_watch(end, EPOLLIN);
}

/* The place as a program would write it. */
static void say_place(const struct conn *conn, char *to, size_t size)
{
    const bool six = strchr(conn->host, ':') != NULL;
    snprintf(to, size, "%s%s%s:%u", six ? "[" : "", conn->host, six ? "]" : "", conn->port);
}

void asking_denied(struct conn *conn, const char *why, enum denial kind)
{
    char reason[LINE_MAX], place[NAMES_HOST_SIZE + 16], allow[NAMES_HOST_SIZE + 160];
    say_place(conn, place, sizeof(place));
    gate_say_allow(conn->host, kind, allow, sizeof(allow));
    snprintf(reason, sizeof(reason), "%s is refused: %s; %s", place, why, allow);
    part(conn, 403, reason);
}

void asking_failed(struct conn *conn)
{
    char reason[LINE_MAX], place[NAMES_HOST_SIZE + 16];
    const struct found *found = &conn->found;
    say_place(conn, place, sizeof(place));
    snprintf(reason, sizeof(reason), "%s: %s", place,
             found->count > 0               ? "no address of it takes the connection"
             : found->code == NAMES_UNKNOWN ? "there is no such name"
                                            : "its name cannot be looked up now");
    part(conn, 502, reason);
}

/* --- once it is connected ------------------------------------------------------------------- */

/* Passes a request on to its server, as far as it has arrived. */
static bool pass_request(struct conn *conn)
{
    const struct asking *asking = conn->asking;
    const char *rest = asking->data + asking->head;
    const size_t len = asking->len - asking->head;
    AUTO(buf) struct buf text = BUF_INIT(2 * ASK_HEAD_MAX);
    conn->body = asking->ask.body;
    conn->bounded = true;
    ssize_t taken = ask_take(&conn->body, rest, len);
    if (taken < 0)
        return false;
    conn->ends[0].ended = (size_t)taken < len;
    ask_print(&asking->ask, asking->data, asking->head, &text);
    buf_add(&text, rest, (size_t)taken);
    return buf_ok(&text) && flow_send(&conn->ends[1], text.data, text.len);
}

bool asking_connected(struct conn *conn)
{
    static const char yes[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    const struct asking *asking = conn->asking;
    const size_t len = asking->len - asking->head;
    bool fine = asking->ask.tunnel
                    ? flow_send(&conn->ends[0], yes, sizeof(yes) - 1) &&
                          (len == 0 || flow_send(&conn->ends[1], asking->data + asking->head, len))
                    : pass_request(conn);
    forget(conn);
    return fine;
}

/* --- where to ------------------------------------------------------------------------------- */

/* True for addresses of loopback, also within IPv6. Those are the jail's own: here they would be
 * the host's. */
static bool is_loopback(const struct ask *ask)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    const unsigned char *six = ask->six.s6_addr;
    if (ask->kind == ASK_IPV4)
        return ntohl(ask->four.s_addr) >> 24 == 127 || ask->four.s_addr == 0;
    return IN6_IS_ADDR_LOOPBACK(&ask->six) || IN6_IS_ADDR_UNSPECIFIED(&ask->six) ||
           (memcmp(six, mapped, sizeof(mapped)) == 0 && (six[12] == 127 || six[12] == 0));
}

static void go(struct conn *conn)
{
    const struct ask *ask = &conn->asking->ask;
    struct sockaddr_in four = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)ask->port), .sin_addr = ask->four};
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)ask->port), .sin6_addr = ask->six};
    snprintf(conn->host, sizeof(conn->host), "%s", ask->host);
    conn->port = ask->port;
    if (ask->kind == ASK_NAME ? lookup_is_localhost(ask->host) : is_loopback(ask))
        way_deny(conn, "it is the task's own loopback", DENIED_OWN);
    else if (ask->kind == ASK_NAME)
        way_to_name(conn, lookup_find(conn->gate, conn->host));
    else if (ask->kind == ASK_IPV4)
        way_to_four(conn, &four);
    else
        way_to_six(conn, &six);
}

/* --- reading -------------------------------------------------------------------------------- */

void asking_begin(struct conn *conn)
{
    conn->asking = malloc(sizeof(*conn->asking));
    if (!conn->asking) {
        way_close(conn, true);
        return;
    }
    conn->asking->seen = conn->asking->len = conn->asking->head = 0;
    conn->state = CONN_ASKS;
    conn->until_ms = clock_mono_ms() + ASK_MS;
    way_watch(&conn->ends[0], EPOLLIN);
}

static void read_head(struct conn *conn)
{
    struct asking *asking = conn->asking;
    struct ask_fault fault;
    ssize_t n = recv(conn->ends[0].fd, asking->data + asking->len,
                     sizeof(asking->data) - asking->len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        way_close(conn, false);
        return;
    }
    asking->len += (size_t)n;
    ssize_t head = ask_size(asking->data, asking->len, &asking->seen, &fault);
    if (head == 0)
        return;
    if (head < 0 || ask_read(asking->data, (size_t)head, &asking->ask, &fault)) {
        part(conn, fault.status, fault.why);
        return;
    }
    asking->head = (size_t)head;
    way_unwatch(&conn->ends[0]); /* Until it is connected nothing more is read. */
    go(conn);
}

/* Drops what a program sends after its answer. */
static void read_rest(struct conn *conn)
{
    ssize_t n = recv(conn->ends[0].fd, conn->gate->chunk, GATE_CHUNK_BYTES, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        way_close(conn, false);
}

void asking_event(struct conn *conn)
{
    if (conn->state == CONN_ASKS)
        read_head(conn);
    else
        read_rest(conn);
}

void asking_expire(struct conn *conn)
{
    if (conn->state == CONN_ASKS)
        part(conn, 408, "the head of a request took too long");
    else
        way_close(conn, true);
}
