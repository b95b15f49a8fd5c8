#include "base/redact.h"

#include "base/auto.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECRET "sk-ant-oat01-hunter2/+\"x\\y"

static void free_set(struct redact_set *set)
{
    redact_free(set);
}
DEFINE_AUTO(set, struct redact_set *, free_set)

static struct redact_set *set_of(const char *secret)
{
    struct redact_set *set = redact_new();
    assert_non_null(set);
    assert_int_equal(redact_add(set, secret), 0);
    return set;
}

/* Redacts in one piece, and in two pieces for every split: the result must be the same. */
static void redact_every_way(struct redact_set *set, const char *text, size_t len,
                             struct buf *ret_out)
{
    redact_text(set, text, len, ret_out);
    assert_int_equal(redact_is_clean(set, text, len),
                     ret_out->len == len && memcmp(buf_str(ret_out), text, len) == 0);
    for (size_t at = 0; at <= len; at++) {
        struct redact_stream stream;
        AUTO(buf) struct buf out = BUF_INIT(1 << 20);
        redact_stream_init(&stream, set);
        redact_feed(&stream, text, at, &out);
        redact_feed(&stream, text + at, len - at, &out);
        redact_finish(&stream, &out);
        redact_stream_done(&stream);
        assert_string_equal(buf_str(&out), buf_str(ret_out));
    }
}

static void assert_redacted(struct redact_set *set, const char *text, const char *want)
{
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    redact_every_way(set, text, strlen(text), &out);
    assert_string_equal(buf_str(&out), want);
}

static void finds_a_secret_as_it_is(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of(SECRET);
    assert_redacted(set, SECRET, REDACT_MARK);
    assert_redacted(set, "a" SECRET "b" SECRET SECRET, "a" REDACT_MARK "b" REDACT_MARK REDACT_MARK);
    assert_redacted(set, "nothing here", "nothing here");
    assert_redacted(set, "", "");
    assert_redacted(set, "sk-ant-oat01-hunter", "sk-ant-oat01-hunter");
    assert_redacted(set, "sk-ant-sk-ant-oat01-hunter2/+\"x\\y", "sk-ant-" REDACT_MARK);
}

static void finds_it_escaped_for_json(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of(SECRET);
    assert_redacted(set, "{\"k\":\"sk-ant-oat01-hunter2/+\\\"x\\\\y\"}",
                    "{\"k\":\"" REDACT_MARK "\"}");
    assert_redacted(set, "{\"k\":\"sk-ant-oat01-hunter2\\/+\\\"x\\\\y\"}",
                    "{\"k\":\"" REDACT_MARK "\"}");
}

static void finds_it_escaped_as_other_languages_do(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of("p\xc3\xa4ss/<w\xf0\x9f\x94\x91rd>&");
    static const char *const forms[] = {
        "p\\u00e4ss/<w\\ud83d\\udd11rd>&",                      /* Python */
        "p\\u00e4ss\\/<w\\ud83d\\udd11rd>&",                    /* PHP */
        "p\xc3\xa4ss/\\u003cw\xf0\x9f\x94\x91rd\\u003e\\u0026", /* Go */
        "p\xc3\xa4ss\\/<w\xf0\x9f\x94\x91rd>&",
    };
    for (size_t i = 0; i < COUNT_OF(forms); i++)
        assert_redacted(set, forms[i], REDACT_MARK);
}

