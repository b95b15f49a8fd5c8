#include "job_scene.h"

#include <signal.h>

/* ---- a bucket that is not well ---- */

static void events_get_through_whatever_happens_to_requests(void **state)
{
    (void)state;
    static const char *const plans[] = {
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"events\","
        "\"times\":3,\"status\":503}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"events\","
        "\"times\":2,\"cut\":\"before\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"events\","
        "\"times\":2,\"cut\":\"after\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"times\":1,\"skip\":3,"
        "\"cut\":\"after\"},{\"method\":\"storage.objects.*\",\"times\":4,\"skip\":5,"
        "\"status\":429,\"retryAfter\":1}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"result\","
        "\"times\":2,\"cut\":\"after\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"claim\","
        "\"times\":1,\"cut\":\"after\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.delete\",\"times\":2,\"cut\":\"after\"}]}",
    };
    for (size_t i = 0; i < COUNT(plans); i++) {
        char *id = textf("fault-%zu", i);
        send_task(id, "standin: tick 40 50", "");
        cloud_control(cloud, plans[i]);
        start("1");
        assert_exit(0);
        cloud_control(cloud, "{\"faults\":[]}");
        assert_result("completed", "");
        assert_true(assert_events_whole(true) >= 42);
        assert_false(is_there("payload.enc"));
        free(id);
    }
}

static void a_bucket_that_is_away_for_a_while_loses_nothing(void **state)
{
    (void)state;
    send_task("away", "standin: tick 60 50", "");
    start("1");
    await_piece();
    cloud_kill(cloud);
    EVENTUALLY(20000, runner_task_processes(runner) == 0); /* the task continues and ends */
    cloud_restart(cloud);
    assert_exit(0);
    assert_result("completed", "");
    assert_true(assert_events_whole(true) >= 62);
}

static void a_slow_bucket_gets_larger_pieces_not_lost_ones(void **state)
{
    (void)state;
    size_t pieces;
    send_task("slow", "standin: tick 200 20", "");
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"events\",\"times\":1000,\"delayMs\":1500}]}");
    start("1");
    int64_t from = now_ms();
    assert_exit(0);
    int64_t took = now_ms() - from;
    assert_true(assert_events_whole(true) >= 202);
    struct object all = joined(&pieces);
    free(all.data);
    assert_in_range(pieces, 2, 3 + took / 1500); /* one after the other */
}

static void events_come_in_short_intervals(void **state)
{
    (void)state;
    size_t pieces;
    send_task("steady", "standin: tick 50 100", "");
    start("1");
    int64_t from = now_ms();
    await_piece();
    print_message("  first piece %lld ms after the start\n", (long long)(now_ms() - from));
    assert_exit(0);
    int64_t took = now_ms() - from;
    struct object all = joined(&pieces);
    free(all.data);
    print_message("  %zu pieces in %lld ms\n", pieces, (long long)took);
    assert_in_range(pieces, 4, 2 + took / 500);
}

static bool is_held(void)
{
    cJSON *state = cloud_state(cloud);
    bool held = json_number(state, "held") == 1;
    cJSON_Delete(state);
    return held;
}

/* Starts the job, and reads its peak memory in KiB when its result is about to be stored. */
static long peak_memory(void)
{
    char path[64];
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"result.json\",\"hold\":true}]}");
    start("1");
    EVENTUALLY(4 * END_MS, is_held());
    snprintf(path, sizeof path, "/proc/%d/status", (int)job_pid());
    char *status = read_file(path, NULL), *at = status ? strstr(status, "\nVmHWM:") : NULL;
    assert_non_null(at);
    long peak = strtol(at + strlen("\nVmHWM:"), NULL, 10);
    free(status);
    cloud_control(cloud, "{\"faults\":[],\"release\":true}");
    return peak;
}

static void a_hundred_megabytes_pass_in_flat_memory(void **state)
{
    (void)state;
    size_t pieces;
    send_task("small", "standin: print-bytes 100000", "");
    long small = peak_memory();
    assert_exit(0);
    send_task("large", "standin: print-bytes 104857600", "");
    int64_t from = now_ms();
    long large = peak_memory();
    int64_t took = now_ms() - from;
    assert_exit(0);
    assert_result("completed", "");
    struct object all = joined(&pieces);
    assert_true(all.size > 104857600);
    assert_true(pieces >= all.size / (256u << 10));
    print_message("  %zu bytes in %zu pieces in %lld ms; %ld KiB, %ld KiB for a small task\n",
                  all.size, pieces, (long long)took, large, small);
    free(all.data);
    assert_true(large - small < 20 * 1024 * slowness());
}

static void an_event_longer_than_a_piece_is_one(void **state)
{
    (void)state;
    send_task("long", "standin: big-line 5000000", "");
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_events_whole(true);
}

/* ---- a start that cannot be ---- */

static void a_bucket_that_is_not_there_is_named(void **state)
{
    (void)state;
    send_task("no-bucket", "hello", "");
    runner_set(runner, "GCS_LOGS_BUCKET", "another-bucket");
    cloud_define_job(cloud, runner);
    start("1");
    assert_exit(1);
    assert_log_says("cannot claim the task");
    assert_log_says("another-bucket");
}

static void a_bucket_that_may_not_be_written_is_said_so(void **state)
{
    (void)state;
    send_task("forbidden", "hello", "");
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"storage.objects.create\"]}}");
    start("1");
    assert_exit(1);
    assert_log_says("storage.objects.create");
}

static void a_key_that_may_not_be_used_is_said_so_in_the_result(void **state)
{
    (void)state;
    send_task("no-key", "hello", "");
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"cloudkms.cryptoKeyVersions.useToDecrypt\"]}}");
    start("1");
    assert_not_run("Cloud KMS", true);
}

static void what_is_not_set_is_named(void **state)
{
    (void)state;
    send_task("unset", "hello", "");
    runner_set(runner, "KMS_KEY_RING", NULL);
    runner_set(runner, "GCS_LOGS_BUCKET", NULL);
    cloud_define_job(cloud, runner);
    start("1");
    assert_exit(2);
    assert_log_says("GCS_LOGS_BUCKET, KMS_KEY_RING are not set");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(events_get_through_whatever_happens_to_requests),
        TEST(a_bucket_that_is_away_for_a_while_loses_nothing),
        TEST(a_slow_bucket_gets_larger_pieces_not_lost_ones),
        TEST(events_come_in_short_intervals),
        TEST(a_hundred_megabytes_pass_in_flat_memory),
        TEST(an_event_longer_than_a_piece_is_one),
        TEST(a_bucket_that_is_not_there_is_named),
        TEST(a_bucket_that_may_not_be_written_is_said_so),
        TEST(a_key_that_may_not_be_used_is_said_so_in_the_result),
        TEST(what_is_not_set_is_named),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("job_bucket", tests, NULL, NULL);
}
