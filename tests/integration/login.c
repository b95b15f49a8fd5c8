/*
 * A login from anywhere: the real CLI against a TLS stand-in for Claude's hosts, driven by the API,
 * by the terminal command and by a browser.
 */
#include "login_scene.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int control_number(const struct internet *internet, const char *name)
{
    struct reply *reply = http_call(internet->oauth->base, "GET", "/_control", NULL, NULL);
    int number = (int)json_number(reply->json, name);
    reply_free(reply);
    return number;
}

/* A login as the API gave it. */
struct begun {
    char *id, *path, *url;
};

/* Begins one, which may still be starting: a slow CLI is not waited for. */
static struct begun begin_only(const struct runner *runner)
{
    struct reply *reply = runner_post(runner, "/oauth/login", NULL);
    assert_status(reply, 201);
    assert_json_has(reply->json, "expiresAt");
    struct begun begun = {.id = strdup(json_text(reply->json, "loginId"))};
    assert_string_not_equal(begun.id, "");
    begun.path = textf("/oauth/login/%s", begun.id);
    reply_free(reply);
    return begun;
}

static void begun_free(struct begun *begun)
{
    free(begun->id);
    free(begun->path);
    free(begun->url);
}

static struct reply *give(const struct runner *runner, const struct begun *begun, const char *code)
{
    char *json = textf("{\"code\":\"%s\"}", code);
    struct reply *reply = runner_post(runner, begun->path, json);
    free(json);
    return reply;
}

static void assert_state(const struct runner *runner, const struct begun *begun, const char *state)
{
    struct reply *reply = runner_get(runner, begun->path);
    assert_status(reply, 200);
    assert_json_text(reply->json, "state", state);
    reply_free(reply);
}

static bool is_in_state(const struct runner *runner, const struct begun *begun, const char *state)
{
    struct reply *reply = runner_get(runner, begun->path);
    bool is = strcmp(json_text(reply->json, "state"), state) == 0;
    reply_free(reply);
    return is;
}

/* Begins one, and waits until a code is awaited. */
static struct begun begin(const struct runner *runner)
{
    struct begun begun = begin_only(runner);
    EVENTUALLY(60000, is_in_state(runner, &begun, "awaiting_code"));
    struct reply *reply = runner_get(runner, begun.path);
    begun.url = strdup(json_text(reply->json, "url"));
    assert_string_not_equal(begun.url, "");
    reply_free(reply);
    return begun;
}

/* Gives the code. Returns how the login is when it has been looked at, whatever time that takes. */
static struct reply *give_and_await(const struct runner *runner, const struct begun *begun,
                                    const char *code)
{
    struct reply *reply = give(runner, begun, code);
    assert_status(reply, 200);
    if (strcmp(json_text(reply->json, "state"), "verifying") == 0) {
        EVENTUALLY(60000, !is_in_state(runner, begun, "verifying"));
        reply_free(reply);
        reply = runner_get(runner, begun->path);
    }
    return reply;
}

static void assert_not_logged(const struct runner *runner, const char *secret)
{
    char *log = runner_log(runner);
    if (strstr(log, secret))
        fail_msg("'%s' is in the log: %s", secret, log);
    free(log);
}

/* --- by the API ---------------------------------------------------------------------------- */

static void assert_logged_in(const struct runner *runner)
{
    struct reply *reply = runner_get(runner, "/oauth/status");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "configured", true);
    assert_json_bool(reply->json, "expired", false);
    assert_json_text(reply->json, "subscription_type", "max");
    assert_true(json_number(reply->json, "hours_remaining") > 7.5);
    assert_null(strstr(reply->body, "sk-ant"));
    reply_free(reply);
}

