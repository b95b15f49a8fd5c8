/*
 * What published clients of the replaced systems send and read (runner/docs/clients.md), where no
 * other suite holds it.
 */
#include "testing.h"

#include "asked.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct runner *runner; /* with the stand-in CLI */
static struct runner *real;   /* with the real one */
static struct api *api;

static struct runner *shared(void)
{
    static const char *const settings[] = {NULL};
    return runner_shared(&runner, settings);
}

static struct runner *shared_real(void)
{
    static const char *const settings[] = {"CLAUDE_MODEL", "claude-haiku-4-5", NULL};
    return runner_shared_real(&real, &api, settings);
}

/* --- who may ask ----------------------------------------------------------------------------- */

static void the_secret_may_come_as_x_api_key(void **state)
{
    (void)state;
    const char *base = shared()->base;
    struct reply *reply =
        http_call(base, "GET", "/tasks", "X-API-Key: " RUNNER_SECRET "\r\n", NULL);
    assert_status(reply, 200);
    reply_free(reply);
    reply = http_call(base, "GET", "/tasks", "X-API-Key: wrong-wrong-wrong-wrong\r\n", NULL);
    assert_status(reply, 403);
    reply_free(reply);
    reply = http_call(base, "GET", "/health", NULL, NULL);
    assert_true(json_number(reply->json, "refused_callers.count") >= 1);
    assert_string_not_equal(json_text(reply->json, "refused_callers.last"), "");
    assert_json_number(reply->json, "auth_failures.failure_count", 0);
    assert_true(cJSON_IsNull(json_at(reply->json, "auth_failures.last_failure")));
    reply_free(reply);
}

static void get_root_is_open_and_says_what_there_is(void **state)
{
    (void)state;
    struct reply *reply = http_call(shared()->base, "GET", "/", NULL, NULL);
    assert_status(reply, 200);
    assert_json_text(reply->json, "service", "claude-runner");
    assert_json_has(reply->json, "status");
    assert_json_has(reply->json, "version");
    assert_json_text(reply->json, "capabilities.kinds.0", "claude");
    assert_json_text(reply->json, "capabilities.kinds.1", "command");
    assert_json_text(reply->json, "capabilities.kinds.2", "python");
    assert_string_not_equal(json_text(reply->json, "capabilities.jail"), "");
    assert_json_has(reply->json, "capabilities.limits.bodyBytes");
    assert_json_has(reply->json, "python");
    reply_free(reply);
}

/* --- the login ------------------------------------------------------------------------------- */

static void a_refused_credential_is_counted_with_its_task(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    struct api *strict = api_new();
    runner_use_real_cli(own, strict);
    api_control(strict, "{\"tokens\":[],\"apiKeys\":[]}");
    runner_start(own);
    struct reply *ran = runner_ran(own, "[[text:never]]", "");
    assert_json_bool(ran->json, "success", false);
    struct reply *reply = http_call(own->base, "GET", "/health", NULL, NULL);
    assert_json_number(reply->json, "auth_failures.failure_count", 1);
    assert_json_text(reply->json, "auth_failures.last_task", json_text(ran->json, "taskId"));
    assert_string_not_equal(json_text(reply->json, "auth_failures.last_failure"), "");
    assert_true(cJSON_IsNull(json_at(reply->json, "auth_failures.last_alert_sent")));
    assert_json_number(reply->json, "refused_callers.count", 0);
    reply_free(reply);
    reply_free(ran);
    runner_free(own);
    api_free(strict);
}

