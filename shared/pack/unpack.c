#include "pack/unpack.h"

#include "base/auto.h"
#include "base/beneath.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "pack/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 512
#define PIECE (128u << 10)
#define EXTENDED_MAX (64u << 10)
#define FREE_RATIO_BYTES (INT64_C(16) << 20)

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155];
    char unused[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

struct unpack {
    int dir;
    struct packed packed;
    const struct unpack_limits *limits;
    struct unpack_result *result;
    const char *form; /* what the first header may be instead; NULL: nothing, or it was read */
    int64_t unpacked;
    char *piece;                 /* PIECE bytes */
    char *long_name, *long_link; /* of the next entry */
    int64_t long_size;           /* -1: none */
    int above;                   /* the directory that the last name was in, or -1 … */
    char *above_name;            /* … and its name: most names that follow are in it too */
};

/* --- bytes --------------------------------------------------------------------------------- */

static int count_bytes(struct unpack *u, int64_t more, struct err *err)
{
    u->unpacked += more;
    if (u->unpacked > u->limits->bytes)
        return err_set(err, ERR_TOO_LARGE, "unpacked the archive has more than %lld bytes",
                       (long long)u->limits->bytes);
    if (u->limits->ratio > 0 && u->unpacked > FREE_RATIO_BYTES &&
        u->unpacked / u->limits->ratio > u->packed.taken)
        return err_set(err, ERR_TOO_LARGE, "the archive unpacks to more than %lld times its size",
                       (long long)u->limits->ratio);
    return 0;
}

static int skip(struct unpack *u, int64_t len, struct err *err)
{
    while (len > 0) {
        size_t n = len < (int64_t)PIECE ? (size_t)len : PIECE;
        int got = packed_take(&u->packed, u->piece, n, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_MISMATCH, "the archive is cut off");
        if (count_bytes(u, (int64_t)n, err))
            return -1;
        len -= (int64_t)n;
    }
    return 0;
}

static int64_t padding(int64_t size)
{
    return (BLOCK - size % BLOCK) % BLOCK;
}

/* --- headers ------------------------------------------------------------------------------- */

/* Reads an octal number, or GNU's binary form; -1 when it is neither. */
static int64_t number(const char *text, size_t len)
{
    int64_t value = 0;
    if ((unsigned char)text[0] == 0x80) {
        for (size_t i = 1; i < len; i++) {
            if (value > INT64_MAX >> 9)
                return -1;
            value = value << 8 | (unsigned char)text[i];
        }
        return value;
    }
    size_t at = 0;
    while (at < len && text[at] == ' ')
        at++;
    for (; at < len && text[at] >= '0' && text[at] <= '7'; at++)
        value = value * 8 + (text[at] - '0');
    return at < len && text[at] != '\0' && text[at] != ' ' ? -1 : value;
}

static bool sum_is_right(const struct header *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    size_t from = offsetof(struct header, checksum);
    int64_t sum = 0;
    for (size_t i = 0; i < BLOCK; i++)
        sum += i >= from && i < from + 8 ? ' ' : bytes[i];
    return number(header->checksum, sizeof(header->checksum)) == sum;
}

/* Reads the content of an entry that describes the next one. Returns a new string. */
static char *take_text(struct unpack *u, int64_t size, struct err *err)
{
    if (size < 0 || size > (int64_t)EXTENDED_MAX) {
        err_set(err, ERR_MISMATCH, "a header of the archive is too long");
        return NULL;
    }
    AUTO(str) char *text = calloc(1, (size_t)size + 1);
    if (!text) {
        err_sys(err, "archive");
        return NULL;
    }
    if (size > 0 && packed_take(&u->packed, text, (size_t)size, err) != 1)
        return NULL;
    return skip(u, padding(size), err) ? NULL : STEAL_PTR(text);
}

/* Reads records of the form "LENGTH KEY=VALUE\n". */
static int read_extended(struct unpack *u, int64_t size, struct err *err)
{
    AUTO(str) char *text = take_text(u, size, err);
    if (!text)
        return -1;
    for (char *at = text; *at;) {
        char *key;
        long len = strtol(at, &key, 10);
        if (len <= 0 || len > text + size - at || *key != ' ' || at[len - 1] != '\n')
            return err_set(err, ERR_MISMATCH, "an extended header of the archive is damaged");
        at[len - 1] = '\0';
        char *value = strchr(++key, '=');
        if (!value)
            return err_set(err, ERR_MISMATCH, "an extended header of the archive is damaged");
        *value++ = '\0';
        if (strlen(value) != (size_t)(at + len - 1 - value))
            return err_set(err, ERR_MISMATCH, "an extended header of the archive holds a NUL");
        if (strcmp(key, "path") == 0 && str_replace(&u->long_name, value))
            return err_sys(err, "archive");
        if (strcmp(key, "linkpath") == 0 && str_replace(&u->long_link, value))
            return err_sys(err, "archive");
        if (strcmp(key, "size") == 0 && str_to_int(value, 0, INT64_MAX, &u->long_size))
            return err_set(err, ERR_MISMATCH, "a size in the archive is no number");
        if (strncmp(key, "GNU.sparse", 10) == 0)
            return err_set(err, ERR_MISMATCH, "the archive holds a sparse file");
        at += len;
    }
    return 0;
}

/* --- entries ------------------------------------------------------------------------------- */

/* What the system says to a name; -1. */
static int refuse(const char *name, struct err *err)
{
    if (errno == ENAMETOOLONG)
        return err_set(err, ERR_MISMATCH, "the archive holds the name '%.100s…', which is too long",
                       name);
    if (errno == EROFS || errno == EACCES || errno == EPERM)
        return err_set(err, ERR_FORBIDDEN, "'%.100s' may not be written there: %s", name,
                       strerror(errno));
    return err_sys(err, "cannot unpack '%.100s'", name);
}

static int open_beneath(int dir, const char *path, int flags)
{
    return beneath_open(dir, path, flags, 0, BENEATH_NO_LINKS);
}

/* True for a relative path of any bytes without empty, '.' or '..' parts. */
static bool is_below(const char *name)
{
    for (const char *at = name; *at;) {
        size_t n = strcspn(at, "/");
        if (n == 0 || (n <= 2 && strncmp(at, "..", n) == 0))
            return false;
        at += n + (at[n] == '/');
    }
    return true;
}

/* Removes "./" at the start and a "/" at the end. NULL with err for a name that is not allowed. ""
 * is the top directory. */
static const char *clean_name(char *name, bool exact, struct err *err)
{
    const char *whole = name;
    while (name[0] == '.' && name[1] == '/') {
        name += 2;
        while (*name == '/')
            name++;
    }
    size_t len = strlen(name);
    while (len > 0 && name[len - 1] == '/')
        name[--len] = '\0';
    if (len == 0 || strcmp(name, ".") == 0)
        return whole[0] == '/' ? (err_set(err, ERR_MISMATCH, "'%.100s' is absolute", whole), NULL)
                               : "";
    if (len < PATH_MAX && (exact ? is_below(name) : path_is_inside(name) && str_is_utf8(name, len)))
        return name;
    err_set(err, ERR_MISMATCH, "the archive holds the name '%.100s', which is not allowed", whole);
    return NULL;
}

/* The directory that holds `name`, made where it is missing; -1 with err. */
static int walk_above(int dir, const char *name, const char **ret_last, struct err *err)
{
    int at = openat(dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *slash;
    while (at >= 0 && (slash = strchr(name, '/'))) {
        AUTO(str) char *part = str_copy(name, (size_t)(slash - name));
        if (!part || (mkdirat(at, part, 0755) && errno != EEXIST)) {
            close(at);
            return refuse(name, err);
        }
        int next = open_beneath(at, part, O_PATH | O_DIRECTORY);
        int sys = errno;
        close(at);
        if (next < 0) {
            errno = sys;
            return err_set(err, ERR_MISMATCH, "'%.100s' leads through what is no directory", name);
        }
        at = next;
        name = slash + 1;
    }
    *ret_last = name;
    return at < 0 ? err_sys(err, "cannot unpack") : at;
}

/* The same, the archive's own: good until the next call. A directory that is there stays: nothing
 * that an archive holds takes its place. */
static int find_above(struct unpack *u, const char *name, const char **ret_last, struct err *err)
{
    const char *slash = strrchr(name, '/');
    size_t len = slash ? (size_t)(slash - name) : 0;
    if (u->above >= 0 && strncmp(u->above_name, name, len) == 0 && !u->above_name[len]) {
        *ret_last = slash ? slash + 1 : name;
        return u->above;
    }
    AUTO(str) char *fresh = str_copy(name, len);
    fd_close(&u->above);
    if (!fresh)
        return err_sys(err, "archive");
    u->above = walk_above(u->dir, name, ret_last, err);
    free(u->above_name);
    u->above_name = STEAL_PTR(fresh);
    return u->above;
}

/* Seen from where the link is. */
bool unpack_takes_link(const char *name, const char *target)
{
    int depth = 0;
    for (const char *at = name; (at = strchr(at, '/')); at++)
        depth++;
    if (target[0] == '/' || !target[0])
        return false;
    while (*target) {
        size_t n = strcspn(target, "/");
        if (n == 2 && target[0] == '.' && target[1] == '.')
            depth--;
        else if (n > 0 && !(n == 1 && target[0] == '.'))
            depth++;
        if (depth < 0)
            return false;
        target += n + (target[n] == '/');
    }
    return true;
}

static int make_room(int dir, const char *name, struct err *err)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    return errno == EISDIR ? err_set(err, ERR_CONFLICT, "'%.100s' is a directory already", name)
                           : err_sys(err, "cannot replace '%.100s'", name);
}

static int own(const struct unpack *u, int dir, const char *name)
{
    return fchownat(dir, name, u->limits->uid, u->limits->gid, AT_SYMLINK_NOFOLLOW);
}

/* Mode, owner and time of what has been written. */
static int settle(const struct unpack *u, int file, unsigned mode, int64_t mtime_s)
{
    const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime_s}};
    if (u->limits->owned && fchown(file, u->limits->uid, u->limits->gid))
        return -1;
    if (fchmod(file, u->limits->exact ? mode & 0777 : (mode & 0777) | 0600))
        return -1;
    return u->limits->exact ? futimens(file, times) : 0;
}

