/*
 * WebSocket frames (RFC 6455): a reader that accepts bytes cut anywhere, a writer, and the
 * handshake's key. No extensions. A text message is passed on whole, up to a maximum, and checked
 * for UTF-8. Binary data is passed on in pieces as they arrive: the sender of a byte stream does
 * not care where its messages end, and a long message needs no memory.
 *
 * Threads: none of its own; a reader belongs to one at a time.
 */
#ifndef WEBSOCKET_WEBSOCKET_H
#define WEBSOCKET_WEBSOCKET_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBSOCKET_VERSION "13"
#define WEBSOCKET_KEY_SIZE 25    /* what a client sends: 16 bytes in base64, and a NUL */
#define WEBSOCKET_ACCEPT_SIZE 29 /* what a server answers */
#define WEBSOCKET_MASK_SIZE 4

enum websocket_kind {
    WEBSOCKET_CONTINUED = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* Codes of a close frame. */
enum websocket_code {
    WEBSOCKET_OK = 1000,
    WEBSOCKET_GOING = 1001,
    WEBSOCKET_BROKEN = 1002,  /* against the protocol */
    WEBSOCKET_NO_CODE = 1005, /* never sent: the frame had no code */
    WEBSOCKET_NO_TEXT = 1007, /* text that is not UTF-8 */
    WEBSOCKET_TOO_LONG = 1009,
    WEBSOCKET_FAILED = 1011,
};

/* Computes the answer to a handshake's Sec-WebSocket-Key. -1 when the key is malformed. */
int websocket_accept(const char *key, char accept[WEBSOCKET_ACCEPT_SIZE]);
/* Makes a client's key from 16 random bytes. */
void websocket_key(const unsigned char random[16], char key[WEBSOCKET_KEY_SIZE]);

/* Appends a whole frame (`kind` is not CONTINUED). `mask` is four random bytes for a client's
 * frame, and NULL for a server's. */
void websocket_add(struct buf *out, enum websocket_kind kind, const void *data, size_t len,
                   const unsigned char *mask);
/* Appends a close frame; `reason` is cut to what fits, between characters. */
void websocket_add_close(struct buf *out, int code, const char *reason, const unsigned char *mask);

/* Called for each arrival: a whole text, a piece of binary data (never empty), or a control frame
 * with its bytes; for a close frame, `code` and the reason. Returns 0 to go on, or the code to
 * close with. */
typedef int websocket_take(enum websocket_kind kind, int code, const char *data, size_t len,
                           void *arg);

struct websocket_reader {
    bool masked; /* frames have to be: it reads what a client sends; else they must not be */
    unsigned char head[14];
    size_t head_len;
    unsigned kind; /* of the frame */
    bool last;     /* no more frames of its message follow */
    uint64_t left; /* of its payload */
    unsigned char mask[WEBSOCKET_MASK_SIZE];
    unsigned mask_at;
    unsigned message; /* kind of the message that is not over yet; 0: none */
    struct buf text, control;
    bool closed; /* a close frame has come: what follows is passed over */
};

/* `masked` says that it reads a client's frames, `text_max` is the longest text message. */
void websocket_reader_init(struct websocket_reader *reader, bool masked, size_t text_max);
void websocket_reader_done(struct websocket_reader *reader);

/* Reads further bytes. Returns 0, or the code to close with (WEBSOCKET_BROKEN and others, or what
 * take() returned); after that the reader accepts nothing more. */
int websocket_read(struct websocket_reader *reader, const char *data, size_t len,
                   websocket_take *take, void *arg);

#endif
