/* A task starts when the machine has the memory that the task asks for, and reports why it waits
 * until then. */
#include "testbase.h"

#include "runner/task/engine.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOON_MS 20000

struct house {
    char *dir;
    struct store *store;
    struct engine *engine;
    struct task_kind kinds[2];
    _Atomic bool gate; /* opened: the running tasks end */
    _Atomic int running;
};

static _Atomic int64_t total_mb, available_mb;

static void see(struct task_memory *ret)
{
    ret->total_mb = total_mb;
    ret->available_mb = available_mb;
}

static void run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct house *house = arg;
    house->running++;
    while (!house->gate && task_run_stop(run) == STOP_NO)
        poll_pause();
    house->running--;
    outcome->state = TASK_COMPLETED;
}

static int set_up(void **state)
{
    struct err err;
    struct house *house = calloc(1, sizeof(*house));
    total_mb = 4000;
    available_mb = 3000;
    house->dir = tmp_dir_new();
    house->store = store_open(house->dir, &err);
    OK(house->store, &err);
    house->kinds[0] = (struct task_kind){.name = "fake", .run = run, .arg = house};
    const struct engine_config config = {.store = house->store,
                                         .state_dir = house->dir,
                                         .kinds = house->kinds,
                                         .uid = geteuid(),
                                         .gid = getegid(),
                                         .limits = {.slots = 8, .queue_max = 1000},
                                         .memory = see};
    house->engine = engine_new(&config, &err);
    OK(house->engine, &err);
    OK(engine_start(house->engine, &err) == 0, &err);
    *state = house;
    return 0;
}

static int tear_down(void **state)
{
    struct house *house = *state;
    house->gate = true;
    engine_drain(house->engine);
    engine_interrupt(house->engine);
    assert_true(engine_wait_idle(house->engine, SOON_MS));
    engine_free(STEAL_PTR(house->engine));
    store_close(STEAL_PTR(house->store));
    tmp_dir_free(house->dir);
    free(house);
    return 0;
}

static void submit(struct house *house, const char *id, int memory_mb)
{
    struct err err;
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    AUTO(str)
    char *request =
        memory_mb ? textf("{\"prompt\":\"x\",\"limits\":{\"cpu\":1,\"memoryMb\":%d}}", memory_mb)
                  : strdup("{\"prompt\":\"limits\"}");
    const struct task_new task = {.id = id, .kind = "fake", .request = request};
    OK(engine_submit(house->engine, &task, &record, &created, &err) == 0, &err);
}

static enum task_state state_of(const struct house *house, const char *id, const char **ret_why)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    *ret_why = engine_waits_for(house->engine, &record);
    return record.state;
}

static bool is(const struct house *house, const char *id, enum task_state state)
{
    const char *why;
    return state_of(house, id, &why) == state;
}

static void assert_waits_for_memory(const struct house *house, const char *id)
{
    const char *why;
    assert_int_equal(state_of(house, id, &why), TASK_PENDING);
    assert_non_null(why);
    assert_string_equal(why, "memory_full");
}

static void what_is_promised_fits_into_the_machine(void **state)
{
    struct house *house = *state;
    submit(house, "first", 2000);
    submit(house, "second", 1500);
    EVENTUALLY(SOON_MS, house->running == 2);
    submit(house, "third", 1000); /* 4500 of 4000 */
    assert_waits_for_memory(house, "third");
    submit(house, "small", 400);
    assert_waits_for_memory(house, "small"); /* a task that asks for memory keeps its turn */
    submit(house, "unnamed", 0);
    EVENTUALLY(SOON_MS, house->running == 3);
    assert_true(is(house, "unnamed", TASK_RUNNING));
    assert_waits_for_memory(house, "third");
    house->gate = true;
    EVENTUALLY(SOON_MS, is(house, "third", TASK_COMPLETED) && is(house, "small", TASK_COMPLETED));
}

static void a_task_waits_for_memory_that_others_use(void **state)
{
    struct house *house = *state;
    available_mb = 500;
    submit(house, "big", 1000);
    assert_waits_for_memory(house, "big");
    submit(house, "fits", 0);
    EVENTUALLY(SOON_MS, is(house, "fits", TASK_RUNNING));
    available_mb = 100;
    submit(house, "none", 0);
    assert_waits_for_memory(house, "none");
    available_mb = 2000; /* the engine is not informed */
    EVENTUALLY(SOON_MS, is(house, "big", TASK_RUNNING) && is(house, "none", TASK_RUNNING));
}

static void what_a_request_names_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int64_t mb;
    } cases[] = {
        {"{}", 0},
        {"\"limits\"", 0},
        {"{\"limits\":{}}", 0},
        {"{\"limits\":{\"memoryMb\":64}}", 64},
        {"{\"a\":{\"limits\":{\"memoryMb\":64}}}", 0},
        {"{\"prompt\":\"\\\"limits\\\":{\\\"memoryMb\\\":1}\",\"limits\":{\"pids\":3}}", 0},
        {"{\"limits\":{\"pids\":3,\"memoryMb\":100}}", 100},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(task_memory_asked(cases[i].request, strlen(cases[i].request)),
                         cases[i].mb);
}

static void the_machines_memory_is_read(void **state)
{
    (void)state;
    struct task_memory memory;
    task_memory_read(&memory);
    assert_true(memory.total_mb > 100);
    assert_true(memory.available_mb > 0 && memory.available_mb <= memory.total_mb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_promised_fits_into_the_machine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_task_waits_for_memory_that_others_use, set_up, tear_down),
        cmocka_unit_test(what_a_request_names_is_found),
        cmocka_unit_test(the_machines_memory_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
