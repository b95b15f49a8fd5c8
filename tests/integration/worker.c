/*
 * The edge worker (cloudflared/worker) in workerd, in front of a real runner with the real CLI.
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void the_edge_worker_brings_every_call_to_a_runner_once(void **state)
{
    (void)state;
    if (access("/usr/bin/node", X_OK) || access(TEST_WORKER_FOLDER "/node_modules/miniflare", R_OK))
        SKIP_BECAUSE("node or miniflare is missing (npm ci in tests/worker)");
    struct api *api = NULL;
    struct runner *runner = runner_new_real(&api);
    runner_start(runner);
    char *out = textf("%s/worker", runner->dir);
    char *home = textf("HOME=%s", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/node"}, (char[]){TEST_WORKER_FOLDER "/worker.mjs"},
                    runner->base, (char[]){RUNNER_SECRET}, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, NULL};
    int status = -1;
    pid_t pid = proc_start(argv, env, out, out);
    assert_true(proc_wait(pid, 240000, &status));
    char *said = read_file(out, NULL);
    fputs(said, stdout);
    assert_int_equal(status, 0);
    free(said);
    free(home);
    free(out);
    runner_free(runner);
    api_free(api);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_edge_worker_brings_every_call_to_a_runner_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
