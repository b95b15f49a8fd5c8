/*
 * The client's commands against the real daemon: what they print, how they end, what Ctrl-C does,
 * and which runner they talk to.
 */
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct runner *runner;

static const char *const settings[] = {"KILL_GRACE_SECONDS", "1", "MAX_CONCURRENT_TASKS", "4",
                                       NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

/* ---- running a command ---- */

struct ran {
    int status;
    char *out, *err;
};

static void ran_free(struct ran *ran)
{
    free(ran->out);
    free(ran->err);
}

static int runs;

/* Starts the client with these arguments (up to NULL) and more environment (or NULL). */
static pid_t start(const char *const args[], char *const env[], char **out, char **err)
{
    char *argv[32] = {(char[]){TEST_RUNNER}};
    size_t n = 1;
    while (args[n - 1] && n < COUNT(argv) - 1) {
        argv[n] = (char *)(uintptr_t)args[n - 1];
        n++;
    }
    *out = textf("%s/out-%d", shared()->shared, runs);
    *err = textf("%s/err-%d", shared()->shared, runs++);
    return proc_start(argv, env, *out, *err);
}

static struct ran finish(pid_t pid, char *out, char *err)
{
    struct ran ran = {.status = -1};
    assert_true(proc_wait(pid, 120000, &ran.status));
    ran.out = read_file(out, NULL);
    ran.err = read_file(err, NULL);
    free(out);
    free(err);
    return ran;
}

static struct ran run_with(const char *const args[], char *const env[])
{
    char *out, *err;
    pid_t pid = start(args, env, &out, &err);
    return finish(pid, out, err);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct ran run(const char *const args[])
{
    char *url = textf("RUNNER_URL=%s", shared()->base);
    char *env[] = {url, (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, NULL};
    struct ran ran = run_with(args, env);
    free(url);
    return ran;
}

static void expect(const char *const args[], int status, const char *out, const char *err)
{
    struct ran ran = run(args);
    if (ran.status != status || (out && !strstr(ran.out, out)) || (err && !strstr(ran.err, err)))
        fail_msg("%s: status %d\nstdout: %s\nstderr: %s", args[0], ran.status, ran.out, ran.err);
    ran_free(&ran);
}

/* ---- run ---- */

static void a_run_prints_the_answer_and_ends_with_its_status(void **state)
{
    (void)state;
    struct ran ran = run(ARGS("run", "two", "words"));
    assert_int_equal(ran.status, 0);
    assert_string_equal(ran.out, "two words\n");
    assert_non_null(strstr(ran.err, "two words"));
    assert_non_null(strstr(ran.err, "done in "));
    ran_free(&ran);
    expect(ARGS("run", "standin: exit 3"), 3, NULL, "without a result");
    expect(ARGS("run", "--timeout", "500ms", "standin: hang-middle"), 124, NULL, "timeout");
    expect(ARGS("run", "--json", "hello"), 0, "\"output\":\"hello\"", "");
    expect(ARGS("run", "--max-turns", "x", "hello"), 2, NULL, "--max-turns takes a number");
    expect(ARGS("run", "--priority", "12", "hello"), 2, NULL, "0..9");
}

static void exec_is_the_command_with_its_streams_and_status(void **state)
{
    (void)state;
    struct ran ran = run(ARGS("exec", "--", "echo out; echo err >&2; exit 4"));
    if (ran.status != 4 || strcmp(ran.out, "out\n") != 0 || strcmp(ran.err, "err\n") != 0)
        fail_msg("status %d\nstdout: %s\nstderr: %s", ran.status, ran.out, ran.err);
    ran_free(&ran);
    expect(ARGS("exec", "printf", "[%s]", "a b", "it's"), 0, "[a b][it's]", "");
    expect(ARGS("exec", "--timeout", "500ms", "--", "sleep 60"), 124, NULL, NULL);
    expect(ARGS("exec", "--json", "--", "echo json"), 0, "\"stdout\":\"json\\n\"", NULL);
}

static void tools_are_folded_to_a_line(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *own = runner_new_real(&api);
    runner_start(own);
    char *url = textf("RUNNER_URL=%s", own->base);
    char *env[] = {url, (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, NULL};
    struct ran ran =
        run_with(ARGS("run", "--permission-mode", "bypassPermissions",
                      "[[tool:Bash {\"command\":\"echo from-a-tool\"}]][[text:all is said]]"),
                 env);
    if (ran.status != 0 || !strstr(ran.err, "Bash(echo from-a-tool)"))
        fail_msg("status %d: %s\n%s", ran.status, ran.out, ran.err);
    ran_free(&ran);
    free(url);
    runner_free(own);
    api_free(api);
}

/* The id of the task that a line of tasks begins with. */
static char *newest_task(void)
{
    struct ran ran = run(ARGS("tasks", "-n", "1"));
    char *id = strndup(ran.out, strcspn(ran.out, " "));
    ran_free(&ran);
    return id;
}

static bool has_text(const char *path, const char *part)
{
    char *text = read_file(path, NULL);
    bool has = text && strstr(text, part);
    free(text);
    return has;
}

static void interrupt_cancels_and_twice_leaves_alone(void **state)
{
    (void)state;
    char *url = textf("RUNNER_URL=%s", shared()->base), *out, *err;
    char *env[] = {url, (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, NULL};
    pid_t pid = start(ARGS("run", "standin: tick 1000 100"), env, &out, &err);
    EVENTUALLY(20000, has_text(err, "tick 1"));
    char *id = newest_task();
    kill(pid, SIGINT);
    struct ran ran = finish(pid, out, err);
    assert_int_equal(ran.status, 130);
    assert_non_null(strstr(ran.err, "cancelling"));
    assert_non_null(strstr(ran.err, "cancelled"));
    ran_free(&ran);
    runner_await(shared(), id, "cancelled", 20000);
    free(id);
    free(url);
}

static void a_broken_connection_is_taken_up_again(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    char *port = textf("%d", port_reserve()), *err, *out;
    runner_set(own, "PORT", port);
    runner_start(own);
    char *marker = textf("%s/once", own->shared);
    char *prompt = textf("standin: once %s", marker);
    char *url = textf("RUNNER_URL=%s", own->base);
    char *env[] = {url, (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, NULL};
    pid_t pid = start(ARGS("run", "--retry-interrupted", prompt), env, &out, &err);
    EVENTUALLY(20000, file_size(marker) == 0);
    runner_crash(own);
    runner_start(own);
    struct ran ran = finish(pid, out, err);
    if (ran.status != 0 || strcmp(ran.out, "second run\n") != 0)
        fail_msg("status %d: %s\n%s", ran.status, ran.out, ran.err);
    ran_free(&ran);
    free(url);
    free(prompt);
    free(marker);
    free(port);
    runner_free(own);
}

/* ---- tasks ---- */

static void tasks_can_be_listed_shown_followed_and_cancelled(void **state)
{
    (void)state;
    struct ran ran = run(ARGS("run", "--detach", "standin: tick 3 50"));
    assert_int_equal(ran.status, 0);
    ran.out[strcspn(ran.out, "\n")] = '\0';
    const char *id = ran.out;
    expect(ARGS("logs", "-f", id), 0, "tick 2", NULL);
    expect(ARGS("logs", id), 0, "tick 0", NULL);
    expect(ARGS("logs", "--json", id), 0, "\"event\":\"done\"", NULL);
    expect(ARGS("tasks", "-s", "completed"), 0, id, NULL);
    expect(ARGS("tasks", "--json", "--limit", "1"), 0, "{\"tasks\":[", NULL);
    expect(
        ARGS("show", "--json", "no-such-task"), 1,
        "{\"success\":false,\"error\":\"there is no task 'no-such-task'\",\"code\":\"not_found\"}",
        "there is no task");
    expect(ARGS("tasks", "--status", "nothing"), 2, NULL, "a state of a task");
    expect(ARGS("show", id), 0, "request.prompt", NULL);
    expect(ARGS("result", id), 0, "ticked\n", NULL);
    expect(ARGS("outputs", id), 0, "", NULL);
    expect(ARGS("cancel", id), 1, NULL, "ended");
    expect(ARGS("show", "no-such"), 1, NULL, "no task 'no-such'");
    ran_free(&ran);
    ran = run(ARGS("run", "-d", "standin: hang-middle"));
    ran.out[strcspn(ran.out, "\n")] = '\0';
    expect(ARGS("result", ran.out), 75, NULL, "the task is ");
    runner_await(shared(), ran.out, "running", 30000);
    expect(ARGS("logs", ran.out), 0, NULL, NULL);
    expect(ARGS("cancel", ran.out, "no-such"), 1, ran.out, "no task 'no-such'");
    ran_free(&ran);
}

static void commands_that_do_not_exist_are_told_apart(void **state)
{
    (void)state;
    expect(ARGS("taks"), 2, NULL, "did you mean 'tasks'?");
    expect(ARGS("session", "atach"), 2, NULL,
           "command 'session atach'; did you mean 'session attach'?");
    expect(ARGS("session"), 2, NULL, "session exec");
    expect(ARGS("--help"), 0, "batch", NULL);
    expect(ARGS("batch", "--help"), 0, "--max-cost", NULL);
}

/* ---- which runner ---- */

static void a_secret_is_made_with_limits_that_there_are(void **state)
{
    (void)state;
    expect(ARGS("secret", "new", "ci", "--limit", "tasks=4", "--limit", "push=no"), 0,
           "ci:", "CALLER_LIMITS: ci.tasks=4,ci.push=no");
    expect(ARGS("secret", "new", "ci", "--limit", "bogus=4"), 2, "", "--limit bogus=4");
    expect(ARGS("secret", "new", "ci", "--limit", "tasks=many"), 2, "", "--limit tasks=many");
}

static void the_configuration_file_names_runners(void **state)
{
    (void)state;
    char *home = textf("%s/home", shared()->shared), *secret = textf("%s/secret", home);
    char *env[] = {textf("HOME=%s", home), NULL},
         *file = textf("%s/.config/claude-runner/config", home);
    mkdir(home, 0777);
    write_file(secret, RUNNER_SECRET "\n", 0600);
    struct ran ran = run_with(
        ARGS("config", "add", "here", "--url", shared()->base, "--secret-file", secret), env);
    if (ran.status != 0)
        fail_msg("%s", ran.err);
    ran_free(&ran);
    ran = run_with(ARGS("config", "add", "other", "--url", "http://127.0.0.1:1", "--secret",
                        "0123456789abcdef"),
                   env);
    assert_int_equal(ran.status, 1);
    assert_non_null(strstr(ran.err, "does not work, nothing was kept"));
    ran_free(&ran);
    ran = run_with(ARGS("config", "add", "other", "--url", "http://127.0.0.1:1", "--untried"), env);
    assert_int_equal(ran.status, 0);
    ran_free(&ran);
    ran = run_with(ARGS("config", "list"), env);
    assert_string_equal(ran.out, "here  (default)\nother\n");
    ran_free(&ran);
    ran = run_with(ARGS("tasks"), env);
    assert_int_equal(ran.status, 0);
    ran_free(&ran);
    ran = run_with(ARGS("tasks", "--runner", "othr"), env);
    assert_int_equal(ran.status, 2);
    assert_non_null(strstr(ran.err, "did you mean 'other'?"));
    ran_free(&ran);
    char *text = read_file(file, NULL);
    assert_null(strstr(text, RUNNER_SECRET));
    free(text);
    write_file(file, "[here]\nurl = http://127.0.0.1:1\nsecrt = x\n", 0600);
    ran = run_with(ARGS("tasks"), env);
    assert_int_equal(ran.status, 2);
    assert_non_null(strstr(ran.err, "config:3: unknown name 'secrt'; did you mean 'secret'?"));
    ran_free(&ran);
    char *command = textf("[here]\nurl = %s\nsecret_command = cat %s\n", shared()->base, secret);
    write_file(file, command, 0600);
    ran = run_with(ARGS("tasks"), env);
    assert_int_equal(ran.status, 0);
    ran_free(&ran);
    free(command);
    free(env[0]);
    free(file);
    free(secret);
    free(home);
}

static void a_secret_never_goes_out_by_plain_http(void **state)
{
    (void)state;
    expect(ARGS("tasks", "--url", "http://192.0.2.1:1"), 2, NULL, "use https");
    expect(ARGS("run", "--url", "http://192.0.2.1:1", "x"), 2, NULL, "plain http");
}

/* ---- what is made from the tables ---- */

static void completions_and_the_manual_are_read_by_their_programs(void **state)
{
    (void)state;
    struct ran ran = run(ARGS("completion", "bash"));
    char *file = textf("%s/complete.bash", shared()->shared);
    write_file(file, ran.out, 0644);
    ran_free(&ran);
    char *script = textf("source %s; COMP_WORDS=(claude-runner ba); COMP_CWORD=1; _claude_runner; "
                         "test \"${COMPREPLY[*]}\" = batch; "
                         "COMP_WORDS=(claude-runner session at); COMP_CWORD=2; _claude_runner; "
                         "test \"${COMPREPLY[*]}\" = attach; "
                         "COMP_WORDS=(claude-runner run --mode); COMP_CWORD=2; _claude_runner; "
                         "test \"${COMPREPLY[*]}\" = --model",
                         file);
    proc_shell(script);
    free(script);
    ran = run(ARGS("man"));
    write_file(file, ran.out, 0644);
    assert_non_null(strstr(ran.out, "\\-\\-max\\-cost"));
    ran_free(&ran);
    script = textf(
        "! command -v groff >/dev/null || ! groff -man -Tutf8 -ww %s 2>&1 >/dev/null | grep .",
        file);
    proc_shell(script);
    free(script);
    expect(ARGS("completion", "zsh"), 0, "#compdef claude-runner", NULL);
    expect(ARGS("completion", "fish"), 0, "complete -c claude-runner", NULL);
    expect(ARGS("completion", "sh"), 2, NULL, "bash, zsh, fish");
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_prints_the_answer_and_ends_with_its_status),
        cmocka_unit_test(exec_is_the_command_with_its_streams_and_status),
        cmocka_unit_test(tools_are_folded_to_a_line),
        cmocka_unit_test(interrupt_cancels_and_twice_leaves_alone),
        cmocka_unit_test(a_broken_connection_is_taken_up_again),
        cmocka_unit_test(tasks_can_be_listed_shown_followed_and_cancelled),
        cmocka_unit_test(commands_that_do_not_exist_are_told_apart),
        cmocka_unit_test(a_secret_is_made_with_limits_that_there_are),
        cmocka_unit_test(the_configuration_file_names_runners),
        cmocka_unit_test(a_secret_never_goes_out_by_plain_http),
        cmocka_unit_test(completions_and_the_manual_are_read_by_their_programs),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
