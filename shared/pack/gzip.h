/*
 * gzip on every core, with the same output whatever their number.
 *
 * Theory of operation. The input is cut into blocks of GZIP_BLOCK bytes. libdeflate compresses each
 * into a gzip member of its own (RFC 1952: a file is one member or more), and the members are
 * written in order:
 *
 *     caller ──blocks──> workers (deflate, CRC) ──in order──> writer (sink)
 *
 * The output of a block depends on its bytes alone. A block that looks random (images, archives) is
 * stored as it is: deflating it costs much and gains nothing. libdeflate is twice as fast as zlib
 * at the same level and size. It has no dictionaries, so each block begins without the 32 KiB
 * before it; blocks are large to make that loss small.
 *
 * Threads: gzip_add() and gzip_end() by one thread at a time; the sink runs on a thread of its own,
 * until gzip_end() has returned.
 *
 * Ownership: the caller of gzip_new() frees it by gzip_free().
 */
#ifndef PACK_GZIP_H
#define PACK_GZIP_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

#define GZIP_BLOCK (512u << 10)

struct gzip;

/* Receives compressed bytes; -1 with *err ends the compression. */
typedef int gzip_sink_fn(const void *data, size_t len, void *arg, struct err *err);

/* threads 0: as many as there are cores. */
struct gzip *gzip_new(int level, int threads, gzip_sink_fn *sink, void *arg, struct err *err);
void gzip_free(struct gzip *gzip);
DEFINE_AUTO(gzip, struct gzip *, gzip_free)

int gzip_add(struct gzip *gzip, const void *data, size_t len, struct err *err);
/* Returns room in the block that is being filled, at least one byte, so that the caller can read
 * into it; gzip_filled() says how many bytes it has read. NULL with *err. */
void *gzip_room(struct gzip *gzip, size_t *ret_len, struct err *err);
void gzip_filled(struct gzip *gzip, size_t len);

/* Ends the file. When this returns 0, the sink has received everything. */
int gzip_end(struct gzip *gzip, struct err *err);

#endif
