/*
 * The runner's client for Google's APIs against the stand-in: each step of
 * tests/integration/adapters.c with each kind of credentials.
 */
#include "cloud.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MS = 200000 };

static struct cloud *cloud;

static const char job_script[] = "#!/bin/sh\n"
                                 "[ -z \"$SLEEP\" ] || { sleep \"$SLEEP\" & wait $!; }\n"
                                 "exit ${EXIT:-0}\n";

static int start(void **state)
{
    char *dir = tmp_dir_new(), *job = textf("%s/job", dir);
    write_file(job, job_script, 0755);
    cloud = cloud_new(job, NULL);
    cloud_furnish(cloud, "a secret key");
    free(job);
    *state = dir;
    return 0;
}

static int stop(void **state)
{
    cloud_free(cloud);
    tmp_dir_free(*state);
    return 0;
}

static void take_all_steps(const char *dir, const char *credentials)
{
    int status = -1;
    char secret[] = "projects/" CLOUD_PROJECT "/secrets/" CLOUD_SECRET;
    char *out = textf("%s/out", dir), *file = strdup(credentials);
    char *argv[] = {TEST_ADAPTERS,  cloud->base,    file,   CLOUD_BUCKET,
                    CLOUD_KEY_NAME, CLOUD_JOB_NAME, secret, NULL};
    char *env[] = {NULL};
    pid_t pid = proc_start(argv, env, out, out);
    bool ended = proc_wait(pid, STEPS_MS, &status);
    char *said = read_file(out, NULL);
    if (!ended || status != 0)
        fail_msg("%d: %s", status, said ? said : "nothing said");
    assert_null(strstr(said, "NOT "));
    assert_non_null(strstr(said, "ok  job ("));
    remove(out);
    free(said);
    free(file);
    free(out);
}

static void every_step_succeeds_with_a_service_accounts_key(void **state)
{
    take_all_steps(*state, cloud->key_file);
    /* although answers were lost, no execution was started twice */
    assert_int_equal(cloud_count(cloud, "run.projects.locations.jobs.run", NULL), 3);
}

static void every_step_succeeds_with_a_persons_login(void **state)
{
    take_all_steps(*state, cloud->user_file);
}

static void every_step_succeeds_with_the_metadata_servers_account(void **state)
{
    take_all_steps(*state, "metadata");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_step_succeeds_with_a_service_accounts_key, start,
                                        stop),
        cmocka_unit_test_setup_teardown(every_step_succeeds_with_a_persons_login, start, stop),
        cmocka_unit_test_setup_teardown(every_step_succeeds_with_the_metadata_servers_account,
                                        start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
