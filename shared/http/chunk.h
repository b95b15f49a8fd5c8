/*
 * The chunked transfer coding (RFC 9112, 7.1), decoded piece by piece. Extensions and trailers are
 * read over; everything else that is not in the grammar is an error. CivetWeb's own decoder takes
 * "5\r6\r\n" for a size and a missing last line for an end.
 *
 * Threads: no shared state. Ownership: nothing is allocated but by the buffer that is given.
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

/* Takes up to len bytes of data, appends what they hold to out. Returns how many were taken (fewer
 * than len only when the body ended), or -1 when they are malformed; out may have failed. */
ssize_t chunk_feed(struct chunk *chunk, const char *data, size_t len, struct buf *out);

/* How many bytes of the chunk that has begun are still to come; 0 between chunks. */
uint64_t chunk_announced(const struct chunk *chunk);

bool chunk_ended(const struct chunk *chunk);

#endif