/* A new file, in the place of what is there. -1 with err. */
static int create_file(struct unpack *u, const char *name, struct err *err)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const char *last;
    int above = find_above(u, name, &last, err);
    int file = above < 0 ? -1 : openat(above, last, flags, 0600);
    if (above < 0 || file >= 0)
        return file;
    if (errno == EEXIST && make_room(above, last, err))
        return -1;
    file = openat(above, last, flags, 0600);
    return file < 0 ? refuse(name, err) : file;
}

static int put_file(struct unpack *u, const char *name, unsigned mode, int64_t mtime_s,
                    int64_t size, struct err *err)
{
    if (size > u->limits->bytes - u->unpacked)
        return count_bytes(u, size, err);
    AUTO(fd) int file = create_file(u, name, err);
    if (file < 0)
        return -1;
    for (int64_t left = size; left > 0;) {
        size_t n = left < (int64_t)PIECE ? (size_t)left : PIECE;
        int got = packed_take(&u->packed, u->piece, n, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_MISMATCH, "the archive is cut off");
        if (count_bytes(u, (int64_t)n, err))
            return -1;
        if (fd_write_all(file, u->piece, n))
            return refuse(name, err);
        left -= (int64_t)n;
    }
    u->result->bytes += size;
    if (settle(u, file, mode, mtime_s))
        return refuse(name, err);
    return skip(u, padding(size), err);
}

