/*
 * The bytes of an archive as it comes in: gzip, of one member or of several, or plain. unpack.c
 * reads a tar archive from them. Private to shared/pack.
 *
 * Ownership: packed_open() makes what packed_close() frees; after a failed packed_open() there is
 * nothing to free.
 *
 * Threads: each struct belongs to one thread.
 */
#ifndef PACK_PACKED_H
#define PACK_PACKED_H

#include "pack/unpack.h"

#include <stdbool.h>
#include <sys/types.h>
#include <zlib.h>

struct packed {
    unpack_read_fn *read;
    void *arg;
    z_stream z;
    bool zipped, inflating;
    bool ended, garbage; /* garbage: what follows a whole member is none */
    int members;         /* that were whole */
    const char *form;    /* another form that its first bytes are of, or NULL */
    int64_t taken;       /* bytes that were read */
    unsigned char *in;
    size_t in_at, in_len;
};

/* Reads the first bytes, which say what it is. An input without any is ERR_MISMATCH. */
int packed_open(struct packed *packed, unpack_read_fn *read, void *arg, struct err *err);

/* Takes at most len bytes, and at least one. Returns how many, 0 at the end, or -1. */
ssize_t packed_take_some(struct packed *packed, char *to, size_t len, struct err *err);

/* Takes exactly len bytes. Returns 1, 0 when the input ends before the first, or -1. */
int packed_take(struct packed *packed, char *to, size_t len, struct err *err);

/* Reads what follows a whole gzip and is `garbage`, and throws it away. */
int packed_pass_rest(struct packed *packed, struct err *err);

void packed_close(struct packed *packed);

#endif
