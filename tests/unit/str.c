#include "base/str.h"

#include "base/auto.h"
#include "base/form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void knows_valid_utf8_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xee\x80\x80", 3},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\x80", 0},
        {"\xc0\x80", 0},
        {"\xc1\xbf", 0},
        {"\xc2", 0},
        {"\xc2\x20", 0},
        {"\xe0\x9f\xbf", 0},
        {"\xe2\x82", 0},
        {"\xed\xa0\x80", 0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t len = strlen(cases[i].text);
        assert_int_equal(str_utf8_char(cases[i].text, len), cases[i].length);
        assert_int_equal(str_is_utf8(cases[i].text, len), cases[i].length == len);
    }
    assert_int_equal(str_utf8_char("", 0), 0);
    assert_true(str_is_utf8("", 0));
}

/* Every value of every code unit, compared with the definition. */
static void takes_exactly_the_code_points_that_exist(void **state)
{
    (void)state;
    size_t valid = 0;
    for (unsigned lead = 0; lead < 256; lead++)
        for (unsigned b = 0; b < 256; b++) {
            char text[4] = {(char)lead, (char)b, '\x80', '\x80'};
            size_t n = str_utf8_char(text, 4);
            valid += n == 1 ? b == 0 : n == 2 ? 1 : n == 3 ? 64 : n == 4 ? 4096 : 0;
        }
    assert_int_equal(valid, 0x110000 - 0x800);
}

static void finds_invalid_bytes_wherever_they_stand(void **state)
{
    (void)state;
    char text[40];
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        assert_true(str_is_utf8(text, sizeof(text)));
        text[at] = '\xff';
        assert_false(str_is_utf8(text, sizeof(text)));
    }
}

static void replaces_invalid_bytes_one_by_one(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(100);
    str_add_utf8(&out,
                 "a\xff\xc3\xa9\xe2\x82"
                 "b\xc2",
                 8);
    assert_string_equal(buf_str(&out), "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd"
                                       "b\xef\xbf\xbd");
}

static void blank_is_white_space_of_any_script(void **state)
{
    (void)state;
    static const char *const blank[] = {"",
                                        " ",
                                        "\t\r\n\v\f",
                                        "\xc2\xa0",
                                        "\xe3\x80\x80 ",
                                        "\xe2\x80\x8b",
                                        "\xef\xbb\xbf",
                                        "\xe2\x80\xa8"};
    static const char *const full[] = {"a", " . ", "\xc3\xa9", "\xe2\x80\x90", "\xff", "\xe2\x80"};
    for (size_t i = 0; i < COUNT_OF(blank); i++)
        assert_true(str_is_blank(blank[i], strlen(blank[i])));
    for (size_t i = 0; i < COUNT_OF(full); i++)
        assert_false(str_is_blank(full[i], strlen(full[i])));
}

static void numbers_are_whole_texts_within_bounds(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-",
                                      "--1",
                                      "1.0",
                                      "0x1",
                                      "1e1",
                                      "a",
                                      "101",
                                      "-101",
                                      "99999999999999999999"};
    int64_t value = 7;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(str_to_int(bad[i], -100, 100, &value), -1);
    assert_int_equal(value, 7);
    assert_int_equal(str_to_int("-100", -100, 100, &value), 0);
    assert_int_equal(value, -100);
    assert_int_equal(str_to_int("9223372036854775807", 0, INT64_MAX, &value), 0);
    assert_true(value == INT64_MAX);
}

static const char *next_field(size_t index, void *arg)
{
    static const char *const names[] = {"prompt", "timeoutMinutes", "model", "maxTurns", "n"};
    (void)arg;
    return index < COUNT_OF(names) ? names[index] : NULL;
}

