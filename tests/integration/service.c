/*
 * The service at Google: two instances that share nothing but the bucket, and may be killed at any
 * time. What one took the other shows, streams and cancels.
 */
#include "service_scene.h"

#include "session.h"

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

#define EXECUTION "run.projects.locations.jobs.executions.get"

/* Asks once more for what was asked for, as another instance does. Returns the execution's name. */
static char *ask_again(void)
{
    cJSON *log = cloud_log(cloud, RUN, NULL);
    char *body = cJSON_PrintUnformatted(cJSON_GetObjectItem(cJSON_GetArrayItem(log, 0), "body"));
    struct reply *reply = cloud_call(cloud, "POST", "/v2/" CLOUD_JOB_NAME ":run", body);
    cJSON_free(body);
    cJSON_Delete(log);
    assert_status(reply, 200);
    char *name = strdup(json_text(reply->json, "metadata.name"));
    reply_free(reply);
    return name;
}

/* Two instances have asked for the same attempt. The first one's execution comes too late for the
 * claim and ends without having done anything, which is seen when the other's last event is there
 * and its result is not: the one that has the claim is waited for. */
static void a_result_of_an_execution_that_another_instance_asked_for_is_waited_for(void **state)
{
    (void)state;
    char *file = textf("%s/may-end", there->shared), *prompt = textf("standin: wait %s", file);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"claim-1.json\",\"hold\":true}]}");
    runner_start(runner);
    free(submit_to(runner, "twice", prompt, ""));
    EVENTUALLY(END_MS, cloud_number("held") == 1);
    char *second = ask_again();
    EVENTUALLY(END_MS, is_claimed("twice"));
    cloud_control(cloud, "{\"release\":true,\"faults\":[{\"method\":\"storage.objects.insert\","
                         "\"pathContains\":\"result.json\",\"hold\":true}]}");
    EVENTUALLY(END_MS, cloud_number("running") == 1);
    write_file(file, "", 0644);
    EVENTUALLY(END_MS, cloud_number("held") == 1);
    /* more looks than it takes to give up an execution that has ended */
    EVENTUALLY(END_MS, cloud_count(cloud, "storage.objects.get", "result.json") >= 12);
    EVENTUALLY(END_MS, cloud_count(cloud, EXECUTION, second) > 0);
    cloud_control(cloud, "{\"release\":true}");
    assert_result(runner, "twice", "completed");
    struct reply *reply = runner_result(runner, "twice");
    assert_json_text(reply->json, "cloud.execution", second);
    assert_json_number(reply->json, "cloud.attempt", 1);
    reply_free(reply);
    assert_int_equal(executions(), 2);
    free(second);
    free(prompt);
    free(file);
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

/* ---- several runs of one task ---- */

static void assert_group(struct runner *one, const char *group, int count, const char *status)
{
    char *path = textf("/tasks?group=%s", group);
    struct reply *reply = runner_get(one, path);
    assert_status(reply, 200);
    cJSON *tasks = cJSON_GetObjectItem(reply->json, "tasks"), *task;
    assert_int_equal(cJSON_GetArraySize(tasks), count);
    cJSON_ArrayForEach(task, tasks)
    {
        assert_json_text(task, "group", group);
        if (status)
            assert_result(one, json_text(task, "taskId"), status);
    }
    reply_free(reply);
    free(path);
}

static void several_runs_are_a_group_at_every_instance(void **state)
{
    (void)state;
    runner_start(runner);
    runner_start(other);
    struct reply *reply =
        runner_execute(runner, "standin: ok said", "\"taskId\":\"three\",\"n\":3");
    assert_status(reply, 200);
    assert_json_text(reply->json, "group", "three");
    for (int i = 0; i < 3; i++) {
        char *status = textf("runs.%d.status", i), *run = textf("runs.%d.run", i);
        assert_json_text(reply->json, status, "completed");
        assert_json_number(reply->json, run, i);
        free(status);
        free(run);
    }
    reply_free(reply);
    assert_int_equal(executions(), 3);
    assert_group(other, "three", 3, "completed");
    char *json = prompt_json("standin: ok said", "\"taskId\":\"three\",\"n\":3");
    reply = runner_post(other, "/run-async", json);
    assert_status(reply, 409);
    reply_free(reply);
    free(json);
    assert_int_equal(executions(), 3);
}

