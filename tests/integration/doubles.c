/*
 * The doubles themselves, and how the real CLI reacts to the scripted API. When a new release of
 * the CLI behaves differently, this suite fails first.
 */
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION_HEADER "anthropic-version: 2023-06-01\r\n"
#define JSON_HEADER "Content-Type: application/json\r\n"
#define KEY_HEADER "x-api-key: " API_KEY "\r\n"
#define GOOD_BODY \
    "{\"model\":\"m\",\"max_tokens\":10,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static struct api *api;

static int start_api(void **state)
{
    (void)state;
    api = api_new();
    return 0;
}

static int stop_api(void **state)
{
    (void)state;
    api_free(api);
    return 0;
}

/* ---- the API's strictness ---- */

static void the_api_refuses_what_the_service_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *headers, *body;
        int status;
        const char *type;
    } cases[] = {
        {"POST", "/v1/messages", KEY_HEADER VERSION_HEADER JSON_HEADER, GOOD_BODY, 200, NULL},
        {"POST", "/v1/messages?beta=true", KEY_HEADER VERSION_HEADER JSON_HEADER, GOOD_BODY, 200,
         NULL},
        {"POST", "/v1/messages/count_tokens", KEY_HEADER VERSION_HEADER JSON_HEADER, GOOD_BODY, 200,
         NULL},
        {"POST", "/v1/messages", VERSION_HEADER JSON_HEADER, GOOD_BODY, 401,
         "authentication_error"},
        {"POST", "/v1/messages", "x-api-key: no\r\n" VERSION_HEADER JSON_HEADER, GOOD_BODY, 401,
         "authentication_error"},
        {"POST", "/v1/messages",
         "Authorization: Bearer " API_TOKEN "\r\n" VERSION_HEADER JSON_HEADER, GOOD_BODY, 401,
         "authentication_error"},
        {"POST", "/v1/messages",
         "Authorization: Bearer " API_TOKEN
         "\r\nanthropic-beta: a,oauth-2025-04-20\r\n" VERSION_HEADER JSON_HEADER,
         GOOD_BODY, 200, NULL},
        {"POST", "/v1/messages",
         "Authorization: Bearer no\r\nanthropic-beta: oauth-2025-04-20\r\n" VERSION_HEADER
             JSON_HEADER,
         GOOD_BODY, 401, "authentication_error"},
        {"POST", "/v1/messages", KEY_HEADER JSON_HEADER, GOOD_BODY, 400, "invalid_request_error"},
        {"POST", "/v1/messages", KEY_HEADER VERSION_HEADER, GOOD_BODY, 400,
         "invalid_request_error"},
        {"POST", "/v1/messages", KEY_HEADER VERSION_HEADER JSON_HEADER, "nonsense", 400,
         "invalid_request_error"},
        {"POST", "/v1/messages", KEY_HEADER VERSION_HEADER JSON_HEADER, "{\"model\":\"m\"}", 400,
         "invalid_request_error"},
        {"POST", "/v1/messages", KEY_HEADER VERSION_HEADER JSON_HEADER,
         "{\"model\":\"m\",\"max_tokens\":1,\"messages\":[]}", 400, "invalid_request_error"},
        {"POST", "/v1/messages", KEY_HEADER VERSION_HEADER JSON_HEADER,
         "{\"model\":\"m\",\"max_tokens\":1,\"prompt\":1,\"messages\":[{\"role\":\"user\","
         "\"content\":\"x\"}]}",
         400, "invalid_request_error"},
        {"GET", "/v1/messages", KEY_HEADER VERSION_HEADER, NULL, 405, "invalid_request_error"},
        {"POST", "/v1/complete", KEY_HEADER VERSION_HEADER JSON_HEADER, GOOD_BODY, 404,
         "not_found_error"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply =
            http_call(api->base, cases[i].method, cases[i].path, cases[i].headers, cases[i].body);
        assert_status(reply, cases[i].status);
        if (cases[i].type) {
            assert_json_text(reply->json, "type", "error");
            assert_json_text(reply->json, "error.type", cases[i].type);
            assert_json_has(reply->json, "error.message");
        }
        reply_free(reply);
    }
}

