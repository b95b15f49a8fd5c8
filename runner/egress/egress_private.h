/*
 * The gate's connections and their table, shared by its files. Private to runner/egress.
 *
 * Threads: connections are the gate's own thread's; names that lookups have found are kept under
 * the gate's lock.
 */
#ifndef EGRESS_EGRESS_PRIVATE_H
#define EGRESS_EGRESS_PRIVATE_H

#include "base/lock.h"
#include "base/thread.h"
#include "runner/egress/gate.h"
#include "runner/egress/names.h"
#include "runner/egress/rules.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>

#define GATE_NAMES_MAX 4096
#define GATE_LOOKUPS_MAX 32
#define ADDRESSES_MAX 8

/* Addresses of a name, as they were found. */
struct found {
    struct sockaddr_storage at[ADDRESSES_MAX];
    size_t count;
    enum dns_code code;
};

/* A name that programs were told an address for; its index is that address. */
struct known {
    char *host;
    struct found found;
    int64_t until_ms; /* then it is looked up again */
};

struct conn;

/* One end of a connection: 0 is the program, 1 the world. */
struct end {
    struct conn *conn;
    int fd;
    unsigned watched; /* epoll events */
    bool registered;
    bool ended; /* it sends no more */
    bool shut;  /* it was told that nothing more comes */
    char *held; /* for it, not taken yet */
    size_t at, len;
};

enum way_state { CONN_LOOKUP, CONN_CONNECT, CONN_RELAY, CONN_NAMES, CONN_CLOSED };

struct conn {
    struct conn *next, *prev;
    struct egress_gate *gate;
    enum way_state state;
    bool awaited; /* a lookup will come back to it */
    struct end ends[2];
    char host[NAMES_HOST_SIZE]; /* or its address in text */
    unsigned port;
    bool trusted; /* the credential proxy, the git gate */
    struct found found;
    size_t tried;
    int64_t until_ms;                              /* CONN_CONNECT */
    unsigned char question[2 + NAMES_MESSAGE_MAX]; /* CONN_NAMES: what has come of it */
    size_t question_len;
};

/* Somebody waits for a name: a connection to it, or a question over UDP or TCP. */
struct lookup {
    struct lookup *next;
    struct egress_gate *gate; /* a reference */
    struct conn *conn;        /* NULL: by UDP */
    struct sockaddr_in client;
    bool asks; /* the question is to be answered */
    struct dns_question question;
    char host[NAMES_HOST_SIZE];
    int serving; /* the generation of the sockets */
    struct found found;
};

struct egress_gate {
    atomic_int refs;
    struct thread thread;
    int epoll, wake;
    struct strlist egress, lan;
    struct egress_ours ours;

    struct lock lock; /* of what follows, up to the next remark */
    bool stopping;
    int next_sockets[2]; /* to be served from now on; -1: no change */
    struct lookup *done;
    struct strlist denials, told; /* "host:port" of all that was told */
    size_t denials_told;

    /* the thread's own */
    int sockets[2];
    bool accepting;
    int serving;
    struct conn *conns, *closed;
    size_t count, lookups;
    size_t held_bytes;
    struct known *known;
    size_t known_count;
    char *chunk;
};

void gate_ref(struct egress_gate *gate);
void gate_unref(struct egress_gate *gate);
void gate_wake(struct egress_gate *gate);
/* Keeps a denial to be told. `host` is a name or an address; by_address: whatever `egress` says. */
void gate_deny(struct egress_gate *gate, const char *host, unsigned port, const char *why,
               bool by_address);

/* lookup.c: starts looking a name up. Without a thread for it the name is not found. */
void lookup_start(struct egress_gate *gate, struct lookup *lookup);
/* Answers what asks. */
void lookup_finish(struct egress_gate *gate, struct lookup *lookup);
/* A question that came by UDP (conn NULL) or TCP. */
void lookup_question(struct egress_gate *gate, const void *data, size_t len, struct conn *conn,
                     const struct sockaddr_in *client);
struct known *lookup_known(struct egress_gate *gate, const struct in_addr *address);

/* relay.c */
void way_accept(struct egress_gate *gate);
void way_event(struct end *end, unsigned events);
void way_resolved(struct conn *conn);
void way_answer(struct conn *conn, const unsigned char *answer, size_t len);
void way_close(struct conn *conn, bool reset);
/* Gives up what takes too long to connect. */
void way_expire(struct egress_gate *gate);

#endif
