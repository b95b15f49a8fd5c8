/*
 * Decompresses gzip as a stream.
 *
 * Threads: one at a time.
 *
 * Ownership: the caller of gunzip_new() frees it by gunzip_free().
 */
#ifndef PACK_GUNZIP_H
#define PACK_GUNZIP_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

struct gunzip;

/* Receives decompressed bytes; -1 with *err ends the decompression. */
typedef int gunzip_sink_fn(const void *data, size_t len, void *arg, struct err *err);

struct gunzip *gunzip_new(gunzip_sink_fn *sink, void *arg, struct err *err);
void gunzip_free(struct gunzip *gunzip);
DEFINE_AUTO(gunzip, struct gunzip *, gunzip_free)

/* Adds compressed bytes: one gzip member, or several in a row. ERR_INVALID for anything else. */
int gunzip_add(struct gunzip *gunzip, const void *data, size_t len, struct err *err);
/* Says that no more bytes follow. ERR_INVALID when the data is cut short. */
int gunzip_end(const struct gunzip *gunzip, struct err *err);

#endif