static void an_expired_token_is_refused_until_it_is_replaced(void **state)
{
    (void)state;
    const char *headers = "Authorization: Bearer short-lived\r\n"
                          "anthropic-beta: oauth-2025-04-20\r\n" VERSION_HEADER JSON_HEADER;
    static const struct {
        const char *control;
        int status;
    } steps[] = {
        {"{\"tokens\":[\"" API_TOKEN "\",\"short-lived\"]}", 200},
        {"{\"expired\":[\"short-lived\"]}", 401},
        {"{\"expired\":[]}", 200},
        {"{\"tokens\":[\"" API_TOKEN "\"]}", 401},
    };
    for (size_t i = 0; i < COUNT(steps); i++) {
        api_control(api, steps[i].control);
        struct reply *reply = http_call(api->base, "POST", "/v1/messages", headers, GOOD_BODY);
        assert_status(reply, steps[i].status);
        reply_free(reply);
    }
}

static void the_api_reads_chunked_bodies_and_keeps_connections(void **state)
{
    (void)state;
    int fd = http_connect(api->base);
    char *chunked =
        textf("POST /v1/messages HTTP/1.1\r\nHost: x\r\n" KEY_HEADER VERSION_HEADER JSON_HEADER
              "Transfer-Encoding: chunked\r\n\r\n%zx\r\n%s\r\n0\r\n\r\n",
              strlen(GOOD_BODY), GOOD_BODY);
    for (int i = 0; i < 3; i++) {
        assert_true(http_send_text(fd, chunked));
        struct reply *reply = http_read(fd, 20000);
        assert_status(reply, 200);
        assert_json_text(reply->json, "content.0.text", "Done.");
        reply_free(reply);
    }
    free(chunked);
    close(fd);
}

/* The status that the log has for the request with this mark; it is noted after the answer. */
static double logged_status(const char *mark)
{
    cJSON *log = api_log(api, mark);
    double status = json_number(log, "0.status");
    cJSON_Delete(log);
    return status;
}

static void the_log_shows_what_arrived(void **state)
{
    (void)state;
    struct reply *reply =
        http_call(api->base, "POST", "/v1/messages", KEY_HEADER VERSION_HEADER JSON_HEADER,
                  "{\"model\":\"logmark1\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\","
                  "\"content\":\"x\"}]}");
    reply_free(reply);
    EVENTUALLY(20000, logged_status("logmark1") != 0);
    cJSON *log = api_log(api, "logmark1");
    assert_int_equal(cJSON_GetArraySize(log), 1);
    assert_json_text(log, "0.path", "/v1/messages");
    assert_json_text(log, "0.headers.x-api-key", API_KEY);
    assert_json_number(log, "0.status", 200);
    cJSON_Delete(log);
}

/* ---- the real CLI against it ---- */

struct cli_run {
    int status;
    cJSON *result; /* the result line */
    size_t retries;
    char *out;
};

static const char *real_cli(void)
{
    const char *path = runner_real_cli();
    if (!path)
        SKIP_BECAUSE("the Claude Code CLI is not installed (runner/install-claude)");
    return path;
}

static void parse_lines(struct cli_run *run)
{
    char *save = NULL;
    char *copy = strdup(run->out);
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *json = cJSON_Parse(line);
        if (strcmp(json_text(json, "subtype"), "api_retry") == 0)
            run->retries++;
        if (strcmp(json_text(json, "type"), "result") == 0)
            run->result = json;
        else
            cJSON_Delete(json);
    }
    free(copy);
}

/* Runs the CLI with this prompt, credential (NAME=VALUE) and further shell-quoted arguments. */
static struct cli_run run_cli(const char *prompt, const char *credential, const char *more)
{
    struct cli_run run = {.status = -1};
    char *dir = tmp_dir_new();
    char *in = textf("%s/in", dir);
    char *out = textf("%s/out", dir);
    char *command = textf("cd %s && exec '%s' -p --output-format stream-json --verbose %s <in", dir,
                          real_cli(), more);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    char *env[] = {textf("HOME=%s", dir),
                   textf("CLAUDE_CONFIG_DIR=%s/config", dir),
                   textf("ANTHROPIC_BASE_URL=%s", api->base),
                   textf("%s", credential),
                   (char[]){"PATH=/usr/bin:/bin"},
                   (char[]){"IS_SANDBOX=1"},
                   (char[]){"CLAUDE_CODE_MAX_RETRIES=1"},
                   (char[]){"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"},
                   NULL};
    write_file(in, prompt, 0644);
    pid_t pid = proc_start(argv, env, out, "/dev/null");
    if (!proc_wait(pid, 120000, &run.status)) {
        kill(pid, SIGKILL);
        fail_msg("the CLI does not end");
    }
    run.out = read_file(out, NULL);
    parse_lines(&run);
    for (int i = 0; i < 4; i++)
        free(env[i]);
    free(command);
    free(in);
    free(out);
    tmp_dir_free(dir);
    return run;
}

