#include "pack/tgz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define BLOCK 512
#define OUT_BYTES (64u << 10)
#define GZIP_WINDOW (15 + 16) /* 16: with gzip's header */
#define LEVEL 3               /* outputs are sent once: speed counts */
#define NAME_MAX_USTAR 100
#define SIZE_MAX_USTAR INT64_C(077777777777)

struct tgz {
    z_stream z;
    tgz_sink_fn *sink;
    void *arg;
    int64_t left;     /* of the file that has begun */
    unsigned padding; /* after it */
    unsigned char out[OUT_BYTES];
};

/* A block of ustar, as POSIX has it. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155];
    char unused[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

struct tgz *tgz_new(tgz_sink_fn *sink, void *arg, struct err *err)
{
    struct tgz *tgz = calloc(1, sizeof(*tgz));
    if (!tgz || deflateInit2(&tgz->z, LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY)) {
        free(tgz);
        err_set(err, ERR_INTERNAL, "cannot start to compress");
        return NULL;
    }
    tgz->sink = sink;
    tgz->arg = arg;
    return tgz;
}

void tgz_free(struct tgz *tgz)
{
    if (!tgz)
        return;
    deflateEnd(&tgz->z);
    free(tgz);
}

/* Compresses and hands out what is full, or everything at the end. */
static int put(struct tgz *tgz, const void *data, size_t len, int flush, struct err *err)
{
    int rc;
    tgz->z.next_in = (unsigned char *)(uintptr_t)data;
    tgz->z.avail_in = (uInt)len;
    do {
        tgz->z.next_out = tgz->out;
        tgz->z.avail_out = OUT_BYTES;
        rc = deflate(&tgz->z, flush);
        size_t made = OUT_BYTES - tgz->z.avail_out;
        if (rc == Z_STREAM_ERROR)
            return err_set(err, ERR_INTERNAL, "cannot compress");
        if (made > 0 && tgz->sink(tgz->out, made, tgz->arg))
            return err_set(err, ERR_UPSTREAM, "nobody takes the archive any more");
    } while (tgz->z.avail_out == 0 || tgz->z.avail_in > 0);
    return 0;
}

static int put_header(struct tgz *tgz, struct header *header, struct err *err)
{
    unsigned sum = 0;
    memcpy(header->magic, "ustar", 6);
    memcpy(header->version, "00", 2);
    memset(header->checksum, ' ', sizeof(header->checksum));
    for (size_t i = 0; i < BLOCK; i++)
        sum += ((const unsigned char *)header)[i];
    snprintf(header->checksum, sizeof(header->checksum), "%06o", sum);
    return put(tgz, header, BLOCK, Z_NO_FLUSH, err);
}

static void fill(struct header *header, const char *name, unsigned mode, int64_t mtime_s,
                 int64_t size, char type)
{
    size_t len = strlen(name);
    memset(header, 0, sizeof(*header));
    memcpy(header->name, name, len < NAME_MAX_USTAR ? len : NAME_MAX_USTAR);
    snprintf(header->mode, sizeof(header->mode), "%07o", mode & 07777);
    snprintf(header->uid, sizeof(header->uid), "%07o", 0);
    snprintf(header->gid, sizeof(header->gid), "%07o", 0);
    snprintf(header->size, sizeof(header->size), "%011llo", (unsigned long long)size);
    snprintf(header->mtime, sizeof(header->mtime), "%011llo",
             (unsigned long long)(mtime_s > 0 ? mtime_s : 0));
    header->type = type;
}

static int pad(struct tgz *tgz, size_t len, struct err *err)
{
    static const char zeroes[BLOCK];
    size_t rest = (BLOCK - len % BLOCK) % BLOCK;
    return rest ? put(tgz, zeroes, rest, Z_NO_FLUSH, err) : 0;
}

/* One record of an extended header: its length counts itself. */
static int record(char *to, size_t size, const char *key, const char *value)
{
    size_t body = strlen(key) + strlen(value) + 3; /* space, '=', line end */
    size_t len = body + 1;
    char digits[24];
    while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + body != len)
        len = (size_t)snprintf(digits, sizeof(digits), "%zu", len) + body;
    return snprintf(to, size, "%zu %s=%s\n", len, key, value);
}

/* What does not fit into the old header goes before it. */
static int put_extended(struct tgz *tgz, const char *path, int64_t size, struct err *err)
{
    char text[16384], number[32];
    struct header header;
    int len = record(text, sizeof(text), "path", path);
    if (len < 0 || (size_t)len >= sizeof(text) - 64)
        return err_set(err, ERR_TOO_LARGE, "a path of the archive is too long");
    if (size > SIZE_MAX_USTAR) {
        snprintf(number, sizeof(number), "%lld", (long long)size);
        len += record(text + len, sizeof(text) - (size_t)len, "size", number);
    }
    fill(&header, "././@PaxHeader", 0644, 0, len, 'x');
    if (put_header(tgz, &header, err) || put(tgz, text, (size_t)len, Z_NO_FLUSH, err))
        return -1;
    return pad(tgz, (size_t)len, err);
}

int tgz_file(struct tgz *tgz, const char *path, unsigned mode, int64_t mtime_s, int64_t size,
             struct err *err)
{
    struct header header;
    if (tgz->left > 0)
        return err_set(err, ERR_INTERNAL, "the file before is not whole");
    if ((strlen(path) > NAME_MAX_USTAR || size > SIZE_MAX_USTAR) &&
        put_extended(tgz, path, size, err))
        return -1;
    fill(&header, path, mode, mtime_s, size > SIZE_MAX_USTAR ? SIZE_MAX_USTAR : size, '0');
    tgz->left = size;
    tgz->padding = (unsigned)((BLOCK - size % BLOCK) % BLOCK);
    return put_header(tgz, &header, err);
}

int tgz_data(struct tgz *tgz, const void *data, size_t len, struct err *err)
{
    static const char zeroes[BLOCK];
    if ((int64_t)len > tgz->left)
        return err_set(err, ERR_INTERNAL, "the file is longer than was said");
    if (put(tgz, data, len, Z_NO_FLUSH, err))
        return -1;
    tgz->left -= (int64_t)len;
    return tgz->left == 0 && tgz->padding ? put(tgz, zeroes, tgz->padding, Z_NO_FLUSH, err) : 0;
}

int tgz_end(struct tgz *tgz, struct err *err)
{
    static const char zeroes[2 * BLOCK];
    if (tgz->left > 0)
        return err_set(err, ERR_INTERNAL, "the last file is not whole");
    return put(tgz, zeroes, sizeof(zeroes), Z_FINISH, err);
}
