/* Which task starts when and where: on this machine or in the cloud. */
#include "testbase.h"

#include "base/log.h"
#include "runner/task/engine.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOON_MS 20000
#define LATER_MS 200 /* how long a task waits for a slot here before it may go to the cloud */

struct house {
    char *dir;
    struct store *store;
    struct engine *engine;
    struct task_kind kinds[2];
    struct executor away;
    struct engine_limits limits;
    _Atomic bool gate;    /* opened: the held tasks continue */
    _Atomic bool refuses; /* the cloud returns tasks … */
    _Atomic int hold_ms;  /* … and wants none for that long */
    _Atomic int here, there, adopted;
};

static void hold(struct house *house, struct task_run *run)
{
    while (!house->gate && task_run_stop(run) == STOP_NO)
        poll_pause();
}

static void run_here(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct house *house = arg;
    house->here++;
    assert_int_equal(task_run_record(run)->place, PLACE_HERE);
    if (strcmp(task_run_record(run)->request, "\"hold\"") == 0)
        hold(house, run);
    outcome->state = TASK_COMPLETED;
}

/* A "hold" task stays until the gate opens; when the runner stops earlier, the task continues
 * without it. */
static void run_there(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct house *house = arg;
    house->there++;
    house->adopted += task_run_adopted(run);
    assert_int_equal(task_run_record(run)->place, PLACE_AWAY);
    if (strcmp(task_run_record(run)->request, "\"hold\"") == 0)
        hold(house, run);
    outcome->state = TASK_COMPLETED;
    if (house->refuses) {
        outcome->state = TASK_PENDING;
        snprintf(outcome->reason, sizeof(outcome->reason), "cloud_full");
        engine_limit_away(
            house->engine,
            &(struct engine_away){.room = 1, .hold_ms = house->hold_ms, .why = "cloud_full"});
    } else if (task_run_stop(run) == STOP_INTERRUPT) {
        outcome->state = TASK_RUNNING;
    } else if (task_run_stop(run) == STOP_CANCEL) {
        outcome->state = TASK_CANCELLED;
    }
}

static void open_house(struct house *house)
{
    struct err err;
    house->gate = false;
    house->here = house->there = house->adopted = 0;
    house->store = store_open(house->dir, &err);
    OK(house->store, &err);
    house->kinds[0] = (struct task_kind){.name = "fake", .run = run_here, .arg = house};
    house->away = (struct executor){.run = run_there, .arg = house, .outlives = true};
    const struct engine_config config = {.store = house->store,
                                         .state_dir = house->dir,
                                         .kinds = house->kinds,
                                         .away = &house->away,
                                         .uid = geteuid(),
                                         .gid = getegid(),
                                         .limits = house->limits};
    house->engine = engine_new(&config, &err);
    OK(house->engine, &err);
    OK(engine_start(house->engine, &err) == 0, &err);
}

static void close_house(struct house *house)
{
    engine_drain(house->engine);
    engine_interrupt(house->engine);
    assert_true(engine_wait_idle(house->engine, SOON_MS));
    engine_free(STEAL_PTR(house->engine));
    store_close(STEAL_PTR(house->store));
}

static int set_up(void **state)
{
    struct house *house = calloc(1, sizeof(*house));
    house->dir = tmp_dir_new();
    house->limits = (struct engine_limits){.slots = 1,
                                           .away_slots = 2,
                                           .queue_max = 1000,
                                           .overflow = OVERFLOW_FULL,
                                           .overflow_after_ms = LATER_MS};
    open_house(house);
    *state = house;
    return 0;
}

static int tear_down(void **state)
{
    struct house *house = *state;
    house->refuses = false;
    close_house(house);
    tmp_dir_free(house->dir);
    free(house);
    return 0;
}

static void set_overflow(struct house *house, enum config_overflow overflow)
{
    house->limits.overflow = overflow;
    engine_set_limits(house->engine, &house->limits);
}