static int put_directory(struct unpack *u, const char *name, unsigned mode, struct err *err)
{
    bool root = u->limits->exact && u->limits->owned; /* whom no mode keeps from filling it */
    mode_t bits = (mode & 0777) | (root ? 0 : 0700);
    const char *last;
    int above = find_above(u, name, &last, err);
    if (above < 0)
        return -1;
    if (mkdirat(above, last, bits) && errno != EEXIST)
        return refuse(name, err);
    AUTO(fd) int made = open_beneath(above, last, O_PATH | O_DIRECTORY);
    if (made < 0)
        return err_set(err, ERR_MISMATCH, "'%.100s' is there and no directory", name);
    if ((u->limits->owned && own(u, above, last)) ||
        (u->limits->exact && fchmodat(above, last, bits, 0)))
        return refuse(name, err);
    return 0;
}

static int put_link(struct unpack *u, const char *name, char *target, bool hard, struct err *err)
{
    const char *last, *from_last;
    if (!hard && !u->limits->exact && !unpack_takes_link(name, target))
        return err_set(err, ERR_MISMATCH, "the link '%.60s' leads out, to '%.100s'", name, target);
    int above = find_above(u, name, &last, err);
    if (above < 0 || make_room(above, last, err))
        return -1;
    if (!hard)
        return symlinkat(target, above, last) || (u->limits->owned && own(u, above, last))
                   ? refuse(name, err)
                   : 0;
    const char *from = clean_name(target, u->limits->exact, err);
    if (!from || !*from)
        return err_set(err, ERR_MISMATCH, "the link '%.100s' leads out", name);
    AUTO(fd) int source = walk_above(u->dir, from, &from_last, err);
    if (source < 0)
        return -1;
    return linkat(source, from_last, above, last, 0)
               ? err_set(err, ERR_MISMATCH,
                         "the link '%.60s' leads to '%.100s', which is not there", name, from)
               : 0;
}

