/*
 * Tasks in jails, through the daemon: what Claude sees, what it may use, and what is reported. The
 * CLI is a script that runs its prompt in a shell, as a Claude that follows an attacker's prompt
 * would.
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct runner *runner;

static const char evil_cli[] =
    "#!/bin/bash\n"
    "[ \"$1\" = --version ] && echo '2.1.0 (Claude Code)' && exit\n"
    "echo '{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}'\n"
    "said=$(bash -c \"$(cat)\" 2>&1 | head -c 4000 | tr '\\n\"\\\\\\t' '  / ')\n"
    "echo "
    "'{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"'\"$said\"'\","
    "\"session_id\":\"s\",\"num_turns\":1,\"total_cost_usd\":0,\"usage\":{}}'\n";

static struct runner *evil_runner(const char *const settings[])
{
    struct runner *made = runner_new_with(settings);
    unlink(made->cli);
    write_file(made->cli, evil_cli, 0755);
    return made;
}

static struct runner *shared(void)
{
    if (!runner) {
        runner = evil_runner((const char *const[]){"JAIL_PATHS", NULL, NULL});
        char *secret = textf("%s/.credentials.json", runner->config);
        write_file(secret, "{\"token\":\"canary-of-the-login\"}", 0644);
        free(secret);
        runner_start(runner);
    }
    return runner;
}

static int stop(void **state)
{
    (void)state;
    runner_free(runner);
    runner = NULL;
    return 0;
}

static char *tier_of(const struct runner *of)
{
    struct reply *reply = runner_get(of, "/health?verbose=true");
    char *tier = strdup(json_text(reply->json, "jail.tier"));
    reply_free(reply);
    return tier;
}

/* What the shell printed. */
static char *says_in(const struct runner *in, const char *script)
{
    struct reply *reply = runner_succeeded(in, script, "");
    char *output = strdup(json_text(reply->json, "output"));
    reply_free(reply);
    return output;
}

static void need_full(void)
{
    char *tier = tier_of(shared());
    bool full = strcmp(tier, "full") == 0;
    free(tier);
    if (!full)
        SKIP_BECAUSE("this host has no tier full");
}

/* ---- what it sees ---- */

static void health_tells_what_the_jail_is_made_of(void **state)
{
    (void)state;
    struct reply *reply = runner_get(shared(), "/health?verbose=true");
    assert_string_equal(json_text(reply->json, "jail.tier"),
                        json_text(reply->json, "jail.host_tier"));
    assert_non_null(json_at(reply->json, "jail.features.namespaces"));
    assert_non_null(json_at(reply->json, "jail.features.memory"));
    const cJSON *features = json_at(reply->json, "jail.features"), *feature;
    cJSON_ArrayForEach(feature, features)
    {
        char *why = textf("jail.missing.%s", feature->string);
        if (!cJSON_IsTrue(feature))
            assert_string_not_equal(json_text(reply->json, why), "");
        free(why);
    }
    reply_free(reply);
}

static void claude_sees_its_workspace_and_nothing_of_the_runner(void **state)
{
    (void)state;
    need_full();
    char *script =
        textf("pwd; echo $HOME $CLAUDE_CONFIG_DIR $TMPDIR; touch a $HOME/b $TMPDIR/c && "
              "echo writes; ls %s %s; cat %s/.credentials.json; ls / | tr '\\n' ' '; ls -a "
              "/home /root; find / -name runner.db 2>/dev/null; ps -e | wc -l",
              runner->dir, runner->state, runner->config);
    char *said = says_in(runner, script);
    assert_non_null(strstr(said, "/workspace /home/user /home/user/.claude /tmp writes"));
    assert_null(strstr(said, "canary-of-the-login"));
    assert_null(strstr(said, "runner.db"));
    assert_null(strstr(said, "root:"));
    free(said);
    free(script);
}

static void what_a_task_leaves_the_next_one_does_not_find(void **state)
{
    (void)state;
    free(says_in(
        shared(),
        "echo x | tee /tmp/left /dev/shm/left left $HOME/left; sleep 1000 >/dev/null 2>&1 & true"));
    char *said = says_in(shared(), "ls /tmp/left /dev/shm/left left $HOME/left 2>/dev/null; true");
    assert_string_equal(said, "");
    free(said);
    assert_int_equal(runner_task_processes(runner), 0);
}

static void the_daemon_is_out_of_reach(void **state)
{
    (void)state;
    char *script =
        textf("kill -9 %d; kill -STOP %d; cat /proc/%d/environ /proc/%d/maps; kill -9 -1",
              (int)shared()->pid, (int)runner->pid, (int)runner->pid, (int)runner->pid);
    struct reply *reply = runner_execute(runner, script, "");
    assert_status(reply, 200);
    assert_null(strstr(reply->body, RUNNER_SECRET));
    reply_free(reply);
    free(script);
    reply = runner_get(runner, "/health");
    assert_status(reply, 200);
    reply_free(reply);
}

