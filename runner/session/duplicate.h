/*
 * Copies directories that an untrusted process may be writing to.
 *
 * Threads: any. Ownership: everything is borrowed.
 */
#ifndef SESSION_DUPLICATE_H
#define SESSION_DUPLICATE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct duplicate_order {
    const char *from, *to; /* `to` is created, with the mode of `from` */
    bool layer;            /* `from` is an overlay's upper directory: what it hides stays hidden */
    int64_t bytes_max, entries_max;
    uid_t uid; /* owner of the copy, when we are root */
    gid_t gid;
    bool (*stop)(void *arg); /* asked repeatedly; true to give up */
    void *arg;
};

struct duplicate_count {
    int64_t bytes, entries;
    bool shared; /* every file shares its blocks with the original */
};

/* Copies files, directories, links (also hard links) and fifos, with modes and times; sockets are
 * left out. Files share their blocks where the file system can do that, and holes stay holes. Of
 * what changes meanwhile the copy may have the old or the new state. After a failure the caller
 * removes the partial copy. ERR_NO_SPACE past a maximum. */
int duplicate_tree(const struct duplicate_order *order, struct duplicate_count *ret_count,
                   struct err *err);

#endif
