/*
 * Whether there is room for more work.
 *
 * Threads: any.
 */
#ifndef JANITOR_DISK_H
#define JANITOR_DISK_H

#include "base/err.h"

#include <stdbool.h>

/* ERR_NO_SPACE with the numbers when the file system of `dir` has less than min_free_mb left. */
int disk_check(const char *dir, int min_free_mb, struct err *err);

#endif