static void the_nearest_name_is_what_was_meant(void **state)
{
    (void)state;
    static const struct {
        const char *name, *nearest;
    } cases[] = {
        {"promt", "prompt"},
        {"pormpt", "prompt"},
        {"PROMPT", "prompt"},
        {"max_turns", "maxTurns"},
        {"maxturn", "maxTurns"},
        {"timeout-minutes", "timeoutMinutes"},
        {"modle", "model"},
        {"xyz", NULL},
        {"", NULL},
        {"_", NULL},
        {"x", NULL},
        {"N", "n"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *nearest = str_nearest(cases[i].name, next_field, NULL);
        if (cases[i].nearest)
            assert_string_equal(nearest, cases[i].nearest);
        else
            assert_null(nearest);
    }
}

static void encodes_hex_and_base64(void **state)
{
    (void)state;
    static const struct {
        const char *text, *std, *url;
    } cases[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+", "-__-"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf std = BUF_INIT(100);
        AUTO(buf) struct buf url = BUF_INIT(100);
        str_add_base64(&std, BASE64_STD, cases[i].text, strlen(cases[i].text));
        str_add_base64(&url, BASE64_URL, cases[i].text, strlen(cases[i].text));
        assert_string_equal(buf_str(&std), cases[i].std);
        assert_string_equal(buf_str(&url), cases[i].url);
    }
    AUTO(buf) struct buf hex = BUF_INIT(100);
    str_add_hex(&hex, "\x00\xff\x1a", 3);
    assert_string_equal(buf_str(&hex), "00ff1a");
}

static void escapes_for_json(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(200);
    str_add_json(&out, "a\"\\/\b\f\n\r\t\x01\x7f\0z\xc3\xa9\xff", 16);
    assert_string_equal(buf_str(&out), "a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u007f\\u0000z\xc3\xa9"
                                       "\xef\xbf\xbd");
}

static void knows_the_forms_of_names_and_urls(void **state)
{
    (void)state;
    static const char *const domains[] = {"a", "example.com", "*.github.com", "x-y.z1",
                                          "127.0.0.1"};
    static const char *const no_domains[] = {"",    ".",     "a.",  ".a",         "a..b",
                                             "-a",  "a-",    "*.",  "*",          "a b",
                                             "a/b", "*.*.a", "h:1", "\xc3\xa9.fr"};
    for (size_t i = 0; i < COUNT_OF(domains); i++)
        assert_true(form_is_domain(domains[i]));
    for (size_t i = 0; i < COUNT_OF(no_domains); i++)
        assert_false(form_is_domain(no_domains[i]));
    static const struct {
        const char *text;
        int rc;
        struct form_url url;
    } urls[] = {
        {"https://h", 0, {true, false, false, "h", 443}},
        {"HTTP://H.Example:8080/p?q#f", 0, {false, false, false, "h.example", 8080}},
        {"http://localhost", 0, {false, true, false, "localhost", 80}},
        {"http://127.9.9.9:1/", 0, {false, true, false, "127.9.9.9", 1}},
        {"http://[::1]:1/", 0, {false, true, false, "::1", 1}},
        {"http://[FE80::2]/", 0, {false, false, false, "fe80::2", 80}},
        {"http://127.0.0.1@evil.example/", 0, {false, false, true, "evil.example", 80}},
        {"http://localhost.evil.example/", 0, {false, false, false, "localhost.evil.example", 80}},
        {"https://u:p@h", 0, {true, false, true, "h", 443}},
        {"https://", -1, {0}},
        {"https:///p", -1, {0}},
        {"https://h:", -1, {0}},
        {"https://h:0", -1, {0}},
        {"https://h:65536", -1, {0}},
        {"https://h:8x", -1, {0}},
        {"https://[::1", -1, {0}},
        {"https://[::1]x", -1, {0}},
        {"https://h h", -1, {0}},
        {"https://h\\x", -1, {0}},
        {"ftp://h", -1, {0}},
        {"h", -1, {0}},
        {"", -1, {0}},
    };
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        struct form_url url = {0};
        if (form_url(urls[i].text, &url) != urls[i].rc)
            fail_msg("%s", urls[i].text);
        assert_memory_equal(&url, &urls[i].url, sizeof(url));
    }
    assert_true(form_is_uuid("42b77989-d3ba-4740-a6c3-3010fa93063D"));
    assert_false(form_is_uuid("42b77989-d3ba-4740-a6c3-3010fa93063"));
    assert_false(form_is_uuid("42b77989-d3ba-4740-a6c3-3010fa93063d0"));
    assert_true(form_is_env_name("_A1"));
    assert_false(form_is_env_name("1A"));
    assert_false(form_is_env_name(""));
    assert_int_equal(form_choice("a|bc|d", "bc"), 1);
    assert_int_equal(form_choice("a|bc|d", "b"), -1);
    assert_int_equal(form_choice("a|bc|d", "a|bc"), -1);
    assert_int_equal(form_choice("a|bc|d", ""), -1);
    AUTO(str) char *choice = form_choice_at("a|bc|d", 2);
    assert_string_equal(choice, "d");
    assert_null(form_choice_at("a|bc|d", 3));
}

static void lists_split_at_commas_outside_parentheses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *items; /* the items, separated by '|' */
    } cases[] = {
        {"", ""},
        {" , ,", ""},
        {"a", "a"},
        {" a , b c ,,d", "a|b c|d"},
        {"Bash(git log, -p),Read", "Bash(git log, -p)|Read"},
        {"f((a,b),c),d", "f((a,b),c)|d"},
        {"a),b", "a)|b"},
        {"f(a,b", "f(a,b"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(strlist) struct strlist list = STRLIST_INIT;
        AUTO(buf) struct buf text = BUF_INIT(100);
        assert_int_equal(strlist_split(&list, cases[i].text), 0);
        strlist_join(&list, "|", &text);
        assert_string_equal(buf_str(&text), cases[i].items);
        if (list.count > 0)
            assert_null(list.items[list.count]);
    }
}

