#include "base/fd.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (1 << 20)

void fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int keep = errno;
    close(*fd);
    errno = keep;
    *fd = -1;
}

/* Not up to UINT_MAX: gVisor refuses (EINVAL) what no descriptor can be. */
int fd_close_from(int lowest)
{
    return close_range((unsigned)lowest, INT_MAX, 0);
}

int fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_pwrite_all(int fd, const void *data, size_t len, off_t at)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_copy(int from, int to, int64_t size)
{
    char *chunk = malloc(COPY_BYTES);
    int rc = chunk ? 0 : -1;
    while (rc == 0 && size > 0) {
        ssize_t n = copy_file_range(from, NULL, to, NULL, (size_t)size, 0);
        if (n < 0) { /* The two files are on different file systems, or on one that cannot share
                      * blocks. */
            n = read(from, chunk, size < COPY_BYTES ? (size_t)size : COPY_BYTES);
            if (n > 0 && fd_write_all(to, chunk, (size_t)n))
                n = -1;
        }
        if (n < 0)
            rc = -1;
        if (n <= 0)
            break;
        size -= n;
    }
    free(chunk);
    return rc;
}

ssize_t fd_pread_full(int fd, void *data, size_t len, off_t at)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)data + done, len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int fd_read_all(int fd, struct buf *out, struct err *err)
{
    char chunk[16384];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "read");
        if (n == 0)
            return 0;
        if (buf_add(out, chunk, (size_t)n))
            return buf_check(out, "the content", err);
    }
}

int file_read(const char *path, struct buf *out, struct err *err)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(err, ERR_NOT_FOUND, "'%s' does not exist", path);
    if (fd < 0 || fstat(fd, &st))
        return err_sys(err, "cannot open '%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "'%s' is not a regular file", path);
    if (fd_read_all(fd, out, err))
        return err_wrap(err, "'%s'", path);
    return 0;
}

int file_sync_directory(const char *path, struct err *err)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    AUTO(fd) int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        return err_sys(err, "cannot sync the directory of '%s'", path);
    return 0;
}

/* Where a file system has no files that never had a name (gVisor's have not), the name is removed
 * at once. */
int file_nameless(const char *dir, int flags)
{
    char path[PATH_MAX];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
    if (fd >= 0 || (errno != EISDIR && errno != EOPNOTSUPP))
        return fd;
    if (snprintf(path, sizeof(path), "%s/.nameless-XXXXXX", dir) >= (int)sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC | flags);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static int write_synced(const char *path, const void *data, size_t len, mode_t mode,
                        struct err *err)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0 || fchmod(fd, mode) || fd_write_all(fd, data, len) || fsync(fd))
        return err_sys(err, "cannot write '%s'", path);
    return 0;
}

int file_replace(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
    char next[PATH_MAX];
    int n = snprintf(next, sizeof(next), "%s.%d.new", path, (int)gettid());
    if (n < 0 || (size_t)n >= sizeof(next))
        return err_set(err, ERR_INVALID, "path too long: '%.80s…'", path);
    if (write_synced(next, data, len, mode, err)) {
        unlink(next);
        return -1;
    }
    if (rename(next, path)) {
        err_sys(err, "cannot rename to '%s'", path);
        unlink(next);
        return -1;
    }
    return file_sync_directory(path, err);
}

int file_lock(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, "cannot open '%s'", path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK)
            err_set(err, ERR_CONFLICT, "'%s' is locked by another process", path);
        else
            err_sys(err, "cannot lock '%s'", path);
        fd_close(&fd);
        return -1;
    }
    return fd;
}
