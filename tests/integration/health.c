/*
 * GET /health, and what it reports for each shape that a credentials file can have.
 */
#include "testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A runner that relies on a login; the caller writes the login's file. */
static struct runner *with_login(void)
{
    struct runner *runner = runner_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    return runner;
}

static void write_credentials(const struct runner *runner, const char *content)
{
    char *path = textf("%s/.credentials.json", runner->config);
    char *next = textf("%s.new", path);
    write_file(next, content, 0600);
    assert_int_equal(rename(next, path), 0);
    free(next);
    free(path);
}

static struct reply *health(const struct runner *runner)
{
    struct reply *reply = http_call(runner->base, "GET", "/health", NULL, NULL);
    assert_status(reply, 200);
    assert_non_null(reply->json);
    return reply;
}

#define TOKENS "\"accessToken\":\"sk-ant-oat01-aaa\",\"refreshToken\":\"sk-ant-ort01-bbb\""
#define ACCESS "\"accessToken\":\"sk-ant-oat01-aaa\""
#define FUTURE "4102444800000"
#define PAST "1600000000000"

static const struct shape {
    const char *content;
    bool configured, expired, refreshable, usable;
} shapes[] = {
    {"{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":" FUTURE
     ",\"scopes\":[\"user:inference\"],\"subscriptionType\":\"max\",\"rateLimitTier\":\"x\"}}",
     true, false, true, true},
    {"{" TOKENS ",\"expiresAt\":" FUTURE "}", true, false, true, true},
    {"{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":\"" FUTURE "\"}}", true, false, true, true},
    {"{\"mcpOAuth\":{\"x\":1},\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":" FUTURE
     ",\"new\":[1]},\"other\":null}",
     true, false, true, true},
    {"{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":" PAST "}}", true, false, true, true},
    {"{\"claudeAiOauth\":{" ACCESS ",\"expiresAt\":" PAST "}}", true, true, false, false},
    {"{\"claudeAiOauth\":{" ACCESS ",\"refreshToken\":\"\",\"expiresAt\":" PAST "}}", true, true,
     false, false},
    {"{\"claudeAiOauth\":{" ACCESS ",\"refreshToken\":null,\"expiresAt\":" FUTURE "}}", true, false,
     false, true},
    {"{\"claudeAiOauth\":{" ACCESS "}}", true, false, false, true},
    {"{}", false, false, false, false},
    {"{\"claudeAiOauth\":{}}", false, false, false, false},
    {"{\"claudeAiOauth\":null}", false, false, false, false},
    {"{\"claudeAiOauth\":{\"accessToken\":\"\",\"expiresAt\":" FUTURE "}}", false, false, false,
     false},
    {"{\"claudeAiOauth\":{\"accessToken\":17,\"expiresAt\":" FUTURE "}}", false, false, false,
     false},
    {"", false, false, false, false},
    {"not json", false, false, false, false},
    {"{\"claudeAiOauth\":{\"accessToken\":\"sk-ant-oat01-aa", false, false, false, false},
    {"[]", false, false, false, false},
    {"null", false, false, false, false},
};

static void every_shape_of_the_file_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        struct runner *runner = with_login();
        print_message("  %.90s\n", shapes[i].content);
        write_credentials(runner, shapes[i].content);
        runner_start(runner);
        struct reply *reply = health(runner);
        assert_json_bool(reply->json, "oauth.configured", shapes[i].configured);
        if (shapes[i].configured) {
            assert_json_bool(reply->json, "oauth.expired", shapes[i].expired);
            assert_json_bool(reply->json, "oauth.refreshable", shapes[i].refreshable);
        }
        /* the token server of these tests does not answer, which /health reports once a refresh was
         * tried */
        bool away = strstr(reply->body, "\"reasons\":[\"refresh_failed\"]") != NULL;
        assert_json_text(reply->json, "status", shapes[i].usable && !away ? "healthy" : "degraded");
        if (!shapes[i].usable)
            assert_json_has(reply->json, "reasons.0");
        assert_null(strstr(reply->body, "sk-ant"));
        reply_free(reply);
        runner_free(runner);
    }
}

