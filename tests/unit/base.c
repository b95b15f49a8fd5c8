/* Errors, clock, ids and the log. */
#include "base/auto.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int64_t now_us = 1000000;
static int64_t now_real_ms = INT64_C(1767323045678);

static int64_t test_mono_us(void *arg)
{
    (void)arg;
    return now_us;
}

static int64_t test_real_ms(void *arg)
{
    (void)arg;
    return now_real_ms;
}

static int use_test_clock(void **state)
{
    static const struct clock clock = {test_mono_us, test_real_ms, NULL};
    (void)state;
    clock_use(&clock);
    return 0;
}

static int use_system_clock(void **state)
{
    (void)state;
    clock_use(NULL);
    return 0;
}

static void an_error_is_one_line_and_minus_one(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set(&err, ERR_NOT_FOUND, "task '%s'\r\n\x1b[31m\x7f", "x"), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.msg, "task 'x'   [31m ");
    assert_int_equal(err_wrap(&err, "store %d", 1), -1);
    assert_string_equal(err.msg, "store 1: task 'x'   [31m ");
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void a_system_error_says_why(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    errno = ENOENT;
    assert_int_equal(err_sys(&err, "cannot open '%s'", "f"), -1);
    assert_string_equal(err.msg, "cannot open 'f': No such file or directory");
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(err.sys, ENOENT);
    errno = ENOSPC;
    err_sys(&err, "write");
    assert_int_equal(err.code, ERR_NO_SPACE);
    errno = EDQUOT;
    err_sys(&err, "write");
    assert_int_equal(err.code, ERR_NO_SPACE);
    errno = 99999;
    err_sys(&err, "odd");
    assert_string_equal(err.msg, "odd: unknown error");
}

static void a_long_message_ends_with_a_whole_character(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf text = BUF_INIT(2000);
        buf_add(&text, "xxx", shift);
        for (int i = 0; i < 200; i++)
            buf_adds(&text, "\xf0\x9f\x98\x80");
        err_set(&err, ERR_INVALID, "%s", buf_str(&text));
        assert_true(strlen(err.msg) > 230 && strlen(err.msg) < sizeof(err.msg));
        assert_true(str_is_utf8(err.msg, strlen(err.msg)));
        err_wrap(&err, "%s", buf_str(&text));
        assert_true(str_is_utf8(err.msg, strlen(err.msg)));
    }
}

static void every_code_has_its_names_and_statuses(void **state)
{
    (void)state;
#define IS_WHOLE(name, wire, title, http, exit)  \
    assert_string_equal(err_wire(name), wire);   \
    assert_string_equal(err_title(name), title); \
    assert_int_equal(err_http(name), http);      \
    assert_int_equal(err_exit(name), exit);
    ERR_CODES(IS_WHOLE)
#undef IS_WHOLE
}

static void the_clock_is_the_one_in_place(void **state)
{
    (void)state;
    now_us = 1234567;
    assert_int_equal(clock_mono_us(), 1234567);
    assert_int_equal(clock_mono_ms(), 1234);
    assert_int_equal(clock_real_ms(), now_real_ms);
    clock_use(NULL);
    int64_t before = clock_mono_us();
    assert_true(clock_mono_us() >= before);
    assert_true(clock_real_ms() > INT64_C(1700000000000));
    use_test_clock(NULL);
}

static void times_are_written_as_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-1000, "1969-12-31T23:59:59.000Z"},
        {INT64_C(1767323045678), "2026-01-02T03:04:05.678Z"},
        {INT64_C(1709164800000), "2024-02-29T00:00:00.000Z"},
        {INT64_C(253402300799999), "9999-12-31T23:59:59.999Z"},
        {INT64_C(253402300800000), "1970-01-01T00:00:00.000Z"},
        {INT64_MAX, "1970-01-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[CLOCK_TEXT_SIZE];
        assert_string_equal(clock_format(cases[i].ms, text), cases[i].text);
    }
}

static void ids_are_new_valid_and_sort_by_time(void **state)
{
    (void)state;
    char one[ID_SIZE], two[ID_SIZE], three[ID_SIZE];
    now_real_ms = INT64_C(1767323045678);
    id_new(one);
    id_new(two);
    now_real_ms++;
    id_new(three);
    assert_int_equal(strlen(one), 26);
    assert_true(id_is_valid(one));
    assert_memory_equal(one, two, 10);
    assert_string_not_equal(one, two);
    assert_true(strcmp(one, three) < 0 && strcmp(two, three) < 0);
}

