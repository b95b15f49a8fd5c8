#include "websocket/websocket.h"

#include "base/check.h"
#include "base/str.h"
#include "crypto/crypto.h"

#include <stdio.h>
#include <string.h>

#define CONTROL_MAX 125
#define PIECE_BYTES 4096

#define BIT_LAST 0x80
#define BITS_RESERVED 0x70
#define BIT_MASKED 0x80

/* --- handshake ----------------------------------------------------------------------------- */

int websocket_accept(const char *key, char accept[WEBSOCKET_ACCEPT_SIZE])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[CRYPTO_SHA1_SIZE];
    AUTO(buf) struct buf bytes = BUF_INIT(64), text = BUF_INIT(128), out = BUF_INIT(64);
    if (strlen(key) != WEBSOCKET_KEY_SIZE - 1 || str_read_base64(key, strlen(key), &bytes) ||
        bytes.len != 16)
        return -1;
    buf_addf(&text, "%s%s", key, magic);
    crypto_sha1(text.data, text.len, digest);
    str_add_base64(&out, BASE64_STD, digest, sizeof(digest));
    if (!buf_ok(&text) || out.len != WEBSOCKET_ACCEPT_SIZE - 1)
        return -1;
    memcpy(accept, out.data, WEBSOCKET_ACCEPT_SIZE);
    return 0;
}

void websocket_key(const unsigned char random[16], char key[WEBSOCKET_KEY_SIZE])
{
    AUTO(buf) struct buf out = BUF_INIT(64);
    str_add_base64(&out, BASE64_STD, random, 16);
    snprintf(key, WEBSOCKET_KEY_SIZE, "%s", buf_str(&out));
}

/* --- writing ------------------------------------------------------------------------------- */

static void add_head(struct buf *out, enum websocket_kind kind, size_t len, bool masked)
{
    unsigned char head[10] = {(unsigned char)(BIT_LAST | kind)};
    size_t wide = len < 126 ? 0 : len < 65536 ? 2 : 8;
    head[1] = (unsigned char)((masked ? BIT_MASKED : 0) | (wide == 0   ? len
                                                           : wide == 2 ? 126
                                                                       : 127));
    for (size_t i = 0; i < wide; i++)
        head[2 + i] = (unsigned char)((uint64_t)len >> (8 * (wide - 1 - i)));
    buf_add(out, head, 2 + wide);
}

void websocket_add(struct buf *out, enum websocket_kind kind, const void *data, size_t len,
                   const unsigned char *mask)
{
    REQUIRE(kind != WEBSOCKET_CONTINUED);
    add_head(out, kind, len, mask != NULL);
    if (!mask) {
        buf_add(out, data, len);
        return;
    }
    buf_add(out, mask, WEBSOCKET_MASK_SIZE);
    char *to = len > 0 ? buf_room(out, len) : NULL;
    const char *from = data;
    for (size_t i = 0; to && i < len; i++)
        to[i] = (char)(from[i] ^ (char)mask[i % WEBSOCKET_MASK_SIZE]);
    if (to)
        buf_grew(out, len);
}