/* The words that /health has for a file in this condition. The caller frees them. */
static char *reason_for(void (*arrange)(const struct runner *runner))
{
    struct runner *runner = with_login();
    arrange(runner);
    runner_start(runner);
    struct reply *reply = health(runner);
    assert_json_text(reply->json, "status", "degraded");
    char *oauth = cJSON_PrintUnformatted(json_at(reply->json, "oauth"));
    char *health_reasons = cJSON_PrintUnformatted(json_at(reply->json, "reasons"));
    char *reasons = textf("%s %s", health_reasons, oauth);
    free(health_reasons);
    free(oauth);
    struct reply *refused = runner_execute(runner, "standin: ok x", "");
    assert_problem(refused, 401, "login_required");
    assert_memory_equal(json_text(refused->json, "error"), "OAuth", 5);
    reply_free(refused);
    reply_free(reply);
    runner_free(runner);
    return reasons;
}

static void arrange_missing(const struct runner *runner)
{
    (void)runner;
}

/* A directory in the file's place: not even root can read that. */
static void arrange_unreadable(const struct runner *runner)
{
    char *path = textf("%s/.credentials.json", runner->config);
    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
}

static void arrange_malformed(const struct runner *runner)
{
    write_credentials(runner, "{\"claudeAiOauth\":");
}

static void arrange_expired(const struct runner *runner)
{
    write_credentials(runner, "{\"claudeAiOauth\":{" ACCESS ",\"expiresAt\":" PAST "}}");
}

static void missing_unreadable_malformed_and_expired_have_their_own_words(void **state)
{
    (void)state;
    char *reasons[] = {reason_for(arrange_missing), reason_for(arrange_unreadable),
                       reason_for(arrange_malformed), reason_for(arrange_expired)};
    for (size_t i = 0; i < COUNT(reasons); i++)
        for (size_t j = i + 1; j < COUNT(reasons); j++)
            assert_string_not_equal(reasons[i], reasons[j]);
    for (size_t i = 0; i < COUNT(reasons); i++)
        free(reasons[i]);
}

static bool is_healthy(const struct runner *runner)
{
    struct reply *reply = health(runner);
    bool healthy = strcmp(json_text(reply->json, "status"), "healthy") == 0;
    reply_free(reply);
    return healthy;
}

static void a_login_is_noticed_without_a_restart(void **state)
{
    (void)state;
    struct runner *runner = with_login();
    runner_start(runner);
    assert_false(is_healthy(runner));
    write_credentials(runner, "{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":" FUTURE "}}");
    EVENTUALLY(20000, is_healthy(runner));
    runner_free(runner);
}

static void hours_remaining_is_what_is_left(void **state)
{
    (void)state;
    struct runner *runner = with_login();
    char *content = textf("{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":%lld}}",
                          ((long long)time(NULL) + 5 * 3600) * 1000);
    write_credentials(runner, content);
    runner_start(runner);
    struct reply *reply = health(runner);
    assert_true(fabs(json_number(reply->json, "oauth.hours_remaining") - 5) < 0.11);
    assert_json_has(reply->json, "oauth.expires_at");
    assert_json_text(reply->json, "credential", "login");
    reply_free(reply);
    free(content);
    runner_free(runner);
}

/* 2026-01-02T03:04:05.678Z */
static bool is_timestamp(const char *text)
{
    int y, mo, d, h, mi, s, ms, end = 0;
    return sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &y, &mo, &d, &h, &mi, &s, &ms, &end) ==
               7 &&
           end == 24 && text[24] == '\0';
}

