/* Conditional requests, and requests with preferences. */
#include "base/auto.h"
#include "base/err.h"
#include "http/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Makes a request of these header lines; it has no body. */
static void read_head(struct http_request *req, char *text, size_t size, const char *method,
                      const char *lines)
{
    struct err err;
    int n = snprintf(text, size, "%s / HTTP/1.1\r\nHost: test\r\n%s\r\n", method, lines);
    memset(req, 0, sizeof(*req));
    if (head_parse(text, (size_t)n, &req->head, &err) < 0)
        fail_msg("%s: %s", lines, err.msg);
}

static void conditions_are_read_as_the_standard_says(void **state)
{
    static const struct {
        const char *method, *lines, *etag;
        int status;
    } cases[] = {
        {"GET", "", "\"a\"", 0},
        {"GET", "If-None-Match: \"a\"\r\n", "\"a\"", 304},
        {"HEAD", "If-None-Match: \"a\"\r\n", "\"a\"", 304},
        {"PUT", "If-None-Match: \"a\"\r\n", "\"a\"", 412},
        {"GET", "If-None-Match: \"b\"\r\n", "\"a\"", 0},
        {"GET", "If-None-Match: W/\"a\"\r\n", "\"a\"", 304},
        {"GET", "If-None-Match: \"a\"\r\n", "W/\"a\"", 304},
        {"GET", "If-None-Match: \"b\", \"a\"\r\n", "\"a\"", 304},
        {"GET", "If-None-Match: \"b\"\r\nif-none-match: \"a\"\r\n", "\"a\"", 304},
        {"GET", "If-None-Match: \"b,\"a\"\r\n", "\"a\"", 0}, /* a malformed list names no version */
        {"GET", "If-None-Match: \"x\"a\"\r\n", "\"a\"", 0},
        {"GET", "If-None-Match: \"b,a\"\r\n", "\"b,a\"", 304},
        {"GET", "If-None-Match: \"aa\"\r\n", "\"a\"", 0},
        {"GET", "If-None-Match: a\r\n", "\"a\"", 0},
        {"GET", "If-None-Match: *\r\n", "\"a\"", 304},
        {"PUT", "If-None-Match: *\r\n", "\"a\"", 412},
        {"PUT", "If-None-Match: *\r\n", NULL, 0},
        {"GET", "If-None-Match:\r\n", "\"a\"", 0},
        {"GET", "If-Match: \"a\"\r\n", "\"a\"", 0},
        {"PUT", "If-Match: \"b\", \"a\"\r\n", "\"a\"", 0},
        {"GET", "If-Match: \"b\"\r\n", "\"a\"", 412},
        {"PUT", "If-Match: W/\"a\"\r\n", "\"a\"", 412},
        {"PUT", "If-Match: W/\"a\"\r\n", "W/\"a\"", 412},
        {"PUT", "If-Match: *\r\n", "\"a\"", 0},
        {"PUT", "If-Match: *\r\n", NULL, 412},
        {"PUT", "If-Match:\r\n", "\"a\"", 412},
        {"GET", "If-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", "\"a\"", 412},
        {"GET", "If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n", "\"a\"", 304},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        static struct http_request req;
        char text[500];
        read_head(&req, text, sizeof(text), cases[i].method, cases[i].lines);
        int status = http_condition(&req, cases[i].etag);
        if (status != cases[i].status)
            fail_msg("%s %s: %d", cases[i].method, cases[i].lines, status);
    }
}

static void a_preference_is_its_whole_name(void **state)
{
    static const struct {
        const char *lines, *value; /* NULL: not there */
    } cases[] = {
        {"", NULL},
        {"Prefer: wait=10\r\n", "10"},
        {"prefer: WAIT = 10\r\n", "10"},
        {"Prefer: await=0\r\n", NULL},
        {"Prefer: waiting=0\r\n", NULL},
        {"Prefer: x=wait=0\r\n", NULL},
        {"Prefer: x=\"wait=0, wait=1\"\r\n", NULL},
        {"Prefer: x; wait=0\r\n", NULL}, /* a parameter of x */
        {"Prefer: respond-async, wait=7; foo=1\r\n", "7"},
        {"Prefer: respond-async\r\nPrefer: wait=8\r\n", "8"},
        {"Prefer: wait=1, wait=2\r\n", "1"},
        {"Prefer: wait=\"9\"\r\n", "9"},
        {"Prefer: wait=\"9\r\n", "\"9"},
        {"Prefer: wait\r\n", ""},
        {"Prefer: wait=\r\n", ""},
        {"Prefer: ,, ,wait=3,\r\n", "3"},
        {"Prefer: wait=123456789\r\n", "1234567"}, /* truncated to the size of the buffer */
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        static struct http_request req;
        char text[500], value[8] = "kept";
        read_head(&req, text, sizeof(text), "POST", cases[i].lines);
        bool found = http_preference(&req, "wait", value, sizeof(value));
        if (found != (cases[i].value != NULL) ||
            strcmp(value, cases[i].value ? cases[i].value : "kept") != 0)
            fail_msg("%s: %d '%s'", cases[i].lines, found, value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_are_read_as_the_standard_says),
        cmocka_unit_test(a_preference_is_its_whole_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
