/*
 * Messages between the runner and a session's agent: one JSON object each, with descriptors, over a
 * SOCK_SEQPACKET socket.
 *
 * Threads: no shared state; whole messages may be sent from any thread.
 */
#ifndef BOX_MESSAGE_H
#define BOX_MESSAGE_H

#include "base/buf.h"

#include <stddef.h>
#include <sys/types.h>

#define BOX_TEXT_MAX (96u << 10)
#define BOX_FDS_MAX 4

struct box_message {
    char *text; /* the caller's buffer of BOX_TEXT_MAX + 1 bytes; a NUL follows the text */
    size_t len;
    int fds[BOX_FDS_MAX]; /* the receiver closes them */
    size_t fd_count;
};

/* Sends one message; the caller keeps the descriptors. Returns 0, or -1 with errno. Never
 * blocks. */
int box_send(int sock, const void *text, size_t len, const int *fds, size_t fd_count);

/* Receives the next message. Returns 1, 0 when there is none now, -1 when the other side is gone or
 * has sent something malformed. Never blocks. */
int box_receive(int sock, struct box_message *message);

/* Closes the descriptors that were not taken (set to -1). */
void box_close_fds(struct box_message *message);

#endif
