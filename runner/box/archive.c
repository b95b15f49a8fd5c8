/* Packs whole directories into archives and unpacks them. Each call runs in a worker: see
 * box_private.h. */
#include "runner/box/box_private.h"

#include "base/walk.h"
#include "pack/tgz.h"
#include "pack/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define PIPE_BYTES (1 << 20)
#define PACK_BYTES_MAX (INT64_C(64) << 30)
#define RATIO_MAX 200
#define ENTRIES_MAX 1000000

static int sink(const void *data, size_t len, void *arg)
{
    return fd_write_all(*(int *)arg, data, len);
}

/* A link as it is; one that leads out of what is packed could not be unpacked, and stays behind. */
static int add_link(int dir, const char *name, const char *path, struct tgz *tgz)
{
    struct err ignored;
    char target[PATH_MAX];
    ssize_t len = readlinkat(dir, name, target, sizeof(target) - 1);
    if (len <= 0)
        return 0;
    target[len] = '\0';
    return unpack_takes_link(path, target) ? tgz_link(tgz, path, target, &ignored) : 0;
}

static int add_file(int dir, const char *name, const char *path, const struct stat *st,
                    struct tgz *tgz)
{
    static char piece[PIECE_BYTES];
    struct err ignored;
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (tgz_file(tgz, path, st->st_mode & 0777, st->st_mtim.tv_sec, st->st_size, &ignored))
        return -1;
    for (int64_t at = 0; at < st->st_size;) {
        int64_t left = st->st_size - at;
        size_t want = left < (int64_t)PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        ssize_t n = fd_pread_full(fd, piece, want, at);
        if (n < 0)
            return -1;
        if ((size_t)n < want) /* The file has shrunk: fill up to the announced length. */
            memset(piece + n, 0, want - (size_t)n);
        if (tgz_data(tgz, piece, want, &ignored))
            return -1;
        at += (int64_t)want;
    }
    return 0;
}

static int add(int dir, const char *name, const char *path, const struct stat *st, void *arg)
{
    struct err ignored;
    if (S_ISDIR(st->st_mode))
        return tgz_directory(arg, path, st->st_mode & 0777, st->st_mtim.tv_sec, &ignored);
    return S_ISLNK(st->st_mode) ? add_link(dir, name, path, arg)
                                : add_file(dir, name, path, st, arg);
}

static int add_size(int dir, const char *name, const char *path, const struct stat *st, void *arg)
{
    (void)dir;
    (void)name;
    (void)path;
    if (S_ISREG(st->st_mode))
        *(int64_t *)arg += st->st_size < PACK_BYTES_MAX ? st->st_size : PACK_BYTES_MAX;
    return *(int64_t *)arg >= PACK_BYTES_MAX;
}

/* Refuses what would not be packed whole: files whose length, with terabytes of holes, is too much,
 * and trees that are too deep. */
static int check_size(int fd, const struct stat *st, const char *path, struct err *err)
{
    bool skipped = false;
    int64_t total = S_ISREG(st->st_mode) ? st->st_size : 0;
    if (S_ISDIR(st->st_mode))
        walk_tree(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), add_size, &total, &skipped);
    if (total >= PACK_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "'%.140s' has more than %lld GiB", path,
                       (long long)(PACK_BYTES_MAX >> 30));
    return skipped ? err_set(err, ERR_TOO_LARGE,
                             "'%.100s' has directories in each other, more than %d, or paths of "
                             "more than %d bytes: ask for parts of it",
                             path, WALK_DEPTH_MAX, WALK_PATH_BYTES_MAX - 1)
                   : 0;
}

/* Packs an open file or directory. */
static int pack(const struct work *work, int fd, const char *path, const struct stat *st,
                struct tgz *tgz, struct err *err)
{
    bool skipped;
    const char *name;
    if (S_ISDIR(st->st_mode))
        return walk_tree(fcntl(fd, F_DUPFD_CLOEXEC, 0), add, tgz, &skipped);
    AUTO(fd) int parent = box_open_parent(work, path, false, &name, err);
    return parent < 0 ? -1 : add_file(parent, name, name, st, tgz);
}

/* Packs one file, or everything below a directory, into a pipe whose other end the runner reads.
 * There is a second answer when it is whole. */
