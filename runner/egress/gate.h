/*
 * The gate of a task's jails: decides about every connection that its programs make, and makes it
 * in their place.
 *
 * Theory of operation. A jail with a gate (jail/jail.h) has no way out: what its programs connect
 * to, and what they ask name servers, arrives at two sockets that its init handed to the runner.
 * They are sockets of the jail's network namespace, but accept() works on them from here:
 *
 *     program ──▶ kernel redirects ──▶ gate's thread ──▶ rules ──▶ connect(), checked ──▶ world
 *                                          │ no
 *                                          └──▶ reset, and a denial for the task's events
 *
 * Names. A name that may be reached gets an address of 198.18.0.0/15 that stands for it in this
 * gate, and the gate resolves the name itself. So a connection says by its address which name it is
 * for, and what is checked is the very address that is connected to: a name server that answers
 * differently the next time gains nothing. IPv6 addresses are never told; names that have only
 * those are reached all the same.
 *
 * One connection has one destination, for as long as it lives. The credential proxy and the git
 * gate have addresses of their own (egress_proxy_url(), egress_git_url()).
 *
 * Where the kernel cannot redirect connections (no nf_tables) the jail's network has no route, and
 * its programs reach the same gate as their HTTP proxy (ask.h) at 127.0.0.1:GATE_ASKED_PORT. They
 * name a host, and the gate decides about it in the same way; a refusal is also the answer (403).
 *
 * Threads: any; the gate's own thread serves, lookups have one each for as long as they last.
 * Ownership: the caller of egress_gate_new() frees it by egress_gate_free(); the gate owns the
 * sockets that it serves.
 */
#ifndef EGRESS_GATE_H
#define EGRESS_GATE_H

#include "base/auto.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strlist.h"

#include <stdbool.h>

/* How connections of a jail's programs arrive at its gate. */
enum egress_way {
    EGRESS_NO_GATE,   /* there is none: the jail has the host's network */
    EGRESS_REDIRECTS, /* all of them do */
    EGRESS_ASKED,     /* those of programs that use it as their HTTP proxy */
};

/* Of EGRESS_ASKED: the port of the jail's loopback, which no program in it may bind, and addresses
 * that programs reach without asking for them. */
#define GATE_ASKED_PORT 880
#define GATE_ASKED_URL "http://127.0.0.1:880"
#define GATE_UNASKED "localhost,127.0.0.1,::1,192.0.2.1,192.0.2.3"

/* Where programs reach the runner's credential proxy, and git the git gate. */
const char *egress_proxy_url(enum egress_way way);
const char *egress_git_url(enum egress_way way);

#define GATE_CONNECTIONS_MAX 512 /* at once; further ones wait */
#define GATE_DENIALS_MAX 64      /* different denials that are reported */

struct egress_gate;

/* Unix sockets of the runner that programs reach by addresses of their own, whatever `egress` says;
 * NULL: not available. The paths are borrowed for the gate's life. */
struct egress_ours {
    const char *proxy; /* the credential proxy: egress_proxy_url() */
    const char *git;   /* the git gate: egress_git_url() */
};

/* Makes a gate, which the caller frees by egress_gate_free(). `egress` and `lan` (see rules.h) are
 * copied. */
struct egress_gate *egress_gate_new(const struct strlist *egress, const struct strlist *lan,
                                    const struct egress_ours *ours, struct err *err);

/* Call before the first egress_gate_serve(): connections are asked for (EGRESS_ASKED), not
 * redirected. */
void egress_gate_be_asked(struct egress_gate *gate);

/* Takes over a jail's sockets (the TCP listener and the one for names) and serves them until the
 * next call or its own end. Connections of the previous jail are ended. */
void egress_gate_serve(struct egress_gate *gate, const int sockets[2]);

/* Appends the next denial that has not been reported as a JSON object. False when there is none. */
bool egress_gate_denial(struct egress_gate *gate, struct buf *out);

/* Ends its connections and frees it. NULL does nothing. */
void egress_gate_free(struct egress_gate *gate);
DEFINE_AUTO(egress_gate, struct egress_gate *, egress_gate_free)

#endif
