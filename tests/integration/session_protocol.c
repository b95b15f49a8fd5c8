/*
 * The protocol of the sandbox that sessions replace: an adapter in Python uses all of its members
 * (tests/protocol/adapter.py).
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void an_adapter_finds_every_member(void **state)
{
    int status = -1;
    (void)state;
    if (access("/usr/bin/python3", X_OK))
        SKIP_BECAUSE("there is no python3");
    struct runner *runner = runner_new();
    runner_start(runner);
    char *out = textf("%s/adapter", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/python3"}, (char[]){TEST_PROTOCOL_FOLDER "/adapter.py"},
                    runner->base, (char[]){RUNNER_SECRET}, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    bool ended = proc_wait(proc_start(argv, env, out, out), 120000, &status);
    char *said = read_file(out, NULL);
    fputs(said ? said : "", stdout);
    free(said);
    free(out);
    assert_true(ended);
    assert_int_equal(status, 0);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_finds_every_member),
    };
    return cmocka_run_group_tests_name("session_protocol", tests, NULL, NULL);
}
