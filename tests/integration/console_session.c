/*
 * The console's session and files: requests of a browser, and requests of an attacker.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#define JSON_TYPE "Content-Type: application/json\r\n"
#define GOOD "{\"secret\":\"" RUNNER_SECRET "\"}"

static struct runner *runner;
static const char *const settings[] = {NULL};

static struct reply *ask(const char *method, const char *path, const char *headers,
                         const char *body)
{
    return http_call(runner_shared(&runner, settings)->base, method, path, headers, body);
}

static int status_of(const char *method, const char *path, const char *headers, const char *body)
{
    struct reply *reply = ask(method, path, headers, body);
    int status = reply->status;
    reply_free(reply);
    return status;
}

struct session {
    char *cookie; /* "Cookie: …\r\n" */
    char *token;  /* "X-CSRF-Token: …\r\n" */
    char *both;
};

static struct session begin(void)
{
    char cookie[512];
    struct reply *reply = ask("POST", "/console/session", JSON_TYPE, GOOD);
    assert_status(reply, 201);
    assert_json_text(reply->json, "caller", "secret-1");
    assert_true(reply_header(reply, "Set-Cookie", cookie, sizeof cookie));
    assert_non_null(strstr(cookie, "; HttpOnly"));
    assert_non_null(strstr(cookie, "; SameSite=Strict"));
    assert_non_null(strstr(cookie, "; Path=/;"));
    assert_null(strstr(cookie, "Secure")); /* the request did not come by TLS */
    struct session session = {
        .cookie = textf("Cookie: %.*s\r\n", (int)strcspn(cookie, ";"), cookie),
        .token = textf("X-CSRF-Token: %s\r\n", json_text(reply->json, "csrf"))};
    session.both = textf("%s%s", session.cookie, session.token);
    reply_free(reply);
    return session;
}

static void end(struct session *session)
{
    free(session->cookie);
    free(session->token);
    free(session->both);
}

static void a_session_reads_with_its_cookie_and_changes_with_its_token(void **state)
{
    (void)state;
    struct session one = begin(), other = begin();
    char *crossed = textf("%s%s", one.cookie, other.token);
    assert_int_equal(status_of("GET", "/tasks", one.cookie, NULL), 200);
    assert_int_equal(status_of("GET", "/tasks", one.token, NULL), 403);
    assert_int_equal(status_of("POST", "/tasks/none/cancel", one.cookie, ""), 403);
    assert_int_equal(status_of("POST", "/tasks/none/cancel", crossed, ""), 403);
    assert_int_equal(status_of("POST", "/tasks/none/cancel", one.both, ""), 404);
    assert_int_equal(status_of("DELETE", "/repos", one.cookie, NULL), 403);
    free(crossed);
    end(&one);
    end(&other);
}

static void another_site_gets_nothing_by_a_session(void **state)
{
    (void)state;
    static const char *const sites[] = {"cross-site", "same-site"};
    struct session session = begin();
    for (size_t i = 0; i < COUNT(sites); i++) {
        char *headers = textf("%sSec-Fetch-Site: %s\r\n", session.both, sites[i]);
        assert_int_equal(status_of("GET", "/tasks", headers, NULL), 403);
        assert_int_equal(status_of("POST", "/tasks/none/cancel", headers, ""), 403);
        free(headers);
    }
    char *headers = textf("%sSec-Fetch-Site: same-origin\r\n", session.both);
    assert_int_equal(status_of("POST", "/tasks/none/cancel", headers, ""), 404);
    free(headers);
    end(&session);
}

static void signing_in_takes_json_with_the_secret_from_here(void **state)
{
    (void)state;
    static const struct {
        const char *headers, *body;
        int status;
    } cases[] = {
        {"Content-Type: text/plain\r\n", GOOD, 415},
        {"Content-Type: application/x-www-form-urlencoded\r\n", "secret=" RUNNER_SECRET, 415},
        {"", GOOD, 415},
        {JSON_TYPE "Sec-Fetch-Site: cross-site\r\n", GOOD, 415},
        {JSON_TYPE, "{\"secret\":\"not-the-secret-at-all\"}", 403},
        {JSON_TYPE, "{\"secret\":7}", 400},
        {JSON_TYPE, "{}", 400},
        {JSON_TYPE, "[]", 400},
        {JSON_TYPE, "{", 400},
        {JSON_TYPE, "", 400},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("  %s%s\n", cases[i].headers, cases[i].body);
        assert_int_equal(status_of("POST", "/console/session", cases[i].headers, cases[i].body),
                         cases[i].status);
    }
}

