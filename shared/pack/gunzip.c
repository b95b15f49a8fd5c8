#define ZLIB_CONST
#include "pack/gunzip.h"

#include "base/check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>

#define CHUNK_BYTES (64u << 10)

struct gunzip {
    z_stream z;
    gunzip_sink_fn *sink;
    void *arg;
    bool ended;
    unsigned char chunk[CHUNK_BYTES];
};

struct gunzip *gunzip_new(gunzip_sink_fn *sink, void *arg, struct err *err)
{
    REQUIRE(sink);
    struct gunzip *gunzip = calloc(1, sizeof(*gunzip));
    if (gunzip && inflateInit2(&gunzip->z, 15 + 16) == Z_OK) {
        gunzip->sink = sink;
        gunzip->arg = arg;
        return gunzip;
    }
    free(gunzip);
    err_sys(err, "gzip");
    return NULL;
}

void gunzip_free(struct gunzip *gunzip)
{
    if (!gunzip)
        return;
    inflateEnd(&gunzip->z);
    free(gunzip);
}

int gunzip_add(struct gunzip *gunzip, const void *data, size_t len, struct err *err)
{
    REQUIRE(gunzip);
    z_stream *z = &gunzip->z;
    z->next_in = data;
    z->avail_in = (uInt)len;
    do {
        if (gunzip->ended && z->avail_in > 0) { /* another one follows */
            inflateReset(z);
            gunzip->ended = false;
        }
        z->next_out = gunzip->chunk;
        z->avail_out = CHUNK_BYTES;
        int rc = inflate(z, Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return err_set(err, ERR_INVALID, "the body is no gzip");
        gunzip->ended = rc == Z_STREAM_END;
        size_t n = CHUNK_BYTES - z->avail_out;
        if (n > 0 && gunzip->sink(gunzip->chunk, n, gunzip->arg, err))
            return -1;
    } while (z->avail_in > 0 || (z->avail_out == 0 && !gunzip->ended));
    return 0;
}

int gunzip_end(const struct gunzip *gunzip, struct err *err)
{
    return gunzip->ended ? 0 : err_set(err, ERR_INVALID, "the body's gzip is cut short");
}