static void no_escape_hides_it_in_json(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of("h\xc3\xa9\"l/\\o-\xf0\x9f\x94\x91\n!");
    static const struct {
        const char *line, *want;
    } cases[] = {
        {"{\"a\":\"h\\u00E9\\\"l/\\\\o-\\uD83D\\uDD11\\n!\"}", "{\"a\":\"" REDACT_MARK "\"}"},
        {"\\u0068\\u00e9\\u0022\\u006c\\u002f\\u005c\\u006f-\xf0\x9f\x94\x91\\u000a\\u0021",
         REDACT_MARK},
        {"\\u00fc \\u0068\xc3\xa9\\\"l\\/\\\\o-\xf0\x9f\x94\x91\\n! \\ud83d \\u0001 \\u12",
         "\xc3\xbc " REDACT_MARK " \\ud83d \\u0001 \\u12"},
        {"{\"a\":\"h\xc3\xa9\\\"l/\\\\o-\xf0\x9f\x94\x91\\n!\"}", "{\"a\":\"" REDACT_MARK "\"}"},
        {"h\\\\u00e9\\\"l/\\\\o-\xf0\x9f\x94\x91\\n!", NULL}, /* a backslash that begins no
                                                               * escape */
        {"\\u0041\\/\\", NULL},
        {"\\", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(1000);
        assert_int_equal(redact_json(set, cases[i].line, strlen(cases[i].line), &out),
                         cases[i].want != NULL);
        assert_string_equal(buf_str(&out), cases[i].want ? cases[i].want : "");
    }
}

static void finds_it_in_base64_at_every_alignment(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of(SECRET);
    for (size_t before = 0; before < 7; before++)
        for (size_t after = 0; after < 4; after++)
            for (int kind = BASE64_STD; kind <= BASE64_URL; kind++) {
                char text[128];
                AUTO(buf) struct buf encoded = BUF_INIT(256);
                AUTO(buf) struct buf out = BUF_INIT(256);
                int n = snprintf(text, sizeof(text), "%.*s" SECRET "%.*s", (int)before,
                                 "user:pw:", (int)after, "zzzz");
                str_add_base64(&encoded, (enum base64_kind)kind, text, (size_t)n);
                redact_every_way(set, encoded.data, encoded.len, &out);
                assert_non_null(strstr(buf_str(&out), REDACT_MARK));
                /* The rest is the surrounding text, and at most two bytes of the secret. */
                assert_true(out.len - strlen(REDACT_MARK) <= (before + 2) / 3 * 4 + 8);
            }
}

static void the_longest_of_several_secrets_is_taken(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of("secret");
    assert_int_equal(redact_add(set, "secret-longer"), 0);
    assert_int_equal(redact_add(set, "secret-longer"), 0);
    assert_int_equal(redact_add(set, "another one"), 0);
    assert_redacted(set, "secret-longer, secret-lon, another one.",
                    REDACT_MARK ", " REDACT_MARK "-lon, " REDACT_MARK ".");
}

static void secrets_too_short_to_tell_are_passed_over(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of("12345");
    assert_redacted(set, "12345", "12345");
    assert_int_equal(redact_add(set, ""), 0);
    assert_redacted(set, "x", "x");
}

static void a_private_key_is_found_line_by_line(void **state)
{
    (void)state;
    AUTO(set)
    struct redact_set *set = set_of("-----BEGIN OPENSSH PRIVATE KEY-----\r\n"
                                    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU\r\n"
                                    "QyNTUxOQAAACDxhunter2hunter2hunt\r\n"
                                    "-----END OPENSSH PRIVATE KEY-----\r\n");
    assert_redacted(set, "> QyNTUxOQAAACDxhunter2hunter2hunt <", "> " REDACT_MARK " <");
    assert_redacted(set, "-----BEGIN OPENSSH PRIVATE KEY-----",
                    "-----BEGIN OPENSSH PRIVATE KEY-----");
}

static void a_secret_split_byte_by_byte_is_found(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of(SECRET);
    struct redact_stream stream;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    static const char text[] = "before " SECRET " after";
    redact_stream_init(&stream, set);
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        redact_feed(&stream, text + i, 1, &out);
    redact_finish(&stream, &out);
    redact_stream_done(&stream);
    assert_string_equal(buf_str(&out), "before " REDACT_MARK " after");
}

static void a_stream_holds_back_no_more_than_a_secret_is_long(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of("0123456789abcdef");
    struct redact_stream stream;
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    redact_stream_init(&stream, set);
    for (int i = 0; i < 1000; i++) {
        redact_feed(&stream, "some text that is clean. ", 25, &out);
        assert_true(stream.held.len <= 24); /* base64 is longer than what it encodes */
    }
    redact_finish(&stream, &out);
    redact_stream_done(&stream);
    assert_int_equal(out.len, 25000);
}

static void an_empty_set_passes_everything_at_once(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = redact_new();
    struct redact_stream stream;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    redact_stream_init(&stream, set);
    redact_feed(&stream, "abc", 3, &out);
    assert_string_equal(buf_str(&out), "abc");
    redact_finish(&stream, &out);
    redact_stream_done(&stream);
    assert_true(redact_is_clean(set, "abc", 3));
    redact_free(NULL);
}

static void bytes_of_any_value_pass(void **state)
{
    (void)state;
    AUTO(set) struct redact_set *set = set_of(SECRET);
    AUTO(buf) struct buf text = BUF_INIT(4096);
    AUTO(buf) struct buf out = BUF_INIT(4096);
    for (int i = 0; i < 512; i++)
        buf_addc(&text, (char)i);
    buf_adds(&text, SECRET);
    buf_addc(&text, '\0');
    redact_text(set, text.data, text.len, &out);
    assert_int_equal(out.len, 512 + strlen(REDACT_MARK) + 1);
    assert_memory_equal(out.data, text.data, 512);
}

static void a_very_long_secret_is_found_by_its_beginning(void **state)
{
    (void)state;
    AUTO(buf) struct buf secret = BUF_INIT(200000);
    AUTO(buf) struct buf out = BUF_INIT(200000);
    for (int i = 0; i < 20000; i++)
        buf_addf(&secret, "%06d", i);
    AUTO(set) struct redact_set *set = set_of(secret.data);
    redact_text(set, secret.data, secret.len, &out);
    assert_int_equal(out.len, secret.len - REDACT_MAX_BYTES + strlen(REDACT_MARK));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_a_secret_as_it_is),
        cmocka_unit_test(finds_it_escaped_for_json),
        cmocka_unit_test(finds_it_escaped_as_other_languages_do),
        cmocka_unit_test(no_escape_hides_it_in_json),
        cmocka_unit_test(finds_it_in_base64_at_every_alignment),
        cmocka_unit_test(the_longest_of_several_secrets_is_taken),
        cmocka_unit_test(secrets_too_short_to_tell_are_passed_over),
        cmocka_unit_test(a_private_key_is_found_line_by_line),
        cmocka_unit_test(a_secret_split_byte_by_byte_is_found),
        cmocka_unit_test(a_stream_holds_back_no_more_than_a_secret_is_long),
        cmocka_unit_test(an_empty_set_passes_everything_at_once),
        cmocka_unit_test(bytes_of_any_value_pass),
        cmocka_unit_test(a_very_long_secret_is_found_by_its_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
