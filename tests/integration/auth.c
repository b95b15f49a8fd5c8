/*
 * Who may call.
 */
#include "testing.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct runner *runner;

static const char *const settings[] = {
    "AUTH_FAILURES_MAX", "10000", "RUNNER_SECRET",
    RUNNER_SECRET ",laptop:laptop-secret-0123456789,edge:edge-secret-0123456789", NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

static const struct {
    const char *method, *path;
} closed[] = {
    {"POST", "/execute"},        {"GET", "/tasks"},          {"GET", "/tasks/x"},
    {"DELETE", "/tasks/x"},      {"GET", "/tasks/x/result"}, {"GET", "/tasks/x/events"},
    {"POST", "/tasks/x/cancel"}, {"POST", "/cancel/x"},      {"GET", "/tasks/status"},
    {"GET", "/nothing"},
};

static void everything_but_health_asks_for_the_secret(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(closed); i++) {
        const char *body = strcmp(closed[i].method, "POST") == 0 ? "{\"prompt\":\"x\"}" : NULL;
        struct reply *none =
            http_call(shared()->base, closed[i].method, closed[i].path, NULL, body);
        struct reply *wrong = http_call(runner->base, closed[i].method, closed[i].path,
                                        "X-Runner-Secret: test-secret-wrong-wrong\r\n", body);
        print_message("  %s %s\n", closed[i].method, closed[i].path);
        assert_problem(none, 403, "forbidden");
        assert_problem(wrong, 403, "forbidden");
        assert_json_text(none->json, "detail", json_text(wrong->json, "detail"));
        reply_free(none);
        reply_free(wrong);
    }
}

static void health_is_open(void **state)
{
    (void)state;
    static const char *const open[] = {"/health", "/healthz"};
    for (size_t i = 0; i < COUNT(open); i++) {
        struct reply *reply = http_call(shared()->base, "GET", open[i], NULL, NULL);
        assert_status(reply, 200);
        reply_free(reply);
    }
}

static int status_with(const char *headers)
{
    struct reply *reply = http_call(shared()->base, "GET", "/tasks", headers, NULL);
    int status = reply->status;
    reply_free(reply);
    return status;
}

static void each_secret_works_in_both_headers(void **state)
{
    (void)state;
    static const char *const right[] = {
        RUNNER_AUTH,
        "x-runner-secret: " RUNNER_SECRET "\r\n",
        "Authorization: Bearer " RUNNER_SECRET "\r\n",
        "authorization: bearer " RUNNER_SECRET "\r\n",
        "X-Runner-Secret: laptop-secret-0123456789\r\n",
        "Authorization: Bearer edge-secret-0123456789\r\n",
    };
    for (size_t i = 0; i < COUNT(right); i++)
        if (status_with(right[i]) != 200)
            fail_msg("refused: %s", right[i]);
}

static void what_is_nearly_a_secret_is_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "X-Runner-Secret:\r\n",
        "X-Runner-Secret: test-secret-012345678\r\n",
        "X-Runner-Secret: " RUNNER_SECRET "0\r\n",
        "X-Runner-Secret: TEST-SECRET-0123456789\r\n",
        "X-Runner-Secret: laptop:laptop-secret-0123456789\r\n",
        "X-Runner-Secret: laptop\r\n",
        "X-Runner-Secret: " RUNNER_SECRET ",laptop:laptop-secret-0123456789\r\n",
        "X-Runner-Secret: \"" RUNNER_SECRET "\"\r\n",
        "Authorization: Basic " RUNNER_SECRET "\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer " RUNNER_SECRET " more\r\n",
        "Authorization: " RUNNER_SECRET "\r\n",
        "Cookie: X-Runner-Secret=" RUNNER_SECRET "\r\n",
        "X-Secret: " RUNNER_SECRET "\r\n",
    };
    for (size_t i = 0; i < COUNT(wrong); i++)
        if (status_with(wrong[i]) != 403)
            fail_msg("accepted: %s", wrong[i]);
    struct reply *reply =
        http_call(runner->base, "GET", "/tasks?secret=" RUNNER_SECRET, NULL, NULL);
    assert_status(reply, 403);
    reply_free(reply);
}

static void a_stranger_is_refused_before_its_body_is_read(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n{",
        "POST /execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{",
        "POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n",
    };
    for (size_t i = 0; i < COUNT(heads); i++) {
        int fd = http_connect(shared()->base);
        assert_true(http_send_text(fd, heads[i]));
        struct reply *reply = http_read(fd, 20000);
        assert_status(reply, 403);
        reply_free(reply);
        close(fd);
    }
}

static void callers_with_names_share_no_idempotency_keys(void **state)
{
    (void)state;
    static const char *const secrets[] = {"laptop-secret-0123456789", "edge-secret-0123456789",
                                          "laptop-secret-0123456789"};
    char *ids[COUNT(secrets)];
    for (size_t i = 0; i < COUNT(secrets); i++) {
        char *headers = textf("X-Runner-Secret: %s\r\nContent-Type: application/json\r\n"
                              "Idempotency-Key: everybodys\r\n",
                              secrets[i]);
        struct reply *reply =
            http_call(shared()->base, "POST", "/exec", headers, "{\"command\":\"true\"}");
        assert_status(reply, 200);
        ids[i] = strdup(json_text(reply->json, "taskId"));
        reply_free(reply);
        free(headers);
    }
    assert_string_not_equal(ids[0], ids[1]);
    assert_string_equal(ids[0], ids[2]);
    for (size_t i = 0; i < COUNT(secrets); i++)
        free(ids[i]);
}

