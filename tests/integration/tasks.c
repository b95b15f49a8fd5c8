/*
 * Tasks as callers see them: waiting, disconnecting, returning, cancelling, queueing.
 */
#include "tasks_scene.h"

#include <stdio.h>
#include <unistd.h>

static void cancel_and_await(const char *id)
{
    char *path = textf("/tasks/%s", id);
    reply_free(runner_delete(runner, path));
    await_ended(id);
    free(path);
}

/* ---- reading ---- */

static void a_task_can_be_read_without_its_secrets(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: ok read me",
                                         "\"metadata\":{\"n\":12345678901234567890,\"k\":[1]},"
                                         "\"anthropicApiKey\":\"sk-ant-api03-do-not-show\"");
    assert_json_bool(reply->json, "success", true);
    char *path = textf("/tasks/%s", json_text(reply->json, "taskId"));
    struct reply *task = runner_get(runner, path);
    assert_status(task, 200);
    assert_json_text(task->json, "taskId", json_text(reply->json, "taskId"));
    assert_json_text(task->json, "status", "completed");
    assert_json_has(task->json, "createdAt");
    assert_json_has(task->json, "metadata.k");
    assert_non_null(strstr(task->body, "12345678901234567890"));
    assert_null(strstr(task->body, "do-not-show"));
    reply_free(task);
    reply_free(reply);
    free(path);
}

static void the_result_is_what_execute_answered(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: ok same", "");
    struct reply *result = runner_result(runner, json_text(reply->json, "taskId"));
    assert_status(result, 200);
    static const char *const fields[] = {"success", "output",    "exit_code", "taskId",
                                         "usage",   "sessionId", "num_turns", "truncated"};
    for (size_t i = 0; i < COUNT(fields); i++)
        if (!cJSON_Compare(json_at(reply->json, fields[i]), json_at(result->json, fields[i]), 1))
            fail_msg("%s differs: %s / %s", fields[i], reply->body, result->body);
    reply_free(result);
    reply_free(reply);
}

static void there_is_no_result_before_the_end(void **state)
{
    (void)state;
    char *id = runner_submit(shared(), "standin: hang-middle", "");
    struct reply *reply = runner_result(runner, id);
    assert_true(reply->status == 409 || reply->status == 404 || reply->status == 202);
    reply_free(reply);
    cancel_and_await(id);
    free(id);
}

static void unknown_tasks_are_404_everywhere(void **state)
{
    (void)state;
    static const char *const gets[] = {"/tasks/no-such-task", "/tasks/no-such-task/result",
                                       "/tasks/no-such-task/events"};
    for (size_t i = 0; i < COUNT(gets); i++) {
        struct reply *reply = runner_get(shared(), gets[i]);
        assert_problem(reply, 404, "not_found");
        reply_free(reply);
    }
    static const char *const posts[] = {"/tasks/no-such-task/cancel", "/cancel/no-such-task"};
    for (size_t i = 0; i < COUNT(posts); i++) {
        struct reply *reply = runner_post(shared(), posts[i], "");
        assert_problem(reply, 404, "not_found");
        reply_free(reply);
    }
}

static void lists_are_filtered_and_paged_without_loss(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    runner_start(own);
    for (int i = 0; i < 7; i++)
        reply_free(runner_execute(own, i % 2 ? "standin: exit 1" : "standin: ok x", ""));
    struct reply *failed = runner_get(own, "/tasks?status=failed");
    assert_status(failed, 200);
    assert_int_equal(cJSON_GetArraySize(json_at(failed->json, "tasks")), 3);
    reply_free(failed);
    int seen = 0;
    char *path = textf("/tasks?limit=3");
    char last[128] = "";
    for (int page = 0; path && page < 5; page++) {
        struct reply *reply = runner_get(own, path);
        assert_status(reply, 200);
        const cJSON *item;
        cJSON_ArrayForEach(item, json_at(reply->json, "tasks"))
        {
            assert_string_not_equal(json_text(item, "taskId"), last);
            snprintf(last, sizeof last, "%s", json_text(item, "taskId"));
            seen++;
        }
        const char *cursor = json_text(reply->json, "nextCursor");
        if (!*cursor)
            cursor = json_text(reply->json, "cursor");
        free(path);
        path = *cursor ? textf("/tasks?limit=3&cursor=%s", cursor) : NULL;
        reply_free(reply);
    }
    free(path);
    assert_int_equal(seen, 7);
    static const char *const wrong[] = {"/tasks?limit=0", "/tasks?limit=x", "/tasks?status=nothing",
                                        "/tasks?cursor=!!"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct reply *reply = runner_get(own, wrong[i]);
        assert_problem(reply, 400, NULL);
        reply_free(reply);
    }
    runner_free(own);
}

