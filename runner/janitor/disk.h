/*
 * Tells whether the disk has room for more work.
 *
 * Threads: any.
 */
#ifndef JANITOR_DISK_H
#define JANITOR_DISK_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* How many bytes the runner may still write to the file system of `dir`, and its size. Returns 0 or
 * -1. */
int disk_space(const char *dir, int64_t *ret_free_bytes, int64_t *ret_total_bytes, struct err *err);

/* ERR_NO_SPACE with the numbers when the file system of `dir` has less than min_free_mb left. */
int disk_check(const char *dir, int min_free_mb, struct err *err);

#endif
