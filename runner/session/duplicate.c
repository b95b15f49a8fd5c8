#include "runner/session/duplicate.h"

#include "base/auto.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 512
#define NAMES_BYTES 16384
#define VALUE_BYTES 65536
#define LINKS 4096 /* files with several names that are remembered */

/* The first copy of a file that has several names. */
struct link {
    struct link *next;
    ino_t ino;
    char *path; /* path below `to` */
};

struct copier {
    const struct duplicate_order *order;
    struct duplicate_count *count;
    dev_t dev;
    int top; /* directory of the copy */
    int depth;
    struct buf path; /* present path below it */
    struct link *links[LINKS];
};

static int fail(const struct copier *c, struct err *err)
{
    return err_sys(err, "copying '%.100s'", buf_str(&c->path));
}

/* --- attributes ---------------------------------------------------------------------------- */

/* True for attributes that programs have set, and for an overlay's own marks that mean something in
 * a copy. */
static bool is_kept(const struct copier *c, const char *name)
{
    static const char *const marks[] = {"trusted.overlay.opaque",   "trusted.overlay.redirect",
                                        "trusted.overlay.whiteout", "user.overlay.opaque",
                                        "user.overlay.redirect",    "user.overlay.whiteout"};
    for (size_t i = 0; i < COUNT_OF(marks); i++)
        if (strcmp(name, marks[i]) == 0)
            return c->order->layer;
    return strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0;
}

static void copy_attributes(const struct copier *c, int from, int to)
{
    char names[NAMES_BYTES];
    ssize_t len = flistxattr(from, names, sizeof(names));
    for (const char *at = names; len > 0 && at < names + len; at += strlen(at) + 1) {
        char value[VALUE_BYTES];
        ssize_t n = is_kept(c, at) ? fgetxattr(from, at, value, sizeof(value)) : -1;
        if (n >= 0)
            (void)fsetxattr(to, at, value, (size_t)n, 0);
    }
}

static int finish(const struct copier *c, int from, int to, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (geteuid() == 0 && fchown(to, c->order->uid, c->order->gid))
        return -1;
    copy_attributes(c, from, to);
    return fchmod(to, st->st_mode & 01777) || futimens(to, times) ? -1 : 0;
}

/* --- files --------------------------------------------------------------------------------- */

static int count_bytes(struct copier *c, int64_t bytes, struct err *err)
{
    c->count->bytes += bytes;
    if (c->count->bytes > c->order->bytes_max)
        return err_set(err, ERR_NO_SPACE, "there is more than %lld MB to be copied",
                       (long long)(c->order->bytes_max >> 20));
    return 0;
}

/* Copies the data between holes, up to the file's length at the start. */
static int copy_data(struct copier *c, int from, int to, off_t size, struct err *err)
{
    off_t at = 0, end;
    while (at < size && (at = lseek(from, at, SEEK_DATA)) >= 0 && at < size) {
        end = lseek(from, at, SEEK_HOLE);
        end = end < 0 || end > size ? size : end;
        off_t in = at, out = at;
        while (in < end) {
            size_t want = end - in > 1 << 24 ? 1 << 24 : (size_t)(end - in);
            ssize_t n = copy_file_range(from, &in, to, &out, want, 0);
            if (n < 0)
                return fail(c, err);
            if (n == 0)
                break; /* The file has become shorter. */
            if (count_bytes(c, n, err))
                return -1;
            if (c->order->stop && c->order->stop(c->order->arg))
                return err_set(err, ERR_BUSY, "the copy was given up");
        }
        at = end;
    }
    return ftruncate(to, size) ? fail(c, err) : 0;
}

/* The path of an earlier copy of the same file; else remembers this one. */
static const char *known_link(struct copier *c, const struct stat *st)
{
    struct link **at = &c->links[st->st_ino % LINKS];
    for (struct link *link = *at; link; link = link->next)
        if (link->ino == st->st_ino)
            return link->path;
    struct link *link = calloc(1, sizeof(*link));
    char *path = link ? strdup(buf_str(&c->path)) : NULL;
    if (!path) {
        free(link);
        return NULL;
    }
    *link = (struct link){*at, st->st_ino, path};
    *at = link;
    return NULL;
}

static int copy_file(struct copier *c, int from_dir, int to_dir, const char *name, struct err *err)
{
    struct stat st;
    AUTO(fd)
    int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (from < 0 || fstat(from, &st))
        return errno == ENOENT || errno == ELOOP ? 0 : fail(c, err); /* The file has just gone. */
    if (!S_ISREG(st.st_mode))
        return 0;
    const char *same = st.st_nlink > 1 ? known_link(c, &st) : NULL;
    if (same && linkat(c->top, same, to_dir, name, 0) == 0)
        return 0;
    AUTO(fd)
    int to = openat(to_dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return fail(c, err);
    if (ioctl(to, FICLONE, from) != 0) {
        c->count->shared = c->count->shared && st.st_size == 0;
        if (copy_data(c, from, to, st.st_size, err))
            return -1;
    }
    return finish(c, from, to, &st) ? fail(c, err) : 0;
}

static int copy_link(struct copier *c, int from_dir, int to_dir, const char *name, struct err *err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);
    if (n < 0)
        return 0; /* The file has just changed. */
    target[n] = '\0';
    if (symlinkat(target, to_dir, name) ||
        (geteuid() == 0 &&
         fchownat(to_dir, name, c->order->uid, c->order->gid, AT_SYMLINK_NOFOLLOW)))
        return fail(c, err);
    return 0;
}

