/*
 * POST /exec: shell commands as tasks, alone and in groups.
 */
#include "stream.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct runner *runner;

static const char *const settings[] = {"KILL_GRACE_SECONDS", "1", "GIT_ALLOW", "file:/tmp", NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

/* {"command":"…"} plus more fields; the command needs no escapes. */
static char *command_json(const char *command, const char *more)
{
    return textf("{\"command\":\"%s\"%s%s}", command, *more ? "," : "", more);
}

static struct reply *exec_it(const char *command, const char *more)
{
    char *json = command_json(command, more);
    struct reply *reply = runner_post(shared(), "/exec", json);
    free(json);
    return reply;
}

static char *exec_async(const char *command, const char *more)
{
    char *json = command_json(command, more);
    struct reply *reply = http_call(shared()->base, "POST", "/exec",
                                    RUNNER_AUTH "Content-Type: application/json\r\n"
                                                "Prefer: wait=0\r\n",
                                    json);
    assert_status(reply, 202);
    const char *id = json_text(reply->json, "taskId");
    char *copy = strdup(*id ? id : json_text(reply->json, "group"));
    reply_free(reply);
    free(json);
    return copy;
}

static int int_at(const cJSON *json, const char *path)
{
    const cJSON *value = json_at(json, path);
    assert_true(cJSON_IsNumber(value));
    return value->valueint;
}

static void expect(const struct reply *reply, bool success, int code, const char *out,
                   const char *errors)
{
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", success);
    if (int_at(reply->json, "exit_code") != code ||
        strcmp(json_text(reply->json, "stdout"), out) != 0 ||
        strcmp(json_text(reply->json, "stderr"), errors) != 0)
        fail_msg("%s", reply->body);
}

/* ---- one command ---- */

static void what_is_printed_comes_back_apart_with_the_exit_code(void **state)
{
    (void)state;
    static const struct {
        const char *command, *more;
        bool success;
        int code;
        const char *out, *errors;
    } cases[] = {
        {"printf one; printf two >&2", "", true, 0, "one", "two"},
        {"exit 7", "", false, 7, "", ""},
        {"cat", "\"stdin\":\"line\\nno end\"", true, 0, "line\nno end", ""},
        {"cat", "", true, 0, "", ""},
        {"printf %s \\\"$WHAT\\\"", "\"env\":{\"WHAT\":\"set\"}", true, 0, "set", ""},
        {"printf '\\\\303\\\\244 \\\\377'", "", true, 0, "\xc3\xa4 \xef\xbf\xbd", ""},
        /* the path in this message depends on the jail */
        {"set -o pipefail; no-such-program-here 2>&1 | sed s,^.*/,,", "", false, 127,
         "bash: line 1: no-such-program-here: command not found\n", ""},
        {"kill -9 $$", "", false, 137, "", ""},
        {"(sleep 600 &) ; printf left", "", true, 0, "left", ""},
        {"d=$PWD; cd ../..; printf %s ${d#$PWD}", "\"cwdRelative\":\"./made/here/\"", true, 0,
         "/made/here", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = exec_it(cases[i].command, cases[i].more);
        expect(reply, cases[i].success, cases[i].code, cases[i].out, cases[i].errors);
        reply_free(reply);
    }
    assert_int_equal(runner_task_processes(runner), 0);
}

static void an_answer_says_why_a_command_failed(void **state)
{
    (void)state;
    static const struct {
        const char *command, *more, *reason;
        int code;
    } cases[] = {
        {"exit 3", "", "exit_status", 3},
        {"kill -9 $$", "", "killed", 137},
        {"sleep 600", "\"timeout_ms\":300", "timeout", 124},
        {"true", "\"repoUrl\":\"file:///tmp/cr-no-such-repository\"", "repo_error", 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = exec_it(cases[i].command, cases[i].more);
        assert_status(reply, 200);
        assert_json_bool(reply->json, "success", false);
        assert_json_text(reply->json, "reason", cases[i].reason);
        assert_json_has(reply->json, "error");
        assert_int_equal(int_at(reply->json, "exit_code"), cases[i].code);
        reply_free(reply);
    }
}

static void long_output_is_whole_up_to_a_bound_and_says_when_it_is_not(void **state)
{
    (void)state;
    struct reply *whole = exec_it("head -c 3000000 /dev/zero | tr '\\\\0' x", "");
    assert_status(whole, 200);
    assert_int_equal(strlen(json_text(whole->json, "stdout")), 3000000);
    assert_json_bool(whole->json, "truncated", false);
    reply_free(whole);
    struct reply *cut = exec_it("head -c 20000000 /dev/zero | tr '\\\\0' x; printf end >&2", "");
    assert_status(cut, 200);
    assert_int_equal(strlen(json_text(cut->json, "stdout")), 16 << 20);
    assert_json_text(cut->json, "stderr", "end");
    assert_json_bool(cut->json, "truncated", true);
    assert_json_bool(cut->json, "success", true);
    reply_free(cut);
}

static void secrets_of_the_environment_are_not_in_the_answer(void **state)
{
    (void)state;
    struct reply *reply = exec_it("echo $KEY; echo ${KEY:0:9}; sleep 0.2; echo ${KEY:9}; cat",
                                  "\"env\":{\"KEY\":\"hush-hush-0123456789\"},"
                                  "\"stdin\":\"hush-hush-0123456789\"");
    assert_status(reply, 200);
    assert_null(strstr(reply->body, "hush-hush-0123456789"));
    assert_non_null(strstr(json_text(reply->json, "stdout"), "[redacted]"));
    char *path = textf("/tasks/%s", json_text(reply->json, "taskId"));
    struct reply *task = runner_get(runner, path);
    assert_json_text(task->json, "kind", "command");
    assert_null(strstr(task->body, "\"KEY\""));
    reply_free(task);
    reply_free(reply);
    free(path);
}

static void wrong_fields_are_named(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{}",
        "{\"command\":\" \"}",
        "{\"command\":\"true\",\"prompt\":\"x\"}",
        "{\"command\":\"true\",\"n\":101}",
        "{\"command\":\"true\",\"preExecutionCommands\":[\"true\"]}",
        "{\"command\":\"true\",\"env\":{\"A B\":\"x\"}}",
    };
    for (size_t i = 0; i < COUNT(bodies); i++) {
        struct reply *reply = runner_post(shared(), "/exec", bodies[i]);
        assert_problem(reply, 400, "invalid_request");
        assert_json_has(reply->json, "errors.0.field");
        reply_free(reply);
    }
}

static void the_result_and_the_same_key_give_the_same_answer(void **state)
{
    (void)state;
    struct reply *first = NULL;
    for (int i = 0; i < 2; i++) {
        struct reply *reply = http_call(shared()->base, "POST", "/exec",
                                        RUNNER_AUTH "Content-Type: application/json\r\n"
                                                    "Idempotency-Key: exec-once\r\n",
                                        "{\"command\":\"date +%N\",\"metadata\":{\"a\":1.0}}");
        assert_status(reply, 200);
        if (first)
            assert_string_equal(reply->body, first->body);
        reply_free(first);
        first = reply;
    }
    struct reply *result = runner_result(runner, json_text(first->json, "taskId"));
    assert_string_equal(result->body, first->body);
    assert_non_null(strstr(first->body, "\"metadata\":{\"a\":1.0}"));
    reply_free(result);
    reply_free(first);
}

static void a_stream_has_both_and_ends_with_the_answer(void **state)
{
    (void)state;
    struct stream *stream =
        stream_open(shared()->base, "POST", "/exec",
                    RUNNER_AUTH "Content-Type: application/json\r\nAccept: text/event-stream\r\n",
                    "{\"command\":\"echo a; sleep 1; echo b >&2; read x; exit 4\",\"stdin\":\"\"}");
    stream_until_end(stream, 60000);
    const char *out = strstr(stream->body, "event: stdout\ndata: {\"text\":\"a\\n\"}\n");
    const char *errors = strstr(stream->body, "event: stderr\ndata: {\"text\":\"b\\n\"}\n");
    const char *end = strstr(stream->body, "event: error\ndata: {\"error\":");
    const char *done = strstr(stream->body, "event: done\ndata: {\"success\":false,");
    if (!out || !errors || !end || !done || out > errors || errors > end || end > done)
        fail_msg("%s", stream->body);
    assert_non_null(strstr(stream->body, "event: task\ndata: {\"taskId\":"));
    assert_non_null(strstr(done, "\"exit_code\":4"));
    stream_free(stream);
}

static void a_command_is_cancelled_with_all_it_started(void **state)
{
    (void)state;
    char *id = exec_async("sleep 600 & sleep 600", "");
    runner_await(runner, id, "running", 30000);
    char *path = textf("/tasks/%s/cancel", id);
    struct reply *reply = runner_post(runner, path, "");
    assert_status(reply, 200);
    assert_json_text(reply->json, "taskId", id);
    assert_json_text(reply->json, "status", "cancelled");
    assert_json_has(reply->json, "message");
    assert_int_equal(runner_task_processes(runner), 0);
    struct reply *result = runner_result(runner, id);
    assert_json_text(result->json, "reason", "cancelled");
    assert_int_equal(int_at(result->json, "exit_code"), 130);
    reply_free(result);
    reply_free(reply);
    free(path);
    free(id);
}

/* ---- groups ---- */

static void n_runs_are_a_group_answered_by_index(void **state)
{
    (void)state;
    struct reply *reply = exec_it("echo ran", "\"n\":6,\"taskId\":\"six\"");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "group", "six");
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "runs")), 6);
    for (int i = 0; i < 6; i++) {
        const cJSON *run = cJSON_GetArrayItem(json_at(reply->json, "runs"), i);
        assert_int_equal(int_at(run, "run"), i);
        assert_json_text(run, "group", "six");
        assert_json_text(run, "stdout", "ran\n");
    }
    struct reply *list = runner_get(runner, "/tasks?group=six");
    assert_status(list, 200);
    assert_int_equal(cJSON_GetArraySize(json_at(list->json, "tasks")), 6);
    struct reply *taken = exec_it("true", "\"taskId\":\"six\",\"n\":2");
    assert_problem(taken, 409, "conflict");
    reply_free(taken);
    reply_free(list);
    reply_free(reply);
}

