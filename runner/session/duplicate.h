/*
 * Copies of directories that somebody else may be writing to, and of whom nothing is believed.
 *
 * Threads: any.
 */
#ifndef SESSION_DUPLICATE_H
#define SESSION_DUPLICATE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct duplicate_order {
    const char *from, *to; /* `to` is made, with the mode of `from` */
    bool layer;            /* `from` is an overlay's upper directory: what it hides stays hidden */
    int64_t bytes_max, entries_max;
    uid_t uid; /* who the copy belongs to, when we are root */
    gid_t gid;
    bool (*stop)(void *arg); /* asked all the time; true to give up */
    void *arg;
};

struct duplicate_count {
    int64_t bytes, entries;
    bool shared; /* every file shares its blocks with the original */
};

/* Files, directories, links (also those between files) and fifos, with modes and times; sockets are
 * left out. Files share their blocks where the file system can do that, holes stay holes. What
 * changes meanwhile may be in the copy as it was or as it is. On failure what is there of it is the
 * caller's to remove. ERR_NO_SPACE past a maximum. */
int duplicate_tree(const struct duplicate_order *order, struct duplicate_count *ret_count,
                   struct err *err);

#endif