struct wish {
    const char *id;
    const char *what;
    enum task_executor executor;
    bool shared;
    const char *stays;
};

static void submit(struct house *house, struct wish wish)
{
    struct err err;
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    AUTO(str) char *request = textf("\"%s\"", wish.what);
    const struct task_new task = {.id = wish.id,
                                  .kind = "fake",
                                  .shared = wish.shared,
                                  .executor = wish.executor,
                                  .stays = wish.stays,
                                  .request = request};
    OK(engine_submit(house->engine, &task, &record, &created, &err) == 0, &err);
}

static enum task_state state_of(const struct house *house, const char *id, enum task_place *ret)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    *ret = record.place;
    return record.state;
}

static bool is(const struct house *house, const char *id, enum task_state state,
               enum task_place place)
{
    enum task_place at;
    return state_of(house, id, &at) == state && at == place;
}

/* --- the tests ----------------------------------------------------------------------------- */

static void a_task_goes_to_the_cloud_when_no_slot_comes_free(void **state)
{
    struct house *house = *state;
    submit(house, (struct wish){.id = "first", .what = "hold"});
    EVENTUALLY(SOON_MS, house->here == 1);
    int64_t began = now_ms();
    submit(house, (struct wish){.id = "next", .what = "good"});
    EVENTUALLY(SOON_MS, is(house, "next", TASK_COMPLETED, PLACE_AWAY));
    assert_true(now_ms() - began >= LATER_MS - 1);
    assert_true(is(house, "first", TASK_RUNNING, PLACE_HERE));
}

static void who_stays_waits_for_its_slot_and_holds_nobody_up(void **state)
{
    struct house *house = *state;
    submit(house, (struct wish){.id = "first", .what = "hold"});
    submit(house, (struct wish){.id = "local", .what = "good", .executor = EXECUTOR_LOCAL});
    submit(house, (struct wish){.id = "secret", .what = "good", .stays = "no key"});
    submit(house, (struct wish){.id = "away", .what = "good"});
    EVENTUALLY(SOON_MS, is(house, "away", TASK_COMPLETED, PLACE_AWAY));
    assert_true(is(house, "local", TASK_PENDING, PLACE_HERE));
    assert_true(is(house, "secret", TASK_PENDING, PLACE_HERE));
    house->gate = true;
    EVENTUALLY(SOON_MS, is(house, "secret", TASK_COMPLETED, PLACE_HERE));
    assert_true(is(house, "local", TASK_COMPLETED, PLACE_HERE));
}

static void who_asks_for_the_cloud_never_waits_here(void **state)
{
    struct house *house = *state;
    set_overflow(house, OVERFLOW_OFF);
    submit(house, (struct wish){.id = "cloud", .what = "good", .executor = EXECUTOR_CLOUD});
    EVENTUALLY(SOON_MS, is(house, "cloud", TASK_COMPLETED, PLACE_AWAY));
    submit(house, (struct wish){.id = "auto", .what = "good"});
    EVENTUALLY(SOON_MS, is(house, "auto", TASK_COMPLETED, PLACE_HERE));
}

static void the_cloud_takes_no_more_than_its_slots(void **state)
{
    struct house *house = *state;
    struct engine_load load;
    set_overflow(house, OVERFLOW_ALWAYS);
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *id = textf("t%d", i);
        submit(house, (struct wish){.id = id, .what = "hold"});
    }
    EVENTUALLY(SOON_MS, house->there == 2);
    engine_load(house->engine, &load);
    assert_int_equal(load.away, 2);
    assert_int_equal(load.running, 0);
    assert_int_equal(load.queued, 3);
    house->gate = true;
    EVENTUALLY(SOON_MS, house->there == 5);
    assert_int_equal(house->here, 0);
}

