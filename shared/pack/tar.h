/*
 * Headers of a tar archive: ustar, with extended (pax) ones before them for what does not fit.
 *
 * Threads: no shared state.
 */
#ifndef PACK_TAR_H
#define PACK_TAR_H

#include "base/buf.h"

#include <stdint.h>

#define TAR_BLOCK 512
#define TAR_FILE '0'
#define TAR_LINK '2'
#define TAR_DIRECTORY '5'

struct tar_member {
    const char *path;
    unsigned mode;
    int64_t mtime_s;
    int64_t size;
    char type;
    const char *link; /* of TAR_LINK, else NULL */
};

/* Appends the header block(s). ERR_TOO_LARGE when the path is longer than any system has. */
int tar_add_header(struct buf *out, const struct tar_member *member, struct err *err);

/* How many bytes of padding follow `size` bytes of content. */
unsigned tar_padding(int64_t size);

#endif
