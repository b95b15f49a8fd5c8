/*
 * Downloads into files: first under a temporary name, then renamed, so that a file is complete or
 * missing.
 *
 * Threads: one.
 */
#ifndef CLIENT_DOWNLOAD_H
#define CLIENT_DOWNLOAD_H

#include "base/err.h"
#include "runner/client/settings.h"

#include <stdint.h>

/* Fetches `path` of the runner into the file `to` ("-": standard output); parents are made. */
int download_file(const struct settings *settings, const char *path, const char *to,
                  int64_t *ret_size, struct err *err);

/* Sends a file as the body of a PUT. */
int upload_file(const struct settings *settings, const char *path, const char *from,
                struct err *err);

#endif
