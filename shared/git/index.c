/*
 * The format (git's Documentation/gitformat-index): 12 bytes of head, the entries, extensions, a
 * SHA-1 over all before it. An entry is 62 bytes (two more in version 3 when it is "extended") and
 * a name, filled up with 1 to 8 zeros to a multiple of eight. Numbers are big-endian.
 */
#include "git/index.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "crypto/crypto.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>

#define INDEX_BYTES_MAX (1u << 30)
#define HEAD_BYTES 12
#define FLAGS_AT 60
#define NAME_AT 62
#define FLAG_EXTENDED 0x4000

/* Where an entry has what stat says. */
enum {
    AT_CTIME = 0,
    AT_MTIME = 8,
    AT_DEV = 16,
    AT_INO = 20,
    AT_MODE = 24,
    AT_UID = 28,
    AT_SIZE = 36
};

static uint32_t get32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static void put32(unsigned char *at, int64_t number)
{
    uint32_t value = htobe32((uint32_t)number);
    memcpy(at, &value, sizeof(value));
}

static void put_stat(unsigned char *entry, const struct stat *st)
{
    put32(entry + AT_CTIME, st->st_ctim.tv_sec);
    put32(entry + AT_CTIME + 4, st->st_ctim.tv_nsec);
    put32(entry + AT_MTIME, st->st_mtim.tv_sec);
    put32(entry + AT_MTIME + 4, st->st_mtim.tv_nsec);
    put32(entry + AT_DEV, (int64_t)st->st_dev);
    put32(entry + AT_INO, (int64_t)st->st_ino);
    put32(entry + AT_UID, st->st_uid);
    put32(entry + AT_UID + 4, st->st_gid);
    put32(entry + AT_SIZE, st->st_size);
}

/* The size of the entry at `entry`, or 0 when it does not end before `end`. */
static size_t entry_size(const unsigned char *entry, const unsigned char *end,
                         const char **ret_name)
{
    if (end - entry < NAME_AT + 2)
        return 0;
    bool extended = (get32(entry + FLAGS_AT - 2) & FLAG_EXTENDED) != 0;
    size_t name_at = NAME_AT + (extended ? 2 : 0);
    const unsigned char *name = entry + name_at;
    const unsigned char *stop = memchr(name, '\0', (size_t)(end - name));
    size_t size = stop ? ((size_t)(stop - entry) + 8) & ~(size_t)7 : 0;
    *ret_name = (const char *)name;
    return size <= (size_t)(end - entry) ? size : 0;
}

static int visit_all(unsigned char *data, size_t len, index_visit *visit, void *arg,
                     struct err *err)
{
    unsigned char *at = data + HEAD_BYTES, *end = data + len - CRYPTO_SHA1_SIZE;
    for (uint32_t left = get32(data + 8); left > 0; left--) {
        struct stat st;
        const char *name;
        size_t size = entry_size(at, end, &name);
        if (size == 0)
            return err_set(err, ERR_MISMATCH, "the index is damaged");
        int seen = visit(name, get32(at + AT_MODE), &st, arg);
        if (seen < 0)
            return err_sys(err, "cannot settle '%.150s' of the workspace", name);
        if (seen > 0)
            put_stat(at, &st);
        at += size;
    }
    crypto_sha1(data, len - CRYPTO_SHA1_SIZE, end);
    return 0;
}

int index_rewrite(const char *file, index_visit *visit, void *arg, struct err *err)
{
    REQUIRE(file && visit);
    AUTO(buf) struct buf text = BUF_INIT(INDEX_BYTES_MAX);
    AUTO(fd) int fd = open(file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open the index");
    if (fd_read_all(fd, &text, err))
        return -1;
    unsigned char *data = (unsigned char *)text.data;
    uint32_t version = text.len >= HEAD_BYTES + CRYPTO_SHA1_SIZE ? get32(data + 4) : 0;
    if (version < 2 || version > 3 || memcmp(data, "DIRC", 4) != 0)
        return err_set(err, ERR_MISMATCH, "the index is of no known kind");
    if (visit_all(data, text.len, visit, arg, err))
        return -1;
    return fd_pwrite_all(fd, data, text.len, 0) ? err_sys(err, "cannot write the index") : 0;
}
