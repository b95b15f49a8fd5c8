#include "webhooks_scene.h"

/* --- receivers of all kinds ---------------------------------------------------------------- */

static void a_receiver_that_stumbles_gets_it_again_with_the_same_id(void **state)
{
    (void)state;
    struct receiver *r = receiver_new(500);
    struct runner *runner = hooked_runner();
    r->next = 200;
    runner_start(runner);
    char *id = submit(runner, r, "standin: ok x", "");
    EVENTUALLY(20000, has_state(runner, id, "delivered"));
    assert_int_equal(r->count, 2);
    assert_string_equal(r->ids[0], r->ids[1]);
    assert_string_equal(r->bodies[0], r->bodies[1]);
    assert_int_equal(attempts_of(runner, id), 2);
    free(id);
    runner_free(runner);
    receiver_free(r);
}

static void each_kind_of_answer_has_its_consequence(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int status;
        const char *headers;
        bool long_body;
        const char *after;
        int attempts, count;
        const char *error;
    } cases[] = {
        {"gone", 410, NULL, false, "dead", 1, 1, "it answered 410"},
        {"redirect", 307, "Location: /elsewhere\r\n", false, "dead", 4, 4, "it answered 307"},
        {"closes at once", CLOSE, NULL, false, "dead", 4, 4, "Empty reply"},
        {"10 MB", 200, NULL, true, "delivered", 1, 1, ""},
        {"no content", 204, NULL, false, "delivered", 1, 1, ""},
    };
    struct receiver *rs[COUNT(cases)];
    char *ids[COUNT(cases)];
    struct runner *runner = hooked_runner();
    runner_start(runner);
    for (size_t i = 0; i < COUNT(cases); i++) {
        rs[i] = receiver_new(cases[i].status);
        rs[i]->headers = cases[i].headers;
        rs[i]->long_body = cases[i].long_body;
        ids[i] = submit(runner, rs[i], "standin: ok x", "");
    }
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("%s\n", cases[i].what);
        EVENTUALLY(30000, has_state(runner, ids[i], cases[i].after));
        cJSON *webhook = webhook_of(runner, ids[i]);
        assert_json_number(webhook, "attempts", cases[i].attempts);
        if (*cases[i].error)
            assert_json_contains(webhook, "lastError", cases[i].error);
        else
            assert_true(cJSON_IsNull(json_at(webhook, "lastError")));
        assert_int_equal(rs[i]->count, cases[i].count);
        cJSON_Delete(webhook);
    }
    struct reply *reply = runner_get(runner, "/tasks?webhook=dead");
    assert_status(reply, 200);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "tasks")), 3);
    assert_json_text(reply->json, "tasks.2.taskId", ids[0]);
    reply_free(reply);
    reply = runner_get(runner, "/tasks?webhook=daed");
    assert_problem(reply, 400, "invalid_request");
    reply_free(reply);
    runner_free(runner);
    for (size_t i = 0; i < COUNT(cases); i++) {
        free(ids[i]);
        receiver_free(rs[i]);
    }
}

static void a_receiver_that_hangs_is_left_after_a_while_and_holds_up_nobody(void **state)
{
    (void)state;
    struct receiver *hangs = receiver_new(HANG), *good = receiver_new(200);
    struct runner *runner = hooked_runner();
    hangs->next = 200;
    runner_start(runner);
    int64_t begun = now_ms();
    char *first = submit(runner, hangs, "standin: ok x", "");
    EVENTUALLY(20000, hangs->count == 1);
    char *second = submit(runner, good, "standin: ok x", "");
    EVENTUALLY(20000, has_state(runner, second, "delivered"));
    assert_int_equal(hangs->at_once, 1); /* the first one still waits */
    EVENTUALLY(60000, has_state(runner, first, "delivered"));
    assert_true(now_ms() - begun >= 14000);
    assert_int_equal(hangs->count, 2);
    hangs->status = HANG;
    hangs->next = 0;
    redeliver(runner, first, 202, NULL);
    EVENTUALLY(20000, hangs->count == 3); /* it does not delay the runner's end either */
    assert_int_equal(runner_stop(runner, 10000), 0);
    free(first);
    free(second);
    runner_free(runner);
    receiver_free(hangs);
    receiver_free(good);
}

static void one_host_gets_one_at_a_time(void **state)
{
    (void)state;
    enum { TASKS = 50 };
    struct receiver *r = receiver_new(200);
    struct runner *runner = hooked_runner();
    char *ids[TASKS];
    runner_set(runner, "MAX_CONCURRENT_TASKS", "8");
    runner_start(runner);
    for (int i = 0; i < TASKS; i++)
        ids[i] = submit(runner, r, "standin: ok x", "");
    EVENTUALLY(60000, r->count == TASKS);
    assert_int_equal(r->crowd, 1);
    for (int i = 0; i < TASKS; i++) {
        EVENTUALLY(20000, has_state(runner, ids[i], "delivered"));
        char *id = id_of(runner, ids[i]);
        assert_int_equal(seen_with(r, id), 1);
        free(id);
        free(ids[i]);
    }
    runner_free(runner);
    receiver_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receiver_that_stumbles_gets_it_again_with_the_same_id),
        cmocka_unit_test(each_kind_of_answer_has_its_consequence),
        cmocka_unit_test(a_receiver_that_hangs_is_left_after_a_while_and_holds_up_nobody),
        cmocka_unit_test(one_host_gets_one_at_a_time),
    };
    return cmocka_run_group_tests_name("webhooks_receivers", tests, NULL, NULL);
}