void websocket_add_close(struct buf *out, int code, const char *reason, const unsigned char *mask)
{
    char payload[CONTROL_MAX] = {(char)(code >> 8), (char)(code & 0xff)};
    size_t len = strlen(reason), room = sizeof(payload) - 2;
    if (len > room) {
        len = room;
        while (len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(payload + 2, reason, len);
    websocket_add(out, WEBSOCKET_CLOSE, payload, code == WEBSOCKET_NO_CODE ? 0 : len + 2, mask);
}

/* --- reading ------------------------------------------------------------------------------- */

void websocket_reader_init(struct websocket_reader *reader, bool masked, size_t text_max)
{
    *reader = (struct websocket_reader){.masked = masked};
    buf_init(&reader->text, text_max);
    buf_init(&reader->control, CONTROL_MAX);
}

void websocket_reader_done(struct websocket_reader *reader)
{
    buf_done(&reader->text);
    buf_done(&reader->control);
}

/* The size of the head, as far as the bytes that have arrived tell. */
static size_t head_size(const struct websocket_reader *reader)
{
    if (reader->head_len < 2)
        return 2;
    unsigned len = reader->head[1] & 0x7fu;
    return 2 +
           (len == 127   ? 8u
            : len == 126 ? 2u
                         : 0u) +
           ((reader->head[1] & BIT_MASKED) ? WEBSOCKET_MASK_SIZE : 0u);
}

/* Whether a frame of this kind may come now. */
static bool may_come(const struct websocket_reader *reader)
{
    switch (reader->kind) {
    case WEBSOCKET_CONTINUED:
        return reader->message != 0;
    case WEBSOCKET_TEXT:
    case WEBSOCKET_BINARY:
        return reader->message == 0;
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        return reader->last && reader->left <= CONTROL_MAX;
    default:
        return false;
    }
}

/* Reads the length, which must use the fewest bytes that hold it. */
static int read_length(struct websocket_reader *reader)
{
    unsigned len = reader->head[1] & 0x7fu;
    size_t wide = len == 127 ? 8 : len == 126 ? 2 : 0;
    reader->left = wide ? 0 : len;
    for (size_t i = 0; i < wide; i++)
        reader->left = reader->left << 8 | reader->head[2 + i];
    bool fits = wide == 0 || (wide == 2 && reader->left > 125) ||
                (wide == 8 && reader->left > 65535 && reader->left <= INT64_MAX);
    memcpy(reader->mask, reader->head + 2 + wide, WEBSOCKET_MASK_SIZE);
    return fits ? 0 : WEBSOCKET_BROKEN;
}

static int begin_frame(struct websocket_reader *reader)
{
    bool masked = (reader->head[1] & BIT_MASKED) != 0;
    reader->kind = reader->head[0] & 0x0fu;
    reader->last = (reader->head[0] & BIT_LAST) != 0;
    reader->mask_at = 0;
    if ((reader->head[0] & BITS_RESERVED) || masked != reader->masked || read_length(reader) ||
        !may_come(reader))
        return WEBSOCKET_BROKEN;
    if (!masked)
        memset(reader->mask, 0, sizeof(reader->mask));
    if (reader->kind == WEBSOCKET_TEXT || reader->kind == WEBSOCKET_BINARY)
        reader->message = reader->kind;
    bool text = reader->kind < WEBSOCKET_CLOSE && reader->message == WEBSOCKET_TEXT;
    return text && reader->left > reader->text.max - reader->text.len ? WEBSOCKET_TOO_LONG : 0;
}

static bool is_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static int end_close(struct websocket_reader *reader, websocket_take *take, void *arg)
{
    const struct buf *got = &reader->control;
    const unsigned char *bytes = (const unsigned char *)buf_str(got);
    int code = got->len >= 2 ? bytes[0] << 8 | bytes[1] : WEBSOCKET_NO_CODE;
    if (got->len == 1 || (got->len >= 2 && !is_code(code)))
        return WEBSOCKET_BROKEN;
    size_t skip = got->len >= 2 ? 2 : 0;
    if (!str_is_utf8(buf_str(got) + skip, got->len - skip))
        return WEBSOCKET_NO_TEXT;
    reader->closed = true;
    return take(WEBSOCKET_CLOSE, code, buf_str(got) + skip, got->len - skip, arg);
}

static int end_frame(struct websocket_reader *reader, websocket_take *take, void *arg)
{
    int rc = 0;
    reader->head_len = 0;
    if (reader->kind == WEBSOCKET_CLOSE) {
        rc = end_close(reader, take, arg);
    } else if (reader->kind > WEBSOCKET_CLOSE) {
        rc = take((enum websocket_kind)reader->kind, 0, buf_str(&reader->control),
                  reader->control.len, arg);
    } else if (reader->last) {
        bool text = reader->message == WEBSOCKET_TEXT;
        reader->message = 0;
        if (text && !str_is_utf8(buf_str(&reader->text), reader->text.len))
            return WEBSOCKET_NO_TEXT;
        if (text)
            rc = take(WEBSOCKET_TEXT, 0, buf_str(&reader->text), reader->text.len, arg);
        buf_clear(&reader->text);
    }
    buf_clear(&reader->control);
    return rc;
}

/* Passes on a piece of the payload, already unmasked. */
static int take_piece(struct websocket_reader *reader, const char *piece, size_t len,
                      websocket_take *take, void *arg)
{
    struct buf *to = reader->kind >= WEBSOCKET_CLOSE ? &reader->control : &reader->text;
    if (reader->kind < WEBSOCKET_CLOSE && reader->message == WEBSOCKET_BINARY)
        return take(WEBSOCKET_BINARY, 0, piece, len, arg);
    return buf_add(to, piece, len) ? WEBSOCKET_FAILED : 0;
}

/* Reads as much of the payload as has arrived; *ret_used says how much. */
static int read_payload(struct websocket_reader *reader, const char *data, size_t len,
                        websocket_take *take, void *arg, size_t *ret_used)
{
    char piece[PIECE_BYTES];
    size_t used = 0;
    int rc = 0;
    while (rc == 0 && used < len && reader->left > 0) {
        size_t n = len - used < sizeof(piece) ? len - used : sizeof(piece);
        if (n > reader->left)
            n = (size_t)reader->left;
        for (size_t i = 0; i < n; i++)
            piece[i] = (char)(data[used + i] ^
                              (char)reader->mask[(reader->mask_at + i) % WEBSOCKET_MASK_SIZE]);
        reader->mask_at = (unsigned)((reader->mask_at + n) % WEBSOCKET_MASK_SIZE);
        reader->left -= n;
        used += n;
        rc = take_piece(reader, piece, n, take, arg);
    }
    *ret_used = used;
    return rc;
}

int websocket_read(struct websocket_reader *reader, const char *data, size_t len,
                   websocket_take *take, void *arg)
{
    REQUIRE(take);
    while (!reader->closed) {
        size_t used, want = head_size(reader);
        int rc = 0;
        if (reader->head_len < want) {
            if (len == 0)
                return 0;
            reader->head[reader->head_len++] = (unsigned char)*data;
            data++;
            len--;
            if (reader->head_len == head_size(reader))
                rc = begin_frame(reader);
        }
        if (rc == 0 && reader->head_len >= 2 && reader->head_len == head_size(reader)) {
            rc = read_payload(reader, data, len, take, arg, &used);
            data += used;
            len -= used;
            if (rc == 0 && reader->left > 0)
                return 0;
            if (rc == 0)
                rc = end_frame(reader, take, arg);
        }
        if (rc) {
            reader->closed = true;
            return rc;
        }
    }
    return 0;
}
