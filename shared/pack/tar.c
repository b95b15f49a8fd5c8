#include "pack/tar.h"

#include "base/check.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_USTAR 100
#define SIZE_MAX_USTAR INT64_C(077777777777)
#define EXTENDED_MAX 32768

/* A block of ustar, as POSIX has it. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155];
    char unused[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a header is one block");

/* Writes octal digits and a NUL, as many as the field has room for. */
static void put_octal(char *field, size_t size, uint64_t value)
{
    for (size_t i = size - 1; i > 0; i--, value >>= 3)
        field[i - 1] = (char)('0' + (value & 7));
}

static void add_block(struct buf *out, const char *name, const struct tar_member *member,
                      int64_t size, char type)
{
    struct header header;
    unsigned sum = 0;
    size_t len = strlen(name), link = member->link ? strlen(member->link) : 0;
    memset(&header, 0, sizeof(header));
    memcpy(header.name, name, len < NAME_MAX_USTAR ? len : NAME_MAX_USTAR);
    put_octal(header.mode, sizeof(header.mode), member->mode & 07777);
    put_octal(header.uid, sizeof(header.uid), 0);
    put_octal(header.gid, sizeof(header.gid), 0);
    put_octal(header.size, sizeof(header.size),
              (uint64_t)(size > SIZE_MAX_USTAR ? SIZE_MAX_USTAR : size));
    put_octal(header.mtime, sizeof(header.mtime),
              (uint64_t)(member->mtime_s > 0 ? member->mtime_s : 0));
    header.type = type;
    if (type == TAR_LINK)
        memcpy(header.link, member->link, link < NAME_MAX_USTAR ? link : NAME_MAX_USTAR);
    memcpy(header.magic, "ustar", 6);
    memcpy(header.version, "00", 2);
    memset(header.checksum, ' ', sizeof(header.checksum));
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += ((const unsigned char *)&header)[i];
    put_octal(header.checksum, sizeof(header.checksum) - 1, sum); /* NUL, then a space */
    buf_add(out, &header, TAR_BLOCK);
}

/* One record of an extended header: its length counts itself. */
static void add_record(struct buf *out, const char *key, const char *value)
{
    size_t body = strlen(key) + strlen(value) + 3; /* space, '=', line end */
    size_t len = body + 1;
    char digits[24];
    while ((size_t)snprintf(digits, sizeof(digits), "%zu", len) + body != len)
        len = (size_t)snprintf(digits, sizeof(digits), "%zu", len) + body;
    buf_addf(out, "%zu %s=", len, key);
    buf_adds(out, value);
    buf_addc(out, '\n');
}

unsigned tar_padding(int64_t size)
{
    REQUIRE(size >= 0);
    return (unsigned)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* Appends an extended header with what does not fit into the old one. */
static int add_extended(struct buf *out, const struct tar_member *member, struct err *err)
{
    static const char zeroes[TAR_BLOCK];
    struct buf text = BUF_INIT(EXTENDED_MAX);
    char number[32];
    if (strlen(member->path) > NAME_MAX_USTAR)
        add_record(&text, "path", member->path);
    if (member->link && strlen(member->link) > NAME_MAX_USTAR)
        add_record(&text, "linkpath", member->link);
    if (member->size > SIZE_MAX_USTAR) {
        snprintf(number, sizeof(number), "%lld", (long long)member->size);
        add_record(&text, "size", number);
    }
    int rc = buf_check(&text, "a path of the archive", err);
    if (rc == 0 && text.len > 0) {
        const struct tar_member plain = {.mode = 0644};
        add_block(out, "././@PaxHeader", &plain, (int64_t)text.len, 'x');
        buf_add(out, buf_str(&text), text.len);
        buf_add(out, zeroes, tar_padding((int64_t)text.len));
    }
    buf_done(&text);
    return rc;
}

int tar_add_header(struct buf *out, const struct tar_member *member, struct err *err)
{
    REQUIRE(member->path && (member->type != TAR_LINK || member->link));
    if (add_extended(out, member, err))
        return -1;
    add_block(out, member->path, member, member->size, member->type);
    return buf_check(out, "a header of the archive", err);
}
