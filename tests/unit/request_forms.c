#include "request_scene.h"

#include "json/json.h"

#include <stdio.h>

static void code_excludes_a_prompt(void **state)
{
    (void)state;
    AUTO(decoded) struct decoded both = decode("{\"code\":\"print(1)\",\"prompt\":\"x\"}");
    assert_int_equal(both.err.code, ERR_INVALID);
    assert_non_null(strstr(both.err.msg, "code can't be given together with 'prompt'"));
    struct request_defaults claude = {.where = REQUEST_CLAUDE, .timeout_minutes = 5};
    AUTO(decoded) struct decoded execute = decode_with("{\"code\":\"print(1)\"}", &claude);
    assert_non_null(strstr(execute.err.msg, "unknown field 'code'"));
}

static void repositories_have_the_forms_that_git_hosts_give(void **state)
{
    (void)state;
    static const char *const good[] = {
        "https://github.com/o/r",
        "https://github.com/o/r.git",
        "owner/name",
        "o/r.js",
        "git@github.com:o/r.git",
        "ssh://git@host.lan:2222/o/r",
        "ssh://host/r",
        "host:path/to/repo",
        "http://127.0.0.1:8080/r.git",
        "file:///srv/git/r.git",
        "HTTPS://GitHub.com/o/r",
        "https://[::1]:1/r",
    };
    static const char *const bad[] = {
        "o",
        "/etc/passwd",
        "o/r/s",
        "-o/r",
        "o/-r",
        "o/..",
        "../x",
        "ext::sh -c id",
        "ext::sh",
        "git://h/r",
        "ftp://h/",
        "https://h",
        "https://h/",
        "https:///r",
        "--upload-pack=x",
        "a b/c",
        "ssh://-oProxyCommand=x/r",
        "-oProxyCommand=x:r",
        "git@-x:r",
        "host:-x",
        "https://h\\\\x/r",
        "file://host/x",
        "https://h:0/r",
        "h:",
        ":r",
        "@h:r",
        "ssh://-x:pw@h",
    };
    for (size_t i = 0; i < COUNT_OF(good) + COUNT_OF(bad); i++) {
        bool is_good = i < COUNT_OF(good);
        char body[256];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"repoUrl\":\"%s\"}",
                 is_good ? good[i] : bad[i - COUNT_OF(good)]);
        AUTO(decoded) struct decoded d = decode(body);
        if ((d.request != NULL) != is_good)
            fail_msg("%s: %s", body, d.err.msg);
    }
}

static void a_password_in_a_repository_url_is_not_kept(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"https://u:p@h.org/r", "https://h.org/r"},
        {"https://u@h.org:8443/r", "https://h.org:8443/r"},
        {"HTTP://a:b:c@d@h.org/r@v", "HTTP://h.org/r@v"},
        {"ssh://git:pw@h.org/r", "ssh://git@h.org/r"},
        {"ssh://git@h.org/r", "ssh://git@h.org/r"},
        {"git@h.org:r", "git@h.org:r"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char body[256];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"repoUrl\":\"%s\"}", cases[i][0]);
        AUTO(decoded) struct decoded d = decode(body);
        if (!d.request)
            fail_msg("%s: %s", body, d.err.msg);
        assert_string_equal(d.request->repo_url, cases[i][1]);
    }
}

static void refs_follow_the_rules_of_git(void **state)
{
    (void)state;
    static const char *const good[] = {"main",         "feature/x",
                                       "v1.2.3",       "a@b",
                                       "refs/heads/x", "0123456789abcdef0123456789abcdef01234567"};
    static const char *const bad[] = {
        "a..b",   "a b",      "a~1", "a^",    "a:b", "a?",   "a*", "a[", "/a",     "a/",   "a//b",
        "a.lock", "a.lock/b", "@",   "a@{1}", ".a",  "a/.b", "a.", "-a", "a\\\\b", "a\\tb"};
    for (size_t i = 0; i < COUNT_OF(good) + COUNT_OF(bad); i++) {
        bool is_good = i < COUNT_OF(good);
        char body[256];
        snprintf(body, sizeof(body), "{\"prompt\":\"p\",\"gitRef\":\"%s\"}",
                 is_good ? good[i] : bad[i - COUNT_OF(good)]);
        AUTO(decoded) struct decoded d = decode(body);
        if ((d.request != NULL) != is_good)
            fail_msg("%s: %s", body, d.err.msg);
    }
}