/* Copies a fifo or, in a layer, the mark that hides a file below. */
static int copy_node(struct copier *c, int to_dir, const char *name, const struct stat *st,
                     struct err *err)
{
    bool hides = S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0) && c->order->layer;
    if (!hides && !S_ISFIFO(st->st_mode))
        return 0;
    if (mknodat(to_dir, name, hides ? S_IFCHR : S_IFIFO | (st->st_mode & 0777), makedev(0, 0)) ||
        (geteuid() == 0 && !hides &&
         fchownat(to_dir, name, c->order->uid, c->order->gid, AT_SYMLINK_NOFOLLOW)))
        return fail(c, err);
    return 0;
}

/* --- directories --------------------------------------------------------------------------- */

static int copy_below(struct copier *c, int from, int to, struct err *err);

static int copy_dir(struct copier *c, int from_dir, int to_dir, const char *name, struct err *err)
{
    struct stat st;
    AUTO(fd)
    int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || fstat(from, &st))
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : fail(c, err);
    if (st.st_dev != c->dev)
        return 0; /* Another file system is mounted there. */
    if (c->depth >= DEPTH_MAX)
        return err_set(err, ERR_INVALID, "directories are nested more than %d deep", DEPTH_MAX);
    if (mkdirat(to_dir, name, 0700))
        return fail(c, err);
    AUTO(fd) int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return fail(c, err);
    c->depth++;
    int rc = copy_below(c, from, to, err);
    c->depth--;
    return rc ? -1 : finish(c, from, to, &st) ? fail(c, err) : 0;
}

static int copy_entry(struct copier *c, int from, int to, const char *name, struct err *err)
{
    struct stat st;
    size_t before = c->path.len;
    int rc = 0;
    if (++c->count->entries > c->order->entries_max)
        return err_set(err, ERR_NO_SPACE, "there are more than %lld files to be copied",
                       (long long)c->order->entries_max);
    if (c->order->stop && c->order->stop(c->order->arg))
        return err_set(err, ERR_BUSY, "the copy was given up");
    buf_addf(&c->path, "%s%s", before > 0 ? "/" : "", name);
    if (!buf_ok(&c->path))
        return err_set(err, ERR_INVALID, "a path is too long to be copied");
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
        rc = errno == ENOENT ? 0 : fail(c, err);
    else if (S_ISDIR(st.st_mode))
        rc = copy_dir(c, from, to, name, err);
    else if (S_ISREG(st.st_mode))
        rc = copy_file(c, from, to, name, err);
    else if (S_ISLNK(st.st_mode))
        rc = copy_link(c, from, to, name, err);
    else
        rc = copy_node(c, to, name, &st, err);
    c->path.len = before;
    if (c->path.data)
        c->path.data[before] = '\0';
    return rc;
}

static int copy_below(struct copier *c, int from, int to, struct err *err)
{
    struct dirent *entry;
    int rc = 0, copy = fcntl(from, F_DUPFD_CLOEXEC, 0);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        fd_close(&copy);
        return fail(c, err);
    }
    while (rc == 0 && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = copy_entry(c, from, to, entry->d_name, err);
    closedir(dir);
    return rc;
}

static void forget_links(struct copier *c)
{
    for (size_t i = 0; i < LINKS; i++) {
        struct link *link;
        while ((link = c->links[i])) {
            c->links[i] = link->next;
            free(link->path);
            free(link);
        }
    }
}

int duplicate_tree(const struct duplicate_order *order, struct duplicate_count *ret_count,
                   struct err *err)
{
    REQUIRE(order->from && order->to);
    struct stat st;
    struct duplicate_count count = {.shared = true};
    struct copier *c = calloc(1, sizeof(*c));
    AUTO(fd) int from = open(order->from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (!c || from < 0 || fstat(from, &st) || mkdir(order->to, 0700)) {
        free(c);
        return err_sys(err, "a copy");
    }
    AUTO(fd) int top = open(order->to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    *c = (struct copier){.order = order, .count = &count, .dev = st.st_dev, .top = top};
    buf_init(&c->path, PATH_MAX * 4);
    int rc = top < 0 ? err_sys(err, "a copy") : copy_below(c, from, top, err);
    if (rc == 0 && finish(c, from, top, &st))
        rc = fail(c, err);
    forget_links(c);
    buf_done(&c->path);
    free(c);
    *ret_count = count;
    return rc;
}
