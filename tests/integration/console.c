/*
 * The console (runner/web) in Debian's Chromium, with the real runner, CLI and git.
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void skip_without_browser(void)
{
    if (access("/usr/bin/node", X_OK) ||
        access(TEST_CONSOLE_FOLDER "/node_modules/playwright-core", R_OK))
        SKIP_BECAUSE("node or playwright-core is missing (npm ci in tests/console)");
}

/* Runs a script of TEST_CONSOLE_FOLDER and shows what it says. */
static void run_script(const struct runner *runner, const char *script, const char *third)
{
    int status = -1;
    char *out = textf("%s/console", runner->dir);
    char *home = textf("HOME=%s", runner->dir);
    char *file = textf("%s/%s", TEST_CONSOLE_FOLDER, script);
    char *only = textf("ONLY=%s", getenv("ONLY") ? getenv("ONLY") : "");
    char *argv[] = {
        (char[]){"/usr/bin/node"}, file, runner->base, (char[]){RUNNER_SECRET}, textf("%s", third),
        (char[]){TEST_PICTURES},   NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, getenv("ONLY") ? only : NULL, NULL};
    pid_t pid = proc_start(argv, env, out, out);
    bool ended = proc_wait(pid, 400000, &status);
    char *said = read_file(out, NULL);
    fputs(said ? said : "", stdout);
    assert_true(ended);
    free(said);
    free(argv[4]);
    free(only);
    free(file);
    free(home);
    free(out);
    if (status == 77)
        SKIP_BECAUSE("there is no chromium");
    assert_int_equal(status, 0);
}

/* A repository of one file, in the directory that tasks may read. */
static char *make_repository(const struct runner *runner)
{
    char *path = textf("%s/project.git", runner->shared);
    char *work = textf("%s/project", runner->dir);
    char *script = textf("git init -q -b main '%s' && cd '%s' && echo one >one.txt && git add . && "
                         "git -c user.name=T -c user.email=t@example.com commit -qm first && "
                         "git clone -q --bare . '%s'",
                         work, work, path);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, script, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"HOME=/nonexistent"}, NULL};
    int status = -1;
    assert_true(proc_wait(proc_start(argv, env, "/dev/null", "/dev/null"), 60000, &status));
    assert_int_equal(status, 0);
    char *url = textf("file://%s", path);
    free(script);
    free(work);
    free(path);
    return url;
}

static void every_screen_and_action_works_for_everybody(void **state)
{
    (void)state;
    skip_without_browser();
    struct api *api = NULL;
    struct runner *runner = runner_new_real(&api);
    runner_set(runner, "CALLBACK_SECRET", "callback-secret-0123456789");
    runner_set(runner, "CALLBACK_ALLOW", "127.0.0.1");
    runner_set(runner, "RUNNER_SECRET", RUNNER_SECRET ",batch:" RUNNER_SECRET "-batch");
    runner_set(runner, "CALLER_LIMITS",
               "batch.tasks=2,batch.perMinute=30,batch.usdPerDay=0.5,batch.kinds=claude|command,"
               "batch.egress=none,batch.push=no");
    char *allow = textf("file:%s", runner->shared);
    runner_set(runner, "GIT_ALLOW", allow);
    free(allow);
    char *url = make_repository(runner);
    runner_start(runner);
    run_script(runner, "console.mjs", url);
    free(url);
    runner_free(runner);
    api_free(api);
}

/* Sessions, their shells and files. */
static void sessions_are_used_by_everybody(void **state)
{
    (void)state;
    skip_without_browser();
    struct runner *runner = runner_new();
    runner_start(runner);
    run_script(runner, "sessions.mjs", "-");
    runner_free(runner);
}

/* There is no credential, so no task starts, and thousands of tasks can wait. */
static void the_console_is_quick(void **state)
{
    (void)state;
    skip_without_browser();
    struct runner *runner = runner_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_set(runner, "QUEUE_MAX", "5000");
    runner_start(runner);
    run_script(runner, "speed.mjs", "2000");
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_screen_and_action_works_for_everybody),
        cmocka_unit_test(sessions_are_used_by_everybody),
        cmocka_unit_test(the_console_is_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
