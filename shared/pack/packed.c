#include "pack/packed.h"

#include "base/auto.h"
#include "base/check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (128u << 10)
#define HEAD_BYTES 8 /* in which the form of the input shows */

/* Reads more input. Returns 1, 0 at the end, or -1. */
static int refill(struct packed *packed, struct err *err)
{
    ssize_t n = packed->read(packed->in, PIECE, packed->arg, err);
    if (n <= 0)
        return (int)n;
    packed->taken += n;
    packed->in_at = 0;
    packed->in_len = (size_t)n;
    return 1;
}

/* What the first bytes say that it is, when that is neither gzip nor tar; or NULL. */
static const char *other_form(const struct packed *packed)
{
    static const struct {
        const char *name, *head;
        size_t len;
    } forms[] = {{"zstd", "\x28\xb5\x2f\xfd", 4},
                 {"xz",
                  "\xfd"
                  "7zXZ",
                  5},
                 {"bzip2", "BZh", 3},
                 {"zip", "PK\3\4", 4},
                 {"7z", "7z\xbc\xaf", 4},
                 {"lz4", "\4\x22\x4d\x18", 4},
                 {"lzip", "LZIP", 4},
                 {"rar", "Rar!", 4},
                 {"compress", "\x1f\x9d", 2}};
    for (size_t i = 0; i < COUNT_OF(forms); i++)
        if (packed->in_len >= forms[i].len && memcmp(packed->in, forms[i].head, forms[i].len) == 0)
            return forms[i].name;
    return NULL;
}

/* Decides by the first bytes, which may come one by one, whether the input is gzip or tar. */
static int begin(struct packed *packed, struct err *err)
{
    ssize_t n = 1;
    while (packed->in_len < HEAD_BYTES &&
           (n = packed->read(packed->in + packed->in_len, PIECE - packed->in_len, packed->arg,
                             err)) > 0) {
        packed->taken += n;
        packed->in_len += (size_t)n;
    }
    if (n < 0)
        return -1;
    if (packed->in_len == 0)
        return err_set(err, ERR_MISMATCH, "the archive is empty");
    packed->zipped = packed->in_len >= 2 && packed->in[0] == 0x1f && packed->in[1] == 0x8b;
    packed->form = other_form(packed);
    if (packed->zipped && inflateInit2(&packed->z, 15 + 16) != Z_OK)
        return err_set(err, ERR_INTERNAL, "cannot start to unpack");
    packed->inflating = packed->zipped;
    return 0;
}

static ssize_t take_raw(struct packed *packed, char *to, size_t len, struct err *err)
{
    if (packed->in_at == packed->in_len) {
        int got = refill(packed, err);
        if (got <= 0)
            return got;
    }
    size_t n = packed->in_len - packed->in_at < len ? packed->in_len - packed->in_at : len;
    memcpy(to, packed->in + packed->in_at, n);
    packed->in_at += n;
    return (ssize_t)n;
}

static ssize_t take_zipped(struct packed *packed, char *to, size_t len, struct err *err)
{
    packed->z.next_out = (unsigned char *)to;
    packed->z.avail_out = (uInt)len;
    while (packed->z.avail_out == len) {
        if (packed->in_at == packed->in_len) {
            int got = refill(packed, err);
            if (got < 0)
                return -1;
            if (got == 0)
                return packed->ended ? 0 : err_set(err, ERR_MISMATCH, "the archive is cut off");
        }
        if (packed->ended && inflateReset(&packed->z) != Z_OK)
            return err_set(err, ERR_INTERNAL, "cannot go on unpacking");
        packed->ended = false;
        packed->z.next_in = packed->in + packed->in_at;
        packed->z.avail_in = (uInt)(packed->in_len - packed->in_at);
        int rc = inflate(&packed->z, Z_NO_FLUSH);
        packed->in_at = packed->in_len - packed->z.avail_in;
        packed->garbage = packed->members > 0 && packed->z.total_out == 0;
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return err_set(err, ERR_MISMATCH, "the archive is damaged: %s",
                           packed->z.msg ? packed->z.msg : "not gzip");
        packed->ended = rc == Z_STREAM_END;
        packed->members += packed->ended;
    }
    return (ssize_t)(len - packed->z.avail_out);
}

ssize_t packed_take_some(struct packed *packed, char *to, size_t len, struct err *err)
{
    REQUIRE(len > 0);
    return packed->zipped ? take_zipped(packed, to, len, err) : take_raw(packed, to, len, err);
}

int packed_take(struct packed *packed, char *to, size_t len, struct err *err)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = packed_take_some(packed, to + have, len - have, err);
        if (n < 0)
            return -1;
        if (n == 0 && have == 0)
            return 0;
        if (n == 0)
            return err_set(err, ERR_MISMATCH, "the archive is cut off");
        have += (size_t)n;
    }
    return 1;
}

int packed_open(struct packed *packed, unpack_read_fn *read, void *arg, struct err *err)
{
    REQUIRE(read);
    *packed = (struct packed){.read = read, .arg = arg, .in = malloc(PIECE)};
    if (!packed->in)
        return err_sys(err, "archive");
    if (begin(packed, err) == 0)
        return 0;
    packed_close(packed);
    return -1;
}

int packed_pass_rest(struct packed *packed, struct err *err)
{
    ssize_t n;
    REQUIRE(packed->garbage);
    while ((n = packed->read(packed->in, PIECE, packed->arg, err)) > 0)
        continue;
    return n == 0 ? 0 : -1;
}

void packed_close(struct packed *packed)
{
    if (packed->inflating)
        inflateEnd(&packed->z);
    free(packed->in);
    *packed = (struct packed){0};
}
