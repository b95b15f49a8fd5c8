/*
 * GET /callers and GET /audit: who was here, and what they did, as the real daemon tells it.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#define OTHER "other-secret-0123456789"
#define OTHER_AUTH "X-Runner-Secret: " OTHER "\r\n"

static struct runner *runner;
#define CI "ci-secret-0123456789"
#define CI_AUTH "X-Runner-Secret: " CI "\r\n"
#define POOR "poor-secret-0123456789"
#define POOR_AUTH "X-Runner-Secret: " POOR "\r\n"

static const char *const settings[] = {
    "RUNNER_SECRET", "owner:" RUNNER_SECRET ",app:" OTHER ",ci:" CI ",poor:" POOR, "CALLER_LIMITS",
    "ci.tasks=2,ci.perMinute=3,ci.kinds=claude|command,ci.push=no,poor.usdPerDay=0.0001", NULL};

static const struct runner *get(void)
{
    return runner_shared(&runner, settings);
}

static struct reply *ask(const char *method, const char *path, const char *headers,
                         const char *body)
{
    return http_call(get()->base, method, path, headers, body);
}

/* The newest entry of that action. Freed by reply_free(). */
static struct reply *last_of(const char *action)
{
    char *path = textf("/audit?limit=1&action=%s", action);
    struct reply *reply = runner_get(get(), path);
    assert_status(reply, 200);
    free(path);
    return reply;
}

static void assert_last(const char *action, const char *caller, const char *target)
{
    struct reply *reply = last_of(action);
    if (caller)
        assert_json_text(reply->json, "entries.0.caller", caller);
    else
        assert_json_lacks(reply->json, "entries.0.caller");
    if (target)
        assert_json_text(reply->json, "entries.0.target", target);
    assert_json_text(reply->json, "entries.0.address", "127.0.0.1");
    reply_free(reply);
}

static void who_ran_and_changed_what_is_told(void **state)
{
    (void)state;
    struct reply *reply = ask("POST", "/run-async", OTHER_AUTH,
                              "{\"prompt\":\"standin: hang-middle\",\"taskId\":\"task-a\"}");
    assert_status(reply, 202);
    reply_free(reply);
    assert_last("task.run", "app", "task-a");
    reply_free(ask("POST", "/tasks/task-a/cancel", RUNNER_AUTH, ""));
    assert_last("task.cancel", "owner", "task-a");
    reply = ask("POST", "/sessions", OTHER_AUTH, "{\"id\":\"box\"}");
    assert_status(reply, 201);
    reply_free(reply);
    assert_last("session.open", "app", NULL);
    reply_free(ask("PUT", "/sessions/box/files/a/b.txt", OTHER_AUTH, "x"));
    assert_last("session.write", "app", "box");
    reply_free(ask("DELETE", "/sessions/box", RUNNER_AUTH, NULL));
    assert_last("session.close", "owner", "box");
    reply_free(ask("POST", "/console/session", "Content-Type: application/json\r\n",
                   "{\"secret\":\"" OTHER "\"}"));
    assert_last("console.enter", "app", NULL);
}

static void what_was_refused_or_only_read_is_not(void **state)
{
    (void)state;
    struct reply *before = last_of("task"), *after;
    reply_free(ask("GET", "/tasks", OTHER_AUTH, NULL));
    reply_free(ask("POST", "/tasks/none/cancel", OTHER_AUTH, ""));
    reply_free(ask("POST", "/run-async", OTHER_AUTH, "{\"promt\":\"x\"}"));
    after = last_of("task");
    assert_string_equal(before->body, after->body);
    reply_free(before);
    reply_free(after);
}

static void wrong_secrets_are_told_without_being_a_flood(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++)
        reply_free(ask("GET", "/tasks", "X-Runner-Secret: a-guess-0123456789\r\n", NULL));
    assert_last("secret.refused", NULL, NULL);
    struct reply *reply = runner_get(get(), "/audit?action=secret&limit=1000");
    int count = cJSON_GetArraySize(json_at(reply->json, "entries"));
    assert_true(count >= 10 && count <= 20); /* of a minute, or of two */
    assert_null(strstr(reply->body, "a-guess"));
    reply_free(reply);
}

static void the_log_comes_page_by_page(void **state)
{
    (void)state;
    struct reply *first = runner_get(get(), "/audit?limit=2");
    assert_int_equal(cJSON_GetArraySize(json_at(first->json, "entries")), 2);
    char *path = textf("/audit?limit=2&cursor=%s", json_text(first->json, "nextCursor"));
    struct reply *second = runner_get(get(), path);
    assert_json_number(second->json, "entries.0.id", json_number(first->json, "entries.1.id") - 1);
    free(path);
    reply_free(first);
    reply_free(second);
    static const char *const wrong[] = {"limit=0", "limit=1001", "cursor=x", "cursor=-1", "who=me"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        path = textf("/audit?%s", wrong[i]);
        struct reply *reply = runner_get(get(), path);
        assert_status(reply, 400);
        reply_free(reply);
        free(path);
    }
}

