/*
 * A growing byte buffer with a maximum given where it is made.
 *
 * Appends never abort: once an append would pass the maximum, or memory runs out, the buffer is
 * `failed` and stays so; callers build whole texts and check once, with buf_ok() or buf_check().
 * The data is always followed by a NUL that is not counted in len.
 *
 * Threads: one at a time. Ownership: the buffer owns data until buf_steal().
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL while empty */
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

#define BUF_INIT(max_bytes) \
    {                       \
        .max = (max_bytes)  \
    }

void buf_init(struct buf *buf, size_t max);
void buf_done(struct buf *buf);
static inline void auto_buf(struct buf *buf)
{
    buf_done(buf);
}

/* For buffers that held a secret: overwrites what is there, then buf_done(). */
void buf_wipe(struct buf *buf);
static inline void auto_buf_wipe(struct buf *buf)
{
    buf_wipe(buf);
}

/* All of these return 0, or -1 when the buffer is or becomes failed. */
int buf_add(struct buf *buf, const void *data, size_t len);
int buf_adds(struct buf *buf, const char *text);
int buf_addc(struct buf *buf, char c);
int buf_addi(struct buf *buf, int64_t value); /* in decimal */
int buf_addf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_addv(struct buf *buf, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/* Makes room for len more bytes and returns where they go, or NULL; follow by buf_grew(). */
char *buf_room(struct buf *buf, size_t len);
void buf_grew(struct buf *buf, size_t len);

/* Removes the first len bytes. */
void buf_drop(struct buf *buf, size_t len);
void buf_clear(struct buf *buf);

/* The text, never NULL. */
const char *buf_str(const struct buf *buf);

bool buf_ok(const struct buf *buf);

/* 0 when the buffer is whole, else -1 with ERR_TOO_LARGE and `what` in the message. */
int buf_check(const struct buf *buf, const char *what, struct err *err);

/* Hands out the NUL-terminated text (free() it) and empties the buffer; NULL when failed. */
char *buf_steal(struct buf *buf);

#endif