static void a_group_with_failed_runs_has_not_succeeded(void **state)
{
    (void)state;
    struct reply *reply = exec_it("exit 5", "\"n\":2");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", false);
    for (int i = 0; i < 2; i++)
        assert_int_equal(int_at(cJSON_GetArrayItem(json_at(reply->json, "runs"), i), "exit_code"),
                         5);
    reply_free(reply);
}

static void the_same_key_gives_the_same_group(void **state)
{
    (void)state;
    char first[64] = "";
    for (int i = 0; i < 2; i++) {
        struct reply *reply = http_call(shared()->base, "POST", "/exec",
                                        RUNNER_AUTH "Content-Type: application/json\r\n"
                                                    "Idempotency-Key: group-once\r\n",
                                        "{\"command\":\"true\",\"n\":3}");
        assert_status(reply, 200);
        assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "runs")), 3);
        if (*first)
            assert_json_text(reply->json, "group", first);
        snprintf(first, sizeof first, "%s", json_text(reply->json, "group"));
        reply_free(reply);
    }
}

static void cancelling_a_group_cancels_all(void **state)
{
    (void)state;
    char *group = exec_async("sleep 600", "\"n\":7"); /* four slots: some of them wait */
    char *path = textf("/tasks/%s", group);
    struct reply *reply = runner_delete(runner, path);
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", "cancelled");
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "runs")), 7);
    const cJSON *run;
    cJSON_ArrayForEach(run, json_at(reply->json, "runs"))
        assert_json_text(run, "status", "cancelled");
    assert_int_equal(runner_task_processes(runner), 0);
    reply_free(reply);
    free(path);
    free(group);
}

