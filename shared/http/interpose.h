/*
 * CivetWeb's calls of libc that are answered by us, and why.
 *
 * CivetWeb opens its own sockets and keeps its own time. It has no interface by which a connection
 * could be handed to it, or by which one could see what it reads or stop a worker that waits. But
 * Debian's libcivetweb is a shared library: what it calls is looked up in the executable first. So
 * the five functions that interpose.c defines, linked into the program, are what its threads meet.
 *
 * How a connection comes to CivetWeb. It has three kinds of threads, told apart by a thread-local
 * role; on every thread without a role all calls go straight through.
 *
 *     starting (http_start)   listen()  does nothing: the one socket that CivetWeb insists on is
 *                                       bound to some port and never listens
 *     accepting (its master)  poll()    waits on our listener (listen.h) instead of that socket
 *                             accept()  returns the connection which that has found, entered in the
 *                                       guard's table. The peer that CivetWeb is told is an IPv4
 *                                       address made of the descriptor (interpose_tag()): it only
 *                                       passes it back, which is how on_close() finds a connection
 *                                       that no worker has read from
 *     worker                  poll(),   tell the guard which connection the worker holds and show
 *                             recv()    it the head's bytes as they came (head.h); a connection
 *                                       that was cut off has ended
 *
 * And pthread_attr_setstacksize(): no thread gets less than 1 MiB. CivetWeb asks for 100 KiB, which
 * 700 nested JSON brackets overflow. It is address space, not memory.
 *
 * A CivetWeb that works differently is noticed: interpose_check() when the program hides these
 * definitions, http_start() when nobody comes to poll(), and tests/unit/http_civetweb.c by each of
 * the promises above.
 *
 * Threads: as said. Ownership: what a role points to is borrowed until the thread ends.
 */
#ifndef HTTP_INTERPOSE_H
#define HTTP_INTERPOSE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define INTERPOSE_STACK_MIN ((size_t)1 << 20)

struct listener;
struct guard;

/* What CivetWeb's accepting thread works for. */
struct acceptor {
    struct listener *listener;
    struct guard *guard;
};

/* The code that starts CivetWeb calls this first. Returns 0, or -1 when the program was linked so
 * that the library cannot see these definitions: then nothing described above would hold. */
int interpose_check(struct err *err);

/* Between a call with true and one with false, the calling thread's listen() does nothing. */
void interpose_start(bool starting);

/* Makes the calling thread CivetWeb's accepting one. */
void interpose_accept_for(struct acceptor *acceptor);

/* The descriptor of the connection whose peer address CivetWeb reports as `remote_addr`, or -1. */
int interpose_tag(const char *remote_addr);

#endif