/* ---- what it may use ---- */

static void assert_reason(const char *script, const char *limits, const char *reason)
{
    struct reply *reply = runner_execute(shared(), script, limits);
    assert_status(reply, 200);
    assert_json_text(reply->json, "reason", reason);
    reply_free(reply);
}

static void a_limit_that_was_met_is_the_reason(void **state)
{
    (void)state;
    assert_reason("perl -e '$x = \"x\" x 300_000_000; sleep 5'; kill -9 $PPID",
                  "\"limits\":{\"memoryMb\":100}", "memory_exceeded");
    assert_reason("head -c 60M /dev/zero >big; sleep 200", "\"limits\":{\"diskMb\":20}",
                  "disk_exceeded");
    assert_reason("perl -e 'for (1..40) { my $p = fork; if (defined $p && !$p) { sleep 9; exit } } "
                  "kill 9, -1'",
                  "\"limits\":{\"pids\":12}", "pids_exceeded");
    free(says_in(shared(), "true"));
}

static void a_limit_is_met_by_a_command_before_as_well(void **state)
{
    (void)state;
    assert_reason(
        "true",
        "\"limits\":{\"memoryMb\":100},\"preExecutionCommands\":[\"perl -e '$x = \\\"x\\\" x "
        "300_000_000; sleep 5'\"]",
        "memory_exceeded");
}

static void limits_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *limits, *says;
    } cases_of[] = {
        {"{\"memoryMb\":1}", "limits.memoryMb"},
        {"{\"memoryMb\":9999999}", "limits.memoryMb: must be at most"},
        {"{\"memory\":64}", "limits.memory"},
        {"{\"cpu\":0}", "limits.cpu"},
        {"{\"pids\":-1}", "limits.pids"},
        {"{\"diskMb\":\"much\"}", "limits.diskMb"},
        {"{\"diskMb\":99999999}", "limits.diskMb: must be at most"},
        {"[]", "limits"},
    };
    for (size_t i = 0; i < COUNT(cases_of); i++) {
        char *more = textf("\"limits\":%s", cases_of[i].limits);
        struct reply *reply = runner_execute(shared(), "true", more);
        assert_status(reply, 400);
        if (!strstr(json_text(reply->json, "detail"), cases_of[i].says))
            fail_msg("%s: %s", more, reply->body);
        reply_free(reply);
        free(more);
    }
}

/* ---- what the owner asks for ---- */

static void a_weaker_jail_can_be_asked_for(void **state)
{
    (void)state;
    static const char *const tiers[] = {"restricted", "none"};
    for (size_t i = 0; i < COUNT(tiers); i++) {
        struct runner *other = evil_runner(
            (const char *const[]){"JAIL", tiers[i], "JAIL_MIN", NULL, "JAIL_PATHS", NULL, NULL});
        runner_start(other);
        char *tier = tier_of(other);
        assert_string_equal(tier, tiers[i]);
        char *script = textf("pwd; cat %s/log; touch %s/new", other->dir, other->shared);
        char *said = says_in(other, script);
        char *made = textf("%s/new", other->shared);
        assert_int_equal(access(made, F_OK) == 0, strcmp(tier, "none") == 0);
        assert_non_null(strstr(said, other->state));
        free(made);
        free(said);
        free(script);
        free(tier);
        runner_free(other);
    }
}

static void the_start_is_refused_when_the_jail_would_be_weaker_than_asked(void **state)
{
    (void)state;
    struct runner *other =
        runner_new_with((const char *const[]){"JAIL", "none", "JAIL_MIN", "full", NULL});
    assert_int_equal(runner_start_refused(other), 2);
    char *log = runner_log(other);
    assert_non_null(strstr(log, "JAIL_MIN"));
    free(log);
    runner_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_tells_what_the_jail_is_made_of),
        cmocka_unit_test(claude_sees_its_workspace_and_nothing_of_the_runner),
        cmocka_unit_test(what_a_task_leaves_the_next_one_does_not_find),
        cmocka_unit_test(the_daemon_is_out_of_reach),
        cmocka_unit_test(a_limit_that_was_met_is_the_reason),
        cmocka_unit_test(a_limit_is_met_by_a_command_before_as_well),
        cmocka_unit_test(limits_are_refused_by_name),
        cmocka_unit_test(a_weaker_jail_can_be_asked_for),
        cmocka_unit_test(the_start_is_refused_when_the_jail_would_be_weaker_than_asked),
    };
    return cmocka_run_group_tests_name("jail", tests, NULL, stop);
}