static void a_refresh_says_whether_it_refreshed_and_how_the_login_is(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    struct api *tokens = token_server_new();
    char *url = textf("%s/v1/oauth/token", tokens->base);
    char *path = textf("%s/.credentials.json", own->config);
    char *text = textf("{\"claudeAiOauth\":{\"accessToken\":\"" API_TOKEN
                       "\",\"refreshToken\":\"" REFRESH_TOKEN "\",\"expiresAt\":%lld}}",
                       ((long long)time(NULL) + 3600) * 1000);
    runner_set(own, "ANTHROPIC_API_KEY", NULL);
    runner_set(own, "OAUTH_TOKEN_URL", url);
    write_file(path, text, 0600);
    runner_start(own);
    struct reply *reply = runner_post(own, "/oauth/refresh", "");
    assert_status(reply, 200);
    assert_json_bool(reply->json, "refreshed", true);
    assert_json_bool(reply->json, "configured", true);
    assert_json_has(reply->json, "usage");
    reply_free(reply);
    api_control(tokens, "{\"faults\":[{\"grant\":\"refresh_token\",\"status\":400,"
                        "\"body\":\"{\\\"error\\\":\\\"invalid_grant\\\"}\"}]}");
    reply = runner_post(own, "/oauth/refresh", "");
    assert_status(reply, 401);
    if (strncmp(json_text(reply->json, "error"), "OAuth", 5) != 0)
        fail_msg("%s", reply->body);
    assert_json_bool(reply->json, "refreshed", false);
    assert_string_not_equal(json_text(reply->json, "message"), "");
    assert_json_has(reply->json, "oauth_status.configured");
    assert_json_has(reply->json, "oauth_status.refreshable");
    assert_null(strstr(reply->body, "sk-ant"));
    reply_free(reply);
    free(text);
    free(path);
    free(url);
    runner_free(own);
    api_free(tokens);
}

/* The edge worker looks for the word anywhere in `error`. */
static void an_error_says_oauth_only_when_the_login_is_the_trouble(void **state)
{
    (void)state;
    static const char *const prompts[] = {"standin: error-exit-0 the page's OAuth and OAuth2 fail",
                                          "standin: stderr-fail the page's OAuth: no such module"};
    for (size_t i = 0; i < COUNT(prompts); i++) {
        struct reply *reply = runner_ran(shared(), prompts[i], "");
        assert_json_bool(reply->json, "success", false);
        assert_json_text(reply->json, "reason", "cli_error");
        assert_json_contains(reply->json, "output", "the page's OAuth");
        assert_null(strstr(json_text(reply->json, "error"), "OAuth"));
        reply_free(reply);
    }
    struct reply *reply = runner_ran(shared(), "standin: not-logged-in", "");
    assert_json_text(reply->json, "error", "OAuth or API key refused");
    assert_json_contains(reply->json, "output", "Not logged in");
    reply_free(reply);
}

/* --- health that is honest ------------------------------------------------------------------- */

static bool is_reason(const struct runner *own, const char *reason)
{
    struct reply *reply = http_call(own->base, "GET", "/health", NULL, NULL);
    char *remedy = textf("remedies.%s", reason);
    bool is = json_at(reply->json, remedy) != NULL;
    if (is)
        assert_json_text(reply->json, "status", "degraded");
    free(remedy);
    reply_free(reply);
    return is;
}

static void a_cli_that_does_not_start_is_a_reason_until_it_does(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    char *path = textf("%s/claude", own->shared);
    write_file(path, "#!/bin/sh\nexit 3\n", 0755);
    runner_set(own, "CLAUDE_BIN", path);
    runner_start(own);
    assert_false(is_reason(own, "cli_broken")); /* nobody has asked it */
    reply_free(runner_get(own, "/health?verbose=true"));
    assert_true(is_reason(own, "cli_broken"));
    assert_int_equal(unlink(path), 0);
    assert_true(is_reason(own, "cli_missing"));
    write_file(path, "#!/bin/sh\necho 2.1.332\n", 0755);
    struct reply *reply = runner_get(own, "/health?verbose=true");
    assert_json_text(reply->json, "claude.version", "2.1.332");
    reply_free(reply);
    assert_false(is_reason(own, "cli_broken"));
    free(path);
    runner_free(own);
}

/* Writes CLAUDE_BIN anew and checks the version that it prints in a task's jail. NULL: none, with
 * the reason by name. */
static void assert_cli(struct runner *own, const char *script, const char *version)
{
    char *claude = textf("%s/claude", own->shared);
    char *command = textf("d='%s'; %s", own->shared, script);
    proc_shell(command);
    struct reply *reply = runner_get(own, "/health?verbose=true");
    if (version && strcmp(json_text(reply->json, "claude.version"), version) != 0)
        fail_msg("%s: %s", script, reply->body);
    if (!version)
        assert_json_contains(reply->json, "claude.error", "alone");
    reply_free(reply);
    assert_true(is_reason(own, "cli_broken") == !version);
    assert_int_equal(unlink(claude), 0);
    free(command);
    free(claude);
}