static void callers_are_told_with_their_tasks(void **state)
{
    (void)state;
    runner_await(get(), "task-a", "cancelled", 60000);
    struct reply *reply = runner_get(get(), "/callers");
    assert_status(reply, 200);
    assert_json_text(reply->json, "callers.0.name", "owner");
    assert_json_text(reply->json, "callers.1.name", "app");
    assert_json_bool(reply->json, "callers.1.configured", true);
    assert_json_text(reply->json, "callers.1.lastAddress", "127.0.0.1");
    assert_json_has(reply->json, "callers.1.lastUsedAt");
    assert_json_number(reply->json, "callers.1.tasks.cancelled", 1);
    assert_true(json_number(reply->json, "callers.0.requests") > 3);
    assert_null(strstr(reply->body, OTHER));
    reply_free(reply);
    reply = ask("GET", "/callers", "", NULL);
    assert_status(reply, 403);
    reply_free(reply);
    reply = ask("GET", "/audit", "", NULL);
    assert_status(reply, 403);
    reply_free(reply);
}

/* A request of a caller with limits: its status, and a part of what is said of it. */
static void expect(const char *headers, const char *path, const char *body, int status,
                   const char *says)
{
    char seconds[16];
    struct reply *reply = ask("POST", path, headers, body);
    if (reply->status != status || (says && !strstr(reply->body, says)))
        fail_msg("%s %s: %d, %s", path, body, reply->status, reply->body);
    if (status == 429)
        assert_true(reply_header(reply, "Retry-After", seconds, sizeof(seconds)));
    reply_free(reply);
}

#define CI_TASK(id) "{\"prompt\":\"standin: hang-middle\",\"taskId\":\"" id "\"}"

static void a_secret_has_limits_of_its_own(void **state)
{
    (void)state;
    static const char first[] = CI_AUTH "Idempotency-Key: first\r\n";
    expect(first, "/run-async", CI_TASK("ci-a"), 202, "ci-a");
    expect(CI_AUTH, "/run-async", CI_TASK("ci-b"), 202, NULL);
    expect(CI_AUTH, "/run-async", CI_TASK("ci-c"), 429, "'ci' may have 2 tasks at once, and has 2");
    expect(first, "/run-async", CI_TASK("ci-a"), 202, "ci-a");     /* it is there already */
    expect(OTHER_AUTH, "/run-async", CI_TASK("app-a"), 202, NULL); /* others have their own */
    reply_free(ask("POST", "/tasks/ci-a/cancel", CI_AUTH, ""));
    reply_free(ask("POST", "/tasks/ci-b/cancel", CI_AUTH, ""));
    reply_free(ask("POST", "/tasks/app-a/cancel", OTHER_AUTH, ""));
    runner_await(runner, "ci-a", "cancelled", 60000);
    runner_await(runner, "ci-b", "cancelled", 60000);
    expect(CI_AUTH, "/exec", "{\"command\":\"true\",\"n\":2}", 429,
           "may begin 3 tasks in a minute");
    expect(CI_AUTH, "/python", "{\"code\":\"1\"}", 403, "of kind python");
    expect(CI_AUTH, "/run", "{\"code\":\"1\"}", 403, "of kind python");
    expect(CI_AUTH, "/sessions", "{}", 403, "of kind session");
    expect(CI_AUTH, "/run-async",
           "{\"prompt\":\"x\",\"repoUrl\":\"https://github.com/o/r\",\"gitPush\":true}", 403,
           "'ci' may not push");
}

static void a_secret_may_spend_so_much_a_day(void **state)
{
    (void)state;
    expect(POOR_AUTH, "/execute", "{\"prompt\":\"standin: ok one\"}", 200, "\"success\":true");
    expect(POOR_AUTH, "/execute", "{\"prompt\":\"standin: ok two\"}", 429, "in 24 hours");
    struct reply *reply = runner_get(get(), "/callers");
    assert_json_number(reply->json, "callers.2.limits.tasks", 2);
    assert_json_text(reply->json, "callers.2.limits.kinds", "claude|command");
    assert_json_bool(reply->json, "callers.2.limits.push", false);
    assert_json_lacks(reply->json, "callers.1.limits.tasks");
    reply_free(reply);
}

static void both_are_kept_over_a_restart(void **state)
{
    (void)state;
    struct reply *before = last_of("console.enter");
    assert_int_equal(runner_stop(runner, 30000), 0);
    runner_set(runner, "RUNNER_SECRET", "owner:" RUNNER_SECRET);
    runner_set(runner, "CALLER_LIMITS", NULL);
    runner_start(runner);
    struct reply *after = last_of("console.enter");
    assert_string_equal(before->body, after->body);
    reply_free(before);
    reply_free(after);
    struct reply *reply = runner_get(runner, "/callers");
    assert_json_text(reply->json, "callers.1.name", "app");
    assert_json_bool(reply->json, "callers.1.configured", false);
    reply_free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_ran_and_changed_what_is_told),
        cmocka_unit_test(what_was_refused_or_only_read_is_not),
        cmocka_unit_test(wrong_secrets_are_told_without_being_a_flood),
        cmocka_unit_test(the_log_comes_page_by_page),
        cmocka_unit_test(callers_are_told_with_their_tasks),
        cmocka_unit_test(a_secret_has_limits_of_its_own),
        cmocka_unit_test(a_secret_may_spend_so_much_a_day),
        cmocka_unit_test(both_are_kept_over_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
