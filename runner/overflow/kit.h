/*
 * The worker's kit: this program with its loaded libraries and their loader, as files in the
 * bucket. With the kit mounted at KIT_MOUNT in a container of any image that has a shell, `sh
 * KIT_MOUNT/start` runs `claude-runner job`, whatever C library the image has: the program's
 * interpreter is changed to the kit's own loader. The kit includes certificate authorities, for
 * images that have none.
 *
 *     worker/VERSION-HASH/start  claude-runner  ld.so  lib/…  certs.pem
 *
 * Home uploads its own kit, so both sides have the same version.
 *
 * Threads: any. Ownership: kit_name() is static.
 */
#ifndef OVERFLOW_KIT_H
#define OVERFLOW_KIT_H

#include "runner/overflow/folder.h"

#define KIT_MOUNT "/claude-runner"
#define KIT_START "start"

/* The kit's folder in the bucket, without a '/' at its end. */
const char *kit_name(void);

/* Uploads the kit unless it is there. */
int kit_publish(const struct cloud *cloud, struct err *err);

/* Passes on the kit's files one after the other: fn(name, data, len) returns -1 with *err to give
 * up. */
typedef int kit_file_fn(const char *name, const void *data, size_t len, void *arg, struct err *err);
int kit_each(kit_file_fn *fn, void *arg, struct err *err);

#endif