/* What CLAUDE_BIN leads to is shown in jails, wherever it lies; what it computes is not. */
static void a_wrapper_shows_what_it_leads_to(void **state)
{
    (void)state;
    static const char *const leading[] = {
        "ln -s far/node_modules/.bin/cli $d/claude",
        "echo \"exec $d/far/node_modules/.bin/cli\" >>$d/new",
        "echo \"exec $d/link\" >>$d/new",
        "echo \"exec '$d/../shared/link'\" >>$d/new",
        "echo 'here=$(dirname \"$0\")\nexec \"$here/../shared/far/node_modules/cli/cli\"' >>$d/new",
        "echo 'exec cli' >>$d/new",
        "echo \"#!/usr/bin/env engine\n. $d/far/node_modules/cli/lib\" >$d/new",
        "echo \"exec engine $d/far/node_modules/cli/cli\" >>$d/new",
    };
    struct runner *own = runner_new();
    char *claude = textf("%s/claude", own->shared), *path = textf("%s/bin:/usr/bin", own->shared);
    char *make =
        textf("cd '%s' && umask 022 && mkdir -p bin far/node_modules/cli far/node_modules/.bin && "
              "echo 'echo 2.1.332' >far/node_modules/cli/lib && "
              "echo '#!/bin/sh\n. \"$(dirname \"$(readlink -f \"$0\")\")/lib\"' "
              ">far/node_modules/cli/cli && "
              "ln -s ../cli/cli far/node_modules/.bin/cli && "
              "ln -s far/node_modules/.bin/cli link && ln -s ../link bin/cli && "
              "echo '#!/bin/sh\nexec sh \"$@\"' >bin/engine && "
              "echo '#!/bin/sh\necho 2.1.331' >alone && "
              "chmod 755 alone bin/engine far/node_modules/cli/cli",
              own->shared);
    proc_shell(make);
    runner_set(own, "CLAUDE_BIN", claude);
    runner_set(own, "PATH", path);
    runner_set(own, "JAIL_PATHS", NULL);
    runner_start(own);
    for (size_t i = 0; i < COUNT(leading); i++) {
        char *script = textf("echo '#!/bin/sh' >$d/new; chmod 755 $d/new; %s; "
                             "[ -L $d/claude ] || mv $d/new $d/claude",
                             leading[i]);
        assert_cli(own, script, "2.1.332");
        free(script);
    }
    struct reply *reply = runner_get(own, "/health?verbose=true");
    const bool hidden = strcmp(json_text(reply->json, "jail.tier"), "none") != 0;
    reply_free(reply);
    assert_cli(own,
               "echo '#!/bin/sh\nname=al; exec ${0%/*}/${name}one' >$d/claude; chmod 755 $d/claude",
               hidden ? NULL : "2.1.331");
    assert_int_equal(runner_stop(own, 30000), 0);
    runner_set(own, "JAIL_PATHS", own->shared);
    runner_start(own);
    assert_cli(own,
               "echo '#!/bin/sh\nname=al; exec ${0%/*}/${name}one' >$d/claude; chmod 755 $d/claude",
               "2.1.331");
    free(make);
    free(path);
    free(claude);
    runner_free(own);
}

static void a_network_that_is_down_is_a_reason(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    struct api *gone = api_new();
    runner_use_real_cli(own, gone);
    runner_start(own);
    api_free(gone);
    struct reply *ran = runner_ran(own, "[[text:never]]", "");
    assert_json_bool(ran->json, "success", false);
    assert_true(is_reason(own, "network_down"));
    struct reply *reply = http_call(own->base, "GET", "/health", NULL, NULL);
    assert_json_number(reply->json, "auth_failures.failure_count", 0); /* nobody has refused */
    reply_free(reply);
    reply_free(ran);
    runner_free(own);
}

/* --- what the owner gives to tasks ----------------------------------------------------------- */

