#include "json/json.h"
#include "json_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int check(const char *text)
{
    struct err err = ERR_INIT;
    return json_check(text, strlen(text), &err);
}

static void accepts_what_the_standard_allows(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(accepted); i++) {
        struct err err = ERR_INIT;
        if (json_check(accepted[i].text, accepted[i].len, &err))
            fail_msg("refused %s: %s", accepted[i].text, err.msg);
    }
}

static void refuses_what_the_standard_or_our_rules_forbid(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct err err = ERR_INIT;
        if (json_check(refused[i].text, refused[i].len, &err) == 0)
            fail_msg("accepted case %zu: %s", i, refused[i].text);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(strstr(err.msg, "JSON: ") == err.msg);
    }
}

/* From a block of exactly its size, so that a sanitizer sees a read past the end. */
static void refuses_every_cut_of_a_text_without_reading_past_it(void **state)
{
    (void)state;
    static const char whole[] =
        "{\"a\":[1.5e3,true,null,\"\\ud83d\\ude00\xe2\x82\xac\",{}],\"b\":-0.1}";
    for (size_t len = 0; len < sizeof(whole) - 1; len++) {
        struct err err = ERR_INIT;
        char *cut = malloc(len ? len : 1);
        assert_non_null(cut);
        memcpy(cut, whole, len);
        assert_int_equal(json_check(cut, len, &err), -1);
        free(cut);
    }
    assert_int_equal(check(whole), 0);
}

static void what_passes_is_parsed_printed_and_passes_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(accepted); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf once = BUF_INIT(65536), twice = BUF_INIT(65536);
        AUTO(json) struct json *tree = json_parse(accepted[i].text, accepted[i].len, &err);
        if (!tree)
            fail_msg("%s: %s", accepted[i].text, err.msg);
        json_print(tree, &once);
        AUTO(json) struct json *again = json_parse(buf_str(&once), once.len, &err);
        if (!again)
            fail_msg("%s: %s", buf_str(&once), err.msg);
        json_print(again, &twice);
        assert_string_equal(buf_str(&once), buf_str(&twice));
        buf_done(&twice);
    }
}

static void add_nested(struct buf *out, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        buf_adds(out, i % 2 ? "{\"a\":" : "[");
    buf_adds(out, "1");
    for (unsigned i = depth; i-- > 0;)
        buf_adds(out, i % 2 ? "}" : "]");
}

static void takes_64_levels_and_not_65(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(65536), printed = BUF_INIT(65536);
    add_nested(&text, 64);
    AUTO(json) struct json *tree = json_parse(text.data, text.len, &err);
    assert_non_null(tree);
    json_print(tree, &printed);
    assert_string_equal(buf_str(&printed), buf_str(&text));
    buf_done(&printed);
    buf_clear(&text);
    add_nested(&text, 65);
    assert_int_equal(json_check(text.data, text.len, &err), -1);
    assert_non_null(strstr(err.msg, "nested too deeply at byte"));
}

static void add_members(struct buf *out, unsigned count)
{
    buf_addc(out, '{');
    for (unsigned i = 0; i < count; i++)
        buf_addf(out, "%s\"name%u\":{\"x\":%u,\"name%u\":0}", i ? "," : "", i, i, i);
    buf_addc(out, '}');
}

static void finds_a_twin_among_100000_members_wherever_it_is(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(16 << 20);
    add_members(&text, 100000);
    assert_int_equal(json_check(text.data, text.len, &err), 0);
    static const unsigned twins[] = {0, 1, 63, 64, 65, 127, 128, 50000, 99999};
    for (size_t i = 0; i < COUNT_OF(twins); i++) {
        size_t len = text.len;
        text.len--;
        buf_addf(&text, ",\"nam\\u0065%u\":0}", twins[i]);
        assert_int_equal(json_check(text.data, text.len, &err), -1);
        assert_non_null(strstr(err.msg, "the same name twice"));
        text.len = len - 1;
        buf_addc(&text, '}');
    }
}