static void a_list_has_a_variable_once(void **state)
{
    (void)state;
    AUTO(strlist) struct strlist list = STRLIST_INIT;
    AUTO(buf) struct buf text = BUF_INIT(100);
    static const char *const settings[][2] = {
        {"A", "1"}, {"AB", "2"}, {"B", ""}, {"A", "3"}, {"B", "x=y"}, {"", "4"}, {"AB", "5"},
    };
    for (size_t i = 0; i < COUNT_OF(settings); i++)
        assert_int_equal(strlist_set(&list, settings[i][0], settings[i][1]), 0);
    strlist_join(&list, "|", &text);
    assert_string_equal(buf_str(&text), "A=3|AB=5|B=x=y|=4");
    assert_null(list.items[list.count]);
}

static void lists_have_a_maximum(void **state)
{
    (void)state;
    AUTO(strlist) struct strlist list = STRLIST_INIT;
    for (int i = 0; i < STRLIST_MAX; i++)
        assert_int_equal(strlist_addf(&list, "%d", i), 0);
    assert_true(strlist_has(&list, "4095"));
    assert_false(strlist_has(&list, "4096"));
    assert_int_equal(strlist_add(&list, "x"), -1);
    assert_true(list.failed);
    assert_int_equal(list.count, STRLIST_MAX);
}

static void reads_base64url_that_is_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bytes; /* NULL: refused */
    } cases[] = {
        {"", ""},           {"Zg", "f"},
        {"Zm8", "fo"},      {"Zm9v", "foo"},
        {"Zm9vYg", "foob"}, {"-_-_", "\xfb\xff\xbf"},
        {"Z", NULL},        {"Zm9vY", NULL},
        {"Zg==", NULL},     {"Zh", NULL},
        {"Zm9", NULL},      {"+/+/", NULL},
        {"Zm 8", NULL},     {"Zm8\n", NULL},
        {"Zm8.", NULL},     {"Zm\xc3\xa9", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(64);
        int rc = str_read_base64url(cases[i].text, strlen(cases[i].text), &out);
        if ((rc == 0) != (cases[i].bytes != NULL))
            fail_msg("'%s': %d", cases[i].text, rc);
        if (rc == 0)
            assert_string_equal(buf_str(&out), cases[i].bytes);
    }
    AUTO(buf) struct buf small = BUF_INIT(2);
    assert_int_equal(str_read_base64url("Zm9vYg", 6, &small), -1);
}

static void reads_base64_with_its_padding(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bytes; /* NULL: none */
    } cases[] = {
        {"", ""},       {"Zg==", "f"},  {"Zm8=", "fo"},  {"Zm9v", "foo"}, {"+/+/", "\xfb\xff\xbf"},
        {"Zg=", NULL},  {"Zg", NULL},   {"Zg===", NULL}, {"Z===", NULL},  {"====", NULL},
        {"Zh==", NULL}, {"Zm9=", NULL}, {"-_-_", NULL},  {"Zm=v", NULL},  {"Zm9v\n", NULL},
        {"Zm9 ", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(100);
        int rc = str_read_base64(cases[i].text, strlen(cases[i].text), &out);
        if ((rc == 0) != (cases[i].bytes != NULL))
            fail_msg("%s: %d", cases[i].text, rc);
        if (rc == 0)
            assert_string_equal(buf_str(&out), cases[i].bytes);
    }
}

static void html_is_escaped_for_text_and_quoted_attributes(void **state)
{
    (void)state;
    AUTO(buf) struct buf out = BUF_INIT(256);
    str_add_html(&out, "");
    assert_string_equal(buf_str(&out), "");
    str_add_html(&out, "a<b>&\"c\"'d' \xc3\xa9");
    assert_string_equal(buf_str(&out), "a&lt;b&gt;&amp;&quot;c&quot;&#39;d&#39; \xc3\xa9");
}

static void choices_are_listed_as_people_say_them(void **state)
{
    static const char *const cases[][2] = {
        {NULL, ""}, {"a", "a"}, {"a|b", "a or b"}, {"a|b|c", "a, b or c"}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf out = BUF_INIT(256);
        str_add_choices(&out, cases[i][0]);
        assert_string_equal(buf_str(&out), cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_valid_utf8_characters),
        cmocka_unit_test(takes_exactly_the_code_points_that_exist),
        cmocka_unit_test(finds_invalid_bytes_wherever_they_stand),
        cmocka_unit_test(replaces_invalid_bytes_one_by_one),
        cmocka_unit_test(blank_is_white_space_of_any_script),
        cmocka_unit_test(numbers_are_whole_texts_within_bounds),
        cmocka_unit_test(the_nearest_name_is_what_was_meant),
        cmocka_unit_test(encodes_hex_and_base64),
        cmocka_unit_test(reads_base64url_that_is_exact),
        cmocka_unit_test(reads_base64_with_its_padding),
        cmocka_unit_test(escapes_for_json),
        cmocka_unit_test(knows_the_forms_of_names_and_urls),
        cmocka_unit_test(a_list_has_a_variable_once),
        cmocka_unit_test(lists_split_at_commas_outside_parentheses),
        cmocka_unit_test(lists_have_a_maximum),
        cmocka_unit_test(html_is_escaped_for_text_and_quoted_attributes),
        cmocka_unit_test(choices_are_listed_as_people_say_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
