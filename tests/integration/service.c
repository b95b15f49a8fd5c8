/*
 * The service at Google: two instances that share nothing but the bucket, and may be killed at any
 * time. What one took the other shows, streams and cancels.
 */
#include "service_scene.h"

#include <signal.h>

static char *lines_of(struct runner *one, const char *id)
{
    char *path = textf("/tasks/%s/events", id);
    struct reply *reply =
        http_call(one->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    assert_status(reply, 200);
    char *body = strdup(reply->body);
    reply_free(reply);
    free(path);
    return body;
}

/* ---- any instance ---- */

static void the_other_instance_answers_for_a_task_as_the_first_does(void **state)
{
    (void)state;
    runner_start(runner);
    runner_start(other);
    free(submit_to(runner, "both", "standin: ok one",
                   "\"metadata\":{\"a\":1},\"environmentSecrets\":{\"MINE\":\"" CANARY "\"}"));
    assert_result(other, "both", "completed");
    assert_result(runner, "both", "completed");
    struct reply *reply = runner_get(other, "/tasks/both");
    assert_json_number(reply->json, "metadata.a", 1);
    reply_free(reply);
    char *here = lines_of(runner, "both"), *there_too = lines_of(other, "both");
    assert_int_equal(text_count(here, "\"event\":\"done\""), 1);
    assert_int_equal(text_count(there_too, "\"event\":\"done\""), 1);
    assert_int_equal(text_count(there_too, "one"), text_count(here, "one"));
    free(here);
    free(there_too);
    assert_int_equal(executions(), 1);
    reply = runner_get(other, "/tasks/nobodys");
    assert_status(reply, 404);
    reply_free(reply);
}

static void a_new_instance_knows_what_was_before_it(void **state)
{
    (void)state;
    runner_start(runner);
    free(submit_to(runner, "before", "standin: ok said", ""));
    assert_result(runner, "before", "completed");
    runner_crash(runner);
    runner_start(other);
    struct reply *reply = runner_get(other, "/tasks/before/result");
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", "completed");
    reply_free(reply);
    assert_int_equal(executions(), 1);
}

static void execute_relays_what_the_execution_says(void **state)
{
    (void)state;
    runner_start(runner);
    struct reply *reply = runner_execute(runner, "standin: ok said", "\"taskId\":\"relayed\"");
    assert_status(reply, 200);
    assert_json_text(reply->json, "status", "completed");
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    assert_int_equal(executions(), 1);
}

static void the_other_instance_cancels_and_both_say_so(void **state)
{
    (void)state;
    runner_start(runner);
    runner_start(other);
    free(submit_to(runner, "stopped", "standin: hang-middle", ""));
    EVENTUALLY(END_MS, is_claimed("stopped"));
    struct reply *reply = runner_post(other, "/tasks/stopped/cancel", "{}");
    assert_status(reply, 200);
    reply_free(reply);
    assert_result(other, "stopped", "cancelled");
    assert_result(runner, "stopped", "cancelled");
    assert_int_equal(executions(), 1);
}

/* ---- killed ---- */

static void a_task_outlives_the_instance_that_took_it(void **state)
{
    (void)state;
    runner_start(runner);
    free(submit_to(runner, "orphan", "standin: tick 20 100", ""));
    EVENTUALLY(END_MS, runs() == 1);
    runner_crash(runner);
    runner_start(other);
    assert_result(other, "orphan", "completed");
    assert_int_equal(executions(), 1);
}

/* Taken, answered, and its instance gone before it asked for anything: Cloud Run is held back. */
static void a_task_that_nobody_placed_is_placed_by_whoever_comes_next(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"faults\":[{\"method\":\"" RUN "\",\"cut\":\"before\",\"times\":50}]}");
    runner_start(runner);
    free(submit_to(runner, "waits", "standin: ok said",
                   "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"}"));
    runner_crash(runner);
    cloud_control(cloud, "{\"faults\":[]}");
    runner_start(other);
    assert_result(other, "waits", "completed");
    assert_int_equal(executions(), 1);
}

/* A refusal starts nothing: the attempt whose payload is in the bucket is asked for again. */
static void an_adopted_task_waits_for_the_quota(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"maxExecutions\":0}");
    runner_start(runner);
    free(submit_to(runner, "full", "standin: ok said",
                   "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"}"));
    EVENTUALLY(END_MS, runs() >= 1);
    runner_crash(runner);
    runner_start(other);
    size_t before = runs();
    struct reply *reply = runner_get(other, "/tasks/full");
    assert_status(reply, 200);
    reply_free(reply);
    EVENTUALLY(END_MS, runs() >= before + 2);
    cloud_control(cloud, "{\"maxExecutions\":100}");
    assert_result(other, "full", "completed");
    assert_int_equal(executions(), 1);
}

/* ---- once ---- */

static struct reply *with_key(struct runner *one, const char *key, const char *json)
{
    char *head =
        textf(RUNNER_AUTH "Content-Type: application/json\r\nIdempotency-Key: %s\r\n", key);
    struct reply *reply = http_call(one->base, "POST", "/run-async", head, json);
    free(head);
    return reply;
}

static void a_key_gives_the_same_task_at_every_instance(void **state)
{
    (void)state;
    char *json = prompt_json("standin: ok said", ""),
         *wrong = prompt_json("standin: hang-middle", "");
    runner_start(runner);
    runner_start(other);
    struct reply *first = with_key(runner, "k-1", json), *again = with_key(other, "k-1", json);
    assert_status(first, 202);
    assert_status(again, 202);
    assert_string_equal(json_text(first->json, "taskId"), json_text(again->json, "taskId"));
    assert_result(other, json_text(first->json, "taskId"), "completed");
    struct reply *conflict = with_key(other, "k-1", wrong);
    assert_status(conflict, 409);
    assert_int_equal(executions(), 1);
    reply_free(first);
    reply_free(again);
    reply_free(conflict);
    free(json);
    free(wrong);
}

static void an_id_is_taken_at_every_instance(void **state)
{
    (void)state;
    char *json = prompt_json("standin: ok said", "\"taskId\":\"mine\"");
    runner_start(runner);
    runner_start(other);
    free(submit_to(runner, "mine", "standin: ok said", ""));
    struct reply *reply = runner_post(other, "/run-async", json);
    assert_status(reply, 409);
    reply_free(reply);
    assert_result(other, "mine", "completed");
    assert_int_equal(executions(), 1);
    free(json);
}

/* ---- refused ---- */

static void refuses_by_name_what_needs_a_machine_that_lasts(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body, *field;
        int status;
    } calls[] = {
        {"/run-async", "{\"prompt\":\"a\",\"executor\":\"local\"}", "executor", 400},
        {"/run-async", "{\"prompt\":\"a\",\"n\":2}", "n", 400},
        {"/run-async", "{\"prompt\":\"a\",\"inSession\":\"s\"}", "inSession", 400},
        {"/sessions", "{}", "sessions", 501},
        {"/python", "{\"code\":\"1\"}", "Python", 501},
        {"/run", "{\"code\":\"1\"}", "Python", 501},
    };
    runner_start(runner);
    for (size_t i = 0; i < COUNT(calls); i++) {
        struct reply *reply = runner_post(runner, calls[i].path, calls[i].body);
        if (reply->status != calls[i].status || !strstr(reply->body, calls[i].field))
            fail_msg("%s %s: %d %s", calls[i].path, calls[i].body, reply->status, reply->body);
        reply_free(reply);
    }
    assert_int_equal(executions(), 0);
}

#define SERVICE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_service, tear_down_service)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(the_other_instance_answers_for_a_task_as_the_first_does),
        SERVICE_TEST(a_new_instance_knows_what_was_before_it),
        SERVICE_TEST(execute_relays_what_the_execution_says),
        SERVICE_TEST(the_other_instance_cancels_and_both_say_so),
        SERVICE_TEST(a_task_outlives_the_instance_that_took_it),
        SERVICE_TEST(a_task_that_nobody_placed_is_placed_by_whoever_comes_next),
        SERVICE_TEST(an_adopted_task_waits_for_the_quota),
        SERVICE_TEST(a_key_gives_the_same_task_at_every_instance),
        SERVICE_TEST(an_id_is_taken_at_every_instance),
        SERVICE_TEST(refuses_by_name_what_needs_a_machine_that_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
