/*
 * A WebSocket client that sends exactly the bytes that it is given, in pieces of any size, and
 * keeps what it receives: binary messages joined, text messages and the closing code apart.
 */
#ifndef TESTLIB_SOCKET_H
#define TESTLIB_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

struct socket {
    int fd;
    int status;   /* of the handshake */
    char *head;   /* its answer's */
    char *binary; /* all binary messages; NUL-terminated */
    size_t binary_size;
    char *text; /* all text messages, a line each */
    int code;   /* of the close frame; 0: none has come */
    bool ended; /* the connection has ended */
    size_t pings, pongs;

    char *raw; /* received and not decoded yet */
    size_t raw_size;
};

/* Requests an upgrade of `path` with these header lines ("" for none) in addition to a
 * handshake's. */
struct socket *socket_open(const char *base, const char *path, const char *headers);
void socket_free(struct socket *socket); /* closes */

/* A masked frame of a kind (1 text, 2 binary, 8 close, 9 ping), with its last-frame bit, in pieces
 * of `step` bytes. False once the other side has closed. */
bool socket_send(struct socket *socket, int kind, bool last, const void *data, size_t size,
                 size_t step);
/* Send a whole message: a text; typed bytes. */
void socket_say(struct socket *socket, const char *json);
void socket_type(struct socket *socket, const char *keys);
/* Sends bytes without a frame. */
void socket_raw(struct socket *socket, const void *data, size_t size);

/* Reads once, waiting up to ms; false when nothing came. */
bool socket_read(struct socket *socket, int ms);
/* Read until the text is in the binary, or the text, messages; fail the test otherwise. */
void socket_until(struct socket *socket, const char *text);
void socket_until_said(struct socket *socket, const char *text);
/* Reads until the connection ends. Returns its closing code. */
int socket_until_closed(struct socket *socket);

#endif
