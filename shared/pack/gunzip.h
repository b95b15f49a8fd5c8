/*
 * gzip, taken apart as it comes.
 *
 * Threads: one at a time.
 */
#ifndef PACK_GUNZIP_H
#define PACK_GUNZIP_H

#include "base/auto.h"
#include "base/err.h"

#include <stddef.h>

struct gunzip;

/* Takes what comes out; -1 with *err ends it. */
typedef int gunzip_sink_fn(const void *data, size_t len, void *arg, struct err *err);

struct gunzip *gunzip_new(gunzip_sink_fn *sink, void *arg, struct err *err);
void gunzip_free(struct gunzip *gunzip);
DEFINE_AUTO(gunzip, struct gunzip *, gunzip_free)

/* ERR_INVALID for what is no gzip, or several one after the other. */
int gunzip_add(struct gunzip *gunzip, const void *data, size_t len, struct err *err);
/* ERR_INVALID when it was cut short. */
int gunzip_end(const struct gunzip *gunzip, struct err *err);

#endif