static void tokens_and_uuids_have_their_form(void **state)
{
    (void)state;
    char token[ID_TOKEN_SIZE], other[ID_TOKEN_SIZE], uuid[ID_UUID_SIZE];
    id_token(token);
    id_token(other);
    assert_int_equal(strlen(token), 43);
    assert_string_not_equal(token, other);
    id_uuid(uuid);
    assert_int_equal(strlen(uuid), 36);
    assert_int_equal(uuid[14], '4');
    assert_non_null(strchr("89ab", uuid[19]));
}

static void valid_ids_are_safe_in_urls_and_file_names(void **state)
{
    (void)state;
    static const char *const good[] = {
        "a",
        "A.b_c~d-9",
        "0",
        "_x",
        "~x",
        "x-",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    static const char *const bad[] = {
        "",         ".",   "..",
        ".a",       "-a",  "a/b",
        "a b",      "a\n", "a%",
        "\xc3\xa9", "a:b", "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(id_is_valid(good[i]));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(id_is_valid(bad[i]));
}

/* A pipe to log into. */
static int pipe_ends[2] = {-1, -1};

static void open_log(enum log_format format, struct redact_set *secrets)
{
    assert_int_equal(pipe(pipe_ends), 0);
    log_open(pipe_ends[1], LOG_INFO, format, secrets);
}

/* What was logged since open_log. */
static void take_log(struct buf *out)
{
    struct err err = ERR_INIT;
    fd_close(&pipe_ends[1]);
    log_open(STDERR_FILENO, LOG_INFO, LOG_TEXT, NULL);
    log_set_request(NULL);
    log_set_task(NULL);
    assert_int_equal(fd_read_all(pipe_ends[0], out, &err), 0);
    fd_close(&pipe_ends[0]);
}

static void logs_json_with_request_and_task(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    now_real_ms = INT64_C(1767323045678);
    open_log(LOG_JSON, NULL);
    log_set_request("r\"1");
    log_set_task("t1");
    log_warn("http", "a \"%s\"\n\xff", "b");
    log_debug("http", "not shown");
    log_set_level(LOG_DEBUG);
    log_set_request(NULL);
    log_set_task(NULL);
    log_debug("http", "shown");
    take_log(&out);
    assert_string_equal(
        buf_str(&out),
        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warn\",\"module\":\"http\","
        "\"request_id\":\"r\\\"1\",\"task_id\":\"t1\",\"msg\":\"a \\\"b\\\"\\n\xef\xbf\xbd\"}\n"
        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"debug\",\"module\":\"http\","
        "\"msg\":\"shown\"}\n");
}

static void logs_priorities_for_the_journal(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    open_log(LOG_JOURNAL, NULL);
    log_set_level(LOG_DEBUG);
    log_set_task("t1");
    log_error("http", "a\n<0>b");
    log_set_task(NULL);
    log_warn("http", "c");
    log_info("http", "d");
    log_debug("http", "e");
    take_log(&out);
    assert_string_equal(buf_str(&out), "<3>http: a\\x0a<0>b task=t1\n<4>http: c\n<6>http: d\n"
                                       "<7>http: e\n");
}

static void logs_what_cloud_logging_knows(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    now_real_ms = INT64_C(1767323045678);
    open_log(LOG_GOOGLE, NULL);
    log_set_task("t1");
    log_warn("job", "a \"b\"");
    log_error("job", "c");
    log_set_task(NULL);
    take_log(&out);
    assert_string_equal(buf_str(&out),
                        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"severity\":\"WARNING\","
                        "\"module\":\"job\",\"task_id\":\"t1\",\"message\":\"a \\\"b\\\"\"}\n"
                        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"severity\":\"ERROR\","
                        "\"module\":\"job\",\"task_id\":\"t1\",\"message\":\"c\"}\n");
}

static void no_message_forges_a_line_of_text(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    now_real_ms = INT64_C(1767323045678);
    open_log(LOG_TEXT, NULL);
    log_set_request("r1");
    log_info("task", "a\nb\x1b[31m");
    take_log(&out);
    assert_string_equal(buf_str(&out), "2026-01-02T03:04:05.678Z info  task: a\\x0ab\\x1b[31m "
                                       "request=r1\n");
}

static void logs_no_secret_in_any_format(void **state)
{
    (void)state;
    for (int format = LOG_TEXT; format <= LOG_GOOGLE; format++) {
        AUTO(buf) struct buf out = BUF_INIT(65536);
        struct redact_set *set = redact_new();
        assert_int_equal(redact_add(set, "hunter2\"hunter2"), 0);
        open_log((enum log_format)format, set);
        log_info("task", "it is hunter2\"hunter2, you know");
        take_log(&out);
        assert_null(strstr(buf_str(&out), "hunter2"));
        assert_non_null(strstr(buf_str(&out), "it is " REDACT_MARK ", you know"));
        redact_free(set);
    }
}

static void say_it_again(int times)
{
    for (int i = 0; i < times; i++)
        log_info("task", "again");
}

static size_t count_lines(const struct buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += text->data[i] == '\n';
    return n;
}

static void a_line_that_repeats_is_held_back_and_counted(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    now_us = 5000000;
    open_log(LOG_TEXT, NULL);
    say_it_again(LOG_BURST + 30);
    log_info("task", "another place");
    now_us += LOG_WINDOW_MS * 1000;
    say_it_again(1);
    take_log(&out);
    assert_int_equal(count_lines(&out), LOG_BURST + 2);
    assert_non_null(strstr(out.data, "another place\n"));
    assert_non_null(strstr(out.data, "again held_back=30\n"));
}

static void a_long_message_is_cut_and_still_one_line(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(65536);
    static char text[10000];
    memset(text, '\x01', sizeof(text) - 1);
    open_log(LOG_JSON, NULL);
    log_error("x", "%s", text);
    take_log(&out);
    assert_int_equal(count_lines(&out), 1);
    assert_true(out.len < 16384);
    assert_memory_equal(out.data + out.len - 3, "\"}\n", 3);
}

static void times_are_read_as_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -1: none */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-01-02T03:04:05.678Z", INT64_C(1767323045678)},
        {"2026-01-02t03:04:05.678999999z", INT64_C(1767323045678)},
        {"2026-01-02 03:04:05.6Z", INT64_C(1767323045600)},
        {"2026-01-02T04:34:05+01:30", INT64_C(1767323045000)},
        {"2026-01-01T22:04:05-05:00", INT64_C(1767323045000)},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800000)},
        {"", -1},
        {"2026-01-02", -1},
        {"2026-01-02T03:04:05", -1},
        {"2026-01-02T03:04:05.Z", -1},
        {"2026-01-02T03:04:05Z ", -1},
        {"2026-13-02T03:04:05Z", -1},
        {"2026-00-02T03:04:05Z", -1},
        {"2026-01-02T24:04:05Z", -1},
        {"2026-01-02T03:04:05+24:00", -1},
        {"2026-01-02T03:04:05+0100", -1},
        {"26-01-02T03:04:05Z", -1},
        {"-026-01-02T03:04:05Z", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t ms = -1;
        int rc = clock_parse(cases[i].text, &ms);
        if ((rc == 0) != (cases[i].ms >= 0) || ms != cases[i].ms)
            fail_msg("%s: %d %lld", cases[i].text, rc, (long long)ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_is_one_line_and_minus_one),
        cmocka_unit_test(a_system_error_says_why),
        cmocka_unit_test(a_long_message_ends_with_a_whole_character),
        cmocka_unit_test(every_code_has_its_names_and_statuses),
        cmocka_unit_test(the_clock_is_the_one_in_place),
        cmocka_unit_test(times_are_written_as_rfc_3339),
        cmocka_unit_test(times_are_read_as_rfc_3339),
        cmocka_unit_test(ids_are_new_valid_and_sort_by_time),
        cmocka_unit_test(tokens_and_uuids_have_their_form),
        cmocka_unit_test(valid_ids_are_safe_in_urls_and_file_names),
        cmocka_unit_test(logs_json_with_request_and_task),
        cmocka_unit_test(logs_priorities_for_the_journal),
        cmocka_unit_test(logs_what_cloud_logging_knows),
        cmocka_unit_test(no_message_forges_a_line_of_text),
        cmocka_unit_test(logs_no_secret_in_any_format),
        cmocka_unit_test(a_line_that_repeats_is_held_back_and_counted),
        cmocka_unit_test(a_long_message_is_cut_and_still_one_line),
    };
    return cmocka_run_group_tests(tests, use_test_clock, use_system_clock);
}
