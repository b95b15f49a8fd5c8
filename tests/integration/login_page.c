#include "login_scene.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FORM "Content-Type: application/x-www-form-urlencoded\r\n"

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

/* POST /login/enter as a browser sends it; `more` is header lines. */
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

/* Posts a form with a visit's cookie, and with the visit's token unless `token` is another. */
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
    EVENTUALLY(20000, state_status(runner, cookie) == 403);
    reply_free(reply);
    free(cookie);
    free(visit);
    free(path);
    runner_free(runner);
}

/* The page must not say "Working" while tasks wait. */
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
    bool all = getenv("ALL_PICTURES") != NULL;
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, all ? (char[]){"ALL_PICTURES=1"} : NULL,
                   NULL};
    int status = -1;
    pid_t pid = proc_start(argv, env, out, out);
    assert_true(proc_wait(pid, 300000, &status));
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

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
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
