#include "pack/bundle.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "pack/gzip.h"
#include "pack/ignore.h"
#include "pack/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer reports what is stored in a list as leaked. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define DEPTH_MAX 200
#define PATH_BYTES_MAX 16384
#define HEADER_BYTES_MAX 65536
#define NAMES_GROW 64

struct packing {
    struct gzip *gzip;
    struct crypto_hash *hash;
    int out;
    bool gitignore;
    struct ignore ignore;
    struct buf path;   /* path of the member that is being packed */
    struct buf header; /* scratch */
    struct bundle *bundle;
};

/* --- the archive's bytes ------------------------------------------------------------------- */

static int on_bytes(const void *data, size_t len, void *arg, struct err *err)
{
    struct packing *p = arg;
    crypto_hash_add(p->hash, data, len);
    p->bundle->size += (int64_t)len;
    if (p->out >= 0 && fd_write_all(p->out, data, len))
        return err_sys(err, "cannot write the archive");
    return 0;
}

static int put_zeroes(struct packing *p, size_t len, struct err *err)
{
    static const char zeroes[2 * TAR_BLOCK];
    return gzip_add(p->gzip, zeroes, len, err);
}

static int put_header(struct packing *p, const struct stat *st, char type, const char *link,
                      struct err *err)
{
    const struct tar_member member = {.path = buf_str(&p->path),
                                      .mode = st->st_mode & 0777,
                                      .size = type == TAR_FILE ? st->st_size : 0,
                                      .type = type,
                                      .link = link};
    buf_clear(&p->header);
    p->bundle->members++;
    if (tar_add_header(&p->header, &member, err))
        return -1;
    return gzip_add(p->gzip, buf_str(&p->header), p->header.len, err);
}

/* --- members ------------------------------------------------------------------------------- */

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ino == b->st_ino;
}

static int changed(const struct packing *p, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "%.150s changed while it was read", buf_str(&p->path));
}

static int put_content(struct packing *p, int fd, const struct stat *st, struct err *err)
{
    struct stat after;
    for (int64_t left = st->st_size; left > 0;) {
        size_t room;
        void *to = gzip_room(p->gzip, &room, err);
        if (!to)
            return -1;
        ssize_t n = read(fd, to, (int64_t)room < left ? room : (size_t)left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read %.150s", buf_str(&p->path));
        if (n == 0)
            return changed(p, err);
        gzip_filled(p->gzip, (size_t)n);
        left -= n;
    }
    if (fstat(fd, &after) || !is_same(st, &after))
        return changed(p, err);
    p->bundle->bytes += st->st_size;
    return put_zeroes(p, tar_padding(st->st_size), err);
}

static int put_file(struct packing *p, int dir, const char *name, struct err *err)
{
    struct stat st;
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return err_sys(err, "cannot read %.150s", buf_str(&p->path));
    if (!S_ISREG(st.st_mode))
        return changed(p, err);
    return put_header(p, &st, TAR_FILE, NULL, err) || put_content(p, fd, &st, err) ? -1 : 0;
}

static int put_link(struct packing *p, int dir, const char *name, const struct stat *st,
                    struct err *err)
{
    char target[PATH_BYTES_MAX];
    struct stat any = *st;
    ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
    if (n < 0)
        return err_sys(err, "cannot read %.150s", buf_str(&p->path));
    target[n] = '\0';
    any.st_mode = 0777; /* The mode of a link means nothing. */
    return put_header(p, &any, TAR_LINK, target, err);
}

/* --- directories --------------------------------------------------------------------------- */

struct name {
    char *text;
    unsigned char type; /* DT_REG, … as the directory says; DT_UNKNOWN */
};

static int by_bytes(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

struct names {
    struct name *items;
    size_t count, room;
};

static void auto_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i].text);
    free(names->items);
}

static int add_name(struct names *names, const struct dirent *entry)
{
    if (names->count == names->room) {
        size_t room = names->room ? names->room * 2 : NAMES_GROW;
        struct name *items = realloc(names->items, room * sizeof(*items));
        if (!items)
            return -1;
        names->items = items;
        names->room = room;
    }
    struct name *name = &names->items[names->count];
    *name = (struct name){strdup(entry->d_name), entry->d_type};
    names->count += name->text != NULL;
    return name->text ? 0 : -1;
}

static int read_names(int dir, struct names *names, struct err *err)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = again < 0 ? NULL : fdopendir(again);
    int rc = 0;
    if (!entries) {
        fd_close(&again);
        return err_sys(err, "cannot read a directory");
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(entries);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc |= add_name(names, entry);
    }
    if (errno || rc)
        rc = err_sys(err, "cannot read a directory");
    closedir(entries);
    if (names->count > 0)
        qsort(names->items, names->count, sizeof(*names->items), by_bytes);
    return rc;
}

static int put_tree(struct packing *p, int dir, int depth, struct err *err);

static int put_directory(struct packing *p, int dir, const char *name, const struct stat *st,
                         int depth, struct err *err)
{
    AUTO(fd) int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below < 0)
        return err_sys(err, "cannot read %.150s", buf_str(&p->path));
    buf_addc(&p->path, '/');
    if (put_header(p, st, TAR_DIRECTORY, NULL, err))
        return -1;
    return put_tree(p, below, depth + 1, err);
}