/* CPU time of this thread. */
static int64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* How long the check of an object with `count` names takes, the fastest of three times. */
static int64_t names_cost_us(const char *before, int digits, unsigned count)
{
    AUTO(buf) struct buf text = BUF_INIT(64u << 20);
    int64_t best_us = INT64_MAX;
    struct err err;
    buf_addc(&text, '{');
    for (unsigned i = 0; i < count; i++) {
        buf_adds(&text, i ? ",\"" : "\"");
        buf_addf(&text, "%s%0*x\":0", before, digits, i);
    }
    buf_addc(&text, '}');
    for (int i = 0; i < 3; i++) {
        int64_t began_us = cpu_us();
        assert_int_equal(json_check(text.data, text.len, &err), 0);
        int64_t us = cpu_us() - began_us;
        best_us = us < best_us ? us : best_us;
    }
    return best_us;
}

/* Short names follow one another in the table's first hash: they must not search through each
 * other. Beside them, in the same run, as many long ones, which never did. */
static void the_cost_of_names_grows_with_their_number_alone(void **state)
{
    static const struct {
        const char *before;
        int digits;
    } names[] = {{"", 1}, {"", 5}, {"", 6}, {"a", 1}, {"ab", 5}, {"", 7}};
    (void)state;
    int64_t long_us = names_cost_us("a-name-of-many-bytes-", 8, 100000);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        int64_t short_us = names_cost_us(names[i].before, names[i].digits, 100000);
        print_message("100000 names like %s%0*x: x%.2f of long ones\n", names[i].before,
                      names[i].digits, 7u, (double)short_us / (double)long_us);
        assert_true(short_us < 4 * long_us);
    }
}

static void refuses_more_values_than_it_was_told_to_take(void **state)
{
    static const struct {
        const char *text;
        size_t values;
    } cases[] = {
        {"0", 1},     {"[]", 1}, {"[1,2]", 3}, {"{\"a\":1,\"b\":[null]}", 4}, {" {\"a\":{}} ", 2},
        {"[[[]]]", 3}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        size_t len = strlen(cases[i].text);
        struct json *tree = json_parse_within(cases[i].text, len, cases[i].values, &err);
        assert_non_null(tree);
        json_free(tree);
        assert_null(json_parse_within(cases[i].text, len, cases[i].values - 1, &err));
        assert_int_equal(err.code, ERR_TOO_LARGE);
    }
}

static long resident_bytes(void)
{
    char line[128] = "";
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    if (fgets(line, sizeof(line), file))
        pages = strtol(line + strcspn(line, " "), NULL, 10);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* A tree takes what json.h says, and nothing of it stays. */
static void gives_the_memory_of_a_tree_back(void **state)
{
    static const char *const items[] = {"0,",           "{},",
                                        "\"\",",        "\"\\u0061\",",
                                        "{\"a\":[1]},", "\"some text that is not short at all\","};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(items); i++) {
        AUTO(buf) struct buf text = BUF_INIT(16u << 20);
        struct err err;
        buf_addc(&text, '[');
        while (text.len < (1u << 20))
            buf_adds(&text, items[i]);
        buf_adds(&text, "0]");
        long before = resident_bytes(), most = 0;
        for (int round = 0; round < 2; round++) {
            struct json *tree = json_parse(text.data, text.len, &err);
            assert_non_null(tree);
            long now = resident_bytes() - before;
            most = now > most ? now : most;
            json_free(tree);
        }
        assert_true(resident_bytes() - before < (1 << 20));
        print_message("1 MiB of %s as a tree: %ld MiB\n", items[i], most >> 20);
    }
}

