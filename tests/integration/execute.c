/*
 * POST /execute with the real Claude Code CLI and a scripted model.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct api *api;
static struct runner *runner;

static const char *const settings[] = {NULL};

static struct runner *shared(void)
{
    return runner_shared_real(&runner, &api, settings);
}

static struct reply *execute(const char *prompt, const char *more)
{
    struct reply *reply = runner_execute(shared(), prompt, more);
    assert_status(reply, 200);
    return reply;
}

static void answers_with_the_models_text_and_the_accounts_figures(void **state)
{
    (void)state;
    struct reply *reply = execute("[[usage:input=1000 output=50]][[text:Hello there]]", "");
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "output", "Hello there");
    assert_json_number(reply->json, "exit_code", 0);
    assert_json_text(reply->json, "executor", "local");
    assert_json_number(reply->json, "num_turns", 1);
    assert_json_bool(reply->json, "truncated", false);
    assert_json_number(reply->json, "usage.input_tokens", 1000);
    assert_json_number(reply->json, "usage.output_tokens", 50);
    assert_true(json_number(reply->json, "total_cost_usd") > 0);
    assert_true(json_number(reply->json, "duration_ms") > 0);
    assert_int_equal(strlen(json_text(reply->json, "sessionId")), 36);
    assert_string_not_equal(json_text(reply->json, "taskId"), "");
    assert_json_lacks(reply->json, "error");
    reply_free(reply);
}

static void runs_the_tools_that_the_model_asks_for(void **state)
{
    (void)state;
    struct reply *reply = execute("[[tool:Write {\"file_path\":\"note.txt\",\"content\":\"six by "
                                  "seven\\n\"} with First I write]]"
                                  "[[tool:Read {\"file_path\":\"note.txt\"}]]"
                                  "[[tool:Bash {\"command\":\"cat note.txt; echo $((6*7))\"}]]"
                                  "[[echo]]",
                                  "\"allowedTools\":[\"Bash\"]");
    assert_json_bool(reply->json, "success", true);
    assert_json_contains(reply->json, "output", "six by seven");
    assert_json_contains(reply->json, "output", "42");
    assert_json_number(reply->json, "num_turns", 4);
    reply_free(reply);
}

static void returns_an_answer_of_five_megabytes_whole(void **state)
{
    (void)state;
    struct reply *reply = execute("[[repeat:5000000]]", "");
    assert_json_bool(reply->json, "success", true);
    const char *text = json_text(reply->json, "output");
    assert_int_equal(strlen(text), 5000000);
    assert_memory_equal(text + 4999920, "0004999920 ", 11);
    reply_free(reply);
}

static void waits_for_an_answer_that_drips(void **state)
{
    (void)state;
    struct reply *reply =
        execute("[[drip:30]][[text:an answer that comes slowly, in pieces of sixteen bytes]]", "");
    assert_json_text(reply->json, "output",
                     "an answer that comes slowly, in pieces of sixteen bytes");
    reply_free(reply);
}

/* True when `reason` is one of the words in `accepted` ("a|b"). */
static bool one_of(const char *reason, const char *accepted)
{
    char *found = textf("|%s|", reason);
    char *all = textf("|%s|", accepted);
    bool is = *reason && strstr(all, found);
    free(found);
    free(all);
    return is;
}

/* `error`: what the runner's own sentence holds; `said`: what Claude's words in the output do. */
static void check_failure(const char *prompt, const char *more, const char *reasons,
                          const char *error, const char *said)
{
    print_message("  %s\n", prompt);
    struct reply *reply = execute(prompt, more);
    assert_json_bool(reply->json, "success", false);
    assert_json_contains(reply->json, "error", error);
    assert_json_contains(reply->json, "output", said);
    if (!one_of(json_text(reply->json, "reason"), reasons))
        assert_json_text(reply->json, "reason", reasons);
    reply_free(reply);
}

static void names_the_reason_of_what_the_service_refuses(void **state)
{
    (void)state;
    check_failure("[[error:400]] x", "", "cli_error|api_error", "400", "400");
    check_failure("[[error:401]] x", "", "login_required", "OAuth", "");
    check_failure("[[error:403]] x", "", "login_required|cli_error|api_error", "", "403");
    check_failure("[[error:429 retry-after=1]] x", "", "usage_limit", "limit", "");
    check_failure("[[error:500]] x", "", "cli_error|api_error", "500", "500");
    check_failure("[[error:529]] x", "", "cli_error|api_error|overloaded", "529", "529");
    check_failure("[[cut]] x", "", "cli_error|api_error", "reached", "connect");
    check_failure("[[error:stream]] x", "", "cli_error|api_error|overloaded", "529", "529");
}

static void recovers_when_the_service_does(void **state)
{
    (void)state;
    struct reply *reply = execute("[[error:529 times=1]][[text:second try]] recovers", "");
    assert_json_text(reply->json, "output", "second try");
    reply_free(reply);
}

