/*
 * A WebSocket client that sends the bytes it is told, good or bad, cut as it is told, and keeps
 * what comes: binary joined, text and closing apart.
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
    bool ended; /* the connection has */
    size_t pings, pongs;

    char *raw; /* not read yet */
    size_t raw_size;
};

/* Asks `path` for an upgrade with these header lines ("" for none) beside what a handshake has. */
struct socket *socket_open(const char *base, const char *path, const char *headers);
void socket_free(struct socket *socket); /* closes */

/* A masked frame of a kind (1 text, 2 binary, 8 close, 9 ping), with its last-frame bit, in pieces
 * of `step` bytes. False once the other side has closed. */
bool socket_send(struct socket *socket, int kind, bool last, const void *data, size_t size,
                 size_t step);
/* A whole one: a text message; typed bytes. */
void socket_say(struct socket *socket, const char *json);
void socket_type(struct socket *socket, const char *keys);
/* Bytes as they are. */
void socket_raw(struct socket *socket, const void *data, size_t size);

/* One read, waiting up to ms; false when nothing came. */
bool socket_read(struct socket *socket, int ms);
/* Reads on until the text is in what came by binary, or text, messages; fails the test else. */
void socket_until(struct socket *socket, const char *text);
void socket_until_said(struct socket *socket, const char *text);
/* Reads to the end of the connection; the code that it was closed with. */
int socket_until_closed(struct socket *socket);

#endif
