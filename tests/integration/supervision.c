/*
 * How the runner handles a CLI that misbehaves: it reports the right reason, in bounded time, and
 * leaves no process running.
 */
#include "testing.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_EVENT_S = 5, IDLE_S = 7, GRACE_S = 1, KILL_S = 1 }; /* as in the settings */

/* The time that a case may take in addition to the deadlines that it meets. */
enum { SPARE_MS = 8000 };

static struct runner *runner;

static const char *const settings[] = {"FIRST_EVENT_SECONDS",
                                       "5",
                                       "IDLE_SECONDS",
                                       "7",
                                       "RESULT_GRACE_SECONDS",
                                       "1",
                                       "KILL_GRACE_SECONDS",
                                       "1",
                                       NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

/* Alternatives are written "a|b". */
#define HUNG "no_output|idle_timeout"
#define BROKEN "cli_error"
#define DIED "killed"

static const struct misbehaviour {
    const char *prompt, *more;
    bool success;
    const char *reasons; /* of a failure */
    const char *says;    /* a part of output */
    int exit_code;       /* -1: any */
    int within_s;        /* the deadlines that it meets */
} misbehaviours[] = {
    {"a plain prompt", "", true, NULL, "a plain prompt", 0, 0},
    {"standin: ok text", "", true, NULL, "text", 0, 0},
    {"standin: hang-start", "", false, HUNG, "", -1, FIRST_EVENT_S + KILL_S},
    {"standin: hang-middle", "", false, HUNG, "", -1, IDLE_S + KILL_S},
    {"standin: hang-result done", "", true, NULL, "done", -1, GRACE_S + KILL_S},
    {"standin: closed-stdout done", "", true, NULL, "done", -1, GRACE_S + KILL_S},
    {"standin: closed-early", "", false, HUNG, "", -1, FIRST_EVENT_S + KILL_S},
    {"standin: big-line 1048576", "", true, NULL, "after the big line", 0, 0},
    {"standin: long-line 17000000", "", true, NULL, "after the big line", 0, 2},
    {"standin: big-result 5000000", "", true, NULL, "rrrr", 0, 2},
    {"standin: bad-utf8", "", true, NULL, "valid again", 0, 0},
    {"standin: bad-result", "", true, NULL, "bad ", 0, 0},
    {"standin: garbage", "", true, NULL, "after garbage", 0, 0},
    {"standin: nul", "", true, NULL, "after nul", 0, 0},
    {"standin: no-result", "", false, BROKEN, "", -1, 0},
    {"standin: silent", "", false, BROKEN, "", -1, 0},
    {"standin: half-line", "", false, BROKEN, "", -1, 0},
    {"standin: exit 3", "", false, BROKEN, "", 3, 0},
    {"standin: stderr-fail it went wrong", "", false, BROKEN, "it went wrong", 1, 0},
    {"standin: ok-exit 3", "", true, NULL, "3", 0, 0},
    {"standin: error-exit-0 why", "", false, BROKEN, "why", -1, 0},
    {"standin: partial-line the end", "", true, NULL, "the end", 0, 0},
    {"standin: split 1", "", true, NULL, "h\xc3\xa9llo in pieces", 0, 1},
    {"standin: two-results", "", true, NULL, "first", -1, GRACE_S},
    {"standin: crash 11", "", false, DIED, "", 139, 0},
    {"standin: crash 9", "", false, DIED, "", 137, 0},
    {"standin: not-logged-in", "", false, "login_required", "Not logged in", 1, 0},
    {"standin: max-turns", "", false, "max_turns", "Reached maximum", 1, 0},
    {"standin: usage-limit", "", false, "usage_limit", "session limit", 1, 0},
    {"standin: stderr-flood 10000000", "", true, NULL, "flooded", 0, 1},
    {"standin: lines 100000 100", "", true, NULL, "lines done", 0, 4},
    {"standin: print-bytes 50000000", "", true, NULL, "bytes done", 0, 4},
    {"standin: sleep 2500", "", true, NULL, "slept", 0, 3},
    {"standin: sleep 20000", "\"timeout_ms\":700", false, "timeout", "", -1, 1 + KILL_S},
    {"standin: ignore-term", "\"timeout_ms\":700", false, "timeout", "", -1, 1 + KILL_S},
    {"standin: forkbomb 60", "", true, NULL, "forked", 0, KILL_S},
};

/* Returns what is wrong with the answer, or NULL. */
static const char *find_fault(const struct misbehaviour *b, const struct reply *reply)
{
    const cJSON *json = reply->json;
    if (reply->status != 200 || !reply->complete || !json)
        return "no whole answer";
    if ((bool)cJSON_IsTrue(json_at(json, "success")) != b->success)
        return "success";
    if (!strstr(json_text(json, "output"), b->says))
        return "output";
    if (!b->success && *b->says && strstr(json_text(json, "error"), b->says))
        return "error"; /* It is the runner's own sentence. */
    if (b->exit_code >= 0 && (int)json_number(json, "exit_code") != b->exit_code)
        return "exit_code";
    if (b->success)
        return NULL;
    char *word = textf("|%s|", json_text(json, "reason"));
    char *words = textf("|%s|", b->reasons);
    bool listed = strlen(word) > 2 && strstr(words, word);
    free(word);
    free(words);
    if (!listed)
        return "reason";
    return *json_text(json, "error") ? NULL : "error";
}

static void every_misbehaviour_has_its_reason_and_leaves_nothing(void **state)
{
    (void)state;
    int wrong = 0;
    shared();
    for (size_t i = 0; i < COUNT(misbehaviours); i++) {
        const struct misbehaviour *b = &misbehaviours[i];
        struct reply *reply = runner_execute(runner, b->prompt, b->more);
        int64_t limit = ((int64_t)b->within_s * 1000 + SPARE_MS) * slowness();
        const char *fault = reply->total_ms > limit ? "time" : find_fault(b, reply);
        if (fault) {
            print_error("%s: wrong %s after %lld ms: %.1000s\n", b->prompt, fault,
                        (long long)reply->total_ms, reply->body);
            wrong++;
        }
        EVENTUALLY(20000, runner_task_processes(runner) == 0);
        reply_free(reply);
    }
    assert_int_equal(wrong, 0);
}

static void a_line_past_the_limit_is_reported_as_truncated(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: long-line 17000000", "");
    assert_json_bool(reply->json, "truncated", true);
    reply_free(reply);
    reply = runner_execute(runner, "standin: big-line 16000000", "");
    assert_json_bool(reply->json, "truncated", false);
    reply_free(reply);
}

static void a_result_past_the_limit_leaves_the_service_well(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: big-result 20000000", "");
    assert_status(reply, 200);
    assert_non_null(json_at(reply->json, "success"));
    reply_free(reply);
    reply = runner_execute(runner, "standin: ok still here", "");
    assert_json_text(reply->json, "output", "still here");
    reply_free(reply);
}

static void bytes_that_are_no_utf8_come_out_as_valid_json(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: bad-result", "");
    for (const char *p = json_text(reply->json, "output"); *p; p++)
        assert_true((unsigned char)*p != 0xff && (unsigned char)*p != 0xfe);
    reply_free(reply);
}

/* A daemon writes to the file at `path`; true once the file has stopped growing. */
static bool has_stopped(const char *path)
{
    long before = file_size(path);
    for (int i = 0; i < 30; i++)
        poll_pause();
    return before >= 0 && file_size(path) == before;
}

static void what_called_setsid_and_double_forked_is_ended_too(void **state)
{
    (void)state;
    static const char *const ways[] = {"daemon", "daemon-holding"};
    shared();
    for (size_t i = 0; i < COUNT(ways); i++) {
        char *path = textf("%s/%s", runner->shared, ways[i]);
        char *prompt = textf("standin: %s %s", ways[i], path);
        struct reply *reply = runner_execute(runner, prompt, "");
        assert_json_bool(reply->json, "success", true);
        EVENTUALLY(20000, runner_task_processes(runner) == 0);
        assert_true(has_stopped(path));
        reply_free(reply);
        free(prompt);
        free(path);
    }
}

static void a_daemon_dies_with_its_cancelled_task(void **state)
{
    (void)state;
    shared();
    char *path = textf("%s/cancelled-daemon", runner->shared);
    char *prompt = textf("standin: daemon-hang %s", path);
    char *id = runner_submit(runner, prompt, "");
    EVENTUALLY(20000, file_size(path) > 8);
    char *cancel = textf("/tasks/%s/cancel", id);
    struct reply *reply = runner_post(runner, cancel, "");
    assert_status(reply, 200);
    reply_free(reply);
    runner_await(runner, id, "cancelled", 20000);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    assert_true(has_stopped(path));
    free(cancel);
    free(id);
    free(prompt);
    free(path);
}

static void a_process_that_traps_term_has_time_to_clean_up(void **state)
{
    (void)state;
    shared();
    char *path = textf("%s/cleaned-up", runner->shared);
    char *prompt = textf("standin: trap-term %s", path);
    for (int ms = 1500; file_size(path) < 0; ms *= 4) { /* so long that it is there to be ended */
        char *more = textf("\"timeout_ms\":%d", ms);
        struct reply *reply = runner_execute(runner, prompt, more);
        assert_json_text(reply->json, "reason", "timeout");
        reply_free(reply);
        free(more);
        assert_true(file_size(path) >= 0 || ms < 60000);
    }
    free(prompt);
    free(path);
}

/* ---- what a task is given ---- */

static cJSON *given(const char *more)
{
    struct reply *reply = runner_execute(shared(), "standin: env", more);
    assert_json_bool(reply->json, "success", true);
    cJSON *json = cJSON_Parse(json_text(reply->json, "output"));
    assert_non_null(json);
    reply_free(reply);
    return json;
}

static bool list_has(const cJSON *list, const char *start)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (strncmp(item->valuestring, start, strlen(start)) == 0)
            return true;
    }
    return false;
}

