/*
 * A directory or a file as a tar.gz that is the same bytes on any machine: members in the order of
 * their names' bytes, a directory before what is in it, no times, no owners, modes as they are.
 * The same tree gives the same digest, whatever the locale, the umask or the number of cores.
 *
 * A directory's members are named from inside it. A file is the one member of its archive, under
 * its own name; so that a directory that holds one file and nothing else is not taken for that
 * file, its archive begins with the member "./". Links stay links. Sockets, FIFOs and devices
 * cannot travel and are counted only.
 *
 * Threads: any; what one call starts has ended when it returns.
 */
#ifndef PACK_BUNDLE_H
#define PACK_BUNDLE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define BUNDLE_LEVEL 6

struct bundle_options {
    bool gitignore; /* leaves out what .gitignore files say, and .git */
    int level;      /* of zlib; 0: BUNDLE_LEVEL */
    int threads;    /* 0: as many as there are cores */
};

struct bundle {
    char sha256[65]; /* of the archive, in hex */
    int64_t size;    /* of the archive */
    int64_t bytes;   /* of the files in it */
    int64_t members;
    int64_t skipped; /* sockets and the like */
};

/* Writes the archive of `path` to the open file `out` (-1 when only the digest is wanted).
 * ERR_CONFLICT when a file changed while it was read. */
int bundle_write(const char *path, const struct bundle_options *options, int out,
                 struct bundle *ret_bundle, struct err *err);

#endif