/* Packs one entry, which p->path names. An entry that the directory lists as a file is opened at
 * once. */
static int put_entry(struct packing *p, int dir, const struct name *name, int depth,
                     struct err *err)
{
    struct stat st = {.st_mode = name->type == DT_REG ? S_IFREG : 0};
    if (!S_ISREG(st.st_mode) && fstatat(dir, name->text, &st, AT_SYMLINK_NOFOLLOW))
        return err_sys(err, "cannot read %.150s", buf_str(&p->path));
    if (p->gitignore && ignore_match(&p->ignore, buf_str(&p->path), S_ISDIR(st.st_mode)))
        return 0;
    if (S_ISDIR(st.st_mode))
        return put_directory(p, dir, name->text, &st, depth, err);
    if (S_ISREG(st.st_mode))
        return put_file(p, dir, name->text, err);
    if (S_ISLNK(st.st_mode))
        return put_link(p, dir, name->text, &st, err);
    p->bundle->skipped++;
    return 0;
}

/* True when the archive of the directory would look like the archive of a file. */
static bool is_lone_file(int dir, const struct names *names)
{
    struct stat st;
    return names->count == 1 && fstatat(dir, names->items[0].text, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode);
}

static int put_root(struct packing *p, int dir, struct err *err)
{
    struct stat st;
    if (fstat(dir, &st))
        return err_sys(err, "cannot read a directory");
    buf_adds(&p->path, "./");
    int rc = put_header(p, &st, TAR_DIRECTORY, NULL, err);
    buf_clear(&p->path);
    return rc;
}

/* Packs the content of an open directory; p->path is its path with a '/' at the end. */
static int put_tree(struct packing *p, int dir, int depth, struct err *err)
{
    AUTO(names) struct names names = {0};
    size_t len = p->path.len, patterns = p->ignore.patterns.count;
    AUTO(str) char *here = str_copy(buf_str(&p->path), len > 0 ? len - 1 : 0);
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d directories deep", DEPTH_MAX);
    if (read_names(dir, &names, err))
        return err_wrap(err, "%.150s", buf_str(&p->path));
    if (p->gitignore && ignore_enter(&p->ignore, dir, here ? here : "", err))
        return -1;
    if (depth == 0 && is_lone_file(dir, &names) && put_root(p, dir, err))
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        buf_adds(&p->path, names.items[i].text);
        rc = buf_check(&p->path, "a path of the archive", err) ||
                     put_entry(p, dir, &names.items[i], depth, err)
                 ? -1
                 : 0;
        p->path.len = len;
        if (p->path.data)
            p->path.data[len] = '\0';
    }
    ignore_leave(&p->ignore, patterns);
    return rc;
}

/* --- all ----------------------------------------------------------------------------------- */

static int put_all(struct packing *p, const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st)) /* The path itself may be a link: then its target is packed. */
        return err_set(err, ERR_NOT_FOUND, "cannot read %.150s: %s", path, strerror(errno));
    AUTO(fd) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot read %.150s", path);
    if (S_ISDIR(st.st_mode))
        return put_tree(p, fd, 0, err);
    if (!S_ISREG(st.st_mode) || fstat(fd, &st))
        return err_set(err, ERR_INVALID, "%.150s is neither a directory nor a file", path);
    const char *slash = strrchr(path, '/');
    buf_adds(&p->path, slash ? slash + 1 : path);
    return put_header(p, &st, TAR_FILE, NULL, err) || put_content(p, fd, &st, err) ? -1 : 0;
}

static int finish(struct packing *p, struct err *err)
{
    unsigned char digest[CRYPTO_SHA256_SIZE];
    AUTO(buf) struct buf hex = BUF_INIT(128);
    if (put_zeroes(p, 2 * TAR_BLOCK, err) || gzip_end(p->gzip, err))
        return -1;
    crypto_hash_end(p->hash, digest);
    str_add_hex(&hex, digest, sizeof(digest));
    memcpy(p->bundle->sha256, buf_str(&hex), sizeof(p->bundle->sha256));
    return 0;
}

int bundle_write(const char *path, const struct bundle_options *options, int out,
                 struct bundle *ret_bundle, struct err *err)
{
    REQUIRE(path);
    struct bundle bundle = {.size = 0};
    struct packing p = {.out = out, .gitignore = options->gitignore, .bundle = &bundle};
    buf_init(&p.path, PATH_BYTES_MAX);
    buf_init(&p.header, HEADER_BYTES_MAX);
    p.hash = crypto_hash_new();
    p.gzip = gzip_new(options->level ? options->level : BUNDLE_LEVEL, options->threads, on_bytes,
                      &p, err);
    int rc = !p.gzip || !p.hash || put_all(&p, path, err) || finish(&p, err) ? -1 : 0;
    gzip_free(p.gzip); /* its writer uses the hash */
    crypto_hash_free(p.hash);
    ignore_done(&p.ignore);
    buf_done(&p.path);
    buf_done(&p.header);
    if (rc == 0)
        *ret_bundle = bundle;
    return rc ? err_wrap(err, "%.100s", path) : 0;
}
