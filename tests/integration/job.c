/*
 * Cloud tasks from the execution's side: the stand-in for Google's APIs really starts
 * `claude-runner job` with what Cloud Run gives it. The test seals and starts what the runner at
 * home would seal and start.
 */
#include "job_scene.h"

#include <dirent.h>
#include <signal.h>

static bool is_empty(const char *path)
{
    int entries = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        entries++;
    if (dir)
        closedir(dir);
    return entries <= 2;
}

/* ---- a task from its beginning to its end ---- */

static void a_task_leaves_its_events_its_outputs_and_its_result(void **state)
{
    (void)state;
    send_task("whole", "standin: touch made.txt",
              "\"metadata\":{\"a\":1},\"postExecutionActions\":"
              "{\"uploadFiles\":{\"globPatterns\":[\"*.txt\"]}}");
    start("1");
    assert_exit(0);
    cJSON *json = result();
    assert_json_text(json, "state", "completed");
    assert_json_number(json, "exitCode", 0);
    assert_json_number(json, "attempt", 1);
    assert_json_text(json, "outputs.0.path", "made.txt");
    assert_json_number(json, "outputs.0.sizeBytes", 1);
    assert_json_contains(json, "members", "\"num_turns\":1");
    assert_true(json_number(json, "endedMs") >= json_number(json, "startedMs"));
    cJSON_Delete(json);
    struct object output = fetch("outputs/made.txt");
    assert_string_equal(output.data, "x");
    free(output.data);
    assert_events_whole(true);
    assert_false(is_there("payload.enc"));
    assert_true(is_there("claim-1.json"));
    assert_true(is_there("heartbeat.json"));
    struct object metadata = fetch("metadata.json");
    assert_non_null(strstr(metadata.data, strrchr(execution, '/') + 1));
    free(metadata.data);
    assert_true(is_empty(runner->state));
}

static void log_lines_are_what_cloud_logging_reads(void **state)
{
    (void)state;
    send_task("logged", "hello", "");
    start("1");
    assert_exit(0);
    char *log = job_log(), *rest = log, *line;
    size_t lines = 0;
    while ((line = strsep(&rest, "\n"))) {
        if (!*line)
            continue;
        cJSON *json = cJSON_Parse(line);
        assert_json_has(json, "severity");
        assert_json_has(json, "message");
        assert_json_text(json, "task_id", "logged");
        cJSON_Delete(json);
        lines++;
    }
    assert_true(lines > 3);
    free(log);
}

/* The key from Secret Manager reaches Anthropic by the proxy; the CLI has never seen it. */
static void the_real_cli_works_with_the_key_from_secret_manager(void **state)
{
    (void)state;
    runner_use_real_cli(runner, api);
    cloud_define_job(cloud, runner);
    send_task("real", "Say hello.", "");
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_events_whole(true);
    cJSON *calls = api_log(api, "messages");
    assert_true(cJSON_GetArraySize(calls) > 0);
    cJSON_Delete(calls);
}

static void a_requests_own_key_is_used_and_the_secret_is_left_alone(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"secretmanager.versions.access\"]}}");
    runner_use_real_cli(runner, api);
    cloud_define_job(cloud, runner);
    send_task("own-key", "Say hello.", "\"anthropicApiKey\":\"" API_KEY "\"");
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_int_equal(cloud_count(cloud, "secretmanager.projects.secrets.versions.access", NULL), 0);
}

static void a_task_is_somebody_else_and_knows_nothing_of_google(void **state)
{
    (void)state;
    send_task("who", "standin: env", "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"}");
    start("1");
    assert_exit(0);
    cJSON *json = result();
    const char *said = json_text(json, "output");
    static const char *const unknown[] = {"GOOGLE_", "GCE_",   "GCS_",     "KMS_",
                                          "TASK_ID", "CLOUD_", "CLOUDRUN", "GCP_"};
    for (size_t i = 0; i < COUNT(unknown); i++)
        if (strstr(said, unknown[i]))
            fail_msg("'%s' is in its environment: %s", unknown[i], said);
    cJSON *seen = cJSON_Parse(said);
    assert_non_null(seen);
    if (geteuid() == 0)
        assert_true(json_number(seen, "uid") != 0);
    cJSON_Delete(seen);
    cJSON_Delete(json);
}

static void a_secret_that_a_task_prints_stays_out_of_the_bucket(void **state)
{
    (void)state;
    send_task("printed", "standin: secret MINE",
              "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"},\"gitToken\":\"" CANARY "-2\"");
    assert_no_trace(CANARY); /* the payload is sealed */
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_no_trace(CANARY);
    assert_true(is_empty(runner->state));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_task_leaves_its_events_its_outputs_and_its_result),
        TEST(log_lines_are_what_cloud_logging_reads),
        TEST(the_real_cli_works_with_the_key_from_secret_manager),
        TEST(a_requests_own_key_is_used_and_the_secret_is_left_alone),
        TEST(a_task_is_somebody_else_and_knows_nothing_of_google),
        TEST(a_secret_that_a_task_prints_stays_out_of_the_bucket),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