/* The token of a new link; the caller frees it. */
static char *make_link(void)
{
    struct reply *reply = ask("POST", "/console/links", RUNNER_AUTH, "");
    assert_status(reply, 201);
    assert_json_has(reply->json, "expiresAt");
    char *token = textf("%s", json_text(reply->json, "token"));
    char *path = textf("/#/enter?token=%s", token);
    assert_json_text(reply->json, "path", path);
    free(path);
    reply_free(reply);
    return token;
}

static int enter_by(const char *token, const char *more)
{
    char *body = textf("{\"token\":\"%s\"%s}", token, more);
    int status = status_of("POST", "/console/session", JSON_TYPE, body);
    free(body);
    return status;
}

static void a_link_signs_in_once(void **state)
{
    (void)state;
    char *token = make_link(), *other = make_link();
    assert_int_equal(enter_by(token, ",\"secret\":\"" RUNNER_SECRET "\""), 400);
    assert_int_equal(enter_by(token, ""), 201);
    assert_int_equal(enter_by(token, ""), 403);
    assert_int_equal(enter_by(other, ""), 201);
    assert_int_equal(enter_by("", ""), 403);
    assert_int_equal(enter_by("x", ""), 403);
    assert_int_equal(status_of("POST", "/console/links", "", ""), 403);
    free(other);
    for (int i = 0; i < 8; i++) /* there are more links than places, so the oldest link ends */
        free(make_link());
    free(token);
    token = make_link();
    assert_int_equal(enter_by(token, ""), 201);
    free(token);
}

static void the_login_page_takes_the_consoles_session(void **state)
{
    (void)state;
    struct session session = begin();
    struct reply *reply = ask("GET", "/login", session.cookie, NULL);
    assert_status(reply, 200);
    assert_null(strstr(reply->body, "name=\"secret\""));
    reply_free(reply);
    reply = ask("GET", "/login", "", NULL);
    assert_non_null(strstr(reply->body, "name=\"secret\""));
    reply_free(reply);
    end(&session);
}

static void guessing_is_slowed_down(void **state)
{
    (void)state;
    int status = 403;
    for (int i = 0; i < 12 && status == 403; i++)
        status = status_of("POST", "/console/session", JSON_TYPE, "{\"secret\":\"a guess at it\"}");
    assert_int_equal(status, 429);
    struct session session = begin(); /* a browser with a session is not locked out */
    end(&session);
}

static void signing_out_takes_the_token_and_ends_the_session(void **state)
{
    (void)state;
    struct session session = begin();
    assert_int_equal(status_of("DELETE", "/console/session", session.cookie, NULL), 200);
    assert_int_equal(status_of("GET", "/tasks", session.cookie, NULL), 200);
    assert_int_equal(status_of("DELETE", "/console/session", session.both, NULL), 200);
    assert_int_equal(status_of("GET", "/tasks", session.cookie, NULL), 403);
    struct reply *reply = ask("GET", "/console/session", session.cookie, NULL);
    assert_status(reply, 200);
    assert_null(strstr(reply->body, "secret-1"));
    reply_free(reply);
    end(&session);
}

static void a_restart_ends_sessions(void **state)
{
    (void)state;
    struct session session = begin();
    runner_stop(runner, 20000);
    runner_start(runner);
    assert_int_equal(status_of("GET", "/tasks", session.cookie, NULL), 403);
    end(&session);
}

/* The page names the files by a path that never leads to anything else, so a browser keeps them;
 * what has one address for ever is asked for again. */