static void too_many_wrong_tries_are_429(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_set(own, "AUTH_FAILURES_MAX", "5");
    runner_start(own);
    int refused = 0, throttled = 0;
    for (int i = 0; i < 12; i++) {
        struct reply *reply =
            http_call(own->base, "GET", "/tasks", "X-Runner-Secret: a-wrong-secret-000\r\n", NULL);
        refused += reply->status == 403;
        throttled += reply->status == 429;
        char after[20] = "";
        if (reply->status == 429)
            assert_true(reply_header(reply, "Retry-After", after, sizeof after));
        reply_free(reply);
    }
    assert_int_equal(refused, 5);
    assert_int_equal(throttled, 7);
    struct reply *health = http_call(own->base, "GET", "/health", NULL, NULL);
    assert_status(health, 200);
    reply_free(health);
    runner_free(own);
}

static void a_new_secret_takes_over_on_sighup(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    char *path = textf("%s/secret", own->dir);
    write_file(path, RUNNER_SECRET "\n", 0600);
    runner_set(own, "RUNNER_SECRET", NULL);
    runner_set(own, "RUNNER_SECRET_FILE", path);
    runner_start(own);
    struct reply *reply = runner_get(own, "/tasks");
    assert_status(reply, 200);
    reply_free(reply);
    write_file(path, "another-secret-9876543210\n", 0600);
    kill(own->pid, SIGHUP);
    int status = 200;
    EVENTUALLY(20000, (reply = runner_get(own, "/tasks"), status = reply->status, reply_free(reply),
                       status == 403));
    reply = http_call(own->base, "GET", "/tasks", "X-Runner-Secret: another-secret-9876543210\r\n",
                      NULL);
    assert_status(reply, 200);
    reply_free(reply);
    free(path);
    runner_free(own);
}

static void it_does_not_start_without_a_good_secret(void **state)
{
    (void)state;
    static const struct {
        const char *secret;
        const char *must_not_show;
    } cases[] = {
        {NULL, NULL},
        {"", NULL},
        {"short", NULL},
        {"exactly15bytes!", "exactly15bytes!"},
        {"good-secret-0123456789,bad", "good-secret"},
        {"name:", NULL},
        {",", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct runner *own = runner_new();
        runner_set(own, "RUNNER_SECRET", cases[i].secret);
        assert_int_equal(runner_start_refused(own), 2);
        char *log = runner_log(own);
        assert_non_null(strstr(log, "RUNNER_SECRET"));
        if (cases[i].must_not_show)
            assert_null(strstr(log, cases[i].must_not_show));
        free(log);
        runner_free(own);
    }
}

static void wrong_configuration_is_named_and_exits_2(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
    } cases[] = {
        {"PORT", "70000"},
        {"PORT", "eighty"},
        {"MAX_CONCURRENT_TASKS", "0"},
        {"QUEUE_MAX", "-1"},
        {"JAIL", "strong"},
        {"LOG_LEVEL", "loud"},
        {"BIND", "not an address"},
        {"ANTHROPIC_UPSTREAM", "ftp://x"},
        {"DRAIN_SECONDS", "1.5"},
        {"RUNNER_SECRET_FILE", "/nonexistent/secret"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct runner *own = runner_new();
        if (strcmp(cases[i].name, "RUNNER_SECRET_FILE") == 0)
            runner_set(own, "RUNNER_SECRET", NULL);
        runner_set(own, cases[i].name, cases[i].value);
        assert_int_equal(runner_start_refused(own), 2);
        char *log = runner_log(own);
        if (!strstr(log, cases[i].name) || !strstr(log, cases[i].value))
            fail_msg("%s=%s is not named in: %s", cases[i].name, cases[i].value, log);
        free(log);
        runner_free(own);
    }
}

static void what_is_named_and_missing_is_warned_of(void **state)
{
    (void)state;
    static const char *const names[] = {"SYSTEM_PROMPT_FILE", "GIT_SSH_KEY_FILE", "CLAUDE_BIN"};
    struct runner *own = runner_new();
    for (size_t i = 0; i < COUNT(names); i++)
        runner_set(own, names[i], "/nonexistent/thing");
    runner_start(own);
    char *log = runner_log(own);
    for (size_t i = 0; i < COUNT(names); i++) {
        char *begin = textf("\"msg\":\"%s: ", names[i]);
        if (!strstr(log, begin))
            fail_msg("%s is not named in: %s", names[i], log);
        free(begin);
    }
    assert_null(strstr(log, "everybody may write"));
    free(log);
    assert_int_equal(runner_stop(own, 30000), 0);
    assert_int_equal(chmod(own->state, 0777), 0);
    runner_start(own);
    log = runner_log(own);
    assert_non_null(strstr(log, "RUNNER_STATE_DIR: everybody may write"));
    free(log);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_but_health_asks_for_the_secret),
        cmocka_unit_test(health_is_open),
        cmocka_unit_test(each_secret_works_in_both_headers),
        cmocka_unit_test(what_is_nearly_a_secret_is_none),
        cmocka_unit_test(a_stranger_is_refused_before_its_body_is_read),
        cmocka_unit_test(callers_with_names_share_no_idempotency_keys),
        cmocka_unit_test(too_many_wrong_tries_are_429),
        cmocka_unit_test(a_new_secret_takes_over_on_sighup),
        cmocka_unit_test(it_does_not_start_without_a_good_secret),
        cmocka_unit_test(wrong_configuration_is_named_and_exits_2),
        cmocka_unit_test(what_is_named_and_missing_is_warned_of),
    };
    return cmocka_run_group_tests_name("auth", tests, NULL, shared_stop);
}
