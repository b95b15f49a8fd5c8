#include "engine_scene.h"

#define RUNNING (1u << TASK_RUNNING)

static void reopen_house(struct house *house, int slots)
{
    close_house(house);
    house->gate = false;
    open_house(house, slots, 1000);
}

/* --- going down and coming back ------------------------------------------------------------ */

static void draining_lets_run_what_runs_and_keeps_what_waits(void **state)
{
    struct house *house = *state;
    struct err err;
    struct looker queued = looker_of(true), running = looker_of(true), late = looker_of(true);
    resize(house->engine, 1, 1000);
    submit(house, "a", "deaf");
    submit(house, "b", "good");
    engine_watch(house->engine, "a", &running.watch);
    engine_watch(house->engine, "b", &queued.watch);
    EVENTUALLY(SOON_MS, house->at_once == 1);
    engine_drain(house->engine);
    assert_int_equal(queued.told, 1);
    assert_int_equal(running.told, 0);
    assert_int_equal(engine_watch(house->engine, "b", &late.watch), 0); /* the engine accepts no
                                                                         * watch when it would not
                                                                         * report the end */
    assert_int_equal(try_submit(house, (struct wish){.id = "c", .what = "good"}, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_false(engine_wait_idle(house->engine, 5));
    house->gate = true;
    assert_true(engine_wait_idle(house->engine, SOON_MS));
    assert_int_equal(running.told, 1);
    assert_int_equal(state_of(house, "a"), TASK_COMPLETED);
    assert_int_equal(state_of(house, "b"), TASK_PENDING);
    reopen_house(house, 1);
    EVENTUALLY(SOON_MS, has_ended(house, "b"));
    EVENTUALLY(SOON_MS, is_quiet(house));
    expect_events(house, "b", "t.d");
}

static void interrupting_fails_tasks_or_keeps_those_that_may_run_again(void **state)
{
    struct house *house = *state;
    struct err err;
    submit(house, "a", "hold");
    OK(try_submit(house, (struct wish){.id = "b", .what = "hold", .retry = true}, &err) == 0, &err);
    EVENTUALLY(SOON_MS, house->at_once == 2);
    engine_drain(house->engine);
    engine_interrupt(house->engine);
    assert_true(engine_wait_idle(house->engine, SOON_MS));
    assert_int_equal(state_of(house, "a"), TASK_FAILED);
    assert_true(has_reason(house, "a", "interrupted"));
    assert_int_equal(state_of(house, "b"), TASK_PENDING);
    for (int attempt = 2; attempt <= 3; attempt++) {
        reopen_house(house, 2);
        EVENTUALLY(SOON_MS, house->at_once == 1);
        engine_drain(house->engine);
        engine_interrupt(house->engine);
        assert_true(engine_wait_idle(house->engine, SOON_MS));
        assert_int_equal(state_of(house, "b"), attempt < 3 ? TASK_PENDING : TASK_FAILED);
    }
    assert_true(has_reason(house, "b", "interrupted"));
    expect_events(house, "b", "t...ed");
}

/* Writes tasks into the store in the states in which a killed runner would have left them. */
static void a_restart_brings_every_state_to_the_truth(void **state)
{
    struct house *house = *state;
    struct err err;
    static const struct {
        const char *id;
        enum task_state left; /* the state before the restart */
        bool retry;
        int attempts;
        enum task_state then;
        const char *events;
    } rows[] = {
        {"pending", TASK_PENDING, false, 0, TASK_COMPLETED, "t.d"},
        {"running", TASK_RUNNING, false, 1, TASK_FAILED, "ted"},
        {"retry-1", TASK_RUNNING, true, 1, TASK_COMPLETED, "t.d"},
        {"retry-2", TASK_RUNNING, true, 2, TASK_COMPLETED, "t.d"},
        {"retry-3", TASK_RUNNING, true, 3, TASK_FAILED, "ted"},
        {"completed", TASK_COMPLETED, false, 1, TASK_COMPLETED, "td"},
        {"failed", TASK_FAILED, false, 1, TASK_FAILED, "ted"},
        {"cancelled", TASK_CANCELLED, false, 1, TASK_CANCELLED, "tcd"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        bool created;
        AUTO(task_record) struct task_record record = {0};
        const struct task_new task = {.id = rows[i].id,
                                      .kind = "fake",
                                      .request = "\"good\"",
                                      .retry_interrupted = rows[i].retry};
        OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
        for (int n = 1; n <= rows[i].attempts; n++) {
            OK(store_claim(house->store, rows[i].id, PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
            if (n < rows[i].attempts)
                OK(store_requeue(house->store, rows[i].id, TASK_PENDING, &err) == 1, &err);
        }
        const struct task_end end = {.state = rows[i].left, .reason = "", .summary = "{}"};
        if (!task_state_is_active(rows[i].left))
            OK(store_end(house->store, rows[i].id, RUNNING, &end, &err) == 1, &err);
    }
    reopen_house(house, 2);
    EVENTUALLY(SOON_MS, is_quiet(house));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(state_of(house, rows[i].id), rows[i].then);
        expect_events(house, rows[i].id, rows[i].events);
    }
    assert_true(has_reason(house, "running", "interrupted"));
}

static void events_that_cannot_be_written_do_not_keep_the_runner_down(void **state)
{
    struct house *house = *state;
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new task = {.id = "a", .kind = "fake", .request = "{}"};
    OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
    OK(store_claim(house->store, "a", PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
    AUTO(str) char *in_the_way = textf("%s/tasks/a", house->dir);
    write_bytes(in_the_way, "", 0); /* a file at the place of its directory */
    reopen_house(house, 1);
    assert_int_equal(state_of(house, "a"), TASK_FAILED);
    assert_int_equal(engine_mend_events(house->engine, "a", &err), -1);
    unlink(in_the_way);
    expect_events(house, "a", "ted");
}

static void a_last_event_that_a_crash_swallowed_is_made_up_for(void **state)
{
    struct house *house = *state;
    struct err err;
    size_t size;
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    AUTO(str) char *path = engine_events_path(house->engine, "a");
    AUTO(str) char *whole = read_file(path, &size);
    for (size_t cut = 0; cut <= size; cut++) {
        size_t now;
        write_bytes(path, whole, cut);
        OK(engine_mend_events(house->engine, "a", &err) == 0, &err);
        AUTO(str) char *mended = read_file(path, &now);
        if (cut > size - 200 && cut < size) /* only the last event was lost: it is written again,
                                             * the same */
            assert_string_equal(mended + strlen(mended) - 100, whole + size - 100);
        assert_true(events_end_with(path, "done"));
    }
}

/* --- trouble ------------------------------------------------------------------------------- */

static void a_full_disk_fails_the_task_by_name_and_loses_no_outcome(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    close_house(house);
    if (!small_disk_mount(house->dir, 4u << 20))
        SKIP_BECAUSE("no file system can be mounted here");
    house->gate = false;
    open_house(house, 1, 1000);
    AUTO(str) char *filler = textf("%s/filler", house->dir);
    submit(house, "a", "hold");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    small_disk_fill(filler);
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err);
    EVENTUALLY(SOON_MS, house->at_once == 0); /* its outcome may have to wait for space … */
    unlink(filler);
    EVENTUALLY(SOON_MS, is_quiet(house)); /* … and is stored then */
    assert_true(has_ended(house, "a"));
    OK(engine_mend_events(house->engine, "a", &err) == 0, &err);
    close_house(house);
    small_disk_unmount(house->dir);
    open_house(house, 1, 1000);
}

static void tasks_whose_key_was_lost_or_replaced_are_told_at_once(void **state)
{
    struct house *house = *state;
    struct err err;
    char wrong[32] = "wrong";
    bool created;
    AUTO(str) char *key = textf("%s/secret.key", house->dir);
    for (int lost = 0; lost < 2; lost++) {
        char sealed[] = "sealed-0", open[] = "open-0";
        sealed[7] = open[5] = (char)('0' + lost);
        const struct task_new tasks[] = {
            {.id = sealed, .kind = "fake", .request = "\"good\"", .secrets = "{\"k\":\"v\"}"},
            {.id = open, .kind = "fake", .request = "\"good\""}};
        for (size_t i = 0; i < COUNT_OF(tasks); i++) {
            AUTO(task_record) struct task_record record = {0};
            OK(store_add(house->store, &tasks[i], &record, &created, &err) == 0, &err);
        }
        close_house(house);
        if (lost)
            unlink(key);
        else
            write_bytes(key, wrong, sizeof(wrong));
        open_house(house, 0, 1000); /* nothing runs: the start reports it */
        assert_true(has_reason(house, sealed, "secrets_lost"));
        expect_events(house, sealed, "ted");
        assert_int_equal(state_of(house, open), TASK_PENDING);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(draining_lets_run_what_runs_and_keeps_what_waits),
        TEST(interrupting_fails_tasks_or_keeps_those_that_may_run_again),
        TEST(a_restart_brings_every_state_to_the_truth),
        TEST(events_that_cannot_be_written_do_not_keep_the_runner_down),
        TEST(a_last_event_that_a_crash_swallowed_is_made_up_for),
        TEST(a_full_disk_fails_the_task_by_name_and_loses_no_outcome),
        TEST(tasks_whose_key_was_lost_or_replaced_are_told_at_once),
    };
    in_threads(1, do_nothing, NULL); /* a sanitizer starts its own thread with the first one */
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