static void says_what_is_wrong_and_where(void **state)
{
    (void)state;
    static const struct {
        const char *text, *msg;
    } cases[] = {
        {"", "JSON: no text at byte 0"},
        {"[1,", "JSON: the text ends too early at byte 3"},
        {"[1 2]", "JSON: expected ',' or ']' at byte 3"},
        {"{\"a\" 1}", "JSON: expected ':' at byte 5"},
        {"{\"a\":1,\"a\":2}", "JSON: the same name twice in an object at byte 7"},
        {"[\"\\u0000\"]", "JSON: NUL in a string at byte 2"},
        {"[\"\xff\"]", "JSON: invalid UTF-8 at byte 2"},
        {"[1e999]", "JSON: number out of range at byte 1"},
        {"[] []", "JSON: something follows the value at byte 3"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(json_check(cases[i].text, strlen(cases[i].text), &err), -1);
        assert_string_equal(err.msg, cases[i].msg);
    }
}

static void numbers_longer_than_a_parser_takes_keep_their_value(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(65536);
    buf_adds(&text, "{\"long\":0.");
    for (int i = 0; i < 400; i++)
        buf_adds(&text, "125");
    buf_adds(&text, "e1,\"zeros\":1");
    for (int i = 0; i < 300; i++)
        buf_addc(&text, '0');
    buf_adds(&text, ",\"1.11111111111111111111111111111111111111111111111111111111111111111\":2}");
    AUTO(json) struct json *tree = json_parse(text.data, text.len, &err);
    assert_non_null(tree);
    double value;
    assert_int_equal(json_number(json_get(tree, "long"), &value), 0);
    assert_true(value == 1.2512512512512512);
    assert_int_equal(json_number(json_get(tree, "zeros"), &value), 0);
    assert_true(value == 1e300);
    assert_int_equal(json_count(tree), 3);
    buf_clear(&text);
    for (int i = 0; i < 310; i++)
        buf_addc(&text, '9');
    assert_int_equal(json_check(text.data, text.len, &err), -1);
}

static void gives_values_only_as_the_type_they_have(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char text[] =
        "{\"t\":\"x\",\"n\":1.5,\"i\":-9007199254740991,\"big\":9007199254740992,"
        "\"b\":true,\"z\":null,\"a\":[1],\"o\":{\"K\":1},\"ms\":1763680000123}";
    AUTO(json) struct json *tree = json_parse(text, sizeof(text) - 1, &err);
    assert_non_null(tree);
    int64_t i = 7;
    double d = 7;
    bool b = false;
    assert_string_equal(json_text(json_get(tree, "t")), "x");
    assert_null(json_text(json_get(tree, "n")));
    assert_null(json_text(json_get(tree, "missing")));
    assert_int_equal(json_int(json_get(tree, "n"), &i), -1);
    assert_int_equal(json_int(json_get(tree, "t"), &i), -1);
    assert_int_equal(json_int(json_get(tree, "big"), &i), -1);
    assert_int_equal(json_int(NULL, &i), -1);
    assert_int_equal(i, 7);
    assert_int_equal(json_int(json_get(tree, "i"), &i), 0);
    assert_true(i == -JSON_INT_MAX);
    assert_int_equal(json_int(json_get(tree, "ms"), &i), 0);
    assert_true(i == INT64_C(1763680000123));
    assert_int_equal(json_number(json_get(tree, "b"), &d), -1);
    assert_int_equal(json_number(json_get(tree, "n"), &d), 0);
    assert_true(d == 1.5);
    assert_int_equal(json_bool(json_get(tree, "z"), &b), -1);
    assert_int_equal(json_bool(json_get(tree, "b"), &b), 0);
    assert_true(b);
    assert_null(json_get(json_get(tree, "o"), "k")); /* names have their case */
    assert_null(json_get(json_get(tree, "a"), "K"));
    assert_string_equal(json_type_name(json_type(json_get(tree, "z"))), "null");
    assert_string_equal(json_type_name(json_type(json_get(tree, "a"))), "an array");
    assert_null(json_first(json_get(tree, "t")));
    assert_null(json_name(json_first(json_get(tree, "a"))));
}

static void gives_back_a_member_byte_for_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *raw;
    } cases[] = {
        {"{\"m\": {\"a\" : 1.50, \"b\":[ \"}\\\"\" ] } , \"n\":1}", "m",
         "{\"a\" : 1.50, \"b\":[ \"}\\\"\" ] }"},
        {"{\"n\":1,\"m\":9007199254740993}", "m", "9007199254740993"},
        {" {\"n\":{\"m\":1},\"m\" : \"x,}\" } ", "m", "\"x,}\""},
        {"{\"\\u006d\":null}", "m", "null"},
        {"{\"m\":[]}", "m", "[]"},
        {"{\"m\":true}", "n", NULL},
        {"{}", "m", NULL},
        {"[1]", "m", NULL},
        {"3", "m", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t len = 0;
        assert_int_equal(check(cases[i].text), 0);
        const char *raw =
            json_raw_member(cases[i].text, strlen(cases[i].text), cases[i].name, &len);
        assert_int_equal(raw != NULL, cases[i].raw != NULL);
        if (raw) {
            assert_int_equal(len, strlen(cases[i].raw));
            assert_memory_equal(raw, cases[i].raw, len);
        }
    }
}

