/*
 * Claude in a session: a task of /execute that works on the session's files. The CLI is a script
 * that runs its prompt as a shell script.
 */
#include "githost.h"
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *make(const char *name, const char *value)
{
    static const char *const settings[] = {
        "KILL_GRACE_SECONDS", "1", "SESSIONS_MAX", "9", "GIT_ALLOW", "file:/tmp", NULL};
    struct runner *made = runner_new_with(settings);
    unlink(made->cli);
    write_file(made->cli, githost_cli, 0755);
    if (name)
        runner_set(made, name, value);
    runner_start(made);
    return made;
}

static struct runner *runner;

static struct runner *get(void)
{
    if (!runner)
        runner = make(NULL, NULL);
    return runner;
}

static int stop(void **state)
{
    (void)state;
    runner_free(runner);
    runner = NULL;
    return 0;
}

static void shell_says(const struct runner *to, const char *session, const char *command,
                       const char *text)
{
    struct done *done = session_run(to, session, command, "");
    if (strcmp(done->out, text) != 0)
        fail_msg("'%s' said '%s', not '%s' (%s)", command, done->out, text, done->err);
    done_free(done);
}

/* Runs a task in the session; it must succeed. */
static struct reply *ran(const struct runner *to, const char *session, const char *prompt,
                         const char *more)
{
    char *fields = textf("\"inSession\":\"%s\"%s%s", session, *more ? "," : "", more);
    struct reply *reply = runner_execute(to, prompt, fields);
    assert_status(reply, 200);
    if (!cJSON_IsTrue(json_at(reply->json, "success")))
        fail_msg("%s", reply->body);
    free(fields);
    return reply;
}

static char *started(const struct runner *to, const char *session, const char *prompt)
{
    char *fields = textf("\"inSession\":\"%s\"", session);
    char *id = runner_submit(to, prompt, fields);
    runner_await(to, id, "running", 20000);
    free(fields);
    return id;
}

/* `tmp`: on this host the session has its own /tmp. */
static void try_host(const char *name, const char *value, bool tmp)
{
    struct runner *own = make(name, value);
    print_message("%s=%s\n", name, value);
    session_make(own, "s");
    shell_says(own, "s", "mkdir d && echo from the shell >d/f && echo h >~/in-home; : >/tmp/in-tmp",
               "");
    struct reply *reply =
        ran(own, "s",
            "cat d/f ~/in-home; ls $TMPDIR/in-tmp 2>/dev/null; echo from Claude >>d/f; echo o "
            ">output.txt; mkdir output; echo kept >output/k",
            "\"preExecutionCommands\":[\"echo before >b\"],"
            "\"postCommands\":[\"echo after >a\"]");
    const char *said = json_text(reply->json, "output");
    assert_int_equal(strncmp(said, "from the shell\nh", 16), 0);
    assert_int_equal(strstr(said, "/in-tmp") != NULL, tmp);
    assert_json_number(reply->json, "outputs.files", 1);
    reply_free(reply);
    shell_says(own, "s", "cat d/f a b; ls -A ~",
               "from the shell\nfrom Claude\nafter\nbefore\nin-home\n");
    /* an output of the previous task is not an output of this one */
    reply = ran(own, "s", "cat ../output/k", "\"cwdRelative\":\"d\"");
    assert_json_text(reply->json, "output", "kept");
    assert_json_lacks(reply->json, "outputs");
    reply_free(reply);
    runner_free(own);
}

static void claude_and_shells_see_the_same_files(void **state)
{
    (void)state;
    try_host("JAIL", "auto", true);
}

static void in_weaker_jails_as_well(void **state)
{
    (void)state;
    try_host("JAIL", "restricted", false);
    try_host("JAIL", "none", true);
}

static bool has_file(const char *session, const char *name)
{
    struct done *done = session_run(get(), session, "ls", "");
    bool there = strstr(done->out, name) != NULL;
    done_free(done);
    return there;
}

static void shells_go_on_while_a_task_runs_and_its_end_is_its_own(void **state)
{
    (void)state;
    session_make(get(), "side");
    char *id = started(get(), "side", "touch began; sleep 600");
    EVENTUALLY(20000, has_file("side", "began"));
    char *path = textf("/tasks/%s/cancel", id);
    struct reply *reply = runner_post(get(), path, "");
    assert_status(reply, 200);
    reply_free(reply);
    runner_await(get(), id, "cancelled", 20000);
    reply = runner_result(get(), id);
    assert_json_text(reply->json, "reason", "cancelled");
    reply_free(reply);
    shell_says(get(), "side", "echo still here", "still here\n");
    struct reply *late =
        runner_execute(get(), "sleep 600", "\"inSession\":\"side\",\"timeout_ms\":1000");
    assert_json_text(late->json, "reason", "timeout");
    reply_free(late);
    free(path), free(id);
}