static void events_replay_as_json_lines(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: tick 3 1", "");
    char *path = textf("/tasks/%s/events", json_text(reply->json, "taskId"));
    struct reply *events =
        http_call(runner->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    assert_status(events, 200);
    char type[80];
    assert_true(reply_header(events, "Content-Type", type, sizeof type));
    assert_memory_equal(type, "application/x-ndjson", 20);
    char *save = NULL;
    char last_event[40] = "";
    double last_id = -1;
    int ticks = 0, lines = 0;
    for (char *line = strtok_r(events->body, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        cJSON *json = cJSON_Parse(line);
        assert_non_null(json);
        double id = cJSON_IsString(json_at(json, "id")) ? strtod(json_text(json, "id"), NULL)
                                                        : json_number(json, "id");
        assert_true(id > last_id);
        last_id = id;
        if (lines++ == 0)
            assert_json_text(json, "event", "task");
        ticks += strcmp(json_text(json, "data.type"), "assistant") == 0;
        snprintf(last_event, sizeof last_event, "%s", json_text(json, "event"));
        cJSON_Delete(json);
    }
    assert_int_equal(ticks, 3);
    assert_string_equal(last_event, "done");
    reply_free(events);
    reply_free(reply);
    free(path);
}

static void events_come_while_the_task_runs(void **state)
{
    (void)state;
    char *file = textf("%s/seen", shared()->shared), *prompt = textf("standin: wait %s", file);
    char *id = runner_submit(runner, prompt, ""), *path = textf("/tasks/%s/events", id);
    struct stream *events = stream_open(runner->base, "GET", path,
                                        RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    stream_until(events, "\"waiting\"", 20000);
    runner_await(runner, id, "running", 20000);
    assert_null(strstr(events->body, "\"waited\""));
    write_file(file, "", 0644);
    stream_until_end(events, 20000);
    assert_int_equal(stream_count(events, "\"event\":\"done\""), 1);
    assert_int_equal(stream_count(events, "\"waiting\""), 1);
    assert_true(stream_count(events, "\"waited\"") >= 1);
    stream_free(events);
    free(path);
    free(id);
    free(prompt);
    free(file);
}

static void status_counts_what_runs(void **state)
{
    (void)state;
    char *id = runner_submit(shared(), "standin: hang-middle", "");
    runner_await(runner, id, "running", 20000);
    struct reply *reply = NULL;
    /* a task gives up its slot a moment after its end is known: one of an earlier test may still
     * have it */
    EVENTUALLY(20000, (reply_free(reply), reply = runner_get(runner, "/tasks/status"),
                       json_number(reply->json, "active") == 1));
    assert_status(reply, 200);
    assert_json_number(reply->json, "max", 4);
    assert_json_text(reply->json, "tasks.0.taskId", id);
    assert_json_text(reply->json, "tasks.0.type", "claude");
    assert_json_has(reply->json, "tasks.0.startedAt");
    assert_json_bool(reply->json, "tasks.0.cancelling", false);
    reply_free(reply);
    reply = runner_get(runner, "/health");
    assert_true(json_number(reply->json, "tasks.running") >= 1);
    assert_json_number(reply->json, "tasks.slots", 4);
    reply_free(reply);
    cancel_and_await(id);
    free(id);
}

/* ---- cancelling ---- */

static void cancel_works_in_three_spellings_and_twice(void **state)
{
    (void)state;
    static const struct {
        const char *method, *before, *after;
    } spellings[] = {
        {"POST", "/tasks/", "/cancel"}, {"DELETE", "/tasks/", ""}, {"POST", "/cancel/", ""}};
    for (size_t i = 0; i < COUNT(spellings); i++) {
        const char *method = spellings[i].method;
        const char *body = strcmp(method, "POST") == 0 ? "" : NULL;
        char *id = runner_submit(shared(), "standin: ignore-term", "");
        char *path = textf("%s%s%s", spellings[i].before, id, spellings[i].after);
        runner_await(runner, id, "running", 20000);
        for (int again = 0; again < 2; again++) {
            struct reply *reply = http_call(runner->base, method, path, RUNNER_AUTH, body);
            assert_status(reply, 200);
            reply_free(reply);
        }
        runner_await(runner, id, "cancelled", 20000);
        struct reply *after = http_call(runner->base, method, path, RUNNER_AUTH, body);
        assert_status(after, 200);
        assert_json_text(after->json, "status", "cancelled");
        assert_json_text(after->json, "taskId", id);
        assert_json_text(after->json, "message", "Task cancelled");
        reply_free(after);
        EVENTUALLY(20000, runner_task_processes(runner) == 0);
        struct reply *result = runner_result(runner, id);
        assert_json_bool(result->json, "success", false);
        assert_json_text(result->json, "reason", "cancelled");
        assert_json_number(result->json, "exit_code", 130);
        reply_free(result);
        char *events = textf("/tasks/%s/events", id);
        struct reply *log = runner_get(runner, events);
        assert_non_null(strstr(log->body, "event: cancelled\ndata: {\"message\":\""));
        reply_free(log);
        free(events);
        free(path);
        free(id);
    }
}

static void what_has_ended_cannot_be_cancelled(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: ok x", "");
    char *path = textf("/tasks/%s/cancel", json_text(reply->json, "taskId"));
    struct reply *cancel = runner_post(runner, path, "");
    assert_problem(cancel, 409, "conflict");
    reply_free(cancel);
    reply_free(reply);
    free(path);
}

static void the_caller_of_a_cancelled_task_gets_its_answer(void **state)
{
    (void)state;
    char *json = prompt_json("standin: hang-middle", "\"taskId\":\"cancel-me-1\"");
    int fd = http_begin(shared()->base, "POST", "/execute",
                        RUNNER_AUTH "Content-Type: application/json\r\n", json);
    runner_await(runner, "cancel-me-1", "running", 20000);
    reply_free(runner_delete(runner, "/tasks/cancel-me-1"));
    struct reply *reply = http_read(fd, 20000);
    assert_status(reply, 200);
    assert_json_bool(reply->json, "success", false);
    assert_json_text(reply->json, "reason", "cancelled");
    reply_free(reply);
    close(fd);
    free(json);
}

/* ---- waiting ---- */

/* The prompt of a task that ends when the file is there. */
static char *wait_for(const char *path)
{
    char *prompt = textf("standin: wait %s", path), *json = prompt_json(prompt, "");
    free(prompt);
    return json;
}

static void a_waiting_caller_hears_white_space_then_the_object(void **state)
{
    (void)state;
    char *path = textf("%s/be-told", shared()->shared), *json = wait_for(path);
    struct stream *stream = stream_open(runner->base, "POST", "/execute",
                                        RUNNER_AUTH "Content-Type: application/json\r\n", json);
    assert_true(stream_until_size(stream, 3, 60000)); /* the task goes on until the file is there */
    assert_int_equal(stream->status, 200);
    assert_true(stream->chunked);
    assert_int_equal(strspn(stream->body, " \t\r\n"), stream->body_size);
    write_file(path, "", 0644);
    stream_until_end(stream, 60000);
    cJSON *object = cJSON_Parse(stream->body);
    assert_json_text(object, "output", "waited");
    cJSON_Delete(object);
    stream_free(stream);
    free(json);
    free(path);
}

/* By a runner that waits longer with the white space than any task here takes. */
static void an_answer_that_is_ready_in_time_has_no_white_space(void **state)
{
    (void)state;
    char coding[40] = "";
    struct runner *own = runner_new();
    runner_set(own, "KEEPALIVE_AFTER_MS", "600000");
    runner_start(own);
    struct reply *reply = runner_succeeded(own, "standin: ok quick", "");
    assert_false(reply_header(reply, "Transfer-Encoding", coding, sizeof coding));
    assert_int_equal(reply->body[0], '{');
    reply_free(reply);
    runner_free(own);
}

static void prefer_wait_gives_up_and_the_task_goes_on(void **state)
{
    (void)state;
    char *path = textf("%s/waited", shared()->shared), *json = wait_for(path);
    struct reply *reply = http_call(runner->base, "POST", "/execute",
                                    RUNNER_AUTH "Content-Type: application/json\r\n"
                                                "Prefer: wait=1\r\n",
                                    json);
    assert_status(reply, 202); /* the task goes on until the file is there */
    write_file(path, "", 0644);
    char location[200] = "";
    assert_true(reply_header(reply, "Location", location, sizeof location));
    char *expected = textf("/tasks/%s", json_text(reply->json, "taskId"));
    assert_string_equal(location, expected);
    runner_await(runner, json_text(reply->json, "taskId"), "completed", 60000);
    reply_free(reply);
    free(expected);
    free(json);
    free(path);
}

/* Starts /execute with these fields, waits until the task runs, and disconnects. */
static void go_away(const char *id, const char *prompt, const char *more)
{
    char *fields = textf("\"taskId\":\"%s\"%s", id, more), *json = prompt_json(prompt, fields);
    int fd = http_begin(shared()->base, "POST", "/execute",
                        RUNNER_AUTH "Content-Type: application/json\r\n", json);
    runner_await(runner, id, "running", 20000);
    close(fd);
    free(json);
    free(fields);
}

static void a_caller_that_goes_away_cancels_its_task(void **state)
{
    (void)state;
    go_away("gone-1", "standin: hang-middle", "");
    runner_await(runner, "gone-1", "cancelled", 20000);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
}

/* The next caller goes away after it; once that has been noticed, so has this. */
static void a_detached_task_outlives_its_caller(void **state)
{
    (void)state;
    char *file = textf("%s/outlived", shared()->shared), *prompt = textf("standin: wait %s", file);
    go_away("gone-2", prompt, ",\"detach\":true");
    go_away("gone-3", "standin: hang-middle", "");
    runner_await(runner, "gone-3", "cancelled", 20000);
    runner_await(runner, "gone-2", "running", 20000);
    write_file(file, "", 0644);
    runner_await(runner, "gone-2", "completed", 60000);
    free(prompt);
    free(file);
}

/* ---- identity ---- */

static struct reply *execute_with_key(struct runner *on, const char *key, const char *body)
{
    char *headers =
        textf(RUNNER_AUTH "Content-Type: application/json\r\nIdempotency-Key: %s\r\n", key);
    struct reply *reply = http_call(on->base, "POST", "/execute", headers, body);
    free(headers);
    return reply;
}

static void the_same_key_and_body_are_the_same_task(void **state)
{
    (void)state;
    shared();
    char *mark = textf("%s/once", runner->shared);
    char *prompt = textf("standin: touch %s", mark);
    char *json = prompt_json(prompt, "");
    struct reply *first = execute_with_key(runner, "key-1", json);
    struct reply *second = execute_with_key(runner, "key-1", json);
    assert_status(first, 200);
    assert_status(second, 200);
    assert_json_text(second->json, "taskId", json_text(first->json, "taskId"));
    assert_json_text(second->json, "output", "touched");
    assert_int_equal(file_size(mark), 1);
    struct reply *other = execute_with_key(runner, "key-1", "{\"prompt\":\"another\"}");
    assert_problem(other, 409, "conflict");
    reply_free(other);
    reply_free(first);
    reply_free(second);
    free(json);
    free(prompt);
    free(mark);
}

static void a_key_is_remembered_over_a_crash(void **state)
{
    (void)state;
    struct runner *own = runner_new_with(settings);
    runner_start(own);
    char *mark = textf("%s/once", own->shared);
    char *prompt = textf("standin: touch %s", mark);
    char *json = prompt_json(prompt, "");
    struct reply *first = execute_with_key(own, "key-2", json);
    assert_status(first, 200);
    runner_crash(own);
    runner_start(own);
    struct reply *second = execute_with_key(own, "key-2", json);
    assert_status(second, 200);
    assert_json_text(second->json, "taskId", json_text(first->json, "taskId"));
    assert_int_equal(file_size(mark), 1);
    reply_free(first);
    reply_free(second);
    free(json);
    free(prompt);
    free(mark);
    runner_free(own);
}

static void two_calls_at_once_with_one_key_run_one_task(void **state)
{
    (void)state;
    shared();
    char *mark = textf("%s/race", runner->shared);
    char *prompt = textf("standin: touch %s", mark);
    char *json = prompt_json(prompt, "");
    int fds[8];
    for (size_t i = 0; i < COUNT(fds); i++)
        fds[i] = http_begin(runner->base, "POST", "/execute",
                            RUNNER_AUTH "Content-Type: application/json\r\n"
                                        "Idempotency-Key: race\r\n",
                            json);
    for (size_t i = 0; i < COUNT(fds); i++) {
        struct reply *reply = http_read(fds[i], HTTP_DEADLINE_MS);
        assert_status(reply, 200);
        assert_json_text(reply->json, "output", "touched");
        reply_free(reply);
        close(fds[i]);
    }
    assert_int_equal(file_size(mark), 1);
    free(json);
    free(prompt);
    free(mark);
}

static void a_task_id_can_be_chosen_once(void **state)
{
    (void)state;
    struct reply *reply = runner_execute(shared(), "standin: ok a", "\"taskId\":\"my-own_id.1\"");
    assert_status(reply, 200);
    assert_json_text(reply->json, "taskId", "my-own_id.1");
    reply_free(reply);
    reply = runner_execute(runner, "standin: ok a", "\"taskId\":\"my-own_id.1\"");
    assert_problem(reply, 409, "conflict");
    reply_free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_can_be_read_without_its_secrets),
        cmocka_unit_test(the_result_is_what_execute_answered),
        cmocka_unit_test(there_is_no_result_before_the_end),
        cmocka_unit_test(unknown_tasks_are_404_everywhere),
        cmocka_unit_test(lists_are_filtered_and_paged_without_loss),
        cmocka_unit_test(events_replay_as_json_lines),
        cmocka_unit_test(events_come_while_the_task_runs),
        cmocka_unit_test(status_counts_what_runs),
        cmocka_unit_test(cancel_works_in_three_spellings_and_twice),
        cmocka_unit_test(what_has_ended_cannot_be_cancelled),
        cmocka_unit_test(the_caller_of_a_cancelled_task_gets_its_answer),
        cmocka_unit_test(a_waiting_caller_hears_white_space_then_the_object),
        cmocka_unit_test(an_answer_that_is_ready_in_time_has_no_white_space),
        cmocka_unit_test(prefer_wait_gives_up_and_the_task_goes_on),
        cmocka_unit_test(a_caller_that_goes_away_cancels_its_task),
        cmocka_unit_test(a_detached_task_outlives_its_caller),
        cmocka_unit_test(the_same_key_and_body_are_the_same_task),
        cmocka_unit_test(a_key_is_remembered_over_a_crash),
        cmocka_unit_test(two_calls_at_once_with_one_key_run_one_task),
        cmocka_unit_test(a_task_id_can_be_chosen_once),
    };
    return cmocka_run_group_tests_name("tasks", tests, NULL, shared_stop);
}
