/* Packets, the list of a push, and which refs its rules allow. */
#include "testbase.h"

#include "base/strlist.h"
#include "git/pkt.h"
#include "git/wishes.h"

#include <stdio.h>
#include <string.h>

#define ZERO "0000000000000000000000000000000000000000"
#define ONE "1111111111111111111111111111111111111111"
#define TWO "abababababababababababababababababababab"

static void packets_are_read_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        ssize_t size;
        enum pkt_kind kind;
    } cases[] = {
        {"0000", 4, PKT_FLUSH}, {"0001", 4, PKT_DELIM}, {"0002", 4, PKT_END},
        {"0003", -1, PKT_DATA}, {"0004", 4, PKT_DATA},  {"0006a\n", 6, PKT_DATA},
        {"0006a", 0, PKT_DATA}, {"00", 0, PKT_DATA},    {"", 0, PKT_DATA},
        {"000g", -1, PKT_DATA}, {"ffff", -1, PKT_DATA}, {"fff0", 0, PKT_DATA},
        {"FFF1", -1, PKT_DATA}, {" 004", -1, PKT_DATA},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pkt pkt;
        ssize_t n = pkt_read(cases[i].text, strlen(cases[i].text), &pkt);
        if (n != cases[i].size || (n > 0 && pkt.kind != cases[i].kind))
            fail_msg("%s: %zd", cases[i].text, n);
    }
    AUTO(buf) struct buf out = BUF_INIT(1u << 20);
    pkt_addf(&out, "%s", "hi");
    pkt_add_band(&out, 2, "x", 1);
    pkt_add_flush(&out);
    assert_string_equal(buf_str(&out), "0006hi0006\002x0000");
    AUTO(buf) struct buf big = BUF_INIT(1u << 20);
    static char much[PKT_DATA_MAX + 1];
    pkt_add_band(&big, 1, much, sizeof(much));
    assert_int_equal(big.len, sizeof(much) + 2 * (PKT_HEAD + 1));
    pkt_add(&big, much, sizeof(much));
    assert_false(buf_ok(&big));
}

/* Reads lines of a list, each in its own packet, and returns the result. */
static int read_lines(const char *const lines[], struct wishes *wishes, struct err *err)
{
    size_t used;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    for (size_t i = 0; lines[i]; i++)
        pkt_addf(&text, "%s%c%s", lines[i], '\0', i ? "" : "report-status side-band-64k atomic");
    pkt_add_flush(&text);
    buf_adds(&text, "PACK");
    int rc = wishes_read(text.data, text.len, wishes, &used, err);
    if (rc == 0)
        assert_string_equal(text.data + used, "PACK");
    return rc;
}

static void a_list_is_read_with_what_its_client_can_do(void **state)
{
    (void)state;
    struct err err;
    struct wishes wishes = {0};
    static const char *const lines[] = {ZERO " " ONE " refs/heads/a",
                                        ONE " " ZERO " refs/heads/b/c", ONE " " TWO " refs/tags/v1",
                                        NULL};
    OK(read_lines(lines, &wishes, &err) == 0, &err);
    assert_int_equal(wishes.count, 3);
    assert_true(wishes.wants_report && wishes.takes_bands && wishes.atomic);
    assert_true(wish_creates(&wishes.items[0]) && !wish_is_forced(&wishes.items[0]));
    assert_true(wish_deletes(&wishes.items[1]) && wish_is_forced(&wishes.items[1]));
    assert_true(wish_is_forced(&wishes.items[2])); /* a tag that moves to another object */
    wishes_done(&wishes);
}