static int put_entry(struct unpack *u, const struct header *header, int64_t size, struct err *err)
{
    char name[300], link[101];
    if (header->prefix[0] && memcmp(header->magic, "ustar\0", 6) == 0)
        snprintf(name, sizeof(name), "%.155s/%.100s", header->prefix, header->name);
    else
        snprintf(name, sizeof(name), "%.100s", header->name);
    snprintf(link, sizeof(link), "%.100s", header->link);
    const char *path = clean_name(u->long_name ? u->long_name : name, u->limits->exact, err);
    char *target = u->long_link ? u->long_link : link;
    unsigned mode = (unsigned)number(header->mode, sizeof(header->mode));
    if (!path)
        return -1;
    if (++u->result->entries > u->limits->entries)
        return err_set(err, ERR_TOO_LARGE, "the archive has more than %lld entries",
                       (long long)u->limits->entries);
    bool is_file = header->type == '0' || header->type == '\0' || header->type == '7';
    if (!*path)
        return header->type == '5'
                   ? skip(u, size + padding(size), err)
                   : err_set(err, ERR_MISMATCH, "the archive holds a nameless file");
    if (is_file)
        return put_file(u, path, mode, number(header->mtime, sizeof(header->mtime)), size, err);
    if (size > 0 && skip(u, size + padding(size), err))
        return -1;
    if (header->type == '5')
        return put_directory(u, path, mode, err);
    if (header->type == '1' || header->type == '2')
        return put_link(u, path, target, header->type == '1', err);
    return err_set(err, ERR_MISMATCH,
                   "'%.100s' is neither a file nor a directory nor a link (type '%c')", path,
                   header->type >= ' ' && header->type < 127 ? header->type : '?');
}

/* Reads an entry that describes the next one. Returns 1 when it was one, 0 when it was not, or
 * -1. */
static int read_more(struct unpack *u, const struct header *header, int64_t size, struct err *err)
{
    char **to = header->type == 'L' ? &u->long_name : header->type == 'K' ? &u->long_link : NULL;
    if (header->type == 'x')
        return read_extended(u, size, err) ? -1 : 1;
    if (header->type == 'g')
        return skip(u, size + padding(size), err) ? -1 : 1;
    if (!to)
        return 0;
    char *text = take_text(u, size, err);
    if (!text)
        return -1;
    free(*to);
    *to = text;
    return 1;
}

/* Unpacks one entry. Returns 1 to go on, 0 at the end, or -1. */
static int next_entry(struct unpack *u, struct err *err)
{
    struct header header;
    const char *form = STEAL_PTR(u->form); /* of the first header only */
    int got = packed_take(&u->packed, (char *)&header, BLOCK, err);
    if (form && got != 0 && (got < 0 || !sum_is_right(&header)))
        return err_set(err, ERR_MISMATCH, "this is %s: send tar, gzipped or not", form);
    if (got <= 0)
        return got;
    if (header.name[0] == '\0' && number(header.checksum, sizeof(header.checksum)) == 0)
        return 0;
    int64_t size = number(header.size, sizeof(header.size));
    if (!sum_is_right(&header) || size < 0)
        return err_set(err, ERR_MISMATCH, "this is no tar archive, or a damaged one");
    int more = read_more(u, &header, size, err);
    if (more != 0)
        return more;
    if (u->long_size >= 0)
        size = u->long_size;
    int rc = put_entry(u, &header, size, err);
    free(STEAL_PTR(u->long_name));
    free(STEAL_PTR(u->long_link));
    u->long_size = -1;
    return rc ? -1 : 1;
}

/* What comes after the end: whoever sends is to get rid of it all. A gzip that is damaged or cut
 * off there is no less so; what is no gzip any more is passed over, as gzip does. */
static int drain(struct unpack *u, struct err *err)
{
    ssize_t n;
    while ((n = packed_take_some(&u->packed, u->piece, PIECE, err)) > 0)
        if (count_bytes(u, n, err))
            return -1;
    return n < 0 && u->packed.garbage ? packed_pass_rest(&u->packed, err) : (int)n;
}

int unpack_below(int dir, unpack_read_fn *read, void *arg, const struct unpack_limits *limits,
                 struct unpack_result *ret_result, struct err *err)
{
    REQUIRE(dir >= 0 && read && limits);
    AUTO(str) char *piece = malloc(PIECE);
    struct unpack u = {.dir = dir,
                       .limits = limits,
                       .result = ret_result,
                       .piece = piece,
                       .long_size = -1,
                       .above = -1};
    *ret_result = (struct unpack_result){0};
    if (!piece)
        return err_sys(err, "archive");
    if (packed_open(&u.packed, read, arg, err))
        return -1;
    u.form = u.packed.form;
    int got = 1;
    while (got == 1)
        got = next_entry(&u, err);
    if (got == 0 && drain(&u, err))
        got = -1;
    packed_close(&u.packed);
    free(u.long_name);
    free(u.long_link);
    free(u.above_name);
    fd_close(&u.above);
    return got;
}
