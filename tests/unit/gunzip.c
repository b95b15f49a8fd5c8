/* gzip, decompressed as it arrives: in pieces of any size, truncated, and invalid. */
#include "testbase.h"

#include "base/buf.h"
#include "pack/gunzip.h"
#include "pack/gzip.h"

#include <string.h>

static int keep(const void *data, size_t len, void *arg, struct err *err)
{
    (void)err;
    return buf_add(arg, data, len);
}

static int stop(const void *data, size_t len, void *arg, struct err *err)
{
    (void)data, (void)len, (void)arg;
    return err_set(err, ERR_TOO_LARGE, "enough");
}

static void zip(size_t size, struct buf *out, struct err *err)
{
    static char block[10000];
    struct gzip *gzip = gzip_new(6, 1, keep, out, err);
    OK(gzip, err);
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (char)(i * i >> 3);
    for (size_t at = 0; at < size; at += sizeof(block))
        OK(gzip_add(gzip, block, size - at < sizeof(block) ? size - at : sizeof(block), err) == 0,
           err);
    OK(gzip_end(gzip, err) == 0, err);
    gzip_free(gzip);
}

static void what_was_zipped_comes_out_whatever_the_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 100000, 3000000}, pieces[] = {1, 7, 4096, SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf zipped = BUF_INIT(8u << 20);
        zip(sizes[i], &zipped, &err);
        for (size_t k = i == 3; k < COUNT(pieces); k++) {
            AUTO(buf) struct buf out = BUF_INIT(8u << 20);
            AUTO(gunzip) struct gunzip *gunzip = gunzip_new(keep, &out, &err);
            OK(gunzip, &err);
            for (size_t at = 0, n; at < zipped.len; at += n) {
                n = zipped.len - at < pieces[k] ? zipped.len - at : pieces[k];
                OK(gunzip_add(gunzip, zipped.data + at, n, &err) == 0, &err);
            }
            OK(gunzip_end(gunzip, &err) == 0, &err);
            assert_int_equal(out.len, sizes[i]);
        }
    }
}

static void what_is_cut_or_no_gzip_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf zipped = BUF_INIT(8u << 20);
    AUTO(buf) struct buf out = BUF_INIT(8u << 20);
    zip(100000, &zipped, &err);
    AUTO(gunzip) struct gunzip *cut = gunzip_new(keep, &out, &err);
    OK(gunzip_add(cut, zipped.data, zipped.len - 10, &err) == 0, &err);
    assert_int_equal(gunzip_end(cut, &err), -1);
    AUTO(gunzip) struct gunzip *none = gunzip_new(keep, &out, &err);
    assert_int_equal(gunzip_add(none, "no gzip at all", 14, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    AUTO(gunzip) struct gunzip *full = gunzip_new(stop, NULL, &err);
    assert_int_equal(gunzip_add(full, zipped.data, zipped.len, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_zipped_comes_out_whatever_the_pieces),
        cmocka_unit_test(what_is_cut_or_no_gzip_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
