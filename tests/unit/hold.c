/* Pauses in quick succession: the store's last record agrees with what the engine does. */
#include "testbase.h"

#include "runner/task/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOON_MS 20000

static _Atomic bool first_is_there, go_on;

int __real_store_pause(struct store *store, enum task_state state, struct err *err);
int __wrap_store_pause(struct store *store, enum task_state state, struct err *err);

/* The first write of "waiting_login" waits before it is made, until the test lets it continue. */
int __wrap_store_pause(struct store *store, enum task_state state, struct err *err)
{
    if (state == TASK_WAITING_LOGIN && !atomic_exchange(&first_is_there, true))
        EVENTUALLY(SOON_MS, go_on);
    return __real_store_pause(store, state, err);
}

static void run_nothing(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    (void)run;
    (void)arg;
    outcome->state = TASK_COMPLETED;
}

struct house {
    char *dir;
    struct store *store;
    struct engine *engine;
    struct task_kind kinds[2];
};

static int set_up(void **state)
{
    struct err err;
    struct house *house = calloc(1, sizeof(*house));
    house->dir = tmp_dir_new();
    house->store = store_open(house->dir, &err);
    OK(house->store, &err);
    house->kinds[0] = (struct task_kind){.name = "fake", .run = run_nothing};
    const struct engine_config config = {.store = house->store,
                                         .state_dir = house->dir,
                                         .kinds = house->kinds,
                                         .uid = geteuid(),
                                         .gid = getegid(),
                                         .limits = {.slots = 0, .queue_max = 10}};
    house->engine = engine_new(&config, &err);
    OK(house->engine && engine_start(house->engine, &err) == 0, &err);
    first_is_there = go_on = false;
    *state = house;
    return 0;
}

static int tear_down(void **state)
{
    struct house *house = *state;
    engine_free(house->engine);
    store_close(house->store);
    tmp_dir_free(house->dir);
    free(house);
    return 0;
}

static void submit(struct house *house, const char *id)
{
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new task = {.id = id, .kind = "fake", .shared = true, .request = "{}"};
    OK(engine_submit(house->engine, &task, &record, &created, &err) == 0, &err);
}

static enum task_state state_of(const struct house *house, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    return record.state;
}

static void *hold_for_login(void *arg)
{
    engine_hold(((struct house *)arg)->engine, TASK_WAITING_LOGIN);
    return NULL;
}

static void the_last_word_decides_although_its_write_came_first(void **state)
{
    struct house *house = *state;
    pthread_t slow;
    submit(house, "t");
    assert_int_equal(pthread_create(&slow, NULL, hold_for_login, house), 0);
    EVENTUALLY(SOON_MS, first_is_there);
    engine_hold(house->engine, TASK_PENDING);
    go_on = true;
    pthread_join(slow, NULL);
    assert_int_equal(state_of(house, "t"), TASK_PENDING);
}

static void *submit_one(void *arg)
{
    submit(arg, "late");
    return NULL;
}

/* A task that arrives during a pause is recorded as paused, unless the pause ends meanwhile. */
static void a_task_that_comes_as_a_pause_ends_is_not_left_in_it(void **state)
{
    struct house *house = *state;
    pthread_t slow;
    atomic_store(&first_is_there, true); /* this write does not wait: the submission's is the slow
                                          * one */
    engine_hold(house->engine, TASK_WAITING_LOGIN);
    atomic_store(&first_is_there, false);
    assert_int_equal(pthread_create(&slow, NULL, submit_one, house), 0);
    EVENTUALLY(SOON_MS, first_is_there);
    engine_hold(house->engine, TASK_PENDING);
    go_on = true;
    pthread_join(slow, NULL);
    assert_int_equal(state_of(house, "late"), TASK_PENDING);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_last_word_decides_although_its_write_came_first),
        TEST(a_task_that_comes_as_a_pause_ends_is_not_left_in_it),
    };
    return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