static void files_with_a_version_are_kept_and_others_asked_for_again(void **state)
{
    (void)state;
    static const char *const lasting[] = {"app.css", "lib/have.js", "sw.js"};
    static const char *const plain[] = {"/", "/console/sw.js", "/console/app.webmanifest",
                                        "/console/icon.svg", "/console/touch-icon.png"};
    char value[128], version[17] = "";
    struct reply *page = ask("GET", "/", "Accept: text/html\r\n", NULL);
    const char *at = strstr(page->body, "/console/");
    while (at && strspn(at + 9, "0123456789abcdef") != 16)
        at = strstr(at + 1, "/console/");
    assert_non_null(at);
    memcpy(version, at + 9, 16);
    assert_null(strstr(page->body, "CONSOLE_VERSION"));
    reply_free(page);
    for (size_t i = 0; i < COUNT(lasting); i++) {
        char *path = textf("/console/%s/%s", version, lasting[i]);
        struct reply *reply = ask("GET", path, NULL, NULL);
        assert_status(reply, 200);
        assert_true(reply_header(reply, "Cache-Control", value, sizeof value));
        assert_string_equal(value, "public, max-age=31536000, immutable");
        reply_free(reply);
        free(path);
    }
    for (size_t i = 0; i < COUNT(plain); i++) {
        struct reply *reply = ask("GET", plain[i], "Accept: text/html\r\n", NULL);
        assert_status(reply, 200);
        assert_true(reply_header(reply, "Cache-Control", value, sizeof value));
        assert_string_equal(value, "no-cache");
        assert_true(reply_header(reply, "ETag", value, sizeof value));
        reply_free(reply);
    }
    version[0] = version[0] == '0' ? '1' : '0'; /* of another runner: nobody may keep the refusal */
    char *path = textf("/console/%s/app.js", version);
    struct reply *reply = ask("GET", path, NULL, NULL);
    assert_status(reply, 404);
    assert_true(reply_header(reply, "Cache-Control", value, sizeof value));
    assert_string_equal(value, "no-store");
    reply_free(reply);
    free(path);
}

static void files_are_served_whole_once_and_no_others(void **state)
{
    (void)state;
    static const char *const absent[] = {
        "/console/nothing.js",   "/console/",    "/console/../tasks",
        "/console/%2e%2e/tasks", "/console/lib", "/console/pages/app.js",
    };
    char tag[128], value[1024];
    struct reply *page = ask("GET", "/", "Accept: text/html,*/*;q=0.8\r\n", NULL);
    assert_status(page, 200);
    assert_non_null(strstr(page->body, "<title>Claude Runner</title>"));
    assert_true(reply_header(page, "Content-Security-Policy", value, sizeof value));
    assert_non_null(strstr(value, "default-src 'none'"));
    assert_non_null(strstr(value, "frame-ancestors 'none'"));
    assert_null(strstr(value, "unsafe"));
    assert_true(reply_header(page, "ETag", tag, sizeof tag));
    char *known = textf("Accept: text/html\r\nIf-None-Match: %s\r\n", tag);
    assert_int_equal(status_of("GET", "/", known, NULL), 304);
    free(known);
    reply_free(page);
    struct reply *json = ask("GET", "/", "Accept: application/json\r\n", NULL);
    assert_status(json, 200);
    assert_json_text(json->json, "service", "claude-runner");
    assert_json_text(json->json, "status", "ready");
    reply_free(json);
    for (size_t i = 0; i < COUNT(absent); i++) {
        struct reply *reply = ask("GET", absent[i], NULL, NULL);
        if (reply->status != 404 && reply->status != 400 && reply->status != 403)
            fail_msg("%s: %s", absent[i], reply->head);
        reply_free(reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_reads_with_its_cookie_and_changes_with_its_token),
        cmocka_unit_test(another_site_gets_nothing_by_a_session),
        cmocka_unit_test(signing_in_takes_json_with_the_secret_from_here),
        cmocka_unit_test(a_link_signs_in_once),
        cmocka_unit_test(the_login_page_takes_the_consoles_session),
        cmocka_unit_test(guessing_is_slowed_down),
        cmocka_unit_test(signing_out_takes_the_token_and_ends_the_session),
        cmocka_unit_test(a_restart_ends_sessions),
        cmocka_unit_test(files_with_a_version_are_kept_and_others_asked_for_again),
        cmocka_unit_test(files_are_served_whole_once_and_no_others),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