static void the_owners_variables_reach_tasks_and_are_struck_out(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    char *path = textf("%s/task.env", own->dir);
    write_file(path, "# for all\nexport CLOUDFLARE_API_TOKEN='cf-token-123456'\nPLAIN=x y\n", 0600);
    runner_set(own, "TASK_ENV_FILE", path);
    runner_start(own);
    struct reply *reply = runner_post(
        own, "/exec",
        "{\"command\":\"echo $PLAIN ${#CLOUDFLARE_API_TOKEN} $CLOUDFLARE_API_TOKEN $MINE\","
        "\"env\":{\"MINE\":\"own\"}}");
    assert_json_contains(reply->json, "stdout", "x y 15 ");
    assert_null(strstr(reply->body, "cf-token-123456"));
    reply_free(reply);
    write_file(path, "PLAIN=new\n", 0600); /* read as each task begins */
    reply = runner_post(own, "/exec", "{\"command\":\"echo $PLAIN\"}");
    assert_json_text(reply->json, "stdout", "new\n");
    reply_free(reply);
    write_file(path, "ANTHROPIC_API_KEY=sk-other\n", 0600);
    reply = runner_post(own, "/exec", "{\"command\":\"true\"}");
    assert_json_bool(reply->json, "success", false);
    assert_json_contains(reply->json, "error", "TASK_ENV_FILE");
    assert_json_contains(reply->json, "error", "ANTHROPIC_API_KEY");
    reply_free(reply);
    free(path);
    runner_free(own);
}

static void claude_model_is_the_default_model(void **state)
{
    (void)state;
    reply_free(runner_succeeded(shared_real(), "[[text:fine]] modelmark", ""));
    assert_asked(api, "modelmark", "model", "claude-haiku-4-5");
}

/* --- what comes of a run --------------------------------------------------------------------- */

static void a_slash_command_that_does_not_exist_fails_the_task(void **state)
{
    (void)state;
    struct reply *reply = runner_ran(shared_real(), "/nosuch [[text:hm]]", "");
    assert_json_bool(reply->json, "success", false);
    assert_json_text(reply->json, "reason", "unknown_command");
    assert_json_contains(reply->json, "error", "'/nosuch'");
    reply_free(reply);
    reply = runner_succeeded(shared_real(), "/greet you",
                             "\"slashCommands\":{\"greet\":\"[[text:hi]]\"}");
    reply_free(reply);
    reply_free(runner_succeeded(shared_real(), "/usr/bin is a folder [[text:yes]]", ""));
}

static void tools_that_were_denied_are_warned_of(void **state)
{
    (void)state;
    struct reply *reply =
        runner_succeeded(shared_real(), "[[tool:Bash {\"command\":\"touch /etc/x\"}]][[text:well]]",
                         "\"permissionMode\":\"plan\",\"allowedTools\":[\"Read\"]");
    if (json_at(reply->json, "permission_denials.0")) {
        assert_json_text(reply->json, "permission_denials.0.tool_name", "Bash");
        assert_json_contains(reply->json, "warning", "1 tool call was denied (Bash)");
    } else {
        fail_msg("nothing was denied: %s", reply->body);
    }
    reply_free(reply);
    reply = runner_succeeded(shared_real(), "[[text:no tools]]", "");
    assert_null(json_at(reply->json, "warning"));
    reply_free(reply);
}

/* --- notBefore ------------------------------------------------------------------------------- */

static char *in_seconds(int seconds)
{
    char text[32];
    time_t at = time(NULL) + seconds;
    struct tm tm;
    gmtime_r(&at, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return textf("\"notBefore\":\"%s\"", text);
}

static void a_task_starts_no_earlier_than_it_is_told_to(void **state)
{
    (void)state;
    int64_t begin = now_ms(); /* before the time is told, which is more than 11 s later */
    char *soon = in_seconds(12), *past = in_seconds(-100);
    char *id = runner_submit(shared(), "[[hello]]", soon);
    char *shown = runner_task_text(shared(), id, "notBefore");
    char *was = runner_task_state(shared(), id);
    assert_string_equal(was, "pending");
    assert_string_not_equal(shown, "");
    reply_free(runner_ran(shared(), "others go first", ""));
    assert_false(runner_has_ended(shared(), id) && now_ms() - begin < 10000);
    runner_await(shared(), id, "completed", 60000);
    assert_true(now_ms() - begin > 10000);
    reply_free(runner_ran(shared(), "at once", past));
    free(was);
    free(shown);
    free(id);
    free(past);
    free(soon);
}

static void a_time_that_is_none_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {"tomorrow", "2026-13-01T00:00:00Z", "1795245960",
                                      "2026-01-02"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *more = textf("\"notBefore\":\"%s\"", bad[i]);
        struct reply *reply = runner_execute(shared(), "never", more);
        assert_status(reply, 400);
        assert_json_text(reply->json, "errors.0.field", "notBefore");
        assert_json_contains(reply->json, "errors.0.message", "RFC 3339");
        reply_free(reply);
        free(more);
    }
}

