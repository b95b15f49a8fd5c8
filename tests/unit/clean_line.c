/* What redaction may change in a line, and what it may not. */
#include "runner/claude/clean_line.h"
#include "base/auto.h"
#include "base/str.h"
#include "runner/claude/stream_json.h"
#include "testbase.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

/* A run of the CLI with every kind of line, ids, numbers, and words that decide the outcome. */
static const char *const runs[] = {
    "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"8a1c5a1e-7a2f-4c55-9d2f-"
    "0123456789ab\","
    "\"tools\":[\"Bash\",\"Read\"],\"model\":\"claude-opus-4-5\",\"uuid\":\"11112222-aaaa\"}\n"
    "{\"type\":\"assistant\",\"message\":{\"id\":\"msg_0123456789\",\"type\":\"message\","
    "\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"toolu_0123456789\","
    "\"name\":\"Bash\",\"input\":{\"command\":\"echo success\",\"timeout\":123456789}}],"
    "\"usage\":{\"input_tokens\":1234567}}}\n"
    "{\"type\":\"user\",\"message\":{\"role\":\"user\",\"content\":[{\"tool_use_id\":"
    "\"toolu_0123456789\",\"type\":\"tool_result\",\"content\":\"a \\\"quoted\\\" success\\n"
    "\\u00e9\\ud83d\\ude00\\\\n\",\"is_error\":false}]}}\n"
    "{\"subtype\":\"success\",\"is_error\":false,\"type\":\"result\",\"api_error_status\":null,"
    "\"duration_ms\":1234567,\"num_turns\":2,\"result\":\"is_error success true\","
    "\"session_id\":\"8a1c5a1e-7a2f-4c55-9d2f-0123456789ab\",\"total_cost_usd\":0.123456789,"
    "\"structured_output\":{\"result\":\"subtype\",\"n\":12345678901234567890},"
    "\"usage\":{\"input_tokens\":1234567},\"modelUsage\":{\"claude-opus-4-5\":{\"costUSD\":0.125}}}"
    "\n",
    "{\"type\":\"assistant\",\"error\":\"authentication_failed\",\"message\":{}}\n"
    "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":401,"
    "\"num_turns\":1234567,\"result\":\"Failed to authenticate\"}\n",
    "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\","
    "\"resetsAt\":1795245960,\"rateLimitType\":\"five_hour\"}}\n"
    "{\"type\":\"result\",\"subtype\":\"error_max_turns\",\"is_error\":true,"
    "\"errors\":[\"Reached maximum number of turns (123456)\"]}\n"
    "{\"type\":\"command_lifecycle\",\"command_uuid\":\"0123456\",\"state\":\"completed\"}\n",
};

/* --- the property -------------------------------------------------------------------------- */

struct heard {
    struct redact_set *redact;
    struct claude_output stream;
    struct buf events; /* one event a line */
};

static void on_event(const char *json, size_t len, void *arg)
{
    struct heard *heard = arg;
    buf_add(&heard->events, json, len);
    buf_addc(&heard->events, '\n');
}

static void hear(struct heard *heard, const char *run, const char *secret)
{
    *heard = (struct heard){.redact = redact_new()};
    buf_init(&heard->events, 1u << 20);
    claude_output_init(&heard->stream, heard->redact, on_event, heard);
    assert_int_equal(redact_add(heard->redact, secret), 0);
    claude_output_feed(&heard->stream, run, strlen(run));
    claude_output_finish(&heard->stream);
}

static void heard_done(struct heard *heard)
{
    claude_output_done(&heard->stream);
    redact_free(heard->redact);
    buf_done(&heard->events);
}

static bool is_id(const char *name)
{
    static const char *const ids[] = {"type", "subtype", "session_id", "id",   "tool_use_id",
                                      "uuid", "model",   "role",       "error"};
    for (size_t i = 0; name && i < COUNT_OF(ids); i++)
        if (strcmp(ids[i], name) == 0)
            return true;
    return false;
}

static bool same_text(const char *one, const char *other)
{
    return (!one && !other) || (one && other && strcmp(one, other) == 0);
}

/* Whether both have the same shape; the contents of strings may differ. */
static bool has_shape_of(const struct json *one, const struct json *other)
{
    const struct json *a = json_first(one), *b = json_first(other);
    if (json_type(one) != json_type(other) || !same_text(json_name(one), json_name(other)))
        return false;
    if (json_type(one) == JSON_STRING)
        return !is_id(json_name(one)) || same_text(json_text(one), json_text(other));
    if (!a && !b) {
        AUTO(buf) struct buf x = BUF_INIT(1000);
        AUTO(buf) struct buf y = BUF_INIT(1000);
        json_print(one, &x);
        json_print(other, &y);
        return same_text(buf_str(&x), buf_str(&y));
    }
    while (a && b && has_shape_of(a, b)) {
        a = json_next(a);
        b = json_next(b);
    }
    return !a && !b;
}

