/*
 * GET /openapi.json: an independent validator accepts it, it describes exactly the routes that are
 * served, and its schemas accept and refuse the same bodies as the runner
 * (tests/openapi/check.mjs).
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs check.mjs against the runner. */
static void check(const struct runner *runner, char *mode)
{
    if (access("/usr/bin/node", X_OK) || access(TEST_OPENAPI_FOLDER "/node_modules/ajv", R_OK))
        SKIP_BECAUSE("node or ajv is missing (npm ci in tests/openapi)");
    char *out = textf("%s/check", runner->dir), *home = textf("HOME=%s", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/node"},
                    (char[]){TEST_OPENAPI_FOLDER "/check.mjs"},
                    mode,
                    runner->base,
                    (char[]){RUNNER_SECRET},
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, NULL};
    int status = -1;
    assert_true(proc_wait(proc_start(argv, env, out, out), 240000, &status));
    char *said = read_file(out, NULL);
    if (status != 0)
        fail_msg("%s", said);
    print_message("  %s", said);
    free(said);
    free(home);
    free(out);
}

static void the_document_needs_no_secret_and_is_the_same_each_time(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *first = http_call(runner->base, "GET", "/openapi.json", NULL, NULL);
    struct reply *second = http_call(runner->base, "GET", "/openapi.json", NULL, NULL);
    assert_status(first, 200);
    assert_json_text(first->json, "openapi", "3.1.0");
    assert_string_equal(first->body, second->body);
    assert_null(strstr(first->body, RUNNER_SECRET));
    assert_null(strstr(first->body, runner->dir));
    reply_free(first);
    reply_free(second);
    runner_free(runner);
}

static void it_is_valid_and_describes_what_is_served_and_answered(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "AUTH_FAILURES_MAX", "10000");
    runner_start(runner);
    check(runner, (char[]){"answers"});
    runner_free(runner);
}

static void what_its_schemas_take_the_runner_takes_and_no_more(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL); /* tasks wait for a login, so none starts */
    runner_set(runner, "QUEUE_MAX", "10000");
    runner_start(runner);
    check(runner, (char[]){"bodies"});
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document_needs_no_secret_and_is_the_same_each_time),
        cmocka_unit_test(it_is_valid_and_describes_what_is_served_and_answered),
        cmocka_unit_test(what_its_schemas_take_the_runner_takes_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