static void a_restart_does_not_start_it_early(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_start(own);
    char *soon = in_seconds(20), *far = in_seconds(86400);
    char *id = runner_submit(own, "later", soon), *other = runner_submit(own, "tomorrow", far);
    runner_crash(own);
    runner_start(own);
    char *was = runner_task_state(own, id);
    assert_string_equal(was, "pending");
    runner_await(own, id, "completed", 60000);
    char *waits = runner_task_state(own, other);
    assert_string_equal(waits, "pending");
    char *path = textf("/tasks/%s", other);
    reply_free(runner_delete(own, path));
    runner_await(own, other, "cancelled", 20000);
    free(path);
    free(waits);
    free(was);
    free(other);
    free(id);
    free(far);
    free(soon);
    runner_free(own);
}

/* --- outputs --------------------------------------------------------------------------------- */

static void an_output_may_have_any_name(void **state)
{
    (void)state;
    struct reply *reply = runner_post(shared(), "/exec",
                                      "{\"command\":\"cd output; for n in $'a\\\\nb' $'c\\\\377d' "
                                      "$'tab\\\\there' 'back\\\\\\\\slash' $'\\u00e9 100%'; do"
                                      " printf %s \\\"$n\\\" >\\\"$n\\\" || exit 1; done\"}");
    assert_json_bool(reply->json, "success", true);
    char *list = textf("/tasks/%s/outputs", json_text(reply->json, "taskId"));
    struct reply *all = runner_get(shared(), list);
    assert_status(all, 200);
    int count = cJSON_GetArraySize(json_at(all->json, "outputs"));
    assert_int_equal(count, 5);
    for (int i = 0; i < count; i++) {
        char *path = textf("outputs.%d.url", i), *size = textf("outputs.%d.sizeBytes", i);
        struct reply *one = runner_get(shared(), json_text(all->json, path));
        if (one->status != 200)
            fail_msg("%s: %d %s", json_text(all->json, path), one->status, one->body);
        assert_int_equal((int)one->body_size, (int)json_number(all->json, size));
        reply_free(one);
        free(size);
        free(path);
    }
    struct reply *elsewhere = runner_get(shared(), "/tasks/a%0Ab");
    assert_status(elsewhere, 400);
    reply_free(elsewhere);
    reply_free(all);
    free(list);
    reply_free(reply);
}

static int stop_all(void **state)
{
    shared_stop(state);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_secret_may_come_as_x_api_key),
        cmocka_unit_test(get_root_is_open_and_says_what_there_is),
        cmocka_unit_test(a_refused_credential_is_counted_with_its_task),
        cmocka_unit_test(a_refresh_says_whether_it_refreshed_and_how_the_login_is),
        cmocka_unit_test(an_error_says_oauth_only_when_the_login_is_the_trouble),
        cmocka_unit_test(a_cli_that_does_not_start_is_a_reason_until_it_does),
        cmocka_unit_test(a_wrapper_shows_what_it_leads_to),
        cmocka_unit_test(a_network_that_is_down_is_a_reason),
        cmocka_unit_test(the_owners_variables_reach_tasks_and_are_struck_out),
        cmocka_unit_test(claude_model_is_the_default_model),
        cmocka_unit_test(a_slash_command_that_does_not_exist_fails_the_task),
        cmocka_unit_test(tools_that_were_denied_are_warned_of),
        cmocka_unit_test(a_task_starts_no_earlier_than_it_is_told_to),
        cmocka_unit_test(a_time_that_is_none_is_refused_by_name),
        cmocka_unit_test(a_restart_does_not_start_it_early),
        cmocka_unit_test(an_output_may_have_any_name),
    };
    return cmocka_run_group_tests_name("clients", tests, NULL, stop_all);
}
