#include "base/path.h"

#include "base/auto.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

char *path_join(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

bool path_is_inside(const char *path)
{
    if (*path == '/' || *path == '\0')
        return false;
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    for (const char *part = path;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (part[n] == '\0')
            return true;
        part += n + 1;
    }
}

static int make_each_level(char *path, mode_t mode, struct err *err)
{
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char at = *p;
        *p = '\0';
        if (mkdir(path, mode) && errno != EEXIST)
            return err_sys(err, "cannot make the directory '%s'", path);
        *p = at;
        if (at == '\0')
            return 0;
    }
}

int path_make_dirs(const char *path, mode_t mode, struct err *err)
{
    struct stat st;
    if (*path == '\0')
        return err_set(err, ERR_INVALID, "cannot make a directory without a name");
    if (mkdir(path, mode) == 0) /* Usually only the last directory is missing. */
        return 0;
    AUTO(str) char *copy = strdup(path);
    if (!copy)
        return err_sys(err, "cannot make '%s'", path);
    if (errno != EEXIST && make_each_level(copy, mode, err))
        return -1;
    if (stat(path, &st) || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "'%s' is not a directory", path);
    return 0;
}

int path_make_owned(const char *base, const char *below, uid_t uid, gid_t gid, struct err *err)
{
    AUTO(str) char *path = path_join(base, below);
    if (!path)
        return err_sys(err, "cannot make '%s'", below);
    for (char *at = path + strlen(base) + 1; at;) {
        char *slash = strchr(at, '/');
        if (slash)
            *slash = '\0';
        bool made = mkdir(path, 0700) == 0;
        if (!made && errno != EEXIST)
            return err_sys(err, "cannot make '%s'", path);
        if (made && path_own(path, uid, gid, err))
            return -1;
        if (slash)
            *slash = '/';
        at = slash ? slash + 1 : NULL;
    }
    return 0;
}

void path_spread(const char *path)
{
    int flags = 0;
    AUTO(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags))
        return;
    flags |= FS_TOPDIR_FL;
    (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static int open_child_dir(int dir, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir, name, flags);
    if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
        fd = openat(dir, name, flags);
    return fd;
}

/* Takes "immutable" and "append only" from an open file or directory; true when one was there. */
static bool soften(int fd)
{
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) || !(flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)))
        return false;
    flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
    return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

/* Only files and directories can have such flags, and opening one of these has no side effect. */
static bool soften_entry(int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
        (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return false;
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && soften(fd);
}

static int remove_entry_once(int dir, const char *name);

/* Removes an entry that needs no descent: 0 done, 1 it is a directory with content, -1 errno. */
static int remove_entry(int dir, const char *name)
{
    int left = remove_entry_once(dir, name);
    if (left >= 0 || errno != EPERM)
        return left;
    bool softer = dir != AT_FDCWD && soften(dir); /* A directory from which no name may be
                                                   * removed. */
    if (!soften_entry(dir, name) && !softer) {
        errno = EPERM;
        return -1;
    }
    return remove_entry_once(dir, name);
}

static int remove_entry_once(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno == EACCES) {
        int ok = fchmod(dir, 0700);
        if (ok == 0 && unlinkat(dir, name, 0) == 0)
            return 0;
        errno = ok == 0 ? errno : EACCES;
    }
    if (errno != EISDIR && errno != EPERM && errno != EACCES)
        return errno == ENOENT ? 0 : -1;
    int sys = errno;
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno == ENOTDIR)
        errno = sys;
    return errno == ENOTEMPTY || errno == EEXIST || errno == EACCES ? 1 : -1;
}

/* The same for an entry that is a directory: most need not be tried as a file first. */
static int remove_directory(int dir, const char *name)
{
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
        return 0;
    return errno == ENOTEMPTY ? 1 : remove_entry(dir, name);
}

static bool is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Removes the entries of `dir` up to the first directory that is not empty. Returns that
 * directory's name in `child`, or "" when there is none. */
static int sweep_level(int dir, char child[256])
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;
    int rc = list ? 0 : -1;
    child[0] = '\0';
    while (rc == 0 && (entry = readdir(list))) {
        if (is_dot(entry->d_name))
            continue;
        int left = entry->d_type == DT_DIR ? remove_directory(dir, entry->d_name)
                                           : remove_entry(dir, entry->d_name);
        if (left < 0)
            rc = -1;
        if (left == 1) { /* The rest is left for the next round: to try all entries again each time
                          * would take quadratic time. */
            snprintf(child, 256, "%s", entry->d_name);
            break;
        }
    }
    int keep = errno;
    if (list)
        closedir(list);
    else if (copy >= 0)
        close(copy);
    errno = keep;
    return rc;
}

/*
 * Theory of operation: depth first with two descriptors at a time. Each round sweeps one level up
 * to its first full directory and descends into it; an emptied directory is left by openat("..")
 * and removed from there. Nobody else writes to a tree that is being removed: its processes are
 * gone by then.
 */
static int remove_below(int top, dev_t dev)
{
    char child[256];
    struct stat st;
    AUTO(fd) int at = fcntl(top, F_DUPFD_CLOEXEC, 0);
    size_t depth = 0;
    while (at >= 0) {
        if (sweep_level(at, child))
            return -1;
        int next;
        if (child[0]) {
            next = open_child_dir(at, child);
            if (next < 0 || fstat(next, &st) || st.st_dev != dev) {
                fd_close(&next);
                return -1;
            }
            fchmod(next, 0700);
            depth++;
        } else if (depth == 0) {
            return 0;
        } else {
            next = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            depth--;
        }
        fd_close(&at);
        at = next;
    }
    return -1;
}

int path_exchange(const char *fresh, const char *place)
{
    char aside[PATH_MAX];
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, place, RENAME_EXCHANGE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (snprintf(aside, sizeof(aside), "%s.aside", fresh) >= (int)sizeof(aside)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return rename(place, aside) || rename(fresh, place) || rename(aside, fresh) ? -1 : 0;
}

int path_remove_tree(const char *path, struct err *err)
{
    struct stat st;
    int left = remove_entry(AT_FDCWD, path);
    if (left == 0)
        return 0;
    AUTO(fd) int top = left < 0 ? -1 : open_child_dir(AT_FDCWD, path);
    if (top < 0 || fstat(top, &st))
        return err_sys(err, "cannot remove '%s'", path);
    fchmod(top, 0700);
    if (remove_below(top, st.st_dev) || (rmdir(path) && errno != ENOENT))
        return err_sys(err, "cannot remove '%s'", path);
    return 0;
}

int path_own(const char *path, uid_t uid, gid_t gid, struct err *err)
{
    if (fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW))
        return err_sys(err, "cannot give '%s' to uid %u", path, (unsigned)uid);
    return 0;
}

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *path_find_program(const char *name, const char *search)
{
    if (strchr(name, '/'))
        return is_program(name) ? strdup(name) : NULL;
    while (search && *search) {
        size_t n = strcspn(search, ":");
        char *path = NULL;
        if (n > 0 && asprintf(&path, "%.*s/%s", (int)n, search, name) >= 0) {
            if (is_program(path))
                return path;
            free(path);
        }
        search += n + (search[n] == ':');
    }
    return NULL;
}
