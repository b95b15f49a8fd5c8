/* The body of a webhook, as JavaScript prints it. JSON.stringify itself made the pairs. */
#include "testbase.h"

#include "runner/webhook/stringify.h"

#include <string.h>

static const struct {
    const char *text, *printed;
} cases[] = {
    {"{ \"a\" : [ 1 , 2.0, -0, 1.50 ] }", "{\"a\":[1,2,0,1.5]}"},
    {"[1e3,1E+21,1e21,123456789012345680000,1e-6,1e-7,0.1e-6]",
     "[1000,1e+21,1e+21,123456789012345680000,0.000001,1e-7,1e-7]"},
    {"[12345678901234567890,9007199254740993,0.1,0.30000000000000004,5e-324]",
     "[12345678901234567000,9007199254740992,0.1,0.30000000000000004,5e-324]"},
    {"[1.7976931348623157e308,-1.25e-9,100,1.0e2,4.35,2.5e-5]",
     "[1.7976931348623157e+308,-1.25e-9,100,100,4.35,0.000025]"},
    {"{\"b\":1,\"2\":2,\"a\":3,\"10\":4,\"1\":5,\"01\":6,\"-1\":7,\"4294967295\":8,"
     "\"4294967294\":9,\"\":10}",
     "{\"1\":5,\"2\":2,\"10\":4,\"4294967294\":9,\"b\":1,\"a\":3,\"01\":6,\"-1\":7,"
     "\"4294967295\":8,\"\":10}"},
    {"\"\\u00e9 \\/ \\u0041 \\ud83d\\ude00 \\u007f \\u2028\"",
     "\"\xc3\xa9 / A \xf0\x9f\x98\x80 \x7f \xe2\x80\xa8\""},
    {"\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\\\u001f\"", "\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\\\u001f\""},
    {"[true,false,null,[],{},\"\"]", "[true,false,null,[],{},\"\"]"},
};

static void prints_as_javascript_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err;
        AUTO(buf) struct buf out = BUF_INIT(4096), again = BUF_INIT(4096);
        OK(stringify(cases[i].text, strlen(cases[i].text), &out, &err) == 0, &err);
        assert_string_equal(buf_str(&out), cases[i].printed);
        OK(stringify(out.data, out.len, &again, &err) == 0, &err);
        assert_string_equal(buf_str(&again), buf_str(&out));
    }
}

static void what_is_no_json_or_too_long_is_refused(void **state)
{
    (void)state;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(4096), small = BUF_INIT(3);
    assert_int_equal(stringify("{", 1, &out, &err), -1);
    assert_int_equal(stringify("[1,2]", 5, &small, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_as_javascript_does),
        cmocka_unit_test(what_is_no_json_or_too_long_is_refused),
    };
    return cmocka_run_group_tests_name("stringify", tests, NULL, NULL);
}
