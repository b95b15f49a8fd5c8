/* Patterns in Perl's and Python's spelling, on texts of any bytes. */
#include "regex/regex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* "start-end" of the first match, "none", or the error. */
static const char *first(const char *pattern, const char *text)
{
    static char said[300];
    struct err err = ERR_INIT;
    size_t start = 0, end = 0;
    AUTO(regex) struct regex *match = regex_new(pattern, &err);
    int got = match ? regex_next(match, text, strlen(text), 0, &start, &end, &err) : -1;
    if (got < 0)
        snprintf(said, sizeof(said), "%s", err.msg);
    else if (got == 0)
        snprintf(said, sizeof(said), "none");
    else
        snprintf(said, sizeof(said), "%zu-%zu", start, end);
    return said;
}

static void patterns_are_those_of_perl_and_python(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text, *match;
    } cases[] = {
        {"b+", "abba", "1-3"},
        {"^two$", "one\ntwo\r\n", "4-7"},
        {"(?P<x>l)(?P=x)", "hello", "2-4"},
        {"(?i)\xc3\x84", "x\xc3\xa4", "1-3"},
        /* Python's letters are all letters, */
        {"h\\wl", "h\xc3\xa4l", "0-4"},
        {"\\bx", "\xc3\xa4x", "none"},
        {"\\d", "\xd9\xa3", "0-2"},
        /* but not with the flag `a`; */
        {"(?a)h\\wl", "h\xc3\xa4l", "none"},
        {"(?u)h\\wl", "h\xc3\xa4l", "0-4"},
        {"(?a:x)y", "xy", "0-2"},
        {"(?aux)x y", "xy", "0-2"},
        {"(?i-s:X)", "x", "0-1"},
        /* characters by number; */
        {"h\\u00e4l", "h\xc3\xa4l", "0-4"},
        {"[\\u00e4-\\u00e6]", "\xc3\xa5", "0-2"},
        {"\\U0001F600", "\xf0\x9f\x98\x80", "0-4"},
        {"\\\\u0041", "\\u0041", "0-6"},
        /* from none on. */
        {"^ab{,2}$", "abb", "0-3"},
        {"^ab{,2}$", "abbb", "none"},
        {"^(ab){,2}$", "abab", "0-4"},
        {"^[a]{,1}$", "a", "0-1"},
        {"a[{,2}]", "a,", "0-2"},
        {"a\\{,2}", "a{,2}", "0-5"},
        {"[]{,2}]", "2", "0-1"},
        {"[^]a]x", "]x", "none"},
        {"\\Qb{,2}[\\E", "b{,2}[", "0-6"},
        {"{,2}", "{,2}", "0-4"},
        {"\\", "x", "the pattern is wrong at character 1: \\ at end of pattern"},
        {"\\u00e4(", "x", "the pattern is wrong: missing closing parenthesis"},
        {"a\\u00g", "x",
         "the pattern is wrong at character 3: PCRE2 does not support \\F, \\L, \\l, \\N{name}, "
         "\\U, or \\u"},
        {"[", "x",
         "the pattern is wrong at character 1: missing terminating ] for character class"},
        {"(a|aa)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
         "the pattern takes too many steps on this text (-47)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (strcmp(first(cases[i].pattern, cases[i].text), cases[i].match) != 0)
            fail_msg("'%s' in '%s': %s, not %s", cases[i].pattern, cases[i].text,
                     first(cases[i].pattern, cases[i].text), cases[i].match);
}

static void a_text_may_hold_any_bytes(void **state)
{
    (void)state;
    assert_string_equal(first("foo", "\xff\xfe\xc3(foo"), "4-7");
    assert_string_equal(first(".", "\xff"), "none");
}

/* More than the small stack of PCRE2's own compiled code holds. */
static void long_lines_match(void **state)
{
    (void)state;
    enum { LINE = 2000000 };
    static const char *const patterns[] = {"^(\\w|\\.)+$", "^(a|aa)+$", "(?:a|b)*c?$"};
    struct err err = ERR_INIT;
    char *line = malloc(LINE);
    assert_non_null(line);
    memset(line, 'a', LINE);
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        size_t start = 1, end = 0, len = i == 1 ? 50000 : LINE / 20;
        AUTO(regex) struct regex *match = regex_new(patterns[i], &err);
        assert_non_null(match);
        int got = regex_next(match, line, len, 0, &start, &end, &err);
        if (got != 1 || start != 0 || end != len)
            fail_msg("%s: %d %zu-%zu %s", patterns[i], got, start, end, err.msg);
    }
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_those_of_perl_and_python),
        cmocka_unit_test(a_text_may_hold_any_bytes),
        cmocka_unit_test(long_lines_match),
    };
    return cmocka_run_group_tests_name("regex", tests, NULL, NULL);
}