static void a_task_gets_an_environment_from_an_allow_list(void **state)
{
    (void)state;
    cJSON *json = given("");
    const cJSON *env = json_at(json, "env");
    static const char *const wanted[] = {"PATH=", "HOME=", "CLAUDE_CONFIG_DIR="};
    static const char *const unwanted[] = {
        "RUNNER_", "PORT=",          "CLAUDE_BIN=",  "LOG_",
        "JAIL",    "MAX_CONCURRENT", "ASAN_OPTIONS", "FIRST_EVENT"};
    for (size_t i = 0; i < COUNT(wanted); i++)
        if (!list_has(env, wanted[i]))
            fail_msg("%s is missing", wanted[i]);
    for (size_t i = 0; i < COUNT(unwanted); i++)
        if (list_has(env, unwanted[i]))
            fail_msg("%s is there", unwanted[i]);
    char *private_config = textf("CLAUDE_CONFIG_DIR=%s", runner->config);
    assert_false(list_has(env, private_config));
    free(private_config);
    cJSON_Delete(json);
}

static void a_variable_of_the_request_takes_the_place_of_the_runners(void **state)
{
    (void)state;
    cJSON *json = given("\"environmentSecrets\":{\"PATH\":\"/usr/bin:/bin:/none\",\"MINE\":\"1\"}");
    int paths = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, json_at(json, "env"))
    {
        paths += strncmp(item->valuestring, "PATH=", 5) == 0;
    }
    assert_int_equal(paths, 1);
    assert_true(list_has(json_at(json, "env"), "MINE=1"));
    cJSON_Delete(json);
}

