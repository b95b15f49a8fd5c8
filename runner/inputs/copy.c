/* Copies trees that an archive held, and gives them to their user. No link is followed. */
#include "runner/inputs/inputs_private.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 500 /* each level takes a descriptor or two */

static int open_dir(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Calls fn for every entry of a directory until it returns non-zero. */
typedef int entry_fn(int dir, const char *name, const struct stat *st, void *arg, struct err *err);

static int each_entry(int dir, entry_fn *fn, void *arg, struct err *err)
{
    struct dirent *entry;
    struct stat st;
    int rc = 0;
    DIR *list = fdopendir(open_dir(dir, "."));
    if (!list)
        return err_sys(err, "cannot list an input");
    while (rc == 0 && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        rc = fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)
                 ? err_sys(err, "input '%.100s'", entry->d_name)
                 : fn(dir, entry->d_name, &st, arg, err);
    }
    closedir(list);
    return rc;
}

/* --- copying ------------------------------------------------------------------------------- */

struct copying {
    int to;
    const struct copy_wish *wish;
    int depth;
};

int copy_file(int from_dir, const char *name, int to_dir, const char *to_name,
              const struct copy_wish *wish, struct err *err)
{
    struct stat st;
    AUTO(fd) int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) || !S_ISREG(st.st_mode))
        return err_sys(err, "cannot copy '%.100s'", name);
    if (wish->replace)
        unlinkat(to_dir, to_name, 0);
    AUTO(fd)
    int to = openat(to_dir, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0 || fd_copy(from, to, st.st_size) || fchown(to, wish->uid, wish->gid) ||
        fchmod(to, st.st_mode & 0777))
        return err_sys(err, "cannot copy '%.100s'", name);
    return 0;
}

static int copy_link(int from, const char *name, int to, const struct copy_wish *wish,
                     struct err *err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);
    if (n < 0)
        return err_sys(err, "cannot copy '%.100s'", name);
    target[n] = '\0';
    if (wish->replace)
        unlinkat(to, name, 0);
    return symlinkat(target, to, name) ||
                   fchownat(to, name, wish->uid, wish->gid, AT_SYMLINK_NOFOLLOW)
               ? err_sys(err, "cannot copy '%.100s'", name)
               : 0;
}

static int copy_entry(int from, const char *name, const struct stat *st, void *arg, struct err *err)
{
    const struct copying *copying = arg;
    const struct copy_wish *wish = copying->wish;
    if (copying->depth == 0 && wish->skip && wish->skip(name))
        return 0;
    if (S_ISREG(st->st_mode))
        return copy_file(from, name, copying->to, name, wish, err);
    if (S_ISLNK(st->st_mode))
        return copy_link(from, name, copying->to, wish, err);
    if (!S_ISDIR(st->st_mode) || copying->depth == DEPTH_MAX)
        return err_set(err, ERR_MISMATCH, "'%.100s' cannot be copied", name);
    if (mkdirat(copying->to, name, 0700) && !(wish->replace && errno == EEXIST))
        return err_sys(err, "cannot copy '%.100s'", name);
    AUTO(fd) int below = open_dir(from, name);
    AUTO(fd) int to = open_dir(copying->to, name);
    const struct copying deeper = {.to = to, .wish = wish, .depth = copying->depth + 1};
    if (below < 0 || to < 0 || fchown(to, wish->uid, wish->gid))
        return err_sys(err, "cannot copy '%.100s'", name);
    if (each_entry(below, copy_entry, (void *)(uintptr_t)&deeper, err))
        return -1;
    return fchmod(to, st->st_mode & 0777) ? err_sys(err, "cannot copy '%.100s'", name) : 0;
}

int copy_tree(int from, int to, const struct copy_wish *wish, struct err *err)
{
    REQUIRE(from >= 0 && to >= 0 && wish);
    struct copying copying = {.to = to, .wish = wish};
    return each_entry(from, copy_entry, &copying, err);
}

/* --- owning -------------------------------------------------------------------------------- */

struct owning {
    uid_t uid;
    gid_t gid;
    int depth;
};

static int own_entry(int dir, const char *name, const struct stat *st, void *arg, struct err *err)
{
    struct owning *owning = arg;
    if (fchownat(dir, name, owning->uid, owning->gid, AT_SYMLINK_NOFOLLOW))
        return err_sys(err, "cannot give '%.100s' to its user", name);
    if (!S_ISDIR(st->st_mode))
        return 0;
    if (owning->depth == DEPTH_MAX)
        return err_set(err, ERR_MISMATCH, "the archive has directories that are too deep");
    AUTO(fd) int below = open_dir(dir, name);
    owning->depth++;
    int rc = below < 0 ? err_sys(err, "input '%.100s'", name)
                       : each_entry(below, own_entry, owning, err);
    owning->depth--;
    return rc;
}

int copy_own(int dir, uid_t uid, gid_t gid, struct err *err)
{
    struct owning owning = {.uid = uid, .gid = gid};
    if (fchown(dir, uid, gid))
        return err_sys(err, "cannot give an input to its user");
    return each_entry(dir, own_entry, &owning, err);
}