static void the_writer_puts_commas_and_quotes(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    AUTO(strlist) struct strlist texts = STRLIST_INIT;
    struct json_writer w;
    strlist_add(&texts, "a");
    strlist_add(&texts, "b\"");
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "t", "a\"\n\x01\xff");
    json_add_text(&w, "none", NULL);
    json_open_array(&w, "list");
    json_open_object(&w, NULL);
    json_close(&w);
    json_add_int(&w, NULL, INT64_MIN);
    json_add_bool(&w, NULL, false);
    json_add_textn(&w, NULL, "abc", 2);
    json_open_array(&w, NULL);
    json_close(&w);
    json_close(&w);
    json_add_raw(&w, "raw", "[1, 2]", 6);
    json_add_given(&w, "given", "{}");
    json_add_given(&w, "not given", NULL);
    json_add_texts(&w, "texts", &texts);
    json_add_texts(&w, "no texts", &(const struct strlist)STRLIST_INIT);
    json_add_number(&w, "inf", HUGE_VAL);
    json_close(&w);
    assert_string_equal(buf_str(&out),
                        "{\"t\":\"a\\\"\\n\\u0001\xef\xbf\xbd\",\"none\":null,\"list\":[{},"
                        "-9223372036854775808,false,\"ab\",[]],\"raw\":[1, 2],\"given\":{},"
                        "\"texts\":[\"a\",\"b\\\"\"],\"no texts\":[],\"inf\":null}");
    assert_true(buf_ok(&out));
}

static void a_node_is_printed_to_a_string_of_its_own(void **state)
{
    (void)state;
    struct err err;
    AUTO(json) struct json *node = json_parse("{ \"a\" : [1] }", 13, &err);
    AUTO(str) char *text = json_print_new(node, 9), *longer = json_print_new(node, 8);
    assert_string_equal(text, "{\"a\":[1]}");
    assert_null(longer);
    assert_null(json_print_new(NULL, 9));
}

static void the_writer_fails_the_buffer_when_nested_too_deeply(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    struct json_writer w;
    json_write(&w, &out);
    for (int i = 0; i < JSON_DEPTH_MAX; i++)
        json_open_array(&w, NULL);
    assert_true(buf_ok(&out));
    json_open_array(&w, NULL);
    assert_false(buf_ok(&out));
}

static void numbers_are_written_short_and_exact(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1, "-1"},
        {0.1, "0.1"},
        {0.01, "0.01"},
        {1e15, "1000000000000000"},
        {9007199254740991, "9007199254740991"},
        {1e22, "1e+22"},
        {1763680000123, "1763680000123"},
        {0.30000000000000004, "0.30000000000000004"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.5, "2.5"},
        {1.0 / 3, "0.3333333333333333"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(64);
        struct json_writer w;
        json_write(&w, &out);
        json_add_number(&w, NULL, cases[i].value);
        assert_string_equal(buf_str(&out), cases[i].text);
        assert_true(strtod(buf_str(&out), NULL) == cases[i].value);
    }
}

static void the_case_list_is_long_enough_to_mean_something(void **state)
{
    (void)state;
    assert_true(COUNT_OF(accepted) + COUNT_OF(refused) >= 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_standard_allows),
        cmocka_unit_test(refuses_what_the_standard_or_our_rules_forbid),
        cmocka_unit_test(refuses_every_cut_of_a_text_without_reading_past_it),
        cmocka_unit_test(what_passes_is_parsed_printed_and_passes_again),
        cmocka_unit_test(takes_64_levels_and_not_65),
        cmocka_unit_test(finds_a_twin_among_100000_members_wherever_it_is),
        cmocka_unit_test(the_cost_of_names_grows_with_their_number_alone),
        cmocka_unit_test(refuses_more_values_than_it_was_told_to_take),
        cmocka_unit_test(gives_the_memory_of_a_tree_back),
        cmocka_unit_test(says_what_is_wrong_and_where),
        cmocka_unit_test(numbers_longer_than_a_parser_takes_keep_their_value),
        cmocka_unit_test(gives_values_only_as_the_type_they_have),
        cmocka_unit_test(gives_back_a_member_byte_for_byte),
        cmocka_unit_test(the_writer_puts_commas_and_quotes),
        cmocka_unit_test(a_node_is_printed_to_a_string_of_its_own),
        cmocka_unit_test(the_writer_fails_the_buffer_when_nested_too_deeply),
        cmocka_unit_test(numbers_are_written_short_and_exact),
        cmocka_unit_test(the_case_list_is_long_enough_to_mean_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