/* The secret may be escaped by the program that prints it, and quoted by another. */
static void a_secret_of_the_request_is_in_no_answer_event_or_log(void **state)
{
    (void)state;
    static const char more[] = "\"environmentSecrets\":{\"TOKEN\":\"top<\xc3\xa4>-4711\\\"x\"},"
                               "\"preExecutionCommands\":[\"%s\"]";
    static const char *const commands[] = {
        "printf '%s' \\\"$TOKEN\\\"; false # top<\xc3\xa4>-4711\\\"x",
        "printf '%s' '{\\\"a\\\":\\\"top<\\\\u00e4>-4711\\\\\\\"x\\\"}'; exit 3",
    };
    for (size_t i = 0; i < COUNT(commands); i++) {
        char *fields = textf(more, commands[i]);
        struct reply *reply = runner_execute(shared(), "standin: ok x", fields);
        assert_json_text(reply->json, "reason", "pre_execution");
        assert_null(strstr(reply->body, "4711"));
        char *path = textf("%s/tasks/%s/events", runner->state, json_text(reply->json, "taskId"));
        char *events = read_file(path, NULL), *log = runner_log(runner);
        assert_non_null(strstr(events, "[redacted]"));
        if (strstr(events, ">-4711") || strstr(log, ">-4711"))
            fail_msg("it is in: %s", events);
        free(log);
        free(events);
        free(path);
        free(fields);
        reply_free(reply);
    }
}

static void a_task_inherits_no_descriptors_and_no_signal_settings(void **state)
{
    (void)state;
    cJSON *json = given("");
    assert_int_equal(cJSON_GetArraySize(json_at(json, "fds")), 3);
    assert_json_text(json, "SigBlk", "0000000000000000");
    /* 32 and 33 belong to the C library; posix_spawn leaves them ignored. */
    unsigned long long ignored = strtoull(json_text(json, "SigIgn"), NULL, 16);
    assert_true((ignored & ~0x180000000ULL) == 0);
    assert_true(json_number(json, "sid") == json_number(json, "pgid"));
    cJSON_Delete(json);
}

static void a_task_does_not_run_as_root(void **state)
{
    (void)state;
    if (geteuid() != 0)
        SKIP_BECAUSE("the runner changes users only when it is root");
    cJSON *json = given("");
    assert_true(json_number(json, "uid") != 0);
    assert_true(json_number(json, "gid") != 0);
    assert_json_number(json, "no_new_privs", 1);
    cJSON_Delete(json);
}

