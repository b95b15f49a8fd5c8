/*
 * Writes a gzipped tar archive as a stream. Memory use does not grow with the archive.
 *
 * Threads: one at a time.
 *
 * Ownership: the caller of tgz_new() frees it by tgz_free().
 */
#ifndef PACK_TGZ_H
#define PACK_TGZ_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct tgz;

/* Receives the archive's bytes; -1 ends the writing. */
typedef int tgz_sink_fn(const void *data, size_t len, void *arg);

struct tgz *tgz_new(tgz_sink_fn *sink, void *arg, struct err *err);
void tgz_free(struct tgz *tgz);
DEFINE_AUTO(tgz, struct tgz *, tgz_free)

/* Begins a file; exactly `size` bytes of tgz_data() must follow. Any length of path is fine. */
int tgz_file(struct tgz *tgz, const char *path, unsigned mode, int64_t mtime_s, int64_t size,
             struct err *err);
int tgz_data(struct tgz *tgz, const void *data, size_t len, struct err *err);

/* A directory; a link, which leads to `target`. */
int tgz_directory(struct tgz *tgz, const char *path, unsigned mode, int64_t mtime_s,
                  struct err *err);
int tgz_link(struct tgz *tgz, const char *path, const char *target, struct err *err);

/* Ends the archive. */
int tgz_end(struct tgz *tgz, struct err *err);

#endif