int box_archive_pack(const struct work *work, struct err *err)
{
    int ends[2];
    struct stat st;
    AUTO(str) char *path = box_clean_path(json_text(json_get(work->ask, "path")), err);
    AUTO(fd) int fd = path ? box_open_inside(work, path, O_RDONLY, 0, err) : -1;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)))
        return err_set(err, ERR_CONFLICT, "'%.160s' is neither a file nor a directory", path);
    if (check_size(fd, &st, path, err))
        return -1;
    if (pipe2(ends, O_CLOEXEC))
        return err_sys(err, "archive");
    (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* else writer and reader wait for each other */
    AUTO(fd) int out = ends[1];
    AUTO(tgz) struct tgz *tgz = tgz_new(sink, &out, err);
    if (!tgz)
        return -1;
    box_work_answer(work, NULL, ends[0]);
    close(ends[0]);
    if (pack(work, fd, path, &st, tgz, err))
        return err_set(err, ERR_INTERNAL, "'%.140s' could not be read whole", path);
    if (tgz_end(tgz, err))
        return -1;
    fd_close(&out);
    box_work_answer(work, NULL, -1);
    return 0;
}

static ssize_t take(void *data, size_t max, void *arg, struct err *err)
{
    ssize_t n = read(*(int *)arg, data, max);
    return n < 0 ? err_sys(err, "archive") : n;
}

/* Finds the only entry, when it is a file; false when there is anything else. */
static bool only_file(int dir, char name[NAME_MAX + 1])
{
    struct dirent *entry;
    struct stat st;
    size_t count = 0;
    DIR *list = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (list && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
        count++;
    }
    if (list)
        closedir(list);
    return count == 1 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* Turns the unpacked archive of one file (without a directory "./") into that file. */
static int settle_single(const struct work *work, const char *path, int dir, struct err *err)
{
    char name[NAME_MAX + 1], fresh[ID_SIZE + 8], id[ID_SIZE];
    const char *last;
    if (!only_file(dir, name))
        return 0;
    AUTO(fd) int above = box_open_parent(work, path, false, &last, err);
    if (above < 0)
        return -1;
    id_new(id);
    snprintf(fresh, sizeof(fresh), ".%s.part", id);
    if (renameat(dir, name, above, fresh) || unlinkat(above, last, AT_REMOVEDIR) ||
        renameat(above, fresh, above, last))
        return err_sys(err, "cannot unpack '%.100s'", path);
    return 0;
}

/* Unpacks what the runner writes into a pipe below a directory, which is made when it is
 * missing. */
int box_archive_unpack(const struct work *work, struct err *err)
{
    int ends[2];
    const char *name;
    int64_t bytes = INT64_C(1) << 40;
    struct unpack_result result;
    AUTO(str) char *path = box_clean_path(json_text(json_get(work->ask, "path")), err);
    if (!path)
        return -1;
    AUTO(buf) struct buf below = BUF_INIT(PATH_MAX);
    buf_addf(&below, "%s/x", strcmp(path, "/") == 0 ? "" : path);
    AUTO(fd) int dir = box_open_parent(work, buf_str(&below), true, &name, err);
    json_int(json_get(work->ask, "bytes"), &bytes);
    if (dir < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC))
        return err_sys(err, "archive");
    AUTO(fd) int in = ends[0];
    AUTO(buf) struct buf more = BUF_INIT(32);
    buf_adds(&more, ",\"more\":true");
    box_work_answer(work, &more, ends[1]);
    close(ends[1]);
    const struct unpack_limits limits = {
        .bytes = bytes, .entries = ENTRIES_MAX, .ratio = RATIO_MAX};
    if (unpack_below(dir, take, &in, &limits, &result, err))
        return -1;
    bool single = false;
    json_bool(json_get(work->ask, "single"), &single);
    if (single && result.entries == 1 && settle_single(work, path, dir, err))
        return -1;
    AUTO(buf) struct buf members = BUF_INIT(128);
    buf_addf(&members, ",\"bytes\":%lld,\"entries\":%lld", (long long)result.bytes,
             (long long)result.entries);
    box_work_answer(work, &members, -1);
    return 0;
}
