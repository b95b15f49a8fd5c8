/*
 * Python: PyRunner's contract at POST /run, and ours at POST /python.
 */
#include "testing.h"

#include "python.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct runner *the_runner;

static struct runner *shared(void)
{
    static const char *const settings[] = {"PYTHON_SLOTS", "2", NULL};
    struct runner *runner = runner_shared(&the_runner, settings);
    python_needed(runner, NULL);
    return runner;
}

/* ---- PyRunner ------------------------------------------------------------------------------- */

static struct reply *run(const char *code, const char *more)
{
    return python_at(shared(), "/run", code, more);
}

static void it_answers_as_pyrunner_did(void **state)
{
    (void)state;
    struct reply *reply = run("print('hello')", "");
    static const char *const members[] = {"status",         "stdout",      "stderr",
                                          "execution_time", "memory_used", "error"};
    assert_int_equal(cJSON_GetArraySize(reply->json), 6);
    for (size_t i = 0; i < COUNT(members); i++)
        assert_json_has(reply->json, members[i]);
    assert_json_text(reply->json, "status", "success");
    assert_json_text(reply->json, "stdout", "hello\n");
    assert_json_text(reply->json, "stderr", "");
    assert_true(cJSON_IsNull(json_at(reply->json, "error")));
    assert_true(json_number(reply->json, "execution_time") > 0);
    assert_true(json_number(reply->json, "memory_used") >= 0);
    double rounded = json_number(reply->json, "execution_time") * 1000;
    assert_true(fabs(rounded - round(rounded)) < 1e-6);
    reply_free(reply);
}