static void a_stream_of_a_group_is_refused_by_name(void **state)
{
    (void)state;
    struct reply *reply =
        http_call(shared()->base, "POST", "/exec",
                  RUNNER_AUTH "Content-Type: application/json\r\nAccept: text/event-stream\r\n",
                  "{\"command\":\"true\",\"n\":2}");
    assert_problem(reply, 400, "invalid_request");
    assert_json_text(reply->json, "errors.0.field", "n");
    reply_free(reply);
}

static void claude_tasks_come_in_groups_too(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: ok x", "\"n\":3");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", true);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "runs")), 3);
    const cJSON *run;
    cJSON_ArrayForEach(run, json_at(reply->json, "runs")) assert_json_has(run, "output");
    reply_free(reply);
}

/* ---- restarts ---- */

static void a_waiting_command_survives_a_crash(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_start(own);
    const char *auth = RUNNER_AUTH "Content-Type: application/json\r\nPrefer: wait=0\r\n";
    reply_free(http_call(own->base, "POST", "/exec", auth,
                         "{\"command\":\"sleep 600\",\"taskId\":\"first\"}"));
    runner_await(own, "first", "running", 30000);
    reply_free(http_call(own->base, "POST", "/exec", auth,
                         "{\"command\":\"printf \\\"$A\\\"\",\"taskId\":\"second\","
                         "\"env\":{\"A\":\"kept\"}}"));
    runner_crash(own);
    runner_start(own);
    runner_await(own, "second", "completed", 60000);
    struct reply *result = runner_result(own, "second");
    assert_json_text(result->json, "stdout", "kept");
    reply_free(result);
    result = runner_result(own, "first");
    assert_json_text(result->json, "reason", "interrupted");
    reply_free(result);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_comes_back_apart_with_the_exit_code),
        cmocka_unit_test(an_answer_says_why_a_command_failed),
        cmocka_unit_test(long_output_is_whole_up_to_a_bound_and_says_when_it_is_not),
        cmocka_unit_test(secrets_of_the_environment_are_not_in_the_answer),
        cmocka_unit_test(wrong_fields_are_named),
        cmocka_unit_test(the_result_and_the_same_key_give_the_same_answer),
        cmocka_unit_test(a_stream_has_both_and_ends_with_the_answer),
        cmocka_unit_test(a_command_is_cancelled_with_all_it_started),
        cmocka_unit_test(n_runs_are_a_group_answered_by_index),
        cmocka_unit_test(a_group_with_failed_runs_has_not_succeeded),
        cmocka_unit_test(the_same_key_gives_the_same_group),
        cmocka_unit_test(cancelling_a_group_cancels_all),
        cmocka_unit_test(a_stream_of_a_group_is_refused_by_name),
        cmocka_unit_test(claude_tasks_come_in_groups_too),
        cmocka_unit_test(a_waiting_command_survives_a_crash),
    };
    return cmocka_run_group_tests_name("exec", tests, NULL, shared_stop);
}
