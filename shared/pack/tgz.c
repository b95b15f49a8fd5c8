#include "pack/tgz.h"

#include "base/auto.h"
#include "base/check.h"
#include "pack/tar.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define OUT_BYTES (64u << 10)
#define GZIP_WINDOW (15 + 16) /* 16: with gzip's header */
#define LEVEL 3               /* Outputs are sent once, so speed counts more than size. */
#define HEADER_MAX 65536

struct tgz {
    z_stream z;
    tgz_sink_fn *sink;
    void *arg;
    int64_t left;     /* bytes of the current file that are still to come */
    unsigned padding; /* padding after the current file */
    unsigned char out[OUT_BYTES];
};

struct tgz *tgz_new(tgz_sink_fn *sink, void *arg, struct err *err)
{
    REQUIRE(sink);
    struct tgz *tgz = calloc(1, sizeof(*tgz));
    if (!tgz || deflateInit2(&tgz->z, LEVEL, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY)) {
        free(tgz);
        err_set(err, ERR_INTERNAL, "cannot start to compress");
        return NULL;
    }
    tgz->sink = sink;
    tgz->arg = arg;
    tgz->z.next_out = tgz->out;
    tgz->z.avail_out = OUT_BYTES;
    return tgz;
}

void tgz_free(struct tgz *tgz)
{
    if (!tgz)
        return;
    deflateEnd(&tgz->z);
    free(tgz);
}

/* Passes on what is compressed so far. */
static int pass_on(struct tgz *tgz, struct err *err)
{
    size_t made = OUT_BYTES - tgz->z.avail_out;
    tgz->z.next_out = tgz->out;
    tgz->z.avail_out = OUT_BYTES;
    return made > 0 && tgz->sink(tgz->out, made, tgz->arg)
               ? err_set(err, ERR_UPSTREAM, "nobody takes the archive any more")
               : 0;
}

/* Compresses, and passes on whole pieces, or everything at the end. */
static int put(struct tgz *tgz, const void *data, size_t len, int flush, struct err *err)
{
    int rc = Z_OK;
    tgz->z.next_in = (unsigned char *)(uintptr_t)data;
    tgz->z.avail_in = (uInt)len;
    while (tgz->z.avail_in > 0 || (flush == Z_FINISH && rc != Z_STREAM_END)) {
        if (tgz->z.avail_out == 0 && pass_on(tgz, err))
            return -1;
        rc = deflate(&tgz->z, flush);
        if (rc == Z_STREAM_ERROR)
            return err_set(err, ERR_INTERNAL, "cannot compress");
    }
    return flush == Z_FINISH ? pass_on(tgz, err) : 0;
}

static int begin(struct tgz *tgz, const struct tar_member *member, struct err *err)
{
    AUTO(buf) struct buf header = BUF_INIT(HEADER_MAX);
    if (tgz->left > 0)
        return err_set(err, ERR_INTERNAL, "the file before is not whole");
    if (tar_add_header(&header, member, err) ||
        put(tgz, buf_str(&header), header.len, Z_NO_FLUSH, err))
        return -1;
    tgz->left = member->size;
    tgz->padding = tar_padding(member->size);
    return 0;
}

int tgz_file(struct tgz *tgz, const char *path, unsigned mode, int64_t mtime_s, int64_t size,
             struct err *err)
{
    REQUIRE(path && size >= 0);
    return begin(tgz, &(struct tar_member){path, mode, mtime_s, size, TAR_FILE, NULL}, err);
}

int tgz_directory(struct tgz *tgz, const char *path, unsigned mode, int64_t mtime_s,
                  struct err *err)
{
    return begin(tgz, &(struct tar_member){path, mode, mtime_s, 0, TAR_DIRECTORY, NULL}, err);
}

int tgz_link(struct tgz *tgz, const char *path, const char *target, struct err *err)
{
    return begin(tgz, &(struct tar_member){path, 0777, 0, 0, TAR_LINK, target}, err);
}

int tgz_data(struct tgz *tgz, const void *data, size_t len, struct err *err)
{
    static const char zeroes[TAR_BLOCK];
    if ((int64_t)len > tgz->left)
        return err_set(err, ERR_INTERNAL, "the file is longer than was said");
    if (put(tgz, data, len, Z_NO_FLUSH, err))
        return -1;
    tgz->left -= (int64_t)len;
    return tgz->left == 0 && tgz->padding ? put(tgz, zeroes, tgz->padding, Z_NO_FLUSH, err) : 0;
}

int tgz_end(struct tgz *tgz, struct err *err)
{
    static const char zeroes[2 * TAR_BLOCK];
    if (tgz->left > 0)
        return err_set(err, ERR_INTERNAL, "the last file is not whole");
    return put(tgz, zeroes, sizeof(zeroes), Z_FINISH, err);
}
