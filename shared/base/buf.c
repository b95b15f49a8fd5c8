#include "base/buf.h"
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf)BUF_INIT(max);
}

void buf_done(struct buf *buf)
{
    free(buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}

void buf_wipe(struct buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->cap);
    buf_done(buf);
}

char *buf_room(struct buf *buf, size_t len)
{
    if (buf->failed || len > buf->max || buf->len > buf->max - len) {
        buf->failed = true;
        return NULL;
    }
    size_t need = buf->len + len + 1;
    if (need > buf->cap) {
        size_t cap = buf->cap ? buf->cap * 2 : 256;
        if (cap < need)
            cap = need;
        if (cap - 1 > buf->max)
            cap = buf->max + 1;
        char *data = realloc(buf->data, cap);
        if (!data) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

void buf_grew(struct buf *buf, size_t len)
{
    REQUIRE(buf->data || len == 0);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

int buf_add(struct buf *buf, const void *data, size_t len)
{
    char *to = buf_room(buf, len);
    if (!to)
        return -1;
    if (len > 0)
        memcpy(to, data, len);
    buf_grew(buf, len);
    return 0;
}

int buf_adds(struct buf *buf, const char *text)
{
    return buf_add(buf, text, strlen(text));
}

int buf_addc(struct buf *buf, char c)
{
    return buf_add(buf, &c, 1);
}

/* Prints into the room that is there; prints a second time only when that was too small. */
int buf_addv(struct buf *buf, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    size_t room = buf->failed ? 0 : buf->cap - buf->len;
    int n = vsnprintf(room > 0 ? buf->data + buf->len : NULL, room, fmt, ap);
    char *to = n < 0 ? NULL : buf_room(buf, (size_t)n);
    if (to) {
        if ((size_t)n >= room)
            vsnprintf(to, (size_t)n + 1, fmt, again);
        buf_grew(buf, (size_t)n);
    } else {
        buf->failed = true;
        if (room > 0)
            buf->data[buf->len] = '\0';
    }
    va_end(again);
    return to ? 0 : -1;
}

int buf_addi(struct buf *buf, int64_t value)
{
    char text[20];
    char *p = text + sizeof(text);
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        *--p = '-';
    return buf_add(buf, p, (size_t)(text + sizeof(text) - p));
}

int buf_addf(struct buf *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = buf_addv(buf, fmt, ap);
    va_end(ap);
    return rc;
}

void buf_drop(struct buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf_clear(buf);
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len + 1);
    buf->len -= len;
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

const char *buf_str(const struct buf *buf)
{
    return buf->data ? buf->data : "";
}

bool buf_ok(const struct buf *buf)
{
    return !buf->failed;
}

int buf_check(const struct buf *buf, const char *what, struct err *err)
{
    if (!buf->failed)
        return 0;
    return err_set(err, ERR_TOO_LARGE, "%s is larger than %zu bytes", what, buf->max);
}

char *buf_steal(struct buf *buf)
{
    if (buf->failed || !buf_room(buf, 0))
        return NULL;
    char *data = buf->data;
    data[buf->len] = '\0';
    buf->data = NULL;
    buf->len = buf->cap = 0;
    return data;
}
