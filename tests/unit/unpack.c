/* What an archive is, is seen by its first bytes, however they come. */
#include "pack/unpack.h"
#include "pack/tgz.h"

#include "base/auto.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/unit-unpack.XXXXXX";

struct source {
    const char *data;
    size_t len, at, each;
};

static ssize_t next(void *data, size_t max, void *arg, struct err *err)
{
    (void)err;
    struct source *source = arg;
    size_t n = source->len - source->at;
    n = n < source->each ? n : source->each;
    n = n < max ? n : max;
    memcpy(data, source->data + source->at, n);
    source->at += n;
    return (ssize_t)n;
}

/* Unpacks pieces of `each` bytes. Returns how many entries it had, or -1. */
static int unpack(const char *data, size_t len, size_t each, struct err *err)
{
    struct unpack_result result;
    const struct unpack_limits limits = {.bytes = 1 << 20, .entries = 10};
    struct source source = {data, len, 0, each};
    AUTO(fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return unpack_below(fd, next, &source, &limits, &result, err) ? -1 : (int)result.entries;
}

static int keep(const void *data, size_t len, void *arg)
{
    return buf_add(arg, data, len);
}

static void bytes_may_come_one_by_one(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf packed = BUF_INIT(1 << 20);
    AUTO(tgz) struct tgz *tgz = tgz_new(keep, &packed, &err);
    assert_non_null(tgz);
    char big[30000];
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * i >> 3);
    assert_int_equal(tgz_file(tgz, "file", 0644, 1, 5, &err), 0);
    assert_int_equal(tgz_data(tgz, "hello", 5, &err), 0);
    assert_int_equal(tgz_file(tgz, "empty", 0644, 1, 0, &err), 0);
    assert_int_equal(tgz_file(tgz, "big", 0644, 1, sizeof(big), &err), 0);
    assert_int_equal(tgz_data(tgz, big, sizeof(big), &err), 0);
    assert_int_equal(packed.len, 0); /* it is passed on by whole pieces */
    assert_int_equal(tgz_end(tgz, &err), 0);
    static const size_t sizes[] = {1, 2, 7, 100, 1 << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (unpack(packed.data, packed.len, sizes[i], &err) != 3)
            fail_msg("%zu bytes at once: %s", sizes[i], err.msg);
    AUTO(str) char *path = path_join(dir, "big");
    AUTO(buf) struct buf back = BUF_INIT(1 << 20);
    assert_int_equal(file_read(path, &back, &err), 0);
    assert_int_equal(back.len, sizeof(big));
    assert_memory_equal(back.data, big, sizeof(big));
}

static void other_forms_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *head, *says;
    } cases[] = {
        {"\x28\xb5\x2f\xfd rest", "this is zstd: send tar, gzipped or not"},
        {"\xfd"
         "7zXZ rest",
         "this is xz: send tar, gzipped or not"},
        {"BZh91AY", "this is bzip2: send tar, gzipped or not"},
        {"PK\3\4rest", "this is zip: send tar, gzipped or not"},
        {"7z\xbc\xaf\x27\x1c", "this is 7z: send tar, gzipped or not"},
        {"\4\x22\x4d\x18rest", "this is lz4: send tar, gzipped or not"},
        {"LZIP rest", "this is lzip: send tar, gzipped or not"},
        {"Rar!rest", "this is rar: send tar, gzipped or not"},
        {"\x1f\x9d rest", "this is compress: send tar, gzipped or not"},
        {"plain text", "the archive is cut off"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = ERR_INIT;
        char block[1024];
        memset(block, 'x', sizeof(block));
        memcpy(block, cases[i].head, strlen(cases[i].head));
        assert_int_equal(unpack(cases[i].head, strlen(cases[i].head), 3, &err), -1);
        assert_string_equal(err.msg, cases[i].says);
        assert_int_equal(err.code, ERR_MISMATCH);
        assert_int_equal(unpack(block, sizeof(block), 100, &err), -1);
        assert_string_equal(err.msg, i + 1 < sizeof(cases) / sizeof(cases[0])
                                         ? cases[i].says
                                         : "this is no tar archive, or a damaged one");
    }
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    struct err err;
    return path_remove_tree(dir, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_may_come_one_by_one),
        cmocka_unit_test(other_forms_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("unpack", tests, make_dir, remove_dir);
}
