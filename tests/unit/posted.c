/* Forms that browsers send, and pages made for them. */
#include "http/posted.h"
#include "base/auto.h"
#include "runner/api/page.h"
#include "runner/api/visits.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_form_is_split_and_decoded(void **state)
{
    (void)state;
    struct posted posted;
    struct err err;
    char text[] = "csrf=abc&code=a%23b+c%2B&empty=&bare";
    assert_int_equal(posted_parse(text, strlen(text), &posted, &err), 0);
    assert_int_equal(posted.count, 4);
    assert_string_equal(posted_get(&posted, "code"), "a#b c+");
    assert_string_equal(posted_get(&posted, "empty"), "");
    assert_string_equal(posted_get(&posted, "bare"), "");
    assert_null(posted_get(&posted, "cod"));
}

static void what_is_no_form_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *part;
    } cases[] = {
        {"a=%zz", 5, "hex digits"},
        {"a=%0a", 5, "control character"},
        {"a=%ff", 5, "UTF-8"},
        {"a=1&a=2", 7, "twice"},
        {"a=1\0b", 5, "control"},
        {"a=\x01", 3, "control"},
        {"a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q", 33, "more than 16"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct posted posted;
        struct err err = ERR_INIT;
        char text[64] = "";
        memcpy(text, cases[i].text, cases[i].len);
        assert_int_equal(posted_parse(text, cases[i].len, &posted, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, cases[i].part));
    }
}

static void values_are_escaped_and_parts_are_not(void **state)
{
    (void)state;
    AUTO(buf) struct buf part = BUF_INIT(64), out = BUF_INIT(256);
    buf_adds(&part, "<i>");
    PAGE_FILL("{{a}} {{b}} {{c}}{{aa}} {{a", &out, {.name = "a", .text = "<\"&'>{{b}}"},
              {.name = "b", .part = &part});
    assert_string_equal(buf_str(&out), "&lt;&quot;&amp;&#39;&gt;{{b}} <i>  {{a");
}

static int64_t now_us;
static int64_t mono_us(void *arg)
{
    (void)arg;
    return now_us;
}
static int64_t real_ms(void *arg)
{
    (void)arg;
    return now_us / 1000;
}

static void a_visit_ends_and_the_oldest_makes_room(void **state)
{
    (void)state;
    const struct clock clock = {.mono_us = mono_us, .real_ms = real_ms};
    struct visit first, visit, found;
    struct visits *visits = visits_new();
    clock_use(&clock);
    now_us = 1000000;
    visits_add(visits, "secret", 0, &first);
    assert_false(visits_find(visits, "", &found));
    assert_true(visits_find(visits, first.cookie, &found));
    assert_string_equal(found.csrf, first.csrf);
    now_us += (int64_t)VISIT_MS * 1000 - 1000;
    assert_true(visits_find(visits, first.cookie, &found));
    now_us += 1000;
    assert_false(visits_find(visits, first.cookie, &found));
    visits_add(visits, "secret", 0, &first);
    for (int i = 0; i < VISITS_MAX - 1; i++) {
        now_us += 1000;
        visits_add(visits, "secret", 0, &visit);
    }
    assert_true(visits_find(visits, first.cookie, &found));
    now_us += 1000;
    visits_add(visits, "secret", 0, &visit);
    assert_false(visits_find(visits, first.cookie, &found));
    visits_remove(visits, visit.cookie);
    assert_false(visits_find(visits, visit.cookie, &found));
    clock_use(NULL);
    visits_free(visits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_is_split_and_decoded),
        cmocka_unit_test(what_is_no_form_is_refused),
        cmocka_unit_test(values_are_escaped_and_parts_are_not),
        cmocka_unit_test(a_visit_ends_and_the_oldest_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