static void cli_run_done(struct cli_run *run)
{
    cJSON_Delete(run->result);
    free(run->out);
}

#define LOGIN "CLAUDE_CODE_OAUTH_TOKEN=" API_TOKEN
#define KEY "ANTHROPIC_API_KEY=" API_KEY

static void the_real_cli_takes_every_answer_as_written_down(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *credential, *more;
        int status;
        const char *subtype;
        bool is_error;
        int api_status; /* 0: null */
        size_t retries;
        const char *result; /* part of it, NULL: no such field */
    } cases[] = {
        {"[[text:Hello]]", LOGIN, "", 0, "success", false, 0, 0, "Hello"},
        {"[[text:Hello]]", KEY, "", 0, "success", false, 0, 0, "Hello"},
        {"[[drip:5]][[text:a text that comes in small pieces]]", KEY, "", 0, "success", false, 0, 0,
         "a text that comes in small pieces"},
        {"[[tool:Bash {\"command\":\"echo $((40+2))\"}]][[echo]]", KEY, "", 0, "success", false, 0,
         0, "42"},
        {"[[tool:Write {\"file_path\":\"f\",\"content\":\"one\\n\"}]][[tool:Read "
         "{\"file_path\":\"f\"} with Reading]][[echo]]",
         LOGIN, "--permission-mode bypassPermissions", 0, "success", false, 0, 0, "one"},
        {"[[tool:Bash {\"command\":\"echo 1\"}]][[text:no]]", KEY, "--max-turns 1", 1,
         "error_max_turns", true, 0, 0, NULL},
        {"[[error:400]]", KEY, "", 1, "success", true, 400, 0, "API Error: 400"},
        {"[[error:401]]", LOGIN, "", 1, "success", true, 401, 1, "Failed to authenticate"},
        {"hello", "CLAUDE_CODE_OAUTH_TOKEN=unknown", "", 1, "success", true, 401, 1,
         "Invalid bearer token"},
        {"hello", "ANTHROPIC_API_KEY=unknown", "", 1, "success", true, 401, 1, "Invalid API key"},
        {"hello", "NOTHING=1", "", 1, "success", true, 0, 0, "Not logged in"},
        {"[[error:403]]", LOGIN, "", 1, "success", true, 403, 0, "403"},
        {"[[error:429 retry-after=1 reset=+3600]]", LOGIN, "", 1, "success", true, 429, 0,
         "You've hit your "},
        {"[[error:429 retry-after=1]]", KEY, "", 1, "success", true, 429, 1, "429"},
        {"[[error:529]]", LOGIN, "", 1, "success", true, 529, 1, "529"},
        {"[[error:529 times=1]][[text:then]] a", LOGIN, "", 0, "success", false, 0, 1, "then"},
        {"[[error:stream]]", LOGIN, "", 1, "success", true, 529, 1, "529"},
        {"[[cut]]", LOGIN, "", 1, "success", true, 0, 1, "ECONNRESET"},
        {"[[cut:head]]", LOGIN, "", 1, "success", true, 0, 1, "ECONNRESET"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct cli_run run = run_cli(cases[i].prompt, cases[i].credential, cases[i].more);
        print_message("  %s (%.16s)\n", cases[i].prompt, cases[i].credential);
        assert_json_text(run.result, "subtype", cases[i].subtype);
        assert_json_bool(run.result, "is_error", cases[i].is_error);
        assert_int_equal(run.status, cases[i].status);
        /* When a connection is cut, the CLI's HTTP client may try once more by itself; newer CLIs
         * try once more with a refused credential. Newer CLIs silently repeat a request whose
         * stream broke. */
        bool cut = strncmp(cases[i].prompt, "[[cut", 5) == 0;
        bool silent = strcmp(cases[i].prompt, "[[error:stream]]") == 0 ||
                      strcmp(cases[i].prompt, "[[cut]]") == 0;
        assert_in_range(run.retries, cases[i].retries - silent,
                        cases[i].retries + (cut || cases[i].api_status == 401));
        if (cases[i].result)
            assert_json_contains(run.result, "result", cases[i].result);
        else
            assert_json_lacks(run.result, "result");
        if (cases[i].api_status)
            assert_json_number(run.result, "api_error_status", cases[i].api_status);
        cli_run_done(&run);
    }
}

