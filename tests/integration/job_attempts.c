#include "job_scene.h"

#include <signal.h>

static void put_object(const char *name, const char *text)
{
    char *path = textf("/upload" OBJECTS "?uploadType=media&name=sessions%%2F%s%%2F%s", task, name);
    struct reply *reply = cloud_call(cloud, "POST", path, text);
    assert_status(reply, 200);
    reply_free(reply);
    free(path);
}

static void a_task_past_its_time_limit_ends_as_at_home(void **state)
{
    (void)state;
    send_task("late", "standin: hang-middle", "\"timeout_ms\":1500");
    start("1");
    assert_exit(0);
    assert_result("failed", "timeout");
    assert_events_whole(true);
}

/* ---- whose attempt it is ---- */

static void an_attempt_runs_once(void **state)
{
    (void)state;
    char *mark = textf("%s/mark", runner->shared), *prompt = textf("standin: touch %s", mark);
    send_task("once", prompt, "");
    start("1");
    assert_exit(0);
    struct object before = fetch("result.json");
    send_task("once", prompt, "");
    start("1");
    assert_exit(NOT_OURS);
    assert_log_says("claimed by somebody else");
    struct object after = fetch("result.json");
    assert_string_equal(before.data, after.data);
    assert_true(is_there("payload.enc")); /* the payload is untouched */
    assert_int_equal(file_size(mark), 1);
    free(before.data);
    free(after.data);
    free(mark);
    free(prompt);
}

static void two_starts_at_once_run_it_once(void **state)
{
    (void)state;
    char first[sizeof execution];
    char *mark = textf("%s/mark", runner->shared), *prompt = textf("standin: touch %s", mark);
    send_task("twins", prompt, "");
    start("1");
    memcpy(first, execution, sizeof first);
    start("1");
    int second_code = await_end(END_MS);
    memcpy(execution, first, sizeof first);
    int first_code = await_end(END_MS);
    assert_int_equal(first_code + second_code, NOT_OURS);
    assert_int_equal(file_size(mark), 1);
    assert_result("completed", "");
    free(mark);
    free(prompt);
}

static void an_attempt_that_home_gave_up_is_not_begun(void **state)
{
    (void)state;
    send_task("given-up", "hello", "");
    put_object("claim-1.json", "{\"by\":\"home\"}");
    start("1");
    assert_exit(NOT_OURS);
    assert_true(is_there("payload.enc"));
    assert_false(is_there("result.json"));
    assert_false(is_there("metadata.json"));
}

/* The bucket holds events of another job: the attempt no longer belongs to this job. */
static void a_job_that_meets_foreign_events_writes_nothing_more(void **state)
{
    (void)state;
    send_task("foreign", "standin: hang-middle", "");
    put_object("events%2F00000000000000000000", "{\"not\":\"ours\"}");
    start("1");
    assert_exit(NOT_OURS);
    assert_log_says("somebody else's now");
    assert_false(is_there("result.json"));
}

static void a_job_whose_heartbeat_is_deleted_ends_itself(void **state)
{
    (void)state;
    send_task("heartless", "standin: hang-middle", "");
    start("1");
    EVENTUALLY(20000, is_there("heartbeat.json"));
    char *path = object_path("heartbeat.json");
    struct reply *reply = cloud_call(cloud, "DELETE", path, NULL);
    assert_int_equal(reply->status, 204);
    reply_free(reply);
    free(path);
    assert_exit(NOT_OURS);
    assert_false(is_there("result.json"));
}

static void a_payload_of_another_task_is_refused(void **state)
{
    (void)state;
    send_sealed("moved", "1", "{\"prompt\":\"hello\"}", "original");
    start("1");
    assert_not_run("the payload", true);
}

static void a_payload_of_another_attempt_is_refused(void **state)
{
    (void)state;
    send_sealed("older", "1", "{\"prompt\":\"hello\"}", NULL);
    start("2");
    assert_not_run("attempt 1's", true);
}

static void a_payload_that_was_changed_is_refused(void **state)
{
    (void)state;
    send_task("changed", "hello", "");
    struct object sealed = fetch("payload.enc");
    assert_true(sealed.size > 100);
    put_object("payload.enc", "CRP1 and something else, which is long enough to look at");
    free(sealed.data);
    start("1");
    assert_not_run("no payload, or not whole", true);
}

static void a_payload_that_is_not_there_is_said_so(void **state)
{
    (void)state;
    snprintf(task, sizeof task, "nothing");
    start("1");
    assert_not_run("payload.enc", false);
}

