/*
 * The chunked transfer coding (RFC 9112, 7.1), decoded piece by piece. Extensions and trailers are
 * skipped; everything else that is not in the grammar is an error. CivetWeb's own decoder accepts
 * "5\r6\r\n" as a size and a missing last line as an end.
 *
 * Threads: no shared state. Ownership: nothing is allocated except by the buffer that is passed in.
 */
#ifndef HTTP_CHUNK_H
#define HTTP_CHUNK_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHUNK_OVERHEAD_MAX 16384 /* extensions and trailers of one body */

struct chunk {
    int state; /* 0 at the beginning */
    uint64_t left;
    int digits;
    size_t overhead;
};

/* Decodes up to len bytes and appends the data in them to out. Returns how many bytes were used
 * (fewer than len only when the body ended), or -1 when they are malformed; out may have failed. */
ssize_t chunk_feed(struct chunk *chunk, const char *data, size_t len, struct buf *out);

/* How many bytes of the current chunk are still to come; 0 between chunks. */
uint64_t chunk_announced(const struct chunk *chunk);

bool chunk_ended(const struct chunk *chunk);

#endif