static void a_login_lets_claude_in(void **state)
{
    (void)state;
    struct stat st;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    char *code = internet_agree(internet, begun.url);
    struct reply *reply = give_and_await(runner, &begun, code);
    assert_json_text(reply->json, "state", "succeeded");
    assert_json_lacks(reply->json, "url");
    reply_free(reply);
    assert_logged_in(runner);
    assert_int_equal(cli_processes(runner), 0);
    char *path = textf("%s/.credentials.json", runner->config);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    reply = runner_post(runner, "/oauth/refresh", NULL);
    assert_status(reply, 200);
    assert_json_text(reply->json, "last_refresh", "succeeded");
    reply_free(reply);
    assert_int_equal(control_number(internet, "logins"), 1);
    assert_int_equal(control_number(internet, "refreshes"), 1);
    assert_not_logged(runner, code);
    assert_not_logged(runner, strchr(code, '#') + 1);
    assert_not_logged(runner, "sk-ant");
    free(path);
    free(code);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void a_wrong_code_is_refused_in_words_for_people(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    struct reply *reply = give_and_await(runner, &begun, "no-real#code");
    assert_json_text(reply->json, "state", "failed");
    assert_json_contains(reply->json, "error", "The code was not accepted");
    reply_free(reply);
    reply = give(runner, &begun, "too-late#code");
    assert_problem(reply, 409, "conflict");
    reply_free(reply);
    struct begun next = begin(runner);
    assert_string_not_equal(next.id, begun.id);
    reply = runner_get(runner, begun.path);
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    begun_free(&begun);
    begun_free(&next);
    runner_free(runner);
    internet_free(internet);
}

static void half_a_code_may_be_tried_again(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    struct reply *reply = give_and_await(runner, &begun, "half");
    assert_json_text(reply->json, "state", "awaiting_code");
    assert_json_contains(reply->json, "error", "not the full code");
    reply_free(reply);
    char *code = internet_agree(internet, begun.url);
    char *pasted = textf(" \\t%s \\r\\n", code); /* with the white space that people copy along */
    reply = give_and_await(runner, &begun, pasted);
    assert_json_text(reply->json, "state", "succeeded");
    reply_free(reply);
    free(pasted);
    free(code);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void what_cannot_be_a_code_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *part;
    } cases[] = {
        {"{\"code\":\"\"}", "code must be"},
        {"{\"code\":\"a b\"}", "code must be"},
        {"{\"code\":\"a\\nb\"}", "code must be"},
        {"{\"code\":7}", "must be a string"},
        {"{}", "required"},
        {"{\"cod\":\"x\"}", "did you mean 'code'"},
        {"{\"code\":\"x\"", ""},
        {"[]", "must be an object"},
        {"{\"code\":\"x\",\"more\":1}", "unknown"},
    };
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = runner_post(runner, begun.path, cases[i].body);
        assert_problem(reply, 400, "invalid_request");
        assert_json_contains(reply->json, "detail", cases[i].part);
        reply_free(reply);
    }
    assert_state(runner, &begun, "awaiting_code");
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void a_cancelled_login_leaves_no_process(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    assert_true(cli_processes(runner) > 0);
    for (int i = 0; i < 2; i++) {
        struct reply *reply = runner_delete(runner, begun.path);
        assert_status(reply, 200);
        assert_json_text(reply->json, "state", "cancelled");
        reply_free(reply);
        assert_int_equal(cli_processes(runner), 0);
    }
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void a_login_has_a_deadline(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_set(runner, "LOGIN_DEADLINE_SECONDS", "4");
    runner_start(runner);
    struct begun begun = begin_only(runner); /* a slow CLI may take all of it */
    EVENTUALLY(20000, is_in_state(runner, &begun, "expired"));
    assert_int_equal(cli_processes(runner), 0);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void several_who_begin_share_one_login(void **state)
{
    (void)state;
    char id[64] = "";
    int fds[6];
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    for (size_t i = 0; i < COUNT(fds); i++)
        fds[i] = http_begin(runner->base, "POST", "/oauth/login", RUNNER_AUTH, NULL);
    for (size_t i = 0; i < COUNT(fds); i++) {
        struct reply *reply = http_read(fds[i], HTTP_DEADLINE_MS);
        assert_status(reply, 201);
        if (!*id)
            snprintf(id, sizeof id, "%s", json_text(reply->json, "loginId"));
        assert_json_text(reply->json, "loginId", id);
        reply_free(reply);
        close(fds[i]);
    }
    struct begun begun = begin(runner);
    assert_string_equal(begun.id, id);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void a_slow_token_server_is_waited_for_in_the_background(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    char *code = internet_agree(internet, begun.url);
    api_control(internet->oauth, "{\"faults\":[{\"path\":\"/v1/oauth/token\",\"hold\":true}]}");
    struct reply *reply = give(runner, &begun, code); /* is answered although nothing has come */
    assert_json_text(reply->json, "state", "verifying");
    reply_free(reply);
    reply = give(runner, &begun, code);
    assert_problem(reply, 409, "conflict");
    reply_free(reply);
    api_control(internet->oauth, "{\"release\":true}");
    EVENTUALLY(60000, is_in_state(runner, &begun, "succeeded"));
    assert_logged_in(runner);
    free(code);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void a_login_that_fails_leaves_the_old_one(void **state)
{
    (void)state;
    static const char old[] = "{\"claudeAiOauth\":{\"accessToken\":\"old-access-token\","
                              "\"refreshToken\":\"old-refresh-token\",\"expiresAt\":4102444800000},"
                              "\"kept\":[1,2]}";
    static const char *const faults[] = {"\"status\":503,\"body\":\"{}\"", "\"cut\":\"before\"",
                                         "\"cut\":\"after\"", "\"status\":200,\"body\":\"{}\""};
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    char *path = textf("%s/.credentials.json", runner->config);
    write_file(path, old, 0600);
    runner_start(runner);
    for (size_t i = 0; i < COUNT(faults); i++) {
        struct begun begun = begin(runner);
        char *code = internet_agree(internet, begun.url);
        char *fault =
            textf("{\"faults\":[{\"path\":\"/v1/oauth/token\",\"times\":9,%s}]}", faults[i]);
        api_control(internet->oauth, fault);
        struct reply *reply = give(runner, &begun, code);
        reply_free(reply);
        EVENTUALLY(60000, is_in_state(runner, &begun, "failed"));
        char *now = read_file(path, NULL);
        assert_string_equal(now, old);
        free(now);
        free(fault);
        free(code);
        begun_free(&begun);
    }
    api_control(internet->oauth, "{\"faults\":[]}");
    struct begun begun = begin(runner);
    char *code = internet_agree(internet, begun.url);
    struct reply *reply = give_and_await(runner, &begun, code);
    assert_json_text(reply->json, "state", "succeeded");
    reply_free(reply);
    char *now = read_file(path, NULL);
    assert_null(strstr(now, "old-access-token"));
    assert_non_null(strstr(now, "\"kept\":[1,2]"));
    free(now);
    free(code);
    begun_free(&begun);
    free(path);
    runner_free(runner);
    internet_free(internet);
}

static void a_login_dies_with_the_runner(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct begun begun = begin(runner);
    assert_true(cli_processes(runner) > 0);
    runner_crash(runner);
    EVENTUALLY(20000, cli_processes(runner) == 0);
    runner_start(runner);
    struct reply *reply = runner_get(runner, begun.path);
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    begun_free(&begun);
    begun = begin(runner);
    assert_int_equal(runner_stop(runner, 30000), 0); /* while a login is under way */
    assert_int_equal(cli_processes(runner), 0);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void the_credentials_stay_their_owners(void **state)
{
    (void)state;
    struct stat st;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    assert_int_equal(chown(runner->config, 1234, 1235), 0);
    runner_start(runner);
    struct begun begun = begin(runner);
    char *code = internet_agree(internet, begun.url);
    struct reply *reply = give_and_await(runner, &begun, code);
    assert_json_text(reply->json, "state", "succeeded");
    reply_free(reply);
    char *path = textf("%s/.credentials.json", runner->config);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 1235);
    free(path);
    free(code);
    begun_free(&begun);
    runner_free(runner);
    internet_free(internet);
}

static void without_a_cli_no_login_begins(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_start(runner);
    assert_int_equal(unlink(runner->cli), 0);
    struct reply *reply = runner_post(runner, "/oauth/login", NULL);
    assert_problem(reply, 502, "bad_gateway");
    assert_json_contains(reply->json, "detail", "CLAUDE_BIN");
    reply_free(reply);
    reply = runner_post(runner, "/oauth/refresh", NULL);
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    runner_free(runner);
}

static void the_login_is_for_those_with_the_secret(void **state)
{
    (void)state;
    static const char *const calls[][2] = {{"GET", "/oauth/status"},     {"POST", "/oauth/refresh"},
                                           {"POST", "/oauth/login"},     {"GET", "/oauth/login/x"},
                                           {"DELETE", "/oauth/login/x"}, {"GET", "/login/state"}};
    struct runner *runner = runner_new();
    runner_start(runner);
    for (size_t i = 0; i < COUNT(calls); i++) {
        struct reply *reply = http_call(runner->base, calls[i][0], calls[i][1], NULL, NULL);
        assert_problem(reply, 403, "forbidden");
        reply_free(reply);
    }
    runner_free(runner);
}

/* --- beside a CLI that is not ours ----------------------------------------------------------- */

#define OUTSIDE_TASKS 32

/* The owner uses the same login in a terminal: that Claude refreshes by itself. */
static pid_t start_outside_cli(const struct runner *runner, const struct internet *internet,
                               const struct api *api, const char *cli, const char *out)
{
    char *script = textf("cd '%s' && echo '[[text:outside]]' | HOME='%s' CLAUDE_CONFIG_DIR='%s' "
                         "NODE_EXTRA_CA_CERTS='%s' ANTHROPIC_BASE_URL='%s' "
                         "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 '%s' -p --output-format json",
                         runner->shared, runner->dir, runner->config, internet->ca, api->base, cli);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, script, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    pid_t pid = proc_start(argv, env, out, out);
    free(script);
    return pid;
}

static void a_cli_outside_and_the_tasks_share_one_refresh(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    struct api *api = api_new();
    const char *cli = runner_real_cli();
    runner_set(runner, "ANTHROPIC_UPSTREAM", api->base);
    char *path = textf("%s/.credentials.json", runner->config);
    write_file(path,
               "{\"claudeAiOauth\":{\"accessToken\":\"sk-ant-oat01-outdated\",\"refreshToken\":"
               "\"" REFRESH_TOKEN "\",\"expiresAt\":1700000000000,\"scopes\":[\"user:inference\","
               "\"user:profile\"],\"subscriptionType\":\"max\"}}",
               0600);
    api_control(internet->oauth,
                "{\"refreshTokens\":[\"" REFRESH_TOKEN "\"],\"next\":[{\"access\":\"" API_TOKEN
                "\",\"refresh\":\"sk-ant-ort01-next\"}]}");
    char *out = textf("%s/outside", runner->dir);
    char *ids[OUTSIDE_TASKS];
    runner_start(runner);
    pid_t outside = start_outside_cli(runner, internet, api, cli, out);
    for (int i = 0; i < OUTSIDE_TASKS; i++)
        ids[i] = runner_submit(runner, "[[text:inside]]", "");
    for (int i = 0; i < OUTSIDE_TASKS; i++) {
        runner_await(runner, ids[i], "completed", 120000);
        free(ids[i]);
    }
    int status = -1;
    assert_true(proc_wait(outside, 60000, &status));
    char *said = read_file(out, NULL);
    if (status != 0 || !strstr(said, "outside"))
        fail_msg("the CLI outside: %d, %s", status, said);
    assert_int_equal(control_number(internet, "refreshes"), 1);
    assert_int_equal(control_number(internet, "reuses"), 0);
    free(said);
    free(out);
    free(path);
    runner_free(runner);
    api_free(api);
    internet_free(internet);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cli_outside_and_the_tasks_share_one_refresh),
        cmocka_unit_test(a_login_lets_claude_in),
        cmocka_unit_test(a_wrong_code_is_refused_in_words_for_people),
        cmocka_unit_test(half_a_code_may_be_tried_again),
        cmocka_unit_test(what_cannot_be_a_code_is_refused),
        cmocka_unit_test(a_cancelled_login_leaves_no_process),
        cmocka_unit_test(a_login_has_a_deadline),
        cmocka_unit_test(several_who_begin_share_one_login),
        cmocka_unit_test(a_slow_token_server_is_waited_for_in_the_background),
        cmocka_unit_test(a_login_that_fails_leaves_the_old_one),
        cmocka_unit_test(a_login_dies_with_the_runner),
        cmocka_unit_test(the_credentials_stay_their_owners),
        cmocka_unit_test(without_a_cli_no_login_begins),
        cmocka_unit_test(the_login_is_for_those_with_the_secret),
    };
    offline = internet_leave();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