static void reports_that_the_turns_are_used_up(void **state)
{
    (void)state;
    check_failure("[[tool:Bash {\"command\":\"echo 1\"}]][[text:never said]]", "\"maxTurns\":1",
                  "max_turns", "turns", "");
}

static void reports_what_was_not_permitted(void **state)
{
    (void)state;
    struct reply *reply = execute("[[tool:Bash {\"command\":\"touch /var/tmp/cr-denied\"}]]"
                                  "[[text:went on]]",
                                  "\"permissionMode\":\"default\"");
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "output", "went on");
    assert_json_text(reply->json, "permission_denials.0.tool_name", "Bash");
    reply_free(reply);
}

static void the_words_of_an_answer_do_not_make_it_a_failure(void **state)
{
    (void)state;
    struct reply *reply =
        execute("[[text:401 Unauthorized. Not logged in. rate limit, error]]", "");
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
}

static void takes_a_prompt_that_no_argument_could_hold(void **state)
{
    (void)state;
    size_t size = 300 * 1024;
    char *prompt = malloc(size + 1);
    assert_non_null(prompt);
    memset(prompt, 'p', size);
    memcpy(prompt, "[[text:got it all]] ", 20);
    prompt[size] = '\0';
    struct reply *reply = execute(prompt, "");
    assert_json_text(reply->json, "output", "got it all");
    reply_free(reply);
    free(prompt);
}

static void ends_what_a_tool_left_running(void **state)
{
    (void)state;
    char *mark = proc_mark(4242); /* this test runs as another user at the same time */
    char *prompt = textf("[[tool:Bash {\"command\":\"setsid nohup sleep %s >/dev/null 2>&1 & echo "
                         "started\"}]][[echo]]",
                         mark);
    struct reply *reply = execute(prompt, "\"allowedTools\":[\"Bash\"]");
    assert_json_contains(reply->json, "output", "started");
    EVENTUALLY(20000, proc_with_argument(mark) == 0);
    reply_free(reply);
    free(prompt);
    free(mark);
}

static void ends_a_run_whose_time_is_over(void **state)
{
    (void)state;
    int64_t start = now_ms();
    check_failure("[[hang]] timeout", "\"timeout_ms\":1500", "timeout", "", "");
    assert_true(now_ms() - start < 60000 * slowness());
}

static void a_login_file_serves_as_well_as_a_key(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    api = api ? api : api_new();
    runner_use_real_cli(own, api);
    runner_set(own, "ANTHROPIC_API_KEY", NULL);
    char *path = textf("%s/.credentials.json", own->config);
    write_file(path,
               "{\"claudeAiOauth\":{\"accessToken\":\"" API_TOKEN
               "\",\"refreshToken\":\"sk-ant-ort01-x\",\"expiresAt\":4102444800000,"
               "\"scopes\":[\"user:inference\"],\"subscriptionType\":\"max\"}}",
               0600);
    runner_start(own);
    struct reply *reply = runner_execute(own, "[[text:logged in]] loginmark", "");
    assert_json_text(reply->json, "output", "logged in");
    reply_free(reply);
    cJSON *log = api_log(api, "loginmark");
    assert_json_text(log, "0.headers.Authorization", "Bearer " API_TOKEN);
    cJSON_Delete(log);
    reply = runner_execute(own, "[[error:429 retry-after=1 reset=+3600]]", "");
    assert_problem(reply, 429, "too_many_requests"); /* the account has the problem, not the task */
    reply_free(reply);
    free(path);
    runner_free(own);
}

static void answers_401_before_it_starts_without_a_login(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_set(own, "ANTHROPIC_API_KEY", NULL);
    runner_start(own);
    struct reply *reply = runner_execute(own, "standin: ok never", "");
    assert_problem(reply, 401, "login_required");
    assert_memory_equal(json_text(reply->json, "error"), "OAuth", 5);
    reply_free(reply);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_with_the_models_text_and_the_accounts_figures),
        cmocka_unit_test(runs_the_tools_that_the_model_asks_for),
        cmocka_unit_test(returns_an_answer_of_five_megabytes_whole),
        cmocka_unit_test(waits_for_an_answer_that_drips),
        cmocka_unit_test(names_the_reason_of_what_the_service_refuses),
        cmocka_unit_test(recovers_when_the_service_does),
        cmocka_unit_test(reports_that_the_turns_are_used_up),
        cmocka_unit_test(reports_what_was_not_permitted),
        cmocka_unit_test(the_words_of_an_answer_do_not_make_it_a_failure),
        cmocka_unit_test(takes_a_prompt_that_no_argument_could_hold),
        cmocka_unit_test(ends_what_a_tool_left_running),
        cmocka_unit_test(ends_a_run_whose_time_is_over),
        cmocka_unit_test(a_login_file_serves_as_well_as_a_key),
        cmocka_unit_test(answers_401_before_it_starts_without_a_login),
    };
    return cmocka_run_group_tests_name("execute", tests, NULL, shared_stop);
}
