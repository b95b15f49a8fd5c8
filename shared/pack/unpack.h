/*
 * Unpacks a tar archive, gzipped or not, that comes as a stream from anybody, below a directory.
 *
 * What is refused, and ends the unpacking: absolute names and ".." in them; anything but files,
 * directories, and links that stay inside; a name that leads through a link; more than the limits.
 * What is there already is replaced, but a directory by a directory only. Owners are the caller's;
 * set-id bits are dropped.
 *
 * What a program of ours has packed, of files that anybody made, is unpacked as it was (`exact`):
 * links lead where they like, names are any bytes, times and modes are the archive's. Nothing is
 * written through a link in that case either.
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
    bool exact;
    bool owned; /* what is unpacked becomes this user's */
    uid_t uid;
    gid_t gid;
};

struct unpack_result {
    int64_t bytes, entries;
};

/* Reads the next bytes: how many, 0 at the end, -1 with err. */
typedef ssize_t unpack_read_fn(void *data, size_t max, void *arg, struct err *err);

/* ERR_MISMATCH for what is no archive or holds what it may not, ERR_TOO_LARGE for a limit. What has
 * been unpacked by then stays. */
int unpack_below(int dir, unpack_read_fn *read, void *arg, const struct unpack_limits *limits,
                 struct unpack_result *ret_result, struct err *err);

#endif