static void a_group_is_cancelled_at_the_other_instance(void **state)
{
    (void)state;
    runner_start(runner);
    free(submit_to(runner, "two", "standin: hang-middle", "\"n\":2"));
    EVENTUALLY(END_MS, executions() == 2);
    runner_crash(runner);
    runner_start(other);
    struct reply *reply = runner_post(other, "/tasks/two/cancel", "{}");
    assert_status(reply, 200);
    assert_json_text(reply->json, "group", "two");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "runs")), 2);
    reply_free(reply);
    assert_group(other, "two", 2, "cancelled");
    assert_int_equal(executions(), 2);
}

/* All runs are in the bucket but for the word that there are: they are none yet. The caller comes
 * again with its key, to another instance, and they are the same at both. */
static void a_group_that_was_half_taken_is_taken_whole_by_its_key(void **state)
{
    (void)state;
    char *json = prompt_json("standin: ok said", "\"taskId\":\"half\",\"n\":3");
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"status\":403,"
                         "\"pathContains\":\"name=groups\",\"skip\":1}]}");
    runner_start(runner);
    runner_start(other);
    struct reply *failed = with_key(runner, "k-3", json);
    assert_true(failed->status >= 400);
    assert_group(other, "half", 0, NULL);
    struct reply *first = with_key(other, "k-3", json), *again = with_key(runner, "k-3", json);
    assert_status(first, 202);
    assert_status(again, 202);
    assert_json_text(again->json, "group", "half");
    assert_string_equal(json_text(first->json, "runs.1.taskId"),
                        json_text(again->json, "runs.1.taskId"));
    assert_group(runner, "half", 3, NULL);
    reply_free(failed);
    reply_free(first);
    reply_free(again);
    free(json);
}

/* ---- inputs ---- */

static struct reply *put_input(struct runner *one, const char *hash, const void *data, size_t size)
{
    char *path = textf("/inputs/%s", hash);
    struct reply *reply = session_send(one, "PUT", path, data, size);
    free(path);
    return reply;
}

static void an_input_is_uploaded_once_for_all_instances(void **state)
{
    (void)state;
    struct tar tar = {0};
    tar_add(&tar, "only.txt", '0', "one\n");
    tar_end(&tar);
    char *hash = sha256_of(tar.data, tar.size), *path = textf("/inputs/%s", hash);
    char *body = textf("{\"command\":\"cat input/it\",\"inputs\":{\"it\":\"sha256:%s\"}}", hash);
    runner_start(runner);
    runner_start(other);
    struct reply *reply = put_input(runner, hash, tar.data, tar.size - 1);
    assert_problem(reply, 422, "unprocessable");
    reply_free(reply);
    assert_problem(reply = runner_get(other, path), 404, "not_found");
    reply_free(reply);
    reply = runner_post(other, "/exec", body);
    assert_problem(reply, 400, "invalid_request");
    assert_json_text(reply->json, "errors.0.field", "inputs.it");
    reply_free(reply);
    assert_status(reply = put_input(runner, hash, tar.data, tar.size), 201);
    reply_free(reply);
    assert_status(reply = put_input(other, hash, tar.data, tar.size), 200);
    reply_free(reply);
    assert_status(reply = http_call(other->base, "HEAD", path, RUNNER_AUTH, NULL), 200);
    reply_free(reply);
    runner_crash(runner);
    reply = runner_post(other, "/exec", body);
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "one\n");
    reply_free(reply);
    free(tar.data), free(hash), free(path), free(body);
}