static void a_list_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        ZERO " " ONE " HEAD",
        ZERO " " ONE " refs/heads",
        ZERO " " ONE " refs/heads/",
        ZERO " " ONE " refs/heads/../x",
        ZERO " " ONE " refs/heads/.x",
        ZERO " " ONE " refs/heads/x.lock",
        ZERO " " ONE " refs/heads/x.lock/y",
        ZERO " " ONE " refs/heads/x.",
        ZERO " " ONE " refs/heads//x",
        ZERO " " ONE " refs/heads/a b",
        ZERO " " ONE " refs/heads/a:b",
        ZERO " " ONE " refs/heads/a~1",
        ZERO " " ONE " refs/heads/a*",
        ZERO " " ONE " refs/heads/a@{1}",
        ZERO " " ONE " refs/heads/a\\b",
        ZERO " " ONE " refs/heads/a\tb",
        ZERO " " ZERO " refs/heads/x",
        ZERO "  " ONE " refs/heads/x",
        "0000 1111 refs/heads/x",
        ZERO "0 " ONE " refs/heads/x",
        ZERO " 111111111111111111111111111111111111111G refs/heads/x",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct err err;
        struct wishes wishes = {0};
        const char *const lines[] = {wrong[i], NULL};
        if (read_lines(lines, &wishes, &err) == 0)
            fail_msg("taken: %s", wrong[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
    struct err err;
    struct wishes wishes = {0};
    const char *const twice[] = {ZERO " " ONE " refs/heads/x", ONE " " TWO " refs/heads/x", NULL};
    assert_int_equal(read_lines(twice, &wishes, &err), -1);
}

static void a_list_of_too_many_refs_is_refused(void **state)
{
    (void)state;
    struct err err;
    size_t used;
    struct wishes wishes = {0};
    AUTO(buf) struct buf text = BUF_INIT(4u << 20);
    for (int i = 0; i <= WISHES_MAX; i++)
        pkt_addf(&text, ZERO " " ONE " refs/heads/b%d", i);
    pkt_add_flush(&text);
    assert_int_equal(wishes_read(text.data, text.len, &wishes, &used, &err), -1);
    assert_non_null(strstr(err.msg, "more than"));
}

static void rules_allow_what_they_name(void **state)
{
    (void)state;
    static const struct {
        const char *pattern; /* NULL: any */
        const char *ref;
        bool allowed;
    } cases[] = {
        {NULL, "refs/heads/main", true},
        {NULL, "refs/tags/v1", true},
        {NULL, "refs/for/main", false},
        {NULL, "refs/notes/x", false},
        {NULL, "refs/headsx/y", false},
        {"main", "refs/heads/main", true},
        {"main", "refs/heads/main2", false},
        {"main", "refs/tags/main", false},
        {"claude/*", "refs/heads/claude/a", true},
        {"claude/*", "refs/heads/claude/a/b", false},
        {"claude/*", "refs/heads/claude", false},
        {"claude/*", "refs/heads/xclaude/a", false},
        {"claude/**", "refs/heads/claude/a/b", true},
        {"*", "refs/heads/a", true},
        {"*", "refs/tags/a", false},
        {"refs/tags/v*", "refs/tags/v1", true},
        {"refs/tags/v*", "refs/heads/v1", false},
        {"refs/for/*", "refs/for/main", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(strlist) struct strlist branches = STRLIST_INIT;
        if (cases[i].pattern) {
            strlist_add(&branches, cases[i].pattern);
            assert_true(push_rules_is_pattern(cases[i].pattern));
        }
        const struct push_rules rules = {.any = !cases[i].pattern, .branches = &branches};
        if (push_rules_allow(&rules, cases[i].ref) != cases[i].allowed)
            fail_msg("%s: %s", cases[i].pattern ? cases[i].pattern : "any", cases[i].ref);
    }
    const struct push_rules none = {0};
    assert_false(push_rules_allow(&none, "refs/heads/main"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_are_read_and_written),
        cmocka_unit_test(a_list_is_read_with_what_its_client_can_do),
        cmocka_unit_test(a_list_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_list_of_too_many_refs_is_refused),
        cmocka_unit_test(rules_allow_what_they_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