static void deleting_the_session_cancels_its_task(void **state)
{
    (void)state;
    session_make(get(), "gone");
    char *id = started(get(), "gone", "touch began; sleep 600");
    EVENTUALLY(20000, has_file("gone", "began"));
    struct reply *reply = runner_delete(get(), "/sessions/gone");
    assert_status(reply, 200);
    reply_free(reply);
    runner_await(get(), id, "cancelled", 20000); /* it has left; its end is stored next */
    reply = runner_result(get(), id);
    assert_json_text(reply->json, "reason", "cancelled");
    assert_int_equal(runner_task_processes(get()), 0);
    reply_free(reply);
    free(id);
}

static void make_with_repository(const char *id, const char *more)
{
    char *json = textf("{\"id\":\"%s\",\"repoUrl\":\"file://%s/o\"%s}", id, get()->shared, more);
    struct reply *reply = runner_post(get(), "/sessions", json);
    assert_status(reply, 201);
    reply_free(reply);
    free(json);
}

static void a_session_may_have_a_repository(void **state)
{
    (void)state;
    char *script =
        textf("cd %s && git init -q -b main o && cd o && echo was >f && git add . && git "
              "-c user.name=A -c user.email=a@b commit -qm 1 && chmod -R a+rX .",
              get()->shared);
    proc_shell(script);
    make_with_repository("repo", "");
    shell_says(get(), "repo", "cat f; ls new 2>&1; git status --short",
               "was\nls: cannot access 'new': No such file or directory\n");
    reply_free(ran(get(), "repo", "git log --oneline | wc -l; echo is >f; echo new >new", ""));
    shell_says(get(), "repo", "cat f new; git status --short", "is\nnew\n M f\n?? new\n");
    make_with_repository("layers", ",\"layered\":true");
    struct reply *reply = runner_execute(get(), "true", "\"inSession\":\"layers\"");
    if (reply->status != 200) { /* on a host without overlays a session has no layers */
        assert_problem(reply, 400, "invalid_request");
        assert_json_text(reply->json, "errors.0.field", "inSession");
    }
    reply_free(reply);
    free(script);
}

static void what_makes_no_sense_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *field;
    } cases[] = {
        {"\"inSession\":\"no-such\"", "inSession"},
        {"\"inSession\":\"sense\",\"repoUrl\":\"o/r\"", "repoUrl"},
        {"\"inSession\":\"sense\",\"n\":2", "n"},
        {"\"inSession\":\"sense\",\"postExecutionActions\":{\"git\":{\"commit\":true}}",
         "postExecutionActions.git"},
        {"\"inSession\":\"../x\"", "inSession"},
    };
    session_make(get(), "sense");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = runner_execute(get(), "true", cases[i].fields);
        assert_problem(reply, 400, "invalid_request");
        assert_json_text(reply->json, "errors.0.field", cases[i].field);
        reply_free(reply);
    }
}

static void a_link_that_the_session_plants_leads_nowhere(void **state)
{
    (void)state;
    session_make(get(), "link");
    session_make(get(), "other");
    shell_says(get(), "other", "echo secret >own", "");
    struct done *done = session_run(
        get(), "link",
        "cd /; mv /box/workspace /box/aside && ln -s ../../other/box/workspace /box/workspace", "");
    bool planted = done->exit_code == 0; /* possible only where the box shows its own files */
    done_free(done);
    struct reply *reply = runner_execute(get(), "cat own; touch planted", "\"inSession\":\"link\"");
    assert_status(reply, 200);
    if (planted)
        assert_json_bool(reply->json, "success", false);
    assert_null(strstr(reply->body, "secret"));
    reply_free(reply);
    shell_says(get(), "other", "ls", "own\n");
}

static void a_waiting_task_finds_its_session_after_a_crash(void **state)
{
    (void)state;
    struct runner *own = make("MAX_CONCURRENT_TASKS", "1");
    session_make(own, "kept");
    session_make(own, "lost");
    shell_says(own, "kept", "echo kept >f", "");
    char *first = started(own, "kept", "sleep 600");
    char *second = runner_submit(own, "cat f", "\"inSession\":\"kept\"");
    char *third = runner_submit(own, "true", "\"inSession\":\"lost\"");
    reply_free(runner_delete(own, "/sessions/lost"));
    runner_crash(own);
    runner_start(own);
    runner_await(own, second, "completed", 60000);
    runner_await(own, third, "failed", 60000);
    struct reply *reply = runner_result(own, second);
    assert_json_text(reply->json, "output", "kept");
    reply_free(reply);
    reply = runner_result(own, first);
    assert_json_text(reply->json, "reason", "interrupted");
    reply_free(reply);
    reply = runner_result(own, third);
    assert_json_text(reply->json, "reason", "session_error");
    reply_free(reply);
    free(first), free(second), free(third);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claude_and_shells_see_the_same_files),
        cmocka_unit_test(in_weaker_jails_as_well),
        cmocka_unit_test(shells_go_on_while_a_task_runs_and_its_end_is_its_own),
        cmocka_unit_test(deleting_the_session_cancels_its_task),
        cmocka_unit_test(a_session_may_have_a_repository),
        cmocka_unit_test(what_makes_no_sense_is_refused_by_name),
        cmocka_unit_test(a_link_that_the_session_plants_leads_nowhere),
        cmocka_unit_test(a_waiting_task_finds_its_session_after_a_crash),
    };
    return cmocka_run_group_tests_name("in_session", tests, NULL, stop);
}
