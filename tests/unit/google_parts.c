/* Checksums, pauses and words of other programs. */
#include "google/google.h"

#include "base/clock.h"
#include "google/retry.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* RFC 3720's examples, and the one of Cloud Storage's documentation ("8P9ykg=="). */
static void checksums_are_what_the_standards_say(void **state)
{
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(google_crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(google_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(google_crc32c(0, bytes, 32), 0x62a8ab43);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(google_crc32c(0, bytes, 32), 0x46dd794e);
    assert_int_equal(google_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(google_crc32c(0, "hello world\n", 12), 0xf0ff7292);
}

/* Computes the checksum bit by bit. */
static uint32_t slow_crc(const unsigned char *data, size_t len)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static void both_ways_agree_at_every_size_alignment_and_cut(void **state)
{
    (void)state;
    /* below 2,040 bytes in one pass; from there on in three or more blocks */
    static const size_t longer[] = {2039, 2040, 2041, 4079, 4080, 4088, 16384, 65537};
    static unsigned char bytes[65600];
    srandom(7);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)random();
    for (size_t from = 0; from < 9; from++)
        for (size_t i = 0; i < 260 + COUNT_OF(longer); i++) {
            size_t len = i < 260 ? i : longer[i - 260];
            uint32_t want = slow_crc(bytes + from, len);
            size_t cut = len / 3;
            assert_int_equal(google_crc32c(0, bytes + from, len), want);
            assert_int_equal(google_crc32c_portable(0, bytes + from, len), want);
            assert_int_equal(
                google_crc32c(google_crc32c(0, bytes + from, cut), bytes + from + cut, len - cut),
                want);
            assert_int_equal(google_crc32c_join(google_crc32c(0, bytes + from, cut),
                                                google_crc32c(0, bytes + from + cut, len - cut),
                                                (int64_t)(len - cut)),
                             want);
        }
}

static void retry_after_is_seconds_or_a_date(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "-1",
                                      "1.5",
                                      "soon",
                                      "1 s",
                                      " ",
                                      "99999999999999999999",
                                      "Fri, 99 Xxx 2026 00:00:00 GMT",
                                      "Fri, 02 Jan 2026 03:04:05 GMT and more",
                                      "0x10"};
    char date[64];
    struct tm tm;
    time_t at = time(NULL) + 100;
    assert_int_equal(retry_after_value("0"), 0);
    assert_int_equal(retry_after_value("120"), 120000);
    assert_int_equal(retry_after_value("Fri, 02 Jan 2015 03:04:05 GMT"), 0);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &tm));
    int64_t ms = retry_after_value(date);
    assert_true(ms > 95000 && ms <= 100000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (retry_after_value(bad[i]) != -1)
            fail_msg("%s", bad[i]);
}

/* --- pauses --------------------------------------------------------------------------------- */

static void pauses_are_any_part_of_an_interval_that_doubles(void **state)
{
    (void)state;
    for (int tries = 0; tries < 40; tries++) {
        int64_t most = tries < 6 ? 200 << tries : 10000;
        int small = 0, large = 0;
        for (int i = 0; i < 300; i++) {
            int64_t ms = retry_jitter(tries);
            assert_true(ms >= 0 && ms <= most);
            small += ms < most / 4;
            large += ms > most * 3 / 4;
        }
        assert_true(small > 20 && large > 20);
    }
}

static void what_does_not_fit_is_not_waited_for(void **state)
{
    (void)state;
    struct retry retry = retry_begin(100000, NULL, NULL);
    int64_t began = clock_mono_ms();
    assert_false(retry_pause(&retry, 120000));
    assert_true(clock_mono_ms() - began < 50000);
    assert_true(retry_pause(&retry, 300));
    assert_true(clock_mono_ms() - began >= 300);
}

static bool yes(void *arg)
{
    (*(int *)arg)++;
    return true;
}

static void a_pause_ends_when_it_is_asked_to(void **state)
{
    (void)state;
    int asked = 0;
    struct retry retry = retry_begin(60000, yes, &asked);
    int64_t began = clock_mono_ms();
    assert_false(retry_pause(&retry, 50000));
    assert_true(asked > 0);
    assert_true(clock_mono_ms() - began < 20000);
}

static void foreign_words_become_one_line_of_text(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        size_t max;
        const char *want;
    } cases[] = {
        {"plain", 100, "plain"},
        {"a\nb\r\n\tc\x7f", 100, "a b   c "},
        {"\xff\xfe"
         "x\xc3",
         100, "x"},
        {"\xc3\xa4\xc3\xb6", 3, "\xc3\xa4"},
        {"abcdef", 3, "abc"},
        {"", 10, ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf) struct buf out = BUF_INIT(200);
        retry_add_words(&out, cases[i].from, cases[i].max);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(checksums_are_what_the_standards_say),
        TEST(both_ways_agree_at_every_size_alignment_and_cut),
        TEST(retry_after_is_seconds_or_a_date),
        TEST(pauses_are_any_part_of_an_interval_that_doubles),
        TEST(what_does_not_fit_is_not_waited_for),
        TEST(a_pause_ends_when_it_is_asked_to),
        TEST(foreign_words_become_one_line_of_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
