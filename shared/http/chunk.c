#include "http/chunk.h"

enum {
    SIZE,       /* hex digits of a chunk's size */
    EXTENSION,  /* after ';' up to CR */
    SIZE_LF,    /* the LF after them */
    DATA,       /* chunk data */
    DATA_CR,    /* CR LF after chunk data */
    DATA_LF,    /**/
    LINE,       /* the beginning of a trailer line, or of the empty line that ends everything */
    TRAILER,    /* within a trailer line */
    TRAILER_LF, /* its LF */
    LAST_LF,    /* the very last LF */
    ENDED,
    BROKEN = -1,
};

static int size_digit(struct chunk *chunk, char c)
{
    int digit = c >= '0' && c <= '9'                     ? c - '0'
                : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                         : -1;
    if (digit >= 0) {
        if (chunk->digits++ >= 15) /* Far beyond any limit, and still without overflow. */
            return BROKEN;
        chunk->left = chunk->left * 16 + (uint64_t)digit;
        return SIZE;
    }
    if (chunk->digits == 0)
        return BROKEN;
    return c == '\r' ? SIZE_LF : c == ';' ? EXTENSION : BROKEN;
}

/* Counts bytes that carry no data: a body may not consist of extensions only. */
static int text_byte(struct chunk *chunk, char c, int stay, int after_cr)
{
    if (++chunk->overhead > CHUNK_OVERHEAD_MAX)
        return BROKEN;
    if (c == '\r')
        return after_cr;
    return (unsigned char)c >= 0x20 || c == '\t' ? stay : BROKEN;
}

static int expect(char c, char want, int next)
{
    return c == want ? next : BROKEN;
}

static int step(struct chunk *chunk, char c)
{
    switch (chunk->state) {
    case SIZE:
        return size_digit(chunk, c);
    case EXTENSION:
        return text_byte(chunk, c, EXTENSION, SIZE_LF);
    case SIZE_LF:
        chunk->digits = 0;
        return expect(c, '\n', chunk->left ? DATA : LINE);
    case DATA_CR:
        return expect(c, '\r', DATA_LF);
    case DATA_LF:
        return expect(c, '\n', SIZE);
    case LINE:
        return text_byte(chunk, c, TRAILER, LAST_LF);
    case TRAILER:
        return text_byte(chunk, c, TRAILER, TRAILER_LF);
    case TRAILER_LF:
        return expect(c, '\n', LINE);
    case LAST_LF:
        return expect(c, '\n', ENDED);
    default:
        return BROKEN;
    }
}

ssize_t chunk_feed(struct chunk *chunk, const char *data, size_t len, struct buf *out)
{
    size_t at = 0;
    while (at < len && chunk->state != ENDED) {
        if (chunk->state == DATA) {
            size_t n = len - at < chunk->left ? len - at : (size_t)chunk->left;
            buf_add(out, data + at, n);
            at += n;
            chunk->left -= n;
            if (chunk->left == 0)
                chunk->state = DATA_CR;
            continue;
        }
        chunk->state = step(chunk, data[at++]);
        if (chunk->state == BROKEN)
            return -1;
    }
    return (ssize_t)at;
}

uint64_t chunk_announced(const struct chunk *chunk)
{
    return chunk->state == DATA ? chunk->left : 0;
}

bool chunk_ended(const struct chunk *chunk)
{
    return chunk->state == ENDED;
}
