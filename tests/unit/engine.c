#include "engine_scene.h"

/* --- running ------------------------------------------------------------------------------- */

static int threads_at_start;

static void a_task_runs_and_leaves_its_answer(void **state)
{
    struct house *house = *state;
    struct err err;
    static const struct {
        const char *what;
        enum task_state state;
        const char *answer;
        const char *events;
    } cases[] = {
        {"good", TASK_COMPLETED,
         "{\"success\":true,\"taskId\":\"good\",\"status\":\"completed\",\"output\":\"said good\","
         "\"executor\":\"local\",\"exit_code\":0,",
         "t.d"},
        {"bad", TASK_FAILED,
         "{\"success\":false,\"taskId\":\"bad\",\"status\":\"failed\",\"output\":\"said bad\","
         "\"executor\":\"local\",\"exit_code\":3,",
         "t.ed"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(10000);
        AUTO(task_record) struct task_record record = {0};
        submit(house, cases[i].what, cases[i].what);
        EVENTUALLY(SOON_MS, has_ended(house, cases[i].what));
        OK(store_get(house->store, cases[i].what, &record, &err) == 0, &err);
        assert_int_equal(record.state, cases[i].state);
        OK(engine_print_result(house->engine, &record, &answer, &err) == 0, &err);
        if (strncmp(buf_str(&answer), cases[i].answer, strlen(cases[i].answer)) != 0 ||
            !strstr(buf_str(&answer),
                    ",\"num_turns\":2,\"has_transcript\":false,\"has_outputs\":false}"))
            fail_msg("%s", buf_str(&answer));
        expect_events(house, cases[i].what, cases[i].events);
    }
}

static void an_unknown_kind_fails_by_name(void **state)
{
    struct house *house = *state;
    struct err err;
    OK(try_submit(house, (struct wish){.id = "a", .what = "good", .kind = "other"}, &err) == 0,
       &err);
    EVENTUALLY(SOON_MS, has_ended(house, "a"));
    assert_true(has_reason(house, "a", "internal"));
    expect_events(house, "a", "ted");
}

static void as_many_run_at_once_as_there_are_slots(void **state)
{
    struct house *house = *state;
    struct engine_load load;
    for (int i = 0; i < 8; i++) {
        AUTO(str) char *id = textf("t%d", i);
        submit(house, id, "deaf");
    }
    EVENTUALLY(SOON_MS, house->at_once == 2);
    engine_load(house->engine, &load);
    assert_int_equal(load.running, 2);
    assert_int_equal(load.queued, 6);
    resize(house->engine, 5, 1000);
    EVENTUALLY(SOON_MS, house->at_once == 5);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(house->most_at_once, 5);
    engine_load(house->engine, &load);
    assert_int_equal(load.completed, 8);
}

static void priority_goes_before_age(void **state)
{
    struct house *house = *state;
    struct err err;
    resize(house->engine, 1, 1000);
    submit(house, "first", "deaf");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    static const struct {
        const char *id;
        int priority;
    } rest[] = {{"a0", 0}, {"a5", 5}, {"b5", 5}, {"a9", 9}, {"c5", 5}, {"over", 99}, {"under", -7}};
    for (size_t i = 0; i < COUNT_OF(rest); i++)
        OK(try_submit(house,
                      (struct wish){.id = rest[i].id, .what = "good", .priority = rest[i].priority},
                      &err) == 0,
           &err);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_string_equal(house->order, "first a9 over a5 b5 c5 a0 under ");
}

static void a_full_queue_refuses(void **state)
{
    struct house *house = *state;
    struct err err;
    resize(house->engine, 1, 2);
    submit(house, "a", "deaf");
    submit(house, "b", "good");
    submit(house, "c", "good");
    assert_int_equal(try_submit(house, (struct wish){.id = "d", .what = "good"}, &err), -1);
    assert_int_equal(err.code, ERR_RATE);
    AUTO(task_record) struct task_record record = {0};
    assert_int_equal(store_get(house->store, "d", &record, &err), -1);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    submit(house, "d", "good"); /* there is room again: the refusal did not use up a place */
    EVENTUALLY(SOON_MS, has_ended(house, "d"));
}

static void a_refused_id_takes_no_place_in_the_queue(void **state)
{
    struct house *house = *state;
    struct err err;
    resize(house->engine, 1, 1);
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(try_submit(house, (struct wish){.id = "a", .what = "good"}, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
    }
    submit(house, "b", "good");
    EVENTUALLY(SOON_MS, has_ended(house, "b"));
}

static void a_thousand_tasks_leave_nothing_behind(void **state)
{
    struct house *house = *state;
    submit(house, "warm-up", "good");
    EVENTUALLY(SOON_MS, is_quiet(house) && proc_threads(getpid()) == threads_at_start);
    int fds = proc_fds(getpid());
    resize(house->engine, 4, 10000);
    for (int i = 0; i < 1000; i++) {
        AUTO(str) char *id = textf("t%d", i);
        submit(house, id, "good");
    }
    EVENTUALLY(60000, is_quiet(house));
    struct engine_load load;
    engine_load(house->engine, &load);
    assert_int_equal(load.completed, 1001);
    EVENTUALLY(SOON_MS, proc_threads(getpid()) == threads_at_start);
    /* The store's reading connections stay: three files each. */
    EVENTUALLY(SOON_MS, proc_fds(getpid()) <= fds + 3 * 3);
    AUTO(str) char *run_dir = textf("%s/run", house->dir);
    EVENTUALLY(SOON_MS, rmdir(run_dir) == 0 || access(run_dir, F_OK) != 0); /* it becomes empty */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_task_runs_and_leaves_its_answer),
        TEST(an_unknown_kind_fails_by_name),
        TEST(as_many_run_at_once_as_there_are_slots),
        TEST(priority_goes_before_age),
        TEST(a_full_queue_refuses),
        TEST(a_refused_id_takes_no_place_in_the_queue),
        TEST(a_thousand_tasks_leave_nothing_behind),
    };
    in_threads(1, do_nothing, NULL); /* a sanitizer starts its own thread with the first one */
    threads_at_start = proc_threads(getpid()) + 1; /* with the engine's own: leavings.h */
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