static void assert_same_shape(const char *lines, const char *plain, const char *secret)
{
    struct err err;
    while (*plain) {
        size_t n = strcspn(lines, "\n"), m = strcspn(plain, "\n");
        AUTO(json) struct json *one = json_parse(lines, n, &err);
        AUTO(json) struct json *other = json_parse(plain, m, &err);
        if (!one || !other || !has_shape_of(one, other))
            fail_msg("with the secret '%s': %.*s", secret, (int)n, lines);
        lines += n + 1;
        plain += m + 1;
    }
    assert_string_equal(lines, "");
}

static void assert_nothing_decided(const char *run, const struct heard *plain, const char *secret)
{
    struct heard heard;
    hear(&heard, run, secret);
    const struct claude_output *a = &heard.stream, *b = &plain->stream;
    if (a->have_result != b->have_result || a->is_error != b->is_error ||
        strcmp(a->subtype, b->subtype) != 0 || a->api_status != b->api_status ||
        a->num_turns != b->num_turns || strcmp(a->last_error, b->last_error) != 0 ||
        a->limit_reset_ms != b->limit_reset_ms)
        fail_msg("the secret '%s' changes the outcome", secret);
    assert_same_shape(buf_str(&heard.events), buf_str(&plain->events), secret);
    AUTO(buf) struct buf one = BUF_INIT(10000);
    AUTO(buf) struct buf other = BUF_INIT(10000);
    buf_addf(&one, "{\"\":0%s}\n", buf_str(&a->members));
    buf_addf(&other, "{\"\":0%s}\n", buf_str(&b->members));
    assert_same_shape(buf_str(&one), buf_str(&other), secret);
    heard_done(&heard);
}

/* Tries every piece of a run as a secret: names, words, ids, digits, and pieces that span several
 * of these. */
static void no_secret_changes_an_outcome_an_id_a_number_or_a_shape(void **state)
{
    (void)state;
    static const size_t sizes[] = {6, 7, 8, 11, 17};
    for (size_t i = 0; i < COUNT_OF(runs); i++) {
        struct heard plain;
        size_t len = strlen(runs[i]);
        hear(&plain, runs[i], "");
        for (size_t size = 0; size < COUNT_OF(sizes); size++)
            for (size_t at = 0; at + sizes[size] <= len; at++) {
                AUTO(str) char *secret = str_copy(runs[i] + at, sizes[size]);
                assert_nothing_decided(runs[i], &plain, secret);
            }
        heard_done(&plain);
    }
}

/* --- single lines -------------------------------------------------------------------------- */

static void only_what_strings_say_is_taken_out(void **state)
{
    (void)state;
    static const struct {
        const char *secret, *line, *want; /* NULL: unchanged */
    } cases[] = {
        {"is_error", "{\"is_error\":true,\"result\":\"is_error\"}",
         "{\"is_error\":true,\"result\":\"" REDACT_MARK "\"}"},
        {"success", "{\"subtype\":\"success\",\"result\":\"a success\"}",
         "{\"subtype\":\"success\",\"result\":\"a " REDACT_MARK "\"}"},
        {"123456", "{\"n\":123456,\"x\":-1.123456e3}", NULL},
        {"123456", "{\"n\":[\"123456\",123456]}", "{\"n\":[\"" REDACT_MARK "\",123456]}"},
        {"nsecret", "{\"a\":\"\\nsecret\"}", NULL}, /* an escape sequence stays whole */
        {"x\",\"y\"", "{\"a\":[\"x\",\"y\"]}", NULL},
        {"x\",\"y\"", "{\"a\":\"x\\\",\\\"y\\\"\"}", "{\"a\":\"" REDACT_MARK "\"}"},
        {"hunter2", "{\"a\":\"\\u0068unter2\",\"b\":\"\\u0041\"}",
         "{\"a\":\"" REDACT_MARK "\",\"b\":\"\\u0041\"}"},
        /* the arguments of tools are not part of the protocol */
        {"success", "{\"input\":{\"type\":\"success\"},\"type\":\"success\"}",
         "{\"input\":{\"type\":\"" REDACT_MARK "\"},\"type\":\"success\"}"},
        {"sk-ant-1", "{\"structured_output\":[{\"sk-ant-1\":1,\"sk-ant-1 \":{\"sk-ant-1\":2}}]}",
         "{\"structured_output\":[{\"" REDACT_MARK "\":1,\"" REDACT_MARK "  2\":{\"" REDACT_MARK
         " 3\":2}}]}"},
        {"command", "{\"input\":{\"command\":\"command\"}}",
         "{\"input\":{\"command\":\"" REDACT_MARK "\"}}"},
        {"sk-ant-1", "{\"id\":\"a sk-ant-1\"}", "{\"id\":\"a " REDACT_MARK "\"}"}, /* this value is
                                                                                    * not an id */
        {"absent", "{\"a\":\"b\"}", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct redact_set *set = redact_new();
        AUTO(buf) struct buf out = BUF_INIT(1000);
        assert_int_equal(redact_add(set, cases[i].secret), 0);
        bool changed = clean_line(set, cases[i].line, strlen(cases[i].line), &out);
        assert_string_equal(buf_str(&out), cases[i].want ? cases[i].want : "");
        assert_int_equal(changed, cases[i].want != NULL);
        redact_free(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_secret_changes_an_outcome_an_id_a_number_or_a_shape),
        cmocka_unit_test(only_what_strings_say_is_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