static void a_pause_sends_tasks_away_only_when_that_is_wanted(void **state)
{
    struct house *house = *state;
    engine_hold(house->engine, TASK_WAITING_LOGIN);
    submit(house, (struct wish){.id = "full", .what = "good", .shared = true});
    submit(house, (struct wish){.id = "own", .what = "good"});
    EVENTUALLY(SOON_MS, is(house, "own", TASK_COMPLETED, PLACE_HERE));
    assert_true(is(house, "full", TASK_WAITING_LOGIN, PLACE_HERE));
    set_overflow(house, OVERFLOW_UNAVAILABLE);
    EVENTUALLY(SOON_MS, is(house, "full", TASK_COMPLETED, PLACE_AWAY));
}

static void a_cloud_that_refuses_sends_tasks_back_to_where_they_can_run(void **state)
{
    struct house *house = *state;
    set_overflow(house, OVERFLOW_ALWAYS);
    house->hold_ms = SOON_MS;
    house->refuses = true;
    submit(house, (struct wish){.id = "either", .what = "good"});
    EVENTUALLY(SOON_MS, is(house, "either", TASK_COMPLETED, PLACE_HERE));
    assert_int_equal(house->there, 1);
    house->hold_ms = LATER_MS;
    engine_limit_away(house->engine, &(struct engine_away){.room = 1, .hold_ms = 0});
    submit(house, (struct wish){.id = "only", .what = "good", .executor = EXECUTOR_CLOUD});
    EVENTUALLY(SOON_MS, house->there >= 3);
    house->refuses = false;
    EVENTUALLY(SOON_MS, is(house, "only", TASK_COMPLETED, PLACE_AWAY));
}

static void a_cloud_task_outlives_the_runner_and_is_adopted(void **state)
{
    struct house *house = *state;
    submit(house, (struct wish){.id = "cloud", .what = "hold", .executor = EXECUTOR_CLOUD});
    submit(house, (struct wish){.id = "here", .what = "hold"});
    EVENTUALLY(SOON_MS, house->there == 1 && house->here == 1);
    close_house(house);
    open_house(house);
    EVENTUALLY(SOON_MS, house->adopted == 1);
    assert_int_equal(house->there, 1);
    assert_true(is(house, "cloud", TASK_RUNNING, PLACE_AWAY));
    enum task_state told;
    struct err err;
    OK(engine_cancel(house->engine, "cloud", &told, &err) == 0, &err);
    EVENTUALLY(SOON_MS, is(house, "cloud", TASK_CANCELLED, PLACE_AWAY));
}

static void placements_are_kept(void **state)
{
    struct house *house = *state;
    struct err err;
    struct store_placement got,
        wanted = {.attempt = 3, .phase = PLACEMENT_ASKED, .asked_ms = 5, .execution = "x"};
    OK(store_placement(house->store, "none", &got, &err) == 0, &err);
    assert_int_equal(got.attempt, 0);
    OK(store_set_placement(house->store, "t", &wanted, &err) == 0, &err);
    wanted.phase = PLACEMENT_STARTED;
    OK(store_set_placement(house->store, "t", &wanted, &err) == 0, &err);
    close_house(house);
    open_house(house);
    OK(store_placement(house->store, "t", &got, &err) == 0, &err);
    assert_int_equal(got.attempt, 3);
    assert_int_equal(got.phase, PLACEMENT_STARTED);
    assert_int_equal(got.asked_ms, 5);
    assert_string_equal(got.execution, "x");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_task_goes_to_the_cloud_when_no_slot_comes_free),
        TEST(who_stays_waits_for_its_slot_and_holds_nobody_up),
        TEST(who_asks_for_the_cloud_never_waits_here),
        TEST(the_cloud_takes_no_more_than_its_slots),
        TEST(a_pause_sends_tasks_away_only_when_that_is_wanted),
        TEST(a_cloud_that_refuses_sends_tasks_back_to_where_they_can_run),
        TEST(a_cloud_task_outlives_the_runner_and_is_adopted),
        TEST(placements_are_kept),
    };
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
