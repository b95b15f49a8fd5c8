/* Which documents the set-up regards as equal, and which fields of an existing one it
 * overwrites. */
#include "runner/cli/cloud.h"

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct json *parse(const char *text)
{
    struct err err;
    struct json *json = json_parse(text, strlen(text), &err);
    if (!json)
        fail_msg("%s: %s", text, err.msg);
    return json;
}

static void tells_what_differs(void **state)
{
    static const struct {
        const char *wish, *found, *names;
    } cases[] = {
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", ""},
        {"{\"a\":1}", "{\"a\":\"1\"}", ""}, /* JSON carries int64 as text */
        {"{\"a\":1}", "{\"a\":2}", "a"},
        {"{\"a\":1}", "{}", "a"},
        {"{\"a\":0,\"b\":false,\"c\":\"\",\"d\":\"0\"}", "{}", ""},
        {"{\"a\":0}", "{\"a\":3}", "a"},
        {"{\"a\":false}", "{\"a\":true}", "a"},
        {"{\"a\":true}", "{\"a\":\"true\"}", "a"},
        {"{\"a\":\"1\"}", "{\"a\":\"1000m\"}", ""},
        {"{\"a\":\"2Gi\"}", "{\"a\":\"2048Mi\"}", ""},
        {"{\"a\":\"2Gi\"}", "{\"a\":\"2G\"}", "a"},
        {"{\"a\":\"3600s\"}", "{\"a\":\"3600.0s\"}", ""},
        {"{\"a\":\"3600s\"}", "{\"a\":\"3600\"}", ""},
        {"{\"a\":\"x\"}", "{\"a\":\"y\"}", "a"},
        {"{\"a\":\"x\"}", "{\"a\":null}", "a"},
        {"{\"a\":\"x\"}", "{\"a\":[]}", "a"},
        {"{\"a\":[\"x\",\"y\"]}", "{\"a\":[\"y\",\"x\"]}", ""},
        {"{\"a\":[\"x\"]}", "{\"a\":[\"x\",\"y\"]}", "a"},
        {"{\"a\":[\"x\"]}", "{}", "a"},
        {"{\"a\":[{\"b\":1}]}", "{\"a\":[{\"b\":1,\"c\":2}]}", ""},
        {"{\"a\":{\"b\":{\"c\":1}}}", "{\"a\":{\"b\":{\"c\":2}}}", "a"},
        {"{\"template\":{\"template\":{\"timeout\":\"1s\",\"maxRetries\":0}}}",
         "{\"template\":{\"template\":{\"timeout\":\"2s\",\"maxRetries\":3}}}",
         "timeout,maxRetries"},
        {"{\"containers\":[{\"env\":[{\"name\":\"A\",\"value\":\"1\"}]}]}",
         "{\"containers\":[{\"env\":[{\"name\":\"B\",\"value\":\"2\"},"
         "{\"name\":\"A\",\"value\":\"1\"}]}]}",
         ""},
        {"{\"containers\":[{\"env\":[{\"name\":\"A\",\"value\":\"1\"}]}]}",
         "{\"containers\":[{\"env\":[{\"name\":\"A\",\"value\":\"2\"}]}]}", "env"},
        {"{\"containers\":[{\"resources\":{\"limits\":{\"cpu\":\"2\"}}}]}",
         "{\"containers\":[{\"resources\":{\"limits\":{\"cpu\":\"1\"}}}]}", "cpu"},
        {"{\"network\":\"projects/p/global/networks/n\"}",
         "{\"network\":\"https://example.com/compute/v1/projects/p/global/networks/n\"}", ""},
        {"{\"network\":\"projects/p/global/networks/n\"}",
         "{\"network\":\"https://example.com/compute/v1/projects/p/global/networks/nn\"}",
         "network"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(json) struct json *wish = parse(cases[i].wish), *found = parse(cases[i].found);
        AUTO(strlist) struct strlist names = STRLIST_INIT;
        AUTO(buf) struct buf text = BUF_INIT(1024);
        match_differences(wish, found, &names);
        strlist_join(&names, ",", &text);
        if (strcmp(buf_str(&text), cases[i].names) != 0)
            fail_msg("%s, %s: '%s' instead of '%s'", cases[i].wish, cases[i].found, buf_str(&text),
                     cases[i].names);
    }
}

static void nothing_found_is_all_different(void **state)
{
    AUTO(json) struct json *wish = parse("{\"a\":1,\"b\":[\"x\"],\"c\":{\"d\":true},\"e\":0}");
    AUTO(strlist) struct strlist names = STRLIST_INIT;
    AUTO(buf) struct buf text = BUF_INIT(1024);
    (void)state;
    match_differences(wish, NULL, &names);
    strlist_join(&names, ",", &text);
    assert_string_equal(buf_str(&text), "a,b,c");
}

static void puts_the_wish_over_what_is_there(void **state)
{
    static const struct {
        const char *found, *wish, *merged;
    } cases[] = {
        {"{\"a\":1,\"b\":2}", "{\"b\":3,\"c\":4}", "{\"a\":1,\"b\":3,\"c\":4}"},
        {"{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"c\":3}}", "{\"a\":{\"b\":1,\"c\":3}}"},
        {"{\"a\":[1,2]}", "{\"a\":[3]}", "{\"a\":[3]}"},
        {"{\"containers\":[{\"image\":\"i\",\"buildInfo\":{},\"env\":[{\"name\":\"A\"},"
         "{\"name\":\"B\",\"value\":\"1\"}]},{\"image\":\"side\"}]}",
         "{\"containers\":[{\"env\":[{\"name\":\"B\",\"value\":\"2\"}]}]}",
         "{\"containers\":[{\"image\":\"i\",\"env\":[{\"name\":\"A\"},{\"name\":\"B\",\"value\":"
         "\"2\"}]},{\"image\":\"side\"}]}"},
        {"{}", "{\"containers\":[{\"image\":\"i\"}]}", "{\"containers\":[{\"image\":\"i\"}]}"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct json_writer w;
        AUTO(json) struct json *wish = parse(cases[i].wish), *found = parse(cases[i].found);
        AUTO(buf) struct buf text = BUF_INIT(4096);
        json_write(&w, &text);
        match_merge(&w, NULL, found, wish);
        assert_string_equal(buf_str(&text), cases[i].merged);
    }
}

static void knows_its_own_by_their_mark(void **state)
{
    AUTO(json) struct json *label = parse("{\"labels\":{\"managed-by\":\"claude-runner\"}}");
    AUTO(json) struct json *words = parse("{\"description\":\"" CLOUD_MARK_WORDS ".\"}");
    AUTO(json)
    struct json *other = parse("{\"labels\":{\"managed-by\":\"x\"},\"description\":\"\"}");
    (void)state;
    assert_true(thing_is_ours(label));
    assert_true(thing_is_ours(words));
    assert_false(thing_is_ours(other));
    assert_false(thing_is_ours(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_what_differs),
        cmocka_unit_test(nothing_found_is_all_different),
        cmocka_unit_test(puts_the_wish_over_what_is_there),
        cmocka_unit_test(knows_its_own_by_their_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
