/*
 * gzip by every core, and the same bytes whatever their number.
 *
 * Theory of operation. The input is cut into blocks of GZIP_BLOCK bytes. Each becomes a gzip member
 * of its own (RFC 1952: a file is one member or more), compressed by libdeflate, and the members
 * are put together in order:
 *
 *     caller ──blocks──> workers (deflate, CRC) ──in order──> writer (sink)
 *
 * What a block becomes depends on its bytes alone. A block that looks like noise (images, archives)
 * is stored as it is: deflating it costs much and gains nothing. libdeflate is twice as fast as
 * zlib at the same level and size; it has no dictionaries, which costs 32 KiB of memory at the
 * beginning of each block, and blocks are large for that.
 *
 * Threads: gzip_add() and gzip_end() by one thread at a time; the sink runs on a thread of its own,
 * until gzip_end() has returned.
 */
#ifndef PACK_GZIP_H
#define PACK_GZIP_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

#define GZIP_BLOCK (512u << 10)

struct gzip;

/* Takes the compressed bytes as they come; -1 with *err ends the writing. */
typedef int gzip_sink_fn(const void *data, size_t len, void *arg, struct err *err);

/* threads 0: as many as there are cores. */
struct gzip *gzip_new(int level, int threads, gzip_sink_fn *sink, void *arg, struct err *err);
void gzip_free(struct gzip *gzip);
DEFINE_AUTO(gzip, struct gzip *, gzip_free)

int gzip_add(struct gzip *gzip, const void *data, size_t len, struct err *err);
/* Room in the block that is being filled, at least one byte, for bytes that are read into it;
 * gzip_filled() says how many there are. NULL with *err. */
void *gzip_room(struct gzip *gzip, size_t *ret_len, struct err *err);
void gzip_filled(struct gzip *gzip, size_t len);

/* Ends the file; the sink has had all when this returns 0. */
int gzip_end(struct gzip *gzip, struct err *err);

#endif
