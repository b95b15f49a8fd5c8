/*
 * Three calls of CivetWeb's, answered by us.
 *
 * Debian's libcivetweb is a shared library; what it calls is looked up in the executable first. So
 * these definitions, linked into the program, are what its threads meet:
 *   - accept: with SOCK_CLOEXEC from the start, so that no child that is being spawned at this
 *     moment inherits a client's socket (CivetWeb sets the flag later), and entered in the guard's
 *     table;
 *   - poll, recv: tell the guard which connection a worker holds and show it the head's bytes as
 *     they came (head.h); a connection that was cut off has ended;
 *   - pthread_attr_setstacksize: no thread gets less than 1 MiB. CivetWeb asks for 100 KiB, which
 *     700 nested JSON brackets overflow. It is address space, not memory.
 * Every other thread's calls go straight through.
 */
#ifndef HTTP_INTERPOSE_H
#define HTTP_INTERPOSE_H

#include "base/err.h"

#include <stddef.h>

#define INTERPOSE_STACK_MIN ((size_t)1 << 20)

/* Whoever starts CivetWeb calls this first. 0, or -1 when the program was linked in a way that
 * hides these definitions from the library: then nothing of the above would hold. */
int interpose_check(struct err *err);

#endif
