/*
 * A login from anywhere: the real CLI against a TLS stand-in for Claude's hosts, driven by the API,
 * by the terminal command and by a browser.
 */
#include "testing.h"

#include "internet.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

static bool offline; /* the namespaces could be entered */

static struct runner *new_runner(struct internet **ret_internet)
{
    if (!offline)
        SKIP_BECAUSE("no namespaces of our own on this host (root is needed)");
    struct runner *runner = runner_new();
    *ret_internet = internet_new();
    internet_use(*ret_internet, runner);
    return runner;
}

/* How many processes of the login's CLI live. */
static size_t cli_processes(const struct runner *runner)
{
    char *variable = textf("CLAUDE_CONFIG_DIR=%s/login", runner->state);
    size_t count = proc_with_environment(variable);
    free(variable);
    return count;
}

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

static struct begun begin(const struct runner *runner)
{
    struct reply *reply = runner_post(runner, "/oauth/login", NULL);
    assert_status(reply, 201);
    assert_json_text(reply->json, "state", "awaiting_code");
    assert_json_has(reply->json, "expiresAt");
    struct begun begun = {.id = strdup(json_text(reply->json, "loginId")),
                          .url = strdup(json_text(reply->json, "url"))};
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
    struct reply *reply = give(runner, &begun, code);
    assert_status(reply, 200);
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
    struct reply *reply = give(runner, &begun, "no-real#code");
    assert_status(reply, 200);
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
    struct reply *reply = give(runner, &begun, "half");
    assert_json_text(reply->json, "state", "awaiting_code");
    assert_json_contains(reply->json, "error", "not the full code");
    reply_free(reply);
    char *code = internet_agree(internet, begun.url);
    char *pasted = textf(" \\t%s \\r\\n", code); /* as people copy it */
    reply = give(runner, &begun, pasted);
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
    char *seconds = textf("%d", 4 * slowness());
    runner_set(runner, "LOGIN_DEADLINE_SECONDS", seconds);
    runner_start(runner);
    struct begun begun = begin(runner);
    EVENTUALLY(20000, is_in_state(runner, &begun, "expired"));
    assert_int_equal(cli_processes(runner), 0);
    free(seconds);
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
    api_control(internet->oauth, "{\"faults\":[{\"path\":\"/v1/oauth/token\",\"delayMs\":10000}]}");
    struct reply *reply = give(runner, &begun, code);
    assert_json_text(reply->json, "state", "verifying");
    assert_true(reply->total_ms < 9500 * slowness());
    reply_free(reply);
    reply = give(runner, &begun, code);
    assert_problem(reply, 409, "conflict");
    reply_free(reply);
    EVENTUALLY(20000, is_in_state(runner, &begun, "succeeded"));
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
        EVENTUALLY(30000, is_in_state(runner, &begun, "failed"));
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
    reply_free(give(runner, &begun, code));
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
    EVENTUALLY(5000, cli_processes(runner) == 0);
    runner_start(runner);
    struct reply *reply = runner_get(runner, begun.path);
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    begun_free(&begun);
    begun = begin(runner);
    assert_int_equal(runner_stop(runner, 15000), 0); /* with a login under way */
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
    struct reply *reply = give(runner, &begun, code);
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

/* --- in a terminal ------------------------------------------------------------------------- */

/* A client command with a pipe to its stdin; out and err go to files of these names. */
struct command {
    pid_t pid;
    int in;
    char *out, *err;
};

static struct command command_start(const struct runner *runner, const char *name)
{
    int ends[2];
    char *argv[] = {(char[]){TEST_RUNNER}, strdup(name), NULL};
    char *env[] = {textf("RUNNER_URL=%s", runner->base),
                   (char[]){"RUNNER_SECRET=me:" RUNNER_SECRET ",old:0123456789abcdef"}, NULL};
    struct command command = {.out = textf("%s/%s.out", runner->dir, name),
                              .err = textf("%s/%s.err", runner->dir, name)};
    unlink(command.out); /* of a command before */
    unlink(command.err);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    command.pid = fork();
    if (command.pid == 0) {
        dup2(ends[0], STDIN_FILENO);
        dup2(open(command.out, O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
        dup2(open(command.err, O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
        execve(argv[0], argv, env);
        _exit(127);
    }
    close(ends[0]);
    command.in = ends[1];
    free(argv[1]);
    free(env[0]);
    return command;
}

static int command_end(struct command *command)
{
    int status = -1;
    close(command->in);
    assert_true(proc_wait(command->pid, 30000, &status));
    return status;
}

static void command_free(struct command *command)
{
    free(command->out);
    free(command->err);
}

static bool has_text(const char *path, const char *part)
{
    char *text = read_file(path, NULL);
    bool has = text && strstr(text, part);
    free(text);
    return has;
}

/* The address that it has printed. */
static char *printed_url(const struct command *command)
{
    EVENTUALLY(15000, has_text(command->out, "\n\n"));
    char *text = read_file(command->out, NULL);
    const char *at = strstr(text, "https://");
    assert_non_null(at);
    char *url = strndup(at, strcspn(at, "\n"));
    free(text);
    return url;
}

static void a_terminal_can_log_in(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct command command = command_start(runner, "status");
    assert_int_equal(command_end(&command), 1);
    assert_true(has_text(command.out, "degraded"));
    assert_true(has_text(command.out, "login_needed"));
    command_free(&command);
    command = command_start(runner, "login");
    char *url = printed_url(&command);
    assert_true(dprintf(command.in, "half\n") > 0);
    EVENTUALLY(15000, has_text(command.err, "not the full code"));
    char *code = internet_agree(internet, url);
    assert_true(dprintf(command.in, "%s\n", code) > 0);
    assert_int_equal(command_end(&command), 0);
    assert_true(has_text(command.out, "Logged in."));
    assert_false(has_text(command.out, code) || has_text(command.err, code));
    command_free(&command);
    command = command_start(runner, "status");
    assert_int_equal(command_end(&command), 0);
    assert_true(has_text(command.out, "healthy"));
    assert_true(has_text(command.out, "h left"));
    command_free(&command);
    free(code);
    free(url);
    runner_free(runner);
    internet_free(internet);
}

static void a_terminal_that_gives_up_takes_the_login_back(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct command command = command_start(runner, "login");
    free(printed_url(&command));
    assert_int_equal(command_end(&command), 2); /* no code was given */
    assert_int_equal(cli_processes(runner), 0);
    command_free(&command);
    command = command_start(runner, "login");
    free(printed_url(&command));
    kill(command.pid, SIGINT);
    assert_int_equal(command_end(&command), 2);
    assert_int_equal(cli_processes(runner), 0);
    command_free(&command);
    command = command_start(runner, "login");
    free(printed_url(&command));
    assert_true(dprintf(command.in, "no-real#code\n") > 0);
    assert_int_equal(command_end(&command), 1);
    assert_true(has_text(command.err, "the login failed: "));
    command_free(&command);
    runner_free(runner);
    internet_free(internet);
}

/* --- in a browser -------------------------------------------------------------------------- */

/* The value of the cookie, and of the hidden field, that an answer gives. */
static char *cookie_of(const struct reply *reply, const char *name)
{
    char *start = textf("Set-Cookie: %s=", name);
    const char *at = strstr(reply->head, start);
    assert_non_null(at);
    at += strlen(start);
    free(start);
    return strndup(at, strcspn(at, ";\r\n"));
}

static char *token_of(const struct reply *reply)
{
    static const char start[] = "name=\"csrf\" value=\"";
    const char *at = strstr(reply->body, start);
    assert_non_null(at);
    at += strlen(start);
    return strndup(at, strcspn(at, "\""));
}

/* POST /login/enter as a browser would; `more` is header lines. */
static struct reply *enter(const struct runner *runner, const char *secret, const char *more)
{
    struct reply *page = http_call(runner->base, "GET", "/login", NULL, NULL);
    assert_status(page, 200);
    char *guest = cookie_of(page, "runner_guest"), *token = token_of(page);
    char *headers = textf(FORM "Cookie: runner_guest=%s\r\n%s", guest, more);
    char *body = textf("csrf=%s&username=claude-runner&secret=%s", token, secret);
    struct reply *reply = http_call(runner->base, "POST", "/login/enter", headers, body);
    free(headers);
    free(body);
    free(guest);
    free(token);
    reply_free(page);
    return reply;
}

static void assert_header(const struct reply *reply, const char *name, const char *part)
{
    char value[1024];
    if (!reply_header(reply, name, value, sizeof value) || !strstr(value, part))
        fail_msg("%s lacks '%s': %s", name, part, reply->head);
}

static void the_page_keeps_itself_to_itself(void **state)
{
    (void)state;
    static const char *const paths[] = {"/login", "/login/page.css", "/login/page.js"};
    struct runner *runner = runner_new();
    runner_start(runner);
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct reply *reply = http_call(runner->base, "GET", paths[i], NULL, NULL);
        assert_status(reply, 200);
        assert_header(reply, "Content-Security-Policy", "default-src 'none'");
        assert_header(reply, "Content-Security-Policy", "frame-ancestors 'none'");
        assert_null(strstr(reply->head, "unsafe-inline"));
        assert_header(reply, "Referrer-Policy", "no-referrer");
        assert_header(reply, "Cache-Control", "no-store");
        assert_header(reply, "X-Content-Type-Options", "nosniff");
        assert_null(strstr(reply->body, RUNNER_SECRET));
        reply_free(reply);
    }
    struct reply *reply = enter(runner, RUNNER_SECRET, "X-Forwarded-Proto: https\r\n");
    assert_status(reply, 303);
    assert_header(reply, "Location", "/login");
    const char *cookie = strstr(reply->head, "runner_visit=");
    assert_non_null(cookie);
    static const char *const attributes[] = {"Path=/login;", "HttpOnly", "SameSite=Strict",
                                             "Max-Age=1800", "Secure"};
    for (size_t i = 0; i < COUNT(attributes); i++)
        assert_non_null(strstr(cookie, attributes[i]));
    reply_free(reply);
    runner_free(runner);
}

static void the_page_throttles_wrong_secrets(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "AUTH_FAILURES_MAX", "3");
    runner_start(runner);
    for (int i = 0; i < 5; i++) {
        struct reply *reply = enter(runner, "wrong-wrong-wrong-wrong", "");
        assert_status(reply, i < 3 ? 403 : 429);
        if (i >= 3)
            assert_header(reply, "Retry-After", "");
        reply_free(reply);
    }
    runner_free(runner);
}

/* Posts a form with a visit's cookie; its token unless `token` is another. */
static struct reply *post(const struct runner *runner, const char *path, const char *visit,
                          const char *token, const char *more)
{
    char *headers = textf(FORM "Cookie: other=1; runner_visit=%s\r\n%s", visit, more);
    char *body = textf("csrf=%s&login=x&code=y", token);
    struct reply *reply = http_call(runner->base, "POST", path, headers, body);
    free(headers);
    free(body);
    return reply;
}

static void forms_need_the_visit_and_its_token(void **state)
{
    (void)state;
    static const char *const paths[] = {"/login/start", "/login/code", "/login/cancel",
                                        "/login/leave"};
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *reply = enter(runner, RUNNER_SECRET, "");
    char *visit = cookie_of(reply, "runner_visit");
    reply_free(reply);
    char *cookie = textf("Cookie: runner_visit=%s\r\n", visit);
    reply = http_call(runner->base, "GET", "/login", cookie, NULL);
    char *token = token_of(reply);
    reply_free(reply);
    for (size_t i = 0; i < COUNT(paths); i++) {
        reply = post(runner, paths[i], "no-such-visit", token, "");
        assert_status(reply, 403);
        reply_free(reply);
        reply = post(runner, paths[i], visit, "no-such-token", "");
        assert_status(reply, 403);
        reply_free(reply);
        reply = post(runner, paths[i], visit, token, "Sec-Fetch-Site: cross-site\r\n");
        assert_status(reply, 403);
        reply_free(reply);
        reply = http_call(runner->base, "POST", paths[i], cookie, "{}");
        assert_problem(reply, 415, "unsupported_media_type");
        reply_free(reply);
    }
    reply = post(runner, "/login/cancel", visit, token, "");
    assert_status(reply, 404); /* there is no login */
    reply_free(reply);
    reply = post(runner, "/login/leave", visit, token, "");
    assert_status(reply, 303);
    reply_free(reply);
    reply = http_call(runner->base, "GET", "/login/state", cookie, NULL);
    assert_status(reply, 403);
    reply_free(reply);
    free(cookie);
    free(token);
    free(visit);
    runner_free(runner);
}

static void the_visit_opens_nothing_else(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *reply = enter(runner, RUNNER_SECRET, "");
    char *visit = cookie_of(reply, "runner_visit");
    reply_free(reply);
    char *cookie = textf("Cookie: runner_visit=%s\r\n", visit);
    reply = http_call(runner->base, "GET", "/tasks", cookie, NULL);
    assert_status(reply, 403);
    reply_free(reply);
    reply = http_call(runner->base, "POST", "/oauth/login", cookie, NULL);
    assert_status(reply, 403);
    reply_free(reply);
    free(cookie);
    free(visit);
    runner_free(runner);
}

static int state_status(const struct runner *runner, const char *cookie)
{
    struct reply *reply = http_call(runner->base, "GET", "/login/state", cookie, NULL);
    int status = reply->status;
    reply_free(reply);
    return status;
}

static void a_secret_that_is_taken_back_ends_its_visits(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    char *path = textf("%s/secret", runner->dir);
    write_file(path, RUNNER_SECRET, 0600);
    runner_set(runner, "RUNNER_SECRET", NULL);
    runner_set(runner, "RUNNER_SECRET_FILE", path);
    runner_start(runner);
    struct reply *reply = enter(runner, RUNNER_SECRET, "");
    char *visit = cookie_of(reply, "runner_visit");
    char *cookie = textf("Cookie: runner_visit=%s\r\n", visit);
    assert_int_equal(state_status(runner, cookie), 200);
    write_file(path, "another-secret-0123456789", 0600);
    kill(runner->pid, SIGHUP);
    EVENTUALLY(5000, state_status(runner, cookie) == 403);
    reply_free(reply);
    free(cookie);
    free(visit);
    free(path);
    runner_free(runner);
}

/* "Working" would be wrong while tasks wait. */
static void the_page_tells_of_a_pause(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    char *login = textf("%s/.credentials.json", runner->config);
    char *limit = textf("%s/usage-limit", runner->state);
    char *until = textf("%lld", ((long long)time(NULL) + 3600) * 1000);
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    write_file(login,
               "{\"claudeAiOauth\":{\"accessToken\":\"a-token\",\"expiresAt\":4102444800000}}",
               0600);
    assert_int_equal(mkdir(runner->state, 0711), 0);
    write_file(limit, until, 0600);
    runner_start(runner);
    struct reply *reply = enter(runner, RUNNER_SECRET, "");
    char *visit = cookie_of(reply, "runner_visit");
    char *cookie = textf("Cookie: runner_visit=%s\r\n", visit);
    reply_free(reply);
    reply = http_call(runner->base, "GET", "/login", cookie, NULL);
    assert_status(reply, 200);
    assert_non_null(strstr(reply->body, ">usage limit<"));
    assert_non_null(strstr(reply->body, "<dt>Limit ends</dt>"));
    assert_null(strstr(reply->body, ">working<"));
    reply_free(reply);
    free(cookie);
    free(visit);
    free(until);
    free(limit);
    free(login);
    runner_free(runner);
}

static void a_browser_can_log_in(void **state)
{
    (void)state;
    struct internet *internet;
    if (access("/usr/bin/node", X_OK) ||
        access(TEST_BROWSER_FOLDER "/node_modules/playwright-core", R_OK))
        SKIP_BECAUSE("node or playwright-core is missing (npm ci in tests/browser)");
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    char *out = textf("%s/browser", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/node"},
                    (char[]){TEST_BROWSER_FOLDER "/login.mjs"},
                    runner->base,
                    internet->oauth->base,
                    (char[]){RUNNER_SECRET},
                    (char[]){TEST_PICTURES},
                    NULL};
    char *home = textf("HOME=%s", runner->dir);
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, NULL};
    int status = -1;
    pid_t pid = proc_start(argv, env, out, out);
    assert_true(proc_wait(pid, 120000, &status));
    char *said = read_file(out, NULL);
    if (status != 0 && status != 77)
        fail_msg("%s", said);
    free(said);
    free(home);
    free(out);
    runner_free(runner);
    internet_free(internet);
    if (status == 77)
        SKIP_BECAUSE("there is no chromium");
}

/* --- beside a CLI that is not ours ----------------------------------------------------------- */

#define OUTSIDE_TASKS 32

/* The owner works in a terminal with the same login: a Claude of its own, with its own refresh. */
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
    const char *cli = getenv("CR_CLAUDE") ? getenv("CR_CLAUDE") : TEST_REAL_CLI;
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
        cmocka_unit_test(a_terminal_can_log_in),
        cmocka_unit_test(a_terminal_that_gives_up_takes_the_login_back),
        cmocka_unit_test(the_page_keeps_itself_to_itself),
        cmocka_unit_test(the_page_throttles_wrong_secrets),
        cmocka_unit_test(forms_need_the_visit_and_its_token),
        cmocka_unit_test(the_visit_opens_nothing_else),
        cmocka_unit_test(a_secret_that_is_taken_back_ends_its_visits),
        cmocka_unit_test(the_page_tells_of_a_pause),
        cmocka_unit_test(a_browser_can_log_in),
    };
    offline = internet_leave();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