/* ---- conversations ---- */

static int set_up_real(void **state)
{
    set_up_service(state);
    runner_use_real_cli(there, api);
    cloud_define_job(cloud, there);
    return 0;
}

static struct reply *go_on(struct runner *one, const char *prompt, const char *session)
{
    char *more = textf("\"resumeSessionId\":\"%s\"", session);
    struct reply *reply = runner_execute(one, prompt, more);
    free(more);
    return reply;
}

static void a_conversation_goes_on_at_any_instance(void **state)
{
    (void)state;
    runner_start(runner);
    struct reply *reply = runner_ran(runner, "[[text:I will]] Remember heron1", "");
    char *session = strdup(json_text(reply->json, "sessionId"));
    reply_free(reply);
    runner_crash(runner);
    runner_start(other);
    reply = go_on(other, "[[text:yes]] goonmark1", session);
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "sessionId", session);
    assert_asked(api, "goonmark1", "messages", "Remember heron1");
    reply_free(reply);
    runner_start(runner); /* it has been neither here nor there since */
    reply = go_on(runner, "[[text:yes]] goonmark2", session);
    assert_json_bool(reply->json, "success", true);
    assert_asked(api, "goonmark2", "messages", "goonmark1");
    reply_free(reply);
    reply = go_on(runner, "hello", "11111111-2222-4333-8444-555555555555");
    assert_problem(reply, 400, "invalid_request");
    assert_json_text(reply->json, "errors.0.field", "resumeSessionId");
    reply_free(reply);
    free(session);
}

/* One task at a time, at all instances; one that has left nothing is passed over. */
static void a_conversation_is_one_tasks_at_a_time(void **state)
{
    (void)state;
    runner_start(runner);
    runner_start(other);
    struct reply *reply = runner_ran(runner, "[[text:I will]] Remember heron2", "");
    char *session = strdup(json_text(reply->json, "sessionId"));
    char *more = textf("\"resumeSessionId\":\"%s\"", session);
    reply_free(reply);
    free(submit_to(runner, "going", "[[hang]] goonmark3", more));
    char *same = textf("\"taskId\":\"going\",%s", more); /* sent once more: it changes nothing */
    reply = runner_execute(other, "[[hang]] goonmark3", same);
    assert_problem(reply, 409, "conflict");
    reply_free(reply);
    free(same);
    reply = go_on(other, "[[text:yes]] goonmark4", session);
    assert_problem(reply, 409, "conflict");
    assert_non_null(strstr(reply->body, "going"));
    reply_free(reply);
    reply_free(runner_post(other, "/tasks/going/cancel", "{}"));
    assert_result(other, "going", "cancelled");
    reply = go_on(other, "[[text:yes]] goonmark5", session);
    assert_json_bool(reply->json, "success", true);
    assert_asked(api, "goonmark5", "messages", "Remember heron2");
    reply_free(reply);
    free(session);
    free(more);
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
        {"/run", "{\"prompt\":\"a\",\"n\":2}", "n", 400},
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

#define REAL_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_real, tear_down_service)

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
        SERVICE_TEST(a_result_of_an_execution_that_another_instance_asked_for_is_waited_for),
        SERVICE_TEST(a_key_gives_the_same_task_at_every_instance),
        SERVICE_TEST(an_id_is_taken_at_every_instance),
        SERVICE_TEST(several_runs_are_a_group_at_every_instance),
        SERVICE_TEST(a_group_is_cancelled_at_the_other_instance),
        SERVICE_TEST(a_group_that_was_half_taken_is_taken_whole_by_its_key),
        SERVICE_TEST(an_input_is_uploaded_once_for_all_instances),
        REAL_TEST(a_conversation_goes_on_at_any_instance),
        REAL_TEST(a_conversation_is_one_tasks_at_a_time),
        SERVICE_TEST(refuses_by_name_what_needs_a_machine_that_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
