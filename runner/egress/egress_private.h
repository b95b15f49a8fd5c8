/*
 * A gate's connections and their table, shared by the files of this room. Private to runner/egress.
 *
 * Threads: connections belong to the gate's own thread; names that lookups have found are guarded
 * by the gate's lock. Ownership: gates are reference-counted; a gate owns its connections, and a
 * lookup holds a reference to its gate.
 */
#ifndef EGRESS_EGRESS_PRIVATE_H
#define EGRESS_EGRESS_PRIVATE_H

#include "base/lock.h"
#include "base/thread.h"
#include "runner/egress/ask.h"
#include "runner/egress/gate.h"
#include "runner/egress/names.h"
#include "runner/egress/rules.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>

#define GATE_NAMES_MAX 4096
#define GATE_LOOKUPS_MAX 32   /* at once */
#define GATE_WAITING_MAX 1024 /* lookups that wait for these */
#define ADDRESSES_MAX 8
#define GATE_CHUNK_BYTES ((size_t)64 << 10) /* of gate->chunk */

/* The addresses that were found for a name. */
struct found {
    struct sockaddr_storage at[ADDRESSES_MAX];
    size_t count;
    enum dns_code code;
};

/* A name for which programs were given a substitute address; its index is that address. */
struct known {
    char *host;
    struct found found;
    int64_t until_ms; /* after this time it is looked up again */
};

struct conn;
struct tube;
struct asking;

/* One end of a connection: 0 is the program, 1 the remote side. */
struct end {
    struct conn *conn;
    int fd;
    unsigned watched; /* epoll events */
    bool registered;
    bool ended; /* it will send no more */
    bool shut;  /* its direction was shut: nothing more is sent to it */
    bool bulk;  /* it sends much at once: its bytes are spliced */
    char *held; /* bytes for it that its socket has not taken yet */
    size_t at, len;
    struct tube *tube; /* the same, in a tube (see flow.c); NULL: there are none */
};

enum way_state {
    CONN_LOOKUP,
    CONN_CONNECT,
    CONN_RELAY,
    CONN_NAMES,
    CONN_ASKS,  /* a program is about to say where to */
    CONN_PARTS, /* it was told why not */
    CONN_CLOSED
};

/* Why a connection is refused, and so who can allow it. */
enum denial {
    DENIED_NAME,    /* `egress` does not have its name */
    DENIED_LITERAL, /* `egress` has names, and this is an address */
    DENIED_NETWORK, /* its address is closed, whatever `egress` says */
    DENIED_OWN,     /* it is the jail's own loopback, and was asked for here */
};

struct conn {
    struct conn *next, *prev;
    struct egress_gate *gate;
    enum way_state state;
    bool awaited; /* a lookup will return to it */
    struct end ends[2];
    char host[NAMES_HOST_SIZE]; /* or its address in text */
    unsigned port;
    bool trusted; /* its destination is the credential proxy or the git gate */
    struct found found;
    size_t tried;
    int full;              /* how often a unix socket had no room for it */
    int64_t until_ms;      /* of CONN_CONNECT, CONN_ASKS, CONN_PARTS */
    struct asking *asking; /* what it was asked for by; NULL: it was redirected, or that is done */
    bool bounded;          /* of what the program sends, only `body` is passed on */
    struct ask_body body;
    unsigned char question[2 + NAMES_MESSAGE_MAX]; /* of CONN_NAMES: the part that has arrived */
    size_t question_len;
};

/* A lookup of a name for a connection to it, or for a question over UDP or TCP. */
struct lookup {
    struct lookup *next;
    struct egress_gate *gate; /* a reference */
    struct conn *conn;        /* NULL: the question came over UDP */
    struct sockaddr_in client;
    bool asks; /* a question must be answered */
    struct dns_question question;
    char host[NAMES_HOST_SIZE];
    int serving; /* which generation of sockets it belongs to */
    struct found found;
};

struct egress_gate {
    atomic_int refs;
    struct thread thread;
    int epoll, wake;
    struct strlist egress, lan;
    struct egress_ours ours;
    bool asked; /* programs use it as their proxy */

    struct lock lock; /* guards the fields up to the next comment */
    bool stopping;
    int next_sockets[2]; /* sockets to serve from now on; -1: no change */
    struct lookup *done;
    struct strlist denials, told; /* "host:port" of every reported denial */
    size_t denials_told;

