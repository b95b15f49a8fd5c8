/*
 * A file system that a test can fill.
 */
#ifndef TESTLIB_SMALL_DISK_H
#define TESTLIB_SMALL_DISK_H

#include <stdbool.h>
#include <stddef.h>

/* Mounts an empty file system of that size over `path`, visible to this process alone (its mount
 * namespace becomes private). False where this is impossible. The mount ends with the process, or
 * by small_disk_unmount(). */
bool small_disk_mount(const char *path, size_t size_bytes);
void small_disk_unmount(const char *path);

/* Fills the file system of `path` to the last byte with a file of that name; removing the file
 * gives the space back. */
void small_disk_fill(const char *path);

#endif