static void the_real_cli_takes_five_megabytes_whole(void **state)
{
    (void)state;
    struct cli_run run = run_cli("[[repeat:5000000]]", LOGIN, "");
    assert_int_equal(run.status, 0);
    assert_int_equal(strlen(json_text(run.result, "result")), 5000000);
    cli_run_done(&run);
}

/* ---- the stand-in CLI ---- */

static int run_standin(const char *behaviour, char **ret_out)
{
    char *dir = tmp_dir_new();
    char *out = textf("%s/out", dir);
    char *command =
        textf("printf '%%s' 'standin: %s' | %s --flag value", behaviour, TEST_CLI_STANDIN);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"MARK=seen"}, NULL};
    int status = -1;
    assert_true(proc_wait(proc_start(argv, env, out, NULL), 60000, &status));
    *ret_out = read_file(out, NULL);
    free(command);
    free(out);
    tmp_dir_free(dir);
    return status;
}

static void the_stand_in_ends_as_it_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *behaviour;
        int status;
        const char *says;
    } cases[] = {
        {"ok some text", 0, "\"result\":\"some text\""},
        {"exit 7", 7, "\"init\""},
        {"ok-exit 3", 3, "\"is_error\":false"},
        {"error-exit-0 why", 0, "\"is_error\":true"},
        {"no-result", 0, "\"assistant\""},
        {"not-logged-in", 1, "Not logged in \xc2\xb7 Please run /login"},
        {"max-turns", 1, "error_max_turns"},
        {"usage-limit", 1, "\"api_error_status\":429"},
        {"bad-utf8", 0, "valid again"},
        {"partial-line text", 0, "\"result\":\"text\""},
        {"split 0", 0, "in pieces"},
        {"lines 1000 80", 0, "lines done"},
        {"big-line 1000000", 0, "after the big line"},
        {"secret MARK", 0, "\"result\":\"seen\""},
        {"env", 0, "MARK=seen"},
        {"crash 9", 128 + 9, "init"},
        {"no-such-thing", 64, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *out;
        int status = run_standin(cases[i].behaviour, &out);
        if (status != cases[i].status || !strstr(out, cases[i].says))
            fail_msg("%s: status %d, %.500s", cases[i].behaviour, status, out);
        free(out);
    }
}

static void the_harness_sees_processes(void **state)
{
    (void)state;
    char *dir = tmp_dir_new();
    char *program = textf("%s/program", dir);
    char *mark = proc_mark(4242), *variable = textf("HARNESS_MARK=%s", mark);
    char *argv[] = {program, mark, NULL};
    char *env[] = {variable, NULL};
    int status;
    file_copy_program("/bin/sleep", program);
    assert_int_equal(proc_running_file(program, NULL, 0), 0);
    pid_t pid = proc_start(argv, env, NULL, NULL);
    EVENTUALLY(20000, proc_running_file(program, NULL, 0) == 1);
    EVENTUALLY(20000, proc_with_argument(mark) == 1); /* its memory is made after its file */
    EVENTUALLY(20000, proc_with_environment(variable) == 1);
    assert_true(proc_has_argument(pid, mark) && !proc_has_argument(pid, "4242"));
    assert_true(proc_alive(pid));
    assert_int_equal(proc_threads(pid), 1);
    EVENTUALLY(20000, proc_fds(pid) == 3); /* it reads libraries first */
    assert_int_equal(proc_children(pid), 0);
    assert_true(proc_rss_kib(pid) > 0);
    kill(pid, SIGKILL);
    assert_true(proc_wait(pid, 20000, &status));
    assert_int_equal(status, 128 + SIGKILL);
    assert_false(proc_alive(pid));
    assert_int_equal(proc_running_file(program, NULL, 0), 0);
    free(program);
    free(mark);
    free(variable);
    tmp_dir_free(dir);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_api_refuses_what_the_service_refuses),
        cmocka_unit_test(an_expired_token_is_refused_until_it_is_replaced),
        cmocka_unit_test(the_api_reads_chunked_bodies_and_keeps_connections),
        cmocka_unit_test(the_log_shows_what_arrived),
        cmocka_unit_test(the_real_cli_takes_every_answer_as_written_down),
        cmocka_unit_test(the_real_cli_takes_five_megabytes_whole),
        cmocka_unit_test(the_stand_in_ends_as_it_is_told),
        cmocka_unit_test(the_harness_sees_processes),
    };
    return cmocka_run_group_tests_name("doubles", tests, start_api, stop_api);
}