    /* The thread's own: */
    int sockets[2];
    bool accepting;
    int serving;
    struct conn *conns, *closed;
    size_t count, lookups;
    struct lookup *running[GATE_LOOKUPS_MAX]; /* so many as `lookups` says; their threads' */
    struct lookup *waiting, *waiting_last;    /* for their turn, or for their name */
    size_t waiting_count;
    size_t held_bytes;
    struct known *known;
    size_t known_count;
    char *chunk;
    struct tube *spare; /* an empty tube; NULL: none */
    size_t tubes;       /* its own and those of ends */
    bool tubeless;      /* the kernel does not splice here */
};

void gate_ref(struct egress_gate *gate);
void gate_unref(struct egress_gate *gate);
void gate_wake(struct egress_gate *gate);
/* Keeps a denial for the report. `host` is a name or an address. */
void gate_deny(struct egress_gate *gate, const char *host, unsigned port, const char *why,
               enum denial kind);
/* Says how a denial of that kind can be allowed. */
void gate_say_allow(const char *host, enum denial kind, char *to, size_t size);

/* lookup.c: starts a lookup. It waits for its turn when many go on, and for the other one when its
 * name is being looked up already. When no thread can be started, or too many wait, the name is not
 * found. */
void lookup_start(struct egress_gate *gate, struct lookup *lookup);
/* Answers the connections and questions that wait for the lookup, and frees it. */
void lookup_finish(struct egress_gate *gate, struct lookup *lookup);
/* Frees those that wait. */
void lookup_forget_waiting(struct egress_gate *gate);
/* Handles a question that came over UDP (conn NULL) or TCP. */
void lookup_question(struct egress_gate *gate, const void *data, size_t len, struct conn *conn,
                     const struct sockaddr_in *client);
struct known *lookup_known(struct egress_gate *gate, const struct in_addr *address);
/* The entry of a name; NULL when nobody has asked for it. */
struct known *lookup_find(struct egress_gate *gate, const char *host);
/* True for localhost and names below it. */
bool lookup_is_localhost(const char *host);

/* carry.c */
void way_accept(struct egress_gate *gate);
void way_event(struct end *end, unsigned events);
void way_resolved(struct conn *conn);
void way_answer(struct conn *conn, const unsigned char *answer, size_t len);
void way_close(struct conn *conn, bool reset);
/* Closes connections that take too long to connect, or to be asked for. */
void way_expire(struct egress_gate *gate);
/* Sets the events that an end waits for; none for way_unwatch(). */
void way_watch(struct end *end, unsigned events);
void way_unwatch(struct end *end);
/* Leads a connection whose host and port are set to that name (`known`: its entry, or NULL), or to
 * an address. */
void way_to_name(struct conn *conn, const struct known *known);
void way_to_four(struct conn *conn, const struct sockaddr_in *to);
void way_to_six(struct conn *conn, const struct sockaddr_in6 *to);
/* Refuses a connection, and reports it. */
void way_deny(struct conn *conn, const char *why, enum denial kind);
/* Adds to the number of pairs of descriptors that all gates use. */
void way_count(int more);
/* True when gates should open no more descriptors. */
bool way_is_scarce(void);

/* asking.c: connections of programs that use the gate as their proxy. */
void asking_begin(struct conn *conn);
void asking_event(struct conn *conn);
void asking_expire(struct conn *conn);
/* The destination is connected: tells the program, or passes its request on. False when that
 * cannot be done. */
bool asking_connected(struct conn *conn);
/* It cannot be reached, or not be allowed (see way_deny()): tells the program. */
void asking_failed(struct conn *conn);
void asking_denied(struct conn *conn, const char *why, enum denial kind);

/* flow.c: sends bytes to an end for which none wait, and keeps what its socket does not take now.
 * False when the connection is broken. */
bool flow_send(struct end *to, const char *data, size_t len);
/* Moves what an end's events say can be moved. False when the connection is broken. */
bool flow_move(struct end *end, unsigned events);
/* Whether bytes wait for an end. */
bool flow_holds(const struct end *end);
/* Forgets the bytes that wait for an end. */
void flow_drop(struct end *end);
/* Closes the tube that is kept for the next piece. */
void flow_rest(struct egress_gate *gate);

#endif