static void it_has_the_shape_that_the_edge_worker_reads(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *reply = health(runner);
    assert_json_text(reply->json, "status", "healthy");
    assert_json_text(reply->json, "service", "claude-runner");
    assert_string_not_equal(json_text(reply->json, "version"), "");
    assert_true(is_timestamp(json_text(reply->json, "timestamp")));
    assert_true(json_number(reply->json, "uptime_seconds") >= 0);
    assert_string_not_equal(json_text(reply->json, "credential"), "login");
    assert_json_bool(reply->json, "oauth.configured", false); /* with a key, the login is not
                                                               * needed */
    assert_json_bool(reply->json, "oauth.expired", false);
    assert_null(json_at(reply->json, "oauth.reason"));
    assert_json_number(reply->json, "auth_failures.failure_count", 0);
    assert_json_number(reply->json, "refused_callers.count", 0);
    assert_json_number(reply->json, "tasks.running", 0);
    assert_json_number(reply->json, "tasks.queued", 0);
    assert_json_number(reply->json, "tasks.slots", 4);
    char id[80];
    assert_true(reply_header(reply, "X-Request-ID", id, sizeof id));
    reply_free(reply);
    reply = http_call(runner->base, "GET", "/healthz", NULL, NULL);
    assert_status(reply, 200);
    assert_memory_equal(reply->body, "ok", 2);
    reply_free(reply);
    reply = http_call(runner->base, "HEAD", "/health", NULL, NULL);
    assert_status(reply, 200);
    reply_free(reply);
    runner_free(runner);
}

static void verbose_adds_what_only_the_owner_may_see(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *brief = health(runner);
    struct reply *verbose = runner_get(runner, "/health?verbose=true");
    assert_status(verbose, 200);
    assert_true(verbose->body_size > brief->body_size);
    assert_non_null(strstr(verbose->body, runner->cli));
    assert_non_null(strstr(verbose->body, "\"repo_cache\":{\"mirrors\":[],\"repos\":[]"));
    assert_json_text(verbose->json, "disk.path", runner->state);
    assert_json_text(verbose->json, "claude.version", "2.1.332");
    assert_json_text(verbose->json, "claude.path", runner->cli);
    assert_true(json_number(verbose->json, "disk.size_mb") >=
                json_number(verbose->json, "disk.free_mb"));
    assert_json_number(verbose->json, "queue.pending", 0);
    assert_json_number(verbose->json, "queue.waiting_login", 0);
    assert_json_number(verbose->json, "queue.waiting_limit", 0);
    assert_string_not_equal(json_text(verbose->json, "jail.tier"), "");
    assert_null(strstr(brief->body, runner->cli));
    assert_null(strstr(verbose->body, RUNNER_SECRET));
    assert_null(strstr(verbose->body, API_KEY));
    reply_free(verbose);
    reply_free(brief);
    runner_free(runner);
}

static void the_root_says_what_can_be_asked_of_it(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *owner = runner_get(runner, "/health?verbose=true");
    struct reply *reply = http_call(runner->base, "GET", "/", NULL, NULL);
    assert_status(reply, 200);
    const cJSON *can = json_at(reply->json, "capabilities"), *kinds = json_at(can, "kinds");
    bool python = cJSON_IsTrue(json_at(reply->json, "python.available"));
    assert_string_equal(cJSON_GetArrayItem(kinds, 0)->valuestring, "claude");
    assert_string_equal(cJSON_GetArrayItem(kinds, 1)->valuestring, "command");
    assert_int_equal(cJSON_GetArraySize(kinds), python ? 3 : 2);
    if (python)
        assert_string_equal(cJSON_GetArrayItem(kinds, 2)->valuestring, "python");
    assert_json_text(can, "jail", json_text(owner->json, "jail.tier"));
    assert_null(strstr(reply->body, runner->state));
    reply_free(owner);
    reply_free(reply);
    runner_free(runner);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_has_the_shape_that_the_edge_worker_reads),
        cmocka_unit_test(every_shape_of_the_file_is_understood),
        cmocka_unit_test(missing_unreadable_malformed_and_expired_have_their_own_words),
        cmocka_unit_test(a_login_is_noticed_without_a_restart),
        cmocka_unit_test(hours_remaining_is_what_is_left),
        cmocka_unit_test(the_root_says_what_can_be_asked_of_it),
        cmocka_unit_test(verbose_adds_what_only_the_owner_may_see),
    };
    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