static void a_last_expression_is_printed_as_print_would(void **state)
{
    static const struct {
        const char *code, *more, *out;
    } cases[] = {
        {"2 + 2", "", "4\n"},
        {"'text'", "", "text\n"},
        {"None", "", ""},
        {"x = 5", "", ""},
        {"print(1)", "", "1\n"},
        {"print", "", "<built-in function print>\n"},
        {"x = [1, 2]\nx", "", "[1, 2]\n"},
        {"x = [1]\nx.append(2)", "", ""},
        {"1\n2\n3", "", "3\n"},
        {"2 + 2", "\"auto_print\":false", ""},
        {"2 + 2", "\"auto_print\":null", "4\n"},
        {"2 + 2", "\"auto_print\":\"no\"", ""},
        {"def f():\n    return 7\nf()", "", "7\n"},
        {"'\\u00e9\\u4e2d\\U0001f600'", "", "\u00e9\u4e2d\U0001f600\n"},
        {"if True:\n    5", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = run(cases[i].code, cases[i].more);
        if (strcmp(json_text(reply->json, "stdout"), cases[i].out) != 0)
            fail_msg("%s: %s", cases[i].code, reply->body);
        reply_free(reply);
    }
}

static void it_refuses_in_pyrunners_words(void **state)
{
    static const struct {
        const char *code, *message;
    } cases[] = {
        {"import os", "Import of 'os' is not allowed"},
        {"import math, sys", "Import of 'sys' is not allowed"},
        {"from subprocess import run", "Import from 'subprocess' is not allowed"},
        {"import requests", "Import of 'requests' is not in the allowed list"},
        {"from asyncio import run", "Import from 'asyncio' is not in the allowed list"},
        {"import io",
         "Direct import of 'io' is not allowed. Use 'from io import specific_item' instead"},
        {"from io import *", "Wildcard import from 'io' is not allowed"},
        {"from io import open", "Import of 'open' from 'io' is not allowed"},
        {"eval('1')", "Call to 'eval' is not allowed"},
        {"exec('1')", "Call to 'exec' is not allowed"},
        {"open('x')", "Call to 'open' is not allowed"},
        {"input()", "Call to 'input' is not allowed"},
        {"__import__('os')", "Call to '__import__' is not allowed"},
        {"getattr(1, 'real')", "Call to 'getattr' is not allowed"},
        {"compile('1', '', 'eval')", "Call to 'compile' is not allowed"},
        {"().__class__", "Access to '__class__' attribute is not allowed"},
        {"(lambda: 0).__globals__", "Access to '__globals__' attribute is not allowed"},
        {"print((1", "Syntax error: '(' was never closed (<unknown>, line 1)"},
        {"x = = 1", "Syntax error: invalid syntax (<unknown>, line 1)"},
        {"return 1", "Syntax error: 'return' outside function (<unknown>, line 1)"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = run(cases[i].code, "");
        char *full = textf("Security validation failed: %s", cases[i].message);
        assert_json_text(reply->json, "status", "error");
        assert_json_text(reply->json, "error", cases[i].message);
        assert_json_text(reply->json, "stderr", full);
        assert_json_text(reply->json, "stdout", "");
        assert_true(json_number(reply->json, "execution_time") == 0);
        assert_true(cJSON_IsNull(json_at(reply->json, "memory_used")));
        free(full);
        reply_free(reply);
    }
}

static void what_pyrunner_allows_runs(void **state)
{
    static const char *const codes[] = {
        "from io import StringIO\nb = StringIO()\nb.write('x')\nprint(b.getvalue())",
        "import math, cmath, decimal, fractions, random, statistics, itertools, functools, "
        "operator",
        "import collections, heapq, bisect, array, datetime, calendar, copy, pprint, re, string",
        "import textwrap, unicodedata, json, csv",
        "from collections import abc, defaultdict\nimport collections.abc",
        "from __future__ import annotations\nclass A:\n    def __init__(self):\n        self._x = "
        "1\nA()._x",
        "class B(Exception):\n    def __init__(self, a):\n        super().__init__(a)\nB(1)",
        "x = [i for i in range(3)]\nsorted(x, key=lambda a: -a)",
        "input = 3\nfile = 4\nprint(input + file)",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    print(e)",
        "isinstance(1, int), type(1), hasattr(1, 'real'), vars, globals() is not None, dir()",
        "f'{1:>5}' + '{} {name}'.format(1, name=2) + '%s' % 3",
        "match (1, 2):\n    case (a, b):\n        print(a + b)",
        "import json\njson.loads('{\"a\": [1]}')",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(codes); i++) {
        struct reply *reply = run(codes[i], "");
        if (strcmp(json_text(reply->json, "status"), "success") != 0)
            fail_msg("%s: %s", codes[i], reply->body);
        reply_free(reply);
    }
}

static void errors_come_with_their_traceback(void **state)
{
    (void)state;
    struct reply *reply = run("def f(x):\n    return 1 / x\n\nprint('before')\nf(0)", "");
    assert_json_text(reply->json, "status", "error");
    assert_json_text(reply->json, "stdout", "before\n");
    const char *error = json_text(reply->json, "error");
    assert_string_equal(error, json_text(reply->json, "stderr"));
    assert_memory_equal(error, "Traceback (most recent call last):\n", 35);
    assert_non_null(strstr(error, "line 5, in <module>"));
    assert_non_null(strstr(error, "return 1 / x"));
    assert_non_null(strstr(error, "ZeroDivisionError: division by zero"));
    assert_null(strstr(error, "run.py")); /* frames of the runner's own code are not shown */
    reply_free(reply);
}

static void time_and_memory_are_limited(void **state)
{
    (void)state;
    struct reply *reply = run("print('x')\nwhile True:\n    pass", "\"timeout\":1");
    assert_json_text(reply->json, "status", "timeout");
    assert_json_text(reply->json, "stdout", "");
    assert_json_text(reply->json, "stderr", "Execution timed out after 1 seconds");
    assert_json_number(reply->json, "execution_time", 1);
    assert_true(cJSON_IsNull(json_at(reply->json, "memory_used")));
    assert_true(cJSON_IsNull(json_at(reply->json, "error")));
    reply_free(reply);
    static const char *const hungry[] = {
        "x = bytearray(10 ** 10)", /* a regular MemoryError */
        "x = []\nwhile True:\n    x.append(bytearray(1 << 20))",
        "x = 'a'\nwhile True:\n    x += x",
    };
    for (size_t i = 0; i < COUNT(hungry); i++) {
        reply = run(hungry[i], "\"memory_limit\":100");
        assert_json_text(reply->json, "status", "memory_exceeded");
        assert_json_text(reply->json, "stderr", "Memory limit exceeded");
        assert_true(cJSON_IsNull(json_at(reply->json, "error")));
        reply_free(reply);
    }
    reply = run("x = bytearray(90 << 20)\nlen(x)", "\"memory_limit\":\"128\",\"timeout\":30.0");
    assert_json_text(reply->json, "stdout", "94371840\n");
    assert_true(json_number(reply->json, "memory_used") > 85);
    reply_free(reply);
}

static void requests_are_read_as_pydantic_reads_them(void **state)
{
    static const struct {
        const char *body, *type, *field;
    } cases[] = {
        {"{}", "missing", "code"},
        {"{\"timeout\":5}", "missing", "code"},
        {"{\"code\":\"\"}", "string_too_short", "code"},
        {"{\"code\":\" \\n\\t \"}", "value_error", "code"},
        {"{\"code\":5}", "string_type", "code"},
        {"{\"code\":null}", "string_type", "code"},
        {"{\"code\":\"1\",\"timeout\":0}", "greater_than_equal", "timeout"},
        {"{\"code\":\"1\",\"timeout\":301}", "less_than_equal", "timeout"},
        {"{\"code\":\"1\",\"timeout\":1.5}", "int_from_float", "timeout"},
        {"{\"code\":\"1\",\"timeout\":\"x\"}", "int_parsing", "timeout"},
        {"{\"code\":\"1\",\"timeout\":[]}", "int_type", "timeout"},
        {"{\"code\":\"1\",\"memory_limit\":63}", "greater_than_equal", "memory_limit"},
        {"{\"code\":\"1\",\"memory_limit\":2049}", "less_than_equal", "memory_limit"},
        {"{\"code\":\"1\",\"auto_print\":\"maybe\"}", "bool_parsing", "auto_print"},
        {"{\"code\":\"1\",\"auto_print\":{}}", "bool_type", "auto_print"},
        {"{\"code\":\"1\",\"extra\":1}", "extra_forbidden", "extra"},
        {"{\"code\":\"1\",\"stdin\":\"x\"}", "extra_forbidden", "stdin"},
        {"not json", "json_invalid", NULL},
        {"[1]", "model_attributes_type", NULL},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = runner_post(shared(), "/run", cases[i].body);
        if (reply->status != 422)
            fail_msg("%s: %d %s", cases[i].body, reply->status, reply->body);
        assert_json_text(reply->json, "detail.0.type", cases[i].type);
        assert_json_text(reply->json, "detail.0.loc.0", "body");
        if (cases[i].field)
            assert_json_text(reply->json, "detail.0.loc.1", cases[i].field);
        reply_free(reply);
    }
    struct reply *reply = run("1", "\"timeout\":\"30\",\"memory_limit\":512.0,\"auto_print\":1");
    assert_json_text(reply->json, "stdout", "1\n");
    reply_free(reply);
    reply = run("1", "\"timeout\":true,\"memory_limit\":null");
    assert_json_text(reply->json, "stdout", "1\n");
    reply_free(reply);
}

static void the_longest_code_is_taken_and_no_longer_one(void **state)
{
    (void)state;
    char *code = malloc(1000002);
    memset(code, '#', 1000001);
    code[1000001] = '\0';
    memcpy(code, "1\n", 2);
    char *json = python_json(code, "");
    struct reply *reply = runner_post(shared(), "/run", json);
    assert_int_equal(reply->status, 422);
    assert_json_text(reply->json, "detail.0.type", "string_too_long");
    reply_free(reply);
    free(json);
    code[1000000] = '\0';
    reply = run(code, "\"timeout\":60");
    assert_json_text(reply->json, "status", "success");
    reply_free(reply);
    free(code);
}

static void a_prompt_is_still_claudes(void **state)
{
    (void)state;
    struct reply *reply = runner_post(shared(), "/run", "{\"prompt\":\"a\",\"code\":\"b\"}");
    assert_problem(reply, 400, "invalid_request");
    reply_free(reply);
    reply = runner_post(shared(), "/run", "{\"prompt\":\"standin: ok x\"}");
    assert_status(reply, 200);
    assert_non_null(strstr(reply->body, "event: done"));
    reply_free(reply);
}

/* ---- our own -------------------------------------------------------------------------------- */

static void a_refusal_says_where(void **state)
{
    static const struct {
        const char *code, *kind, *reason, *excerpt;
        int line, column;
    } cases[] = {
        {"x = 1\nimport os", "policy", "Import of 'os' is not allowed", "import os\n^", 2, 1},
        {"def f(a):\n    return a.__class__\n", "policy",
         "Access to '__class__' attribute is not allowed", "    return a.__class__\n           ^",
         2, 12},
        {"a = '\u00e9'; eval(a)", "policy", "Call to 'eval' is not allowed",
         "a = '\u00e9'; eval(a)\n         ^", 1, 10},
        {"x = (1,\ny = 2", "syntax", "Syntax error: '(' was never closed (<unknown>, line 1)",
         "x = (1,\n    ^", 1, 5},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = python_run(shared(), cases[i].code, "");
        assert_json_text(reply->json, "status", "rejected");
        assert_json_text(reply->json, "policy.kind", cases[i].kind);
        assert_json_text(reply->json, "policy.reason", cases[i].reason);
        assert_json_text(reply->json, "policy.excerpt", cases[i].excerpt);
        assert_json_number(reply->json, "policy.line", cases[i].line);
        assert_json_number(reply->json, "policy.column", cases[i].column);
        assert_true(cJSON_IsNull(json_at(reply->json, "exit_code")));
        reply_free(reply);
    }
}

static void what_was_printed_before_a_timeout_comes(void **state)
{
    (void)state;
    static const char *const limits[] = {"\"timeout\":1", "\"timeout\":5", "\"timeout\":60"};
    struct reply *reply = NULL;
    for (size_t i = 0; i < COUNT(limits); i++) { /* so long that it comes as far as it should */
        reply_free(reply);
        reply = python_run(shared(), "print('line')\nprint('half', end='')\nwhile True:\n    pass",
                           limits[i]);
        assert_json_text(reply->json, "status", "timeout");
        if (*json_text(reply->json, "stdout"))
            break;
    }
    assert_json_text(reply->json, "stdout", "line\nhalf");
    assert_json_number(reply->json, "exit_code", 124);
    reply_free(reply);
}

static void the_value_of_a_last_expression_comes_when_asked(void **state)
{
    (void)state;
    struct reply *reply = python_run(shared(), "x = {'a': 1}\nx", "\"result\":true");
    assert_json_text(reply->json, "result", "{'a': 1}");
    assert_json_text(reply->json, "stdout", "");
    reply_free(reply);
    reply = python_run(shared(), "x = 1", "\"result\":true");
    assert_json_lacks(reply->json, "result");
    reply_free(reply);
    reply = python_run(shared(), "'s'", "\"result\":true,\"auto_print\":true");
    assert_json_text(reply->json, "result", "'s'");
    assert_json_text(reply->json, "stdout", "s\n");
    reply_free(reply);
}

static void input_and_files_go_in_and_out(void **state)
{
    (void)state;
    struct reply *reply = python_run(shared(), "print(input(), input())", "\"stdin\":\"a\\nb\\n\"");
    assert_json_text(reply->json, "stdout", "a b\n");
    reply_free(reply);
    reply = python_run(shared(),
                       "with open('in.txt') as f, open('d/b.bin', 'rb') as g, open('out.txt', 'w') "
                       "as h:\n    h.write(f.read().upper() + str(len(g.read())))",
                       "\"files\":{\"in.txt\":\"abc\",\"d/b.bin\":{\"base64\":\"AAECAw==\"}}");
    assert_json_text(reply->json, "status", "success");
    assert_json_text(reply->json, "files.0.name", "out.txt");
    assert_json_text(reply->json, "files.0.base64", "QUJDNA=="); /* ABC4 */
    assert_json_lacks(reply->json, "files.1");                   /* input files are not sent back */
    reply_free(reply);
    static const char *const bad[] = {
        "\"files\":{\"../x\":\"\"}",
        "\"files\":{\"/x\":\"\"}",
        "\"files\":{\"a//b\":\"\"}",
        "\"files\":{\"a\":1}",
        "\"files\":\"x\"",
        "\"files\":{\"a\":{\"base64\":\"!\"}}",
        "\"stdin\":1",
        "\"timeout\":\"30\"",
        "\"memory_limit\":1",
        "\"result\":1",
        "\"cod\":1",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *json = python_json("1", bad[i]);
        reply = runner_post(shared(), "/python", json);
        assert_problem(reply, 400, "invalid_request");
        assert_json_has(reply->json, "errors.0.field");
        reply_free(reply);
        free(json);
    }
}

static void output_is_bounded(void **state)
{
    (void)state;
    struct reply *reply = python_run(shared(), "for i in range(3000):\n    print('x' * 999)", "");
    assert_json_text(reply->json, "status", "success");
    assert_int_equal(strlen(json_text(reply->json, "stdout")), 1 << 20);
    assert_json_bool(reply->json, "truncated", true);
    reply_free(reply);
    reply = python_run(shared(), "print(chr(0x110000 - 1) + '\\x00\\x1b')", "");
    assert_json_text(reply->json, "status", "success");
    reply_free(reply);
}

static void exit_codes_are_the_processs(void **state)
{
    static const struct {
        const char *code, *status;
        int exit_code;
    } cases[] = {
        {"raise SystemExit", "success", 0},
        {"raise SystemExit(3)", "error", 3},
        {"raise SystemExit('words')", "error", 1},
        {"exit(0)", "success", 0},
        {"1 / 0", "error", 1},
        {"raise KeyboardInterrupt", "error", 1},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = python_run(shared(), cases[i].code, "");
        assert_json_text(reply->json, "status", cases[i].status);
        assert_json_number(reply->json, "exit_code", cases[i].exit_code);
        reply_free(reply);
    }
}

static void figures_come_as_png(void **state)
{
    (void)state;
    python_needed(shared(), "matplotlib");
    struct reply *reply =
        python_run(shared(),
                   "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"
                   "plt.figure()\nplt.bar([1], [2])\nplt.savefig('saved.png')",
                   "\"timeout\":120");
    assert_json_text(reply->json, "status", "success");
    for (int i = 0; i < 2; i++) {
        char *mime = textf("images.%d.mime", i), *data = textf("images.%d.base64", i);
        assert_json_text(reply->json, mime, "image/png");
        assert_memory_equal(json_text(reply->json, data), "iVBORw0KGgo", 11);
        free(mime);
        free(data);
    }
    assert_json_lacks(reply->json, "images.2");
    assert_json_text(reply->json, "files.0.name", "saved.png");
    reply_free(reply);
}

static void the_same_key_is_the_same_run(void **state)
{
    (void)state;
    static const char headers[] = RUNNER_AUTH "Idempotency-Key: python-1\r\n";
    static const char body[] = "{\"code\":\"import random\\nrandom.random()\",\"result\":true}";
    struct reply *first = http_call(shared()->base, "POST", "/python", headers, body);
    assert_status(first, 200);
    struct reply *second = http_call(shared()->base, "POST", "/python", headers, body);
    assert_status(second, 200);
    assert_string_equal(first->body, second->body);
    reply_free(first);
    reply_free(second);
    struct reply *other = http_call(shared()->base, "POST", "/python", headers, "{\"code\":\"1\"}");
    assert_problem(other, 409, "conflict");
    reply_free(other);
}

static void it_is_told_of_in_health_metrics_and_the_log(void **state)
{
    (void)state;
    struct reply *reply = python_run(shared(), "1", "");
    reply_free(reply);
    reply = runner_get(shared(), "/health?verbose=true");
    assert_json_bool(reply->json, "python.available", true);
    assert_json_number(reply->json, "python.slots", 2);
    assert_json_text(reply->json, "python.zygotes.0.name", "bare");
    reply_free(reply);
    reply = runner_get(shared(), "/metrics");
    assert_non_null(strstr(reply->body, "claude_runner_python_runs_total{status=\"success\"}"));
    reply_free(reply);
    reply = runner_get(shared(), "/tasks");
    assert_null(strstr(reply->body, "python")); /* Python runs have no row in the store */
    reply_free(reply);
    char *log = runner_log(shared());
    assert_non_null(strstr(log, "run 1 of "));
    free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers_as_pyrunner_did),
        cmocka_unit_test(a_last_expression_is_printed_as_print_would),
        cmocka_unit_test(it_refuses_in_pyrunners_words),
        cmocka_unit_test(what_pyrunner_allows_runs),
        cmocka_unit_test(errors_come_with_their_traceback),
        cmocka_unit_test(time_and_memory_are_limited),
        cmocka_unit_test(requests_are_read_as_pydantic_reads_them),
        cmocka_unit_test(the_longest_code_is_taken_and_no_longer_one),
        cmocka_unit_test(a_prompt_is_still_claudes),
        cmocka_unit_test(a_refusal_says_where),
        cmocka_unit_test(what_was_printed_before_a_timeout_comes),
        cmocka_unit_test(the_value_of_a_last_expression_comes_when_asked),
        cmocka_unit_test(input_and_files_go_in_and_out),
        cmocka_unit_test(output_is_bounded),
        cmocka_unit_test(exit_codes_are_the_processs),
        cmocka_unit_test(figures_come_as_png),
        cmocka_unit_test(the_same_key_is_the_same_run),
        cmocka_unit_test(it_is_told_of_in_health_metrics_and_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
