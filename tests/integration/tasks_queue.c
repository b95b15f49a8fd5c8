#include "tasks_scene.h"

#include <stdio.h>

/* ---- queueing ---- */

static struct runner *narrow(const char *queue_max)
{
    struct runner *own = runner_new_with(settings);
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_set(own, "QUEUE_MAX", queue_max);
    runner_start(own);
    return own;
}

static void a_full_queue_is_429_with_retry_after(void **state)
{
    (void)state;
    struct runner *own = narrow("2");
    char *running = runner_submit(own, "standin: hang-middle", "");
    runner_await(own, running, "running", 20000);
    free(runner_submit(own, "standin: hang-middle", ""));
    free(runner_submit(own, "standin: hang-middle", ""));
    struct reply *reply = runner_execute(own, "standin: ok x", "");
    assert_problem(reply, 429, NULL);
    char after[20];
    assert_true(reply_header(reply, "Retry-After", after, sizeof after));
    assert_true(strtol(after, NULL, 10) >= 1);
    reply_free(reply);
    reply = runner_get(own, "/health");
    assert_json_number(reply->json, "tasks.running", 1);
    assert_json_number(reply->json, "tasks.queued", 2);
    reply_free(reply);
    free(running);
    runner_free(own);
}

static void a_queued_task_can_be_cancelled(void **state)
{
    (void)state;
    struct runner *own = narrow("10");
    char *running = runner_submit(own, "standin: hang-middle", "");
    runner_await(own, running, "running", 20000);
    char *queued = runner_submit(own, "standin: ok never", "");
    runner_await(own, queued, "pending", 20000);
    char *path = textf("/tasks/%s", queued);
    struct reply *reply = runner_delete(own, path);
    assert_status(reply, 200);
    reply_free(reply);
    runner_await(own, queued, "cancelled", 20000);
    free(path);
    free(queued);
    free(running);
    runner_free(own);
}

static void higher_priorities_go_first_and_equals_in_order(void **state)
{
    (void)state;
    static const struct {
        const char *mark;
        int priority;
    } order[] = {{"a", 1}, {"b", 5}, {"c", 9}, {"d", 5}, {"e", 0}};
    struct runner *own = narrow("10");
    char *first = runner_submit(own, "standin: hang-middle", "");
    runner_await(own, first, "running", 20000);
    char *ids[COUNT(order)];
    for (size_t i = 0; i < COUNT(order); i++) {
        char *prompt = textf("standin: ok %s", order[i].mark);
        char *more = textf("\"priority\":%d", order[i].priority);
        ids[i] = runner_submit(own, prompt, more);
        free(more);
        free(prompt);
    }
    char *cancel = textf("/tasks/%s", first); /* now that all wait */
    reply_free(runner_delete(own, cancel));
    free(cancel);
    for (size_t i = 0; i < COUNT(order); i++)
        runner_await(own, ids[i], "completed", 60000);
    static const size_t expected[] = {2, 1, 3, 0, 4};
    char last[64] = "";
    for (size_t i = 0; i < COUNT(expected); i++) {
        char *path = textf("/tasks/%s", ids[expected[i]]);
        struct reply *reply = runner_get(own, path);
        const char *started = json_text(reply->json, "startedAt");
        if (strcmp(last, started) > 0)
            fail_msg("%s started too early", order[expected[i]].mark);
        snprintf(last, sizeof last, "%s", started);
        reply_free(reply);
        free(path);
    }
    for (size_t i = 0; i < COUNT(order); i++)
        free(ids[i]);
    free(first);
    runner_free(own);
}

static void no_more_run_at_once_than_there_are_slots(void **state)
{
    (void)state;
    char *ids[10];
    char *file = textf("%s/all-may-end", shared()->shared), *wait = textf("standin: wait %s", file);
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = runner_submit(runner, i < 8 ? wait : "standin: sleep 300", "");
    EVENTUALLY(60000, runner_task_processes(runner) == 4);
    for (int i = 0; i < 200; i++) { /* the others wait for as long as these run */
        assert_int_equal(runner_task_processes(runner), 4);
        poll_pause();
    }
    write_file(file, "", 0644);
    int64_t end = now_ms() + 60000 * slowness();
    while (!runner_has_ended(runner, ids[COUNT(ids) - 1])) {
        assert_true(runner_task_processes(runner) <= 4);
        assert_true(now_ms() < end);
    }
    for (size_t i = 0; i < COUNT(ids); i++) {
        await_ended(ids[i]);
        free(ids[i]);
    }
    free(wait);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_queue_is_429_with_retry_after),
        cmocka_unit_test(a_queued_task_can_be_cancelled),
        cmocka_unit_test(higher_priorities_go_first_and_equals_in_order),
        cmocka_unit_test(no_more_run_at_once_than_there_are_slots),
    };
    return cmocka_run_group_tests_name("tasks_queue", tests, NULL, shared_stop);
}
