#include "engine_scene.h"

/* --- cancelling ---------------------------------------------------------------------------- */

static void a_waiting_task_is_cancelled_at_once(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    resize(house->engine, 1, 1000);
    submit(house, "first", "deaf");
    submit(house, "a", "good");
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err);
    assert_int_equal(now, TASK_CANCELLED);
    expect_events(house, "a", "tcd");
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err); /* the second call gives the same
                                                                   * answer */
    assert_int_equal(now, TASK_CANCELLED);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(house->runs, 1);
}

static void a_running_task_is_asked_to_end(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    submit(house, "a", "hold");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err);
    assert_int_equal(now, TASK_RUNNING);
    EVENTUALLY(SOON_MS, has_ended(house, "a"));
    assert_int_equal(state_of(house, "a"), TASK_CANCELLED);
    EVENTUALLY(SOON_MS, is_quiet(house));
    expect_events(house, "a", "t.cd");
}

static void an_ended_or_unknown_task_cannot_be_cancelled(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(engine_cancel(house->engine, "a", &now, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(engine_cancel(house->engine, "none", &now, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    expect_events(house, "a", "t.d");
}

static void a_task_that_runs_only_in_the_store_does_not_hang_its_canceller(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new task = {.id = "a", .kind = "fake", .request = "{}"};
    OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
    OK(store_claim(house->store, "a", PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
    assert_int_equal(engine_cancel(house->engine, "a", &now, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
}

static void a_watcher_is_told_once_and_after_the_last_event(void **state)
{
    struct house *house = *state;
    struct looker one = looker_of(false), two = looker_of(false), late = looker_of(false);
    submit(house, "a", "deaf");
    assert_int_equal(engine_watch(house->engine, "a", &one.watch), 1);
    assert_int_equal(engine_watch(house->engine, "a", &two.watch), 1);
    assert_true(engine_unwatch(house->engine, "a", &two.watch, false));
    assert_false(engine_unwatch(house->engine, "a", &two.watch, false));
    house->gate = true;
    EVENTUALLY(SOON_MS, one.told == 1);
    AUTO(str) char *names = events_of(house, "a"); /* told after the last event */
    assert_string_equal(names, "t.d");
    assert_int_equal(engine_watch(house->engine, "a", &late.watch), 0);
    assert_false(engine_unwatch(house->engine, "a", &one.watch, true));
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(one.told + two.told + late.told, 1);
}

static void the_last_attached_watcher_who_leaves_cancels(void **state)
{
    struct house *house = *state;
    struct looker one = looker_of(true), two = looker_of(true), other = looker_of(false);
    submit(house, "a", "hold");
    engine_watch(house->engine, "a", &one.watch);
    engine_watch(house->engine, "a", &two.watch);
    engine_watch(house->engine, "a", &other.watch);
    EVENTUALLY(SOON_MS, house->at_once == 1);
    assert_true(engine_unwatch(house->engine, "a", &one.watch, true));
    assert_int_equal(state_of(house, "a"), TASK_RUNNING);
    assert_true(engine_unwatch(house->engine, "a", &two.watch, true));
    EVENTUALLY(SOON_MS, other.told == 1);
    assert_int_equal(state_of(house, "a"), TASK_CANCELLED);
}

struct watch_race {
    struct house *house;
    _Atomic int told, taken_back, too_late, next;
};

static void *watch_and_leave(void *arg)
{
    struct watch_race *race = arg;
    for (int i = 0; i < 40; i++) {
        struct looker looker = looker_of(true);
        AUTO(str) char *id = textf("r%d", atomic_fetch_add(&race->next, 1));
        submit(race->house, id, i % 3 ? "good" : "hold");
        if (!engine_watch(race->house->engine, id, &looker.watch)) {
            race->too_late++;
        } else if (engine_unwatch(race->house->engine, id, &looker.watch, true)) {
            race->taken_back++;
            if (looker.told)
                abort();
        } else {
            while (!looker.told)
                poll_pause();
            race->told++;
        }
    }
    return NULL;
}

static void watching_and_leaving_race_with_the_end(void **state)
{
    struct watch_race race = {.house = *state};
    race.house->gate = true;
    resize(race.house->engine, 4, 1000);
    in_threads(6, watch_and_leave, &race);
    assert_int_equal(race.told + race.taken_back + race.too_late, 240);
    EVENTUALLY(SOON_MS, is_quiet(race.house));
}

struct cancel_race {
    struct house *house;
    _Atomic int next;
};

static void *submit_and_cancel(void *arg)
{
    struct cancel_race *race = arg;
    for (int i = 0; i < 40; i++) {
        struct err err;
        enum task_state now;
        AUTO(str) char *id = textf("c%d", atomic_fetch_add(&race->next, 1));
        submit(race->house, id, "hold");
        if (i % 2)
            engine_mend_events(race->house->engine, id, &err);
        if (engine_cancel(race->house->engine, id, &now, &err))
            abort();
        if (i % 2)
            engine_mend_events(race->house->engine, id, &err);
    }
    return NULL;
}

static void cancelling_races_with_starting(void **state)
{
    struct cancel_race race = {.house = *state};
    in_threads(6, submit_and_cancel, &race);
    EVENTUALLY(SOON_MS, is_quiet(race.house));
    for (int i = 0; i < 240; i++) {
        AUTO(str) char *id = textf("c%d", i);
        assert_int_equal(state_of(race.house, id), TASK_CANCELLED);
        AUTO(str) char *names = events_of(race.house, id);
        if (strcmp(names, "tcd") != 0 && strcmp(names, "t.cd") != 0)
            fail_msg("%s: %s", id, names);
    }
    struct engine_load load;
    engine_load(race.house->engine, &load);
    assert_int_equal(load.cancelled, 240);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_waiting_task_is_cancelled_at_once),
        TEST(a_running_task_is_asked_to_end),
        TEST(an_ended_or_unknown_task_cannot_be_cancelled),
        TEST(a_task_that_runs_only_in_the_store_does_not_hang_its_canceller),
        TEST(a_watcher_is_told_once_and_after_the_last_event),
        TEST(the_last_attached_watcher_who_leaves_cancels),
        TEST(watching_and_leaving_race_with_the_end),
        TEST(cancelling_races_with_starting),
    };
    in_threads(1, do_nothing, NULL); /* a sanitizer starts its own thread with the first one */
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
