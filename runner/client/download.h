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

/* The same into an open file. */
int download_into(const struct settings *settings, const char *path, int fd, struct err *err);

/* Sends a file as the body of a PUT. ERR_CONFLICT for what is a directory. */
int upload_file(const struct settings *settings, const char *path, const char *from,
                struct err *err);
/* The same with an open file, from its beginning. */
int upload_from(const struct settings *settings, const char *path, int fd, struct err *err);

/* A file that is gone when it is closed, where there is room for large ones. */
int temporary_open(struct err *err);

#endif
