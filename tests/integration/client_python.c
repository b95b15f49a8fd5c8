/*
 * The Python client's own tests, by Debian's python3, against the real daemon with the stand-in
 * CLI.
 */
#include "testing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *runner;

static void the_python_client_passes_its_tests(void **state)
{
    (void)state;
    if (access("/usr/bin/python3", X_OK))
        SKIP_BECAUSE("python3 is not installed");
    struct runner *r =
        runner_shared(&runner, (const char *const[]){"MAX_CONCURRENT_TASKS", "8", NULL});
    char *out = textf("%s/python.log", r->dir), *url = textf("RUNNER_URL=%s", r->base);
    char *argv[] = {(char[]){"/usr/bin/python3"}, (char[]){"-B"},
                    (char[]){TEST_CLIENTS "/python/test_claude_runner.py"}, NULL};
    char *env[] = {url, (char[]){"RUNNER_SECRET=" RUNNER_SECRET},
                   (char[]){"CLAUDE_RUNNER_BIN=" TEST_RUNNER}, NULL};
    int status = -1;
    assert_true(proc_wait(proc_start(argv, env, out, out), 240000, &status));
    char *text = read_file(out, NULL);
    if (status != 0 || !strstr(text, "\nOK"))
        fail_msg("status %d: %s", status, text);
    free(text);
    free(url);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_python_client_passes_its_tests),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
