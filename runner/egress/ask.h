/*
 * What a program asks of the gate as its HTTP proxy (RFC 9110, 9112): `CONNECT host:port`, or a
 * request for `http://host/…`. Used in jails whose connections are not redirected.
 *
 * The reader takes what the grammar allows and nothing else: no bare line feeds, no folded lines,
 * no control characters, one length. A host is a name, or an address in any spelling that
 * inet_aton() reads (a decimal number, octal, short forms), which then counts as that address.
 *
 * Threads: no shared state. Ownership: a struct ask owns nothing and points nowhere.
 */
#ifndef EGRESS_ASK_H
#define EGRESS_ASK_H

#include "base/buf.h"
#include "http/chunk.h"
#include "runner/egress/names.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ASK_HEAD_MAX 8192 /* bytes, with the empty line */

enum ask_host { ASK_NAME, ASK_IPV4, ASK_IPV6 };

/* How much of what follows a head belongs to the same request. */
struct ask_body {
    bool chunked;
    uint64_t left; /* not chunked: what is still to come */
    struct chunk chunk;
};

struct ask {
    bool tunnel; /* CONNECT: what follows is passed on as it is */
    enum ask_host kind;
    char host[NAMES_HOST_SIZE]; /* lower case; an address in its usual form, without brackets */
    struct in_addr four;        /* of ASK_IPV4 */
    struct in6_addr six;        /* of ASK_IPV6 */
    unsigned port;
    struct ask_body body; /* of a request that is no tunnel */
};

/* Why something was refused: the status and a text of one line, which is static. */
struct ask_fault {
    int status;
    const char *why;
};

/* The length of the head at the start of data, with its empty line; 0 when it is not complete and
 * may become so; -1 with *ret_fault when it never will. `seen` is 0 at first, then what the call
 * before left there: bytes are looked at once. */
ssize_t ask_size(const char *data, size_t len, size_t *seen, struct ask_fault *ret_fault);

/* Reads the head data[0..size), whose size ask_size() has found. Returns 0, or -1 with
 * *ret_fault. */
int ask_read(const char *data, size_t size, struct ask *ret_ask, struct ask_fault *ret_fault);

/* Appends the head as the server of a request that is no tunnel gets it: with the path as its
 * target, the host of `ask` as its Host, without what concerns this connection only, and with
 * `Connection: close`, because the connection leads to that server and to no other. */
void ask_print(const struct ask *ask, const char *data, size_t size, struct buf *out);

/* How many of the len bytes that came next belong to the request; fewer when it has ended. -1: its
 * chunks are malformed. */
ssize_t ask_take(struct ask_body *body, const char *data, size_t len);

#endif