static void what_is_no_object_is_refused_whole(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"", "JSON: no text at byte 0"},
        {"[1]", "the body must be a JSON object, got an array"},
        {"\"prompt\"", "the body must be a JSON object, got a string"},
        {"{\"prompt\":\"x\",\"prompt\":\"y\"}",
         "JSON: the same name twice in an object at byte 14"},
        {"{\"prompt\":\"\\u0000\"}", "JSON: NUL in a string at byte 11"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(decoded) struct decoded d = decode(cases[i].body);
        assert_null(d.request);
        assert_int_equal(d.err.code, ERR_INVALID);
        assert_int_equal(d.errors.count, 0);
        assert_string_equal(d.err.msg, cases[i].message);
    }
}

static void a_flood_of_bad_names_ends_early(void **state)
{
    (void)state;
    AUTO(buf) struct buf body = BUF_INIT(16 << 20);
    buf_addc(&body, '{');
    for (int i = 0; i < REQUEST_VALUES_MAX - 1; i++)
        buf_addf(&body, "%s\"prompt%d\":1", i ? "," : "", i);
    buf_addc(&body, '}');
    AUTO(decoded) struct decoded d = decode(buf_str(&body));
    assert_null(d.request);
    assert_int_equal(d.errors.count, REQUEST_ERRORS_MAX);
    assert_true(d.errors.more > 0);
}

static void more_values_than_a_request_can_mean_are_refused_unread(void **state)
{
    (void)state;
    AUTO(buf) struct buf body = BUF_INIT(16 << 20);
    buf_adds(&body, "{\"prompt\":\"x\",\"metadata\":[0");
    for (int i = 0; i < REQUEST_VALUES_MAX; i++)
        buf_adds(&body, ",0");
    buf_adds(&body, "]}");
    AUTO(decoded) struct decoded d = decode(buf_str(&body));
    assert_null(d.request);
    assert_int_equal(d.err.code, ERR_TOO_LARGE);
    assert_string_equal(d.err.msg, "JSON: more than 100000 values");
    assert_int_equal(d.errors.count, 0);
}

static void a_long_name_is_cut_at_a_whole_character(void **state)
{
    (void)state;
    AUTO(buf) struct buf body = BUF_INIT(65536), json = BUF_INIT(65536);
    buf_adds(&body, "{\"prompt\":\"p\",\"x");
    for (int i = 0; i < 1000; i++)
        buf_adds(&body, "\xe2\x82\xac");
    buf_adds(&body, "\":1}");
    AUTO(decoded) struct decoded d = decode(buf_str(&body));
    struct err err = ERR_INIT;
    assert_null(d.request);
    assert_true(strlen(d.errors.items[0].field) < 90);
    buf_addc(&json, '"');
    buf_adds(&json, d.errors.items[0].field);
    buf_adds(&json, d.err.msg);
    buf_addc(&json, '"');
    assert_int_equal(json_check(json.data, json.len, &err), 0);
    buf_done(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_excludes_a_prompt),
        cmocka_unit_test(repositories_have_the_forms_that_git_hosts_give),
        cmocka_unit_test(a_password_in_a_repository_url_is_not_kept),
        cmocka_unit_test(refs_follow_the_rules_of_git),
        cmocka_unit_test(what_is_no_object_is_refused_whole),
        cmocka_unit_test(a_flood_of_bad_names_ends_early),
        cmocka_unit_test(more_values_than_a_request_can_mean_are_refused_unread),
        cmocka_unit_test(a_long_name_is_cut_at_a_whole_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
