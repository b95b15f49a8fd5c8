/*
 * The bytes of connections, from one end to the other.
 *
 * Theory of operation. Small pieces are copied: received into the gate's buffer and sent. An end
 * that fills this buffer in one go sends much; its bytes then move through a tube, a pipe into
 * which and out of which the kernel moves pages and copies nothing. What the other socket does not
 * take at once waits for it, in a buffer of its own or in the tube, and nothing more is received
 * until it has gone:
 *
 *     socket ──recv()──▶ gate->chunk ──send()──▶ socket      the rest in end->held
 *     socket ──splice()──▶ tube ──splice()──▶ socket         the rest in end->tube
 *
 * A gate has few tubes. When they are all in use, bytes are copied.
 */
#include "runner/egress/egress_private.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK_SCARCE ((size_t)4 << 10) /* instead of GATE_CHUNK_BYTES, once much is held */
#define TUBE_BYTES ((size_t)1 << 20)   /* the most that an ordinary user's pipe holds */
#define TUBE_SCARCE ((size_t)64 << 10) /* the same, once much is held */
#define HELD_PLENTY ((size_t)4 << 20)  /* what counts as much */
#define TUBES_MAX 8                    /* of a gate */
#define TUBES_EVERYWHERE 32            /* of all: an ordinary user may have 64 pipes of that size */
#define BULK_BYTES ((size_t)16 << 10)  /* smaller pieces are copied more cheaply */
#define TURN_BYTES ((size_t)1 << 20)   /* then it is another connection's turn */

static atomic_int tubes_everywhere;

struct tube {
    int in, out;
    size_t len;
};

/* --- tubes ---------------------------------------------------------------------------------- */

static void close_tube(struct egress_gate *gate, struct tube *tube)
{
    fd_close(&tube->in);
    fd_close(&tube->out);
    free(tube);
    gate->tubes--;
    atomic_fetch_sub(&tubes_everywhere, 1);
    way_count(-1);
}

static struct tube *open_tube(struct egress_gate *gate)
{
    int ends[2];
    if (gate->tubeless || gate->tubes >= TUBES_MAX || way_is_scarce() ||
        atomic_load(&tubes_everywhere) >= TUBES_EVERYWHERE)
        return NULL;
    struct tube *tube = calloc(1, sizeof(*tube));
    if (!tube || pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
        free(tube);
        return NULL;
    }
    fcntl(ends[1], F_SETPIPE_SZ, (int)TUBE_BYTES); /* Otherwise it holds less, and works. */
    tube->out = ends[0];
    tube->in = ends[1];
    gate->tubes++;
    atomic_fetch_add(&tubes_everywhere, 1);
    way_count(1);
    return tube;
}

/* An empty tube; NULL when there is none. Pair with give_tube(). */
static struct tube *take_tube(struct egress_gate *gate)
{
    struct tube *tube = gate->tubeless ? NULL : gate->spare;
    if (!tube)
        return open_tube(gate);
    gate->spare = NULL;
    return tube;
}

/* Keeps one empty tube for the next piece. */
static void give_tube(struct egress_gate *gate, struct tube *tube)
{
    if (gate->spare)
        close_tube(gate, tube);
    else
        gate->spare = tube;
}

void flow_rest(struct egress_gate *gate)
{
    if (gate->spare)
        close_tube(gate, gate->spare);
    gate->spare = NULL;
}

/* --- what waits ----------------------------------------------------------------------------- */

bool flow_holds(const struct end *end)
{
    return end->len > 0 || end->tube;
}

void flow_drop(struct end *end)
{
    struct egress_gate *gate = end->conn->gate;
    gate->held_bytes -= end->len;
    free(end->held);
    end->held = NULL;
    end->len = 0;
    if (end->tube) {
        gate->held_bytes -= end->tube->len;
        close_tube(gate, end->tube);
    }
    end->tube = NULL;
}

static bool is_passing(int error)
{
    return error == EAGAIN || error == EINTR;
}

