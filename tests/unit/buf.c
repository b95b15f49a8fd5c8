#include "base/buf.h"

#include "base/auto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void is_empty_text_before_anything_is_added(void **state)
{
    (void)state;
    AUTO(buf) struct buf buf = BUF_INIT(10);
    assert_string_equal(buf_str(&buf), "");
    assert_true(buf_ok(&buf));
    buf_drop(&buf, 3);
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
}

static void grows_and_stays_terminated(void **state)
{
    (void)state;
    AUTO(buf) struct buf buf = BUF_INIT(100000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(buf_addf(&buf, "%05d", i), 0);
    assert_int_equal(buf.len, 50000);
    assert_int_equal(strlen(buf.data), 50000);
    assert_memory_equal(buf.data + 49995, "09999", 6);
}

static void takes_its_maximum_exactly(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf buf = BUF_INIT(5);
    assert_int_equal(buf_adds(&buf, "12345"), 0);
    assert_int_equal(buf_check(&buf, "it", &err), 0);
    assert_int_equal(buf_addc(&buf, '6'), -1);
    assert_int_equal(buf_check(&buf, "it", &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_string_equal(err.msg, "it is larger than 5 bytes");
    assert_string_equal(buf_str(&buf), "12345");
}

static void stays_failed_once_it_has(void **state)
{
    (void)state;
    AUTO(buf) struct buf buf = BUF_INIT(5);
    assert_int_equal(buf_addf(&buf, "%s", "123456"), -1);
    assert_int_equal(buf_addc(&buf, '1'), -1);
    assert_int_equal(buf_add(&buf, "", 0), -1);
    assert_null(buf_room(&buf, 1));
    assert_null(buf_steal(&buf));
    assert_false(buf_ok(&buf));
}

static void no_length_overflows(void **state)
{
    (void)state;
    AUTO(buf) struct buf buf = BUF_INIT(SIZE_MAX - 1);
    assert_int_equal(buf_adds(&buf, "x"), 0);
    assert_null(buf_room(&buf, SIZE_MAX - 1));
    AUTO(buf) struct buf all = BUF_INIT(SIZE_MAX);
    assert_int_equal(buf_adds(&all, "x"), 0);
    assert_string_equal(buf_str(&all), "x");
}

static void drops_from_the_front(void **state)
{
    (void)state;
    AUTO(buf) struct buf buf = BUF_INIT(10);
    buf_adds(&buf, "abcdef");
    buf_drop(&buf, 2);
    assert_string_equal(buf_str(&buf), "cdef");
    buf_drop(&buf, 0);
    assert_string_equal(buf_str(&buf), "cdef");
    buf_drop(&buf, 9);
    assert_string_equal(buf_str(&buf), "");
}

static void hands_out_its_text_and_begins_anew(void **state)
{
    (void)state;
    AUTO(buf) struct buf buf = BUF_INIT(10);
    AUTO(str) char *empty = buf_steal(&buf);
    assert_string_equal(empty, "");
    buf_adds(&buf, "abc");
    AUTO(str) char *text = buf_steal(&buf);
    assert_string_equal(text, "abc");
    assert_int_equal(buf.len, 0);
    buf_adds(&buf, "0123456789");
    assert_true(buf_ok(&buf));
}

static void wiping_ends_like_done(void **state)
{
    (void)state;
    struct buf buf = BUF_INIT(10);
    buf_wipe(&buf);
    buf_adds(&buf, "secret");
    buf_wipe(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_empty_text_before_anything_is_added),
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(takes_its_maximum_exactly),
        cmocka_unit_test(stays_failed_once_it_has),
        cmocka_unit_test(no_length_overflows),
        cmocka_unit_test(drops_from_the_front),
        cmocka_unit_test(hands_out_its_text_and_begins_anew),
        cmocka_unit_test(wiping_ends_like_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