static void without_any_credential_a_task_is_not_run(void **state)
{
    (void)state;
    runner_set(runner, "CLOUD_API_KEY_SECRET", NULL);
    cloud_define_job(cloud, runner);
    send_task("poor", "hello", "");
    start("1");
    assert_exit(0);
    assert_result("failed", "login_required");
    assert_false(is_there("payload.enc"));
}

/* ---- what Cloud Run does ---- */

static void cancel_execution(void)
{
    char *path = textf("/v2/%s:cancel", execution);
    struct reply *reply = cloud_call(cloud, "POST", path, "{}");
    assert_status(reply, 200);
    reply_free(reply);
    free(path);
}

static void stop_a_task(const char *id, const char *prompt)
{
    send_task(id, prompt, "");
    start("1");
    await_piece();
    EVENTUALLY(20000, runner_task_processes(runner) > 0);
    int64_t from = now_ms();
    cancel_execution();
    assert_exit(0);
    int64_t took = now_ms() - from;
    print_message("  %s: %lld ms from SIGTERM to the end\n", id, (long long)took);
    assert_true(took < 10000 * slowness());
    assert_result("failed", "interrupted");
    assert_events_whole(true);
    assert_false(is_there("payload.enc"));
}

static void sigterm_ends_the_task_and_hands_everything_in(void **state)
{
    (void)state;
    stop_a_task("stopped", "standin: hang-middle");
    stop_a_task("stubborn", "standin: ignore-term");
    stop_a_task("talking", "standin: tick 100000 5");
}

static int held(void)
{
    cJSON *state = cloud_state(cloud);
    int count = (int)json_number(state, "held");
    cJSON_Delete(state);
    return count;
}

/* An upload that hangs when SIGTERM comes does not prevent the upload of the result. */
static void sigterm_while_outputs_are_stored_ends_in_time(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        const char *prompt;
        const char *fault;
    } cases[] = {
        {"small", "standin: touch made.txt",
         "\"method\":\"storage.objects.insert\",\"pathContains\":\"small%2Foutputs\""},
        {"large", "standin: touch made.txt", "\"method\":\"upload\""},
        {"piece", "standin: tick 100000 20",
         "\"method\":\"storage.objects.insert\",\"pathContains\":\"piece%2Fevents\",\"skip\":1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *fault = textf("{\"faults\":[{%s,\"hold\":true,\"times\":9}]}", cases[i].fault);
        cloud_control(cloud, fault);
        send_task(cases[i].id, cases[i].prompt,
                  i == 1 ? "\"preExecutionCommands\":[\"head -c 9000000 /dev/zero >big\"],"
                           "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"*\"]}}"
                         : "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"*\"]}}");
        start("1");
        EVENTUALLY(20000, held() == 1);
        int64_t from = now_ms();
        cancel_execution();
        assert_exit(0);
        int64_t took = now_ms() - from;
        print_message("  %s: %lld ms from SIGTERM to the end\n", cases[i].id, (long long)took);
        assert_true(took < 10000 * slowness());
        assert_result("failed", "interrupted");
        cloud_control(cloud, "{\"faults\":[],\"release\":true}");
        free(fault);
    }
}

static void a_job_that_is_killed_leaves_no_process_and_no_result(void **state)
{
    (void)state;
    send_task("killed", "standin: hang-middle", "");
    start("1");
    await_piece();
    EVENTUALLY(20000, runner_task_processes(runner) > 0);
    kill(job_pid(), SIGKILL);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    await_end(END_MS);
    assert_false(is_there("result.json"));
    assert_false(is_there("payload.enc"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_task_past_its_time_limit_ends_as_at_home),
        TEST(an_attempt_runs_once),
        TEST(two_starts_at_once_run_it_once),
        TEST(an_attempt_that_home_gave_up_is_not_begun),
        TEST(a_job_that_meets_foreign_events_writes_nothing_more),
        TEST(a_job_whose_heartbeat_is_deleted_ends_itself),
        TEST(a_payload_of_another_task_is_refused),
        TEST(a_payload_of_another_attempt_is_refused),
        TEST(a_payload_that_was_changed_is_refused),
        TEST(a_payload_that_is_not_there_is_said_so),
        TEST(without_any_credential_a_task_is_not_run),
        TEST(sigterm_ends_the_task_and_hands_everything_in),
        TEST(sigterm_while_outputs_are_stored_ends_in_time),
        TEST(a_job_that_is_killed_leaves_no_process_and_no_result),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("job_attempts", tests, NULL, NULL);
}