static bool send_held(struct end *end)
{
    while (end->len > 0) {
        ssize_t n = send(end->fd, end->held + end->at, end->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return is_passing(errno);
        end->at += (size_t)n;
        end->len -= (size_t)n;
        end->conn->gate->held_bytes -= (size_t)n;
    }
    free(end->held);
    end->held = NULL;
    return true;
}

/* Empties an end's tube into its socket, and gives it back once it is empty. */
static bool send_tube(struct end *end)
{
    struct tube *tube = end->tube;
    while (tube && tube->len > 0) {
        ssize_t n = splice(tube->out, NULL, end->fd, NULL, tube->len, SPLICE_F_NONBLOCK);
        if (n <= 0)
            return n < 0 && is_passing(errno);
        tube->len -= (size_t)n;
        end->conn->gate->held_bytes -= (size_t)n;
    }
    if (tube)
        give_tube(end->conn->gate, tube);
    end->tube = NULL;
    return true;
}

/* --- pieces --------------------------------------------------------------------------------- */

bool flow_send(struct end *to, const char *data, size_t len)
{
    ssize_t n = send(to->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && !is_passing(errno))
        return false;
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent == len)
        return true;
    to->held = malloc(len - sent);
    if (!to->held)
        return false;
    memcpy(to->held, data + sent, len - sent);
    to->at = 0;
    to->len = len - sent;
    to->conn->gate->held_bytes += to->len;
    return true;
}

/* True when only what belongs to one request may be passed on from an end. */
static bool is_bounded(const struct end *from)
{
    return from->conn->bounded && from == from->conn->ends;
}

/* How many of the bytes that have just arrived belong to the request. Others end the connection's
 * input: a further request would need a connection of its own. */
static ssize_t within(struct end *from, size_t len)
{
    ssize_t n = ask_take(&from->conn->body, from->conn->gate->chunk, len);
    from->ended |= n >= 0 && (size_t)n < len;
    return n;
}

/* Moves one piece from an end to the other, which has taken everything before. Returns its size, 0
 * when there is none now, and -1 when the connection is broken. */
static ssize_t copy_piece(struct end *from, struct end *to)
{
    struct egress_gate *gate = from->conn->gate;
    size_t most = gate->held_bytes > HELD_PLENTY ? CHUNK_SCARCE : GATE_CHUNK_BYTES;
    ssize_t n = recv(from->fd, gate->chunk, most, MSG_DONTWAIT);
    if (n < 0)
        return is_passing(errno) ? 0 : -1;
    from->ended = n == 0;
    from->bulk = (size_t)n == most;
    if (is_bounded(from) && (n = within(from, (size_t)n)) < 0)
        return -1;
    return n == 0 || flow_send(to, gate->chunk, (size_t)n) ? n : -1;
}

/* The same by a tube. */
static ssize_t splice_piece(struct end *from, struct end *to)
{
    struct egress_gate *gate = from->conn->gate;
    size_t most = gate->held_bytes > HELD_PLENTY ? TUBE_SCARCE : TUBE_BYTES;
    struct tube *tube = take_tube(gate);
    if (!tube)
        return copy_piece(from, to);
    ssize_t n = splice(from->fd, NULL, tube->in, NULL, most, SPLICE_F_NONBLOCK);
    if (n <= 0) {
        give_tube(gate, tube);
        from->ended = n == 0;
        if (n == 0 || is_passing(errno))
            return 0;
        gate->tubeless |= errno == EINVAL || errno == ENOSYS || errno == EPERM;
        return gate->tubeless ? copy_piece(from, to) : -1;
    }
    from->bulk = (size_t)n >= BULK_BYTES;
    tube->len = (size_t)n;
    gate->held_bytes += tube->len;
    to->tube = tube;
    return send_tube(to) ? n : -1;
}

static bool move(struct end *from, struct end *to)
{
    ssize_t n;
    size_t moved = 0;
    do {
        n = from->bulk && !is_bounded(from) ? splice_piece(from, to) : copy_piece(from, to);
        moved += n > 0 ? (size_t)n : 0;
    } while (n > 0 && from->bulk && !from->ended && !flow_holds(to) && moved < TURN_BYTES);
    return n >= 0;
}

bool flow_move(struct end *end, unsigned events)
{
    struct end *other = &end->conn->ends[end == end->conn->ends];
    bool fine = !(events & EPOLLERR);
    if (fine && flow_holds(end) && (events & (EPOLLOUT | EPOLLHUP))) {
        fine = send_held(end) && send_tube(end);
        if (fine && !flow_holds(end) && !other->ended)
            fine = move(other, end); /* It would have to be watched again otherwise. */
    }
    if (fine && !end->ended && !flow_holds(other) && (events & (EPOLLIN | EPOLLHUP)))
        fine = move(end, other);
    return fine;
}
