/*
 * File descriptors: closing, whole reads and writes, locks, and files that are replaced whole.
 * Everything opened here is close-on-exec.
 *
 * Threads: no shared state.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes *fd when it is open (>= 0) and sets it to -1; keeps errno. */
void fd_close(int *fd);
static inline void auto_fd(int *fd)
{
    fd_close(fd);
}

/* Closes every descriptor from `lowest` on. Returns 0, or -1 with errno. */
int fd_close_from(int lowest);

/* Writes everything, going on after signals and short writes. Returns 0, or -1 with errno. */
int fd_write_all(int fd, const void *data, size_t len);
int fd_pwrite_all(int fd, const void *data, size_t len, off_t at);

/* Copies up to `size` bytes from the offset of `from` to the offset of `to`, and shares blocks
 * where the file system can. Returns 0, or -1 with errno. */
int fd_copy(int from, int to, int64_t size);

/* Reads up to len bytes at `at` until there are no more. Returns the count, or -1 with errno. */
ssize_t fd_pread_full(int fd, void *data, size_t len, off_t at);

/* Appends to out what fd holds from its offset to its end; -1 when more than out may hold. */
int fd_read_all(int fd, struct buf *out, struct err *err);

/* Appends a regular file's content; ERR_NOT_FOUND when there is none, ERR_INVALID when it is
 * something else than a regular file. FIFOs and devices are never waited for. */
int file_read(const char *path, struct buf *out, struct err *err);

/* Makes a file without a name on the file system of `dir`; `flags` are added to O_RDWR. Returns its
 * descriptor, or -1 with errno. */
int file_nameless(const char *dir, int flags);

/* Replaces a file so that a reader or a crash meets the old content or the new, never a mixture:
 * temporary file beside it, fsync, rename, fsync of the directory. */
int file_replace(const char *path, const void *data, size_t len, mode_t mode, struct err *err);

/* Makes a rename to `path` durable: waits until its directory is on the disk. */
int file_sync_directory(const char *path, struct err *err);

/* Opens (making it when missing) and locks a file without waiting: flock LOCK_EX. Returns the
 * descriptor that holds the lock; ERR_CONFLICT when somebody else has it. */
int file_lock(const char *path, struct err *err);

#endif
