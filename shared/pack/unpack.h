/*
 * Unpacks a tar archive, gzipped or not, that arrives as a stream from an untrusted sender, below a
 * directory.
 *
 * These are refused and end the unpacking: absolute names and names with ".."; anything but files,
 * directories, and links that stay inside; a name that leads through a link; more than the limits.
 * An existing entry is replaced, but a directory only by a directory. Owners are the caller's;
 * set-id bits are dropped.
 *
 * Threads: no shared state.
 */
#ifndef PACK_UNPACK_H
#define PACK_UNPACK_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct unpack_limits {
    int64_t bytes; /* of all files together */
    int64_t entries;
    int64_t ratio; /* unpacked bytes for each packed one, past the first 16 MiB; 0: any */
};

struct unpack_result {
    int64_t bytes, entries;
};

/* Reads the next bytes. Returns their number, 0 at the end, or -1 with err. */
typedef ssize_t unpack_read_fn(void *data, size_t max, void *arg, struct err *err);

/* Unpacks below the open directory `dir`. ERR_MISMATCH when the input is no archive or holds what
 * is refused, ERR_TOO_LARGE past a limit. What was unpacked before the error stays. */
int unpack_below(int dir, unpack_read_fn *read, void *arg, const struct unpack_limits *limits,
                 struct unpack_result *ret_result, struct err *err);

/* Whether a link of that name, with that target, would be unpacked: it stays inside. */
bool unpack_takes_link(const char *name, const char *target);

#endif