static void the_prompt_is_in_no_command_line(void **state)
{
    (void)state;
    cJSON *json = given("\"maxTurns\":7,\"model\":\"m-1\"");
    const cJSON *item;
    bool turns = false;
    cJSON_ArrayForEach(item, json_at(json, "argv"))
    {
        assert_null(strstr(item->valuestring, "standin"));
        turns |= strstr(item->valuestring, "7") != NULL;
    }
    assert_true(turns);
    cJSON_Delete(json);
}

static void each_task_has_a_directory_of_its_own(void **state)
{
    (void)state;
    struct reply *reply =
        runner_succeeded(shared(), "standin: env", "\"preExecutionCommands\":[\"touch mine\"]");
    reply_free(reply);
    reply =
        runner_succeeded(shared(), "standin: env", "\"preExecutionCommands\":[\"test ! -e mine\"]");
    reply_free(reply);
    cJSON *one = given("");
    assert_string_not_equal(json_text(one, "cwd"), "/");
    cJSON_Delete(one);
}

/* ---- what many tasks leave ---- */

static void two_hundred_tasks_leave_no_descriptor_thread_or_child(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        reply_free(runner_execute(shared(), "standin: ok warm", ""));
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    int fds = proc_fds(runner->pid), threads = proc_threads(runner->pid);
    int children = proc_children(runner->pid);
    for (int i = 0; i < 200; i++) {
        struct reply *reply = runner_execute(runner, "standin: ok again", "");
        assert_json_bool(reply->json, "success", true);
        reply_free(reply);
    }
    EVENTUALLY(20000, proc_threads(runner->pid) <= threads);
    EVENTUALLY(20000, proc_fds(runner->pid) <= fds + 2);
    EVENTUALLY(20000, proc_children(runner->pid) <= children);
}

/* The least growth of a few runs: memory that is taken once, as by the first use of a thread's own
 * heap, is no growth by what was printed. */
static void memory_stays_flat_while_a_task_prints(void **state)
{
    enum { MOST_KIB = 2048 };
    long least = LONG_MAX;
    (void)state;
    if (slowness() > 1)
        SKIP_BECAUSE("sanitizers keep memory of their own");
    reply_free(runner_execute(shared(), "standin: print-bytes 20000000", ""));
    for (int i = 0; i < 4 && least > MOST_KIB; i++) {
        long before = proc_rss_kib(runner->pid);
        struct reply *reply = runner_execute(runner, "standin: print-bytes 300000000", "");
        assert_json_bool(reply->json, "success", true);
        long grown = proc_rss_kib(runner->pid) - before;
        least = grown < least ? grown : least;
        reply_free(reply);
    }
    if (least > MOST_KIB)
        fail_msg("each run grew it by %ld KiB or more", least);
}

static void a_cli_that_cannot_be_started_is_said_by_name(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_set(own, "CLAUDE_BIN", "/nonexistent/claude");
    runner_start(own);
    struct reply *reply = runner_execute(own, "x", "");
    assert_json_bool(reply->json, "success", false);
    assert_json_contains(reply->json, "error", "claude");
    reply_free(reply);
    reply = runner_get(own, "/health");
    assert_status(reply, 200);
    reply_free(reply);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_misbehaviour_has_its_reason_and_leaves_nothing),
        cmocka_unit_test(a_line_past_the_limit_is_reported_as_truncated),
        cmocka_unit_test(a_result_past_the_limit_leaves_the_service_well),
        cmocka_unit_test(bytes_that_are_no_utf8_come_out_as_valid_json),
        cmocka_unit_test(what_called_setsid_and_double_forked_is_ended_too),
        cmocka_unit_test(a_daemon_dies_with_its_cancelled_task),
        cmocka_unit_test(a_process_that_traps_term_has_time_to_clean_up),
        cmocka_unit_test(a_task_gets_an_environment_from_an_allow_list),
        cmocka_unit_test(a_variable_of_the_request_takes_the_place_of_the_runners),
        cmocka_unit_test(a_secret_of_the_request_is_in_no_answer_event_or_log),
        cmocka_unit_test(a_task_inherits_no_descriptors_and_no_signal_settings),
        cmocka_unit_test(a_task_does_not_run_as_root),
        cmocka_unit_test(the_prompt_is_in_no_command_line),
        cmocka_unit_test(each_task_has_a_directory_of_its_own),
        cmocka_unit_test(two_hundred_tasks_leave_no_descriptor_thread_or_child),
        cmocka_unit_test(memory_stays_flat_while_a_task_prints),
        cmocka_unit_test(a_cli_that_cannot_be_started_is_said_by_name),
    };
    return cmocka_run_group_tests_name("supervision", tests, NULL, shared_stop);
}
