#include "git/reach.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 200

bool reach_is_hidden(const char *dir, const char *path)
{
    struct stat st;
    AUTO(str) char *whole = path_join(dir, path);
    return whole && lstat(whole, &st) && errno == EACCES;
}

/* Opens one entry to its owner. Returns 1 when it was closed before. */
static int open_one(int dir, const char *name, const struct stat *st)
{
    mode_t needed = S_ISDIR(st->st_mode) ? 0700 : 0400;
    return (st->st_mode & needed) != needed &&
           fchmodat(dir, name, (st->st_mode & 0777) | needed, 0) == 0;
}

/* Opens everything below `dir`, and closes that descriptor. */
static int open_below(int dir, int depth)
{
    struct dirent *entry;
    struct stat st;
    int count = 0;
    DIR *list = fdopendir(dir);
    if (!list) {
        fd_close(&dir);
        return 0;
    }
    while ((entry = readdir(list))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ||
            (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
            continue;
        count += open_one(dir, name, &st);
        if (S_ISREG(st.st_mode) || depth == DEPTH_MAX || strcmp(name, ".git") == 0)
            continue;
        int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        count += below < 0 ? 0 : open_below(below, depth + 1);
    }
    closedir(list);
    return count;
}

int reach_open(const char *dir)
{
    struct stat st;
    int count = lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) ? open_one(AT_FDCWD, dir, &st) : 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? count : count + open_below(fd, 0);
}

/* True when opening the entry for reading might never return. */
static bool may_block(int dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type == DT_REG || entry->d_type == DT_DIR ||
        fstatat(dir, entry->d_name, &st, 0) != 0)
        return false;
    return S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode);
}

/* Removes what blocks below `dir`, and closes that descriptor. */
static int unblock_below(int dir, int depth, bool in_git)
{
    struct dirent *entry;
    int count = 0;
    DIR *list = fdopendir(dir);
    if (!list) {
        fd_close(&dir);
        return 0;
    }
    while ((entry = readdir(list))) {
        bool is_git = in_git || strncmp(entry->d_name, ".git", 4) == 0;
        if (is_git && may_block(dir, entry)) {
            count += unlinkat(dir, entry->d_name, 0) == 0;
            continue;
        }
        bool maybe_dir = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
        if (!maybe_dir || depth == DEPTH_MAX || strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        int below = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        count += below < 0 ? 0 : unblock_below(below, depth + 1, is_git);
    }
    closedir(list);
    return count;
}

int reach_unblock(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : unblock_below(fd, 0, false);
}
