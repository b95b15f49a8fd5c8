/*
 * The worker's kit: this very program with the libraries that it has loaded and the loader that
 * belongs to them, as files of the bucket. Mounted at KIT_MOUNT in a container of any image with a
 * shell, `sh KIT_MOUNT/start` runs `claude-runner job`, whatever C library the image has: the
 * program's interpreter is changed to the kit's own loader. Authorities for TLS are in it, for
 * images that have none.
 *
 *     worker/VERSION-HASH/start  claude-runner  ld.so  lib/…  certs.pem
 *
 * The kit is that of the runner at home; both sides are of one version by that.
 *
 * Threads: any.
 */
#ifndef OVERFLOW_KIT_H
#define OVERFLOW_KIT_H

#include "runner/overflow/folder.h"

#define KIT_MOUNT "/claude-runner"
#define KIT_START "start"

/* Its folder in the bucket, without a '/' at its end. */
const char *kit_name(void);

/* Puts it there unless it is. */
int kit_publish(const struct cloud *cloud, struct err *err);

/* What is published, one after the other: fn(name, data, len) returns -1 with *err to give up. */
typedef int kit_file_fn(const char *name, const void *data, size_t len, void *arg, struct err *err);
int kit_each(kit_file_fn *fn, void *arg, struct err *err);

#endif
