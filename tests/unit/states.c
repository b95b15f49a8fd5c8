/* What the store does with each state of the table. The author of a new state finds here what it
 * means. */
#include "testbase.h"

#include "db/db.h"
#include "runner/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct place {
    char *dir;
    struct store *store;
};

static int set_up(void **state)
{
    struct err err;
    struct place *place = calloc(1, sizeof(*place));
    place->dir = tmp_dir_new();
    place->store = store_open(place->dir, &err);
    OK(place->store, &err);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    store_close(place->store);
    tmp_dir_free(place->dir);
    free(place);
    return 0;
}

/* Adds a shared task in that state; when the state is final, its end is long ago. */
static void put(const struct place *place, const char *id, enum task_state state)
{
    struct err err;
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    AUTO(str) char *path = textf("%s/runner.db", place->dir);
    const struct task_new task = {.id = id, .kind = "fake", .shared = true, .request = "{}"};
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    OK(db, &err);
    OK(db_run(db, &err, "UPDATE tasks SET state=?, ended_ms=1 WHERE id=?", "is", (int64_t)state,
              id) == 0,
       &err);
}

static void remove_all(const struct place *place)
{
    struct err err;
    AUTO(str) char *path = textf("%s/runner.db", place->dir);
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    OK(db && db_run(db, &err, "DELETE FROM tasks", "") == 0, &err);
}

static enum task_state state_of(const struct place *place, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(place->store, id, &record, &err) == 0, &err);
    return record.state;
}

static bool is_waiting(enum task_state state)
{
    return task_state_in(state, TASK_WAITING_STATES);
}

static int end_it(const struct place *place, const char *id)
{
    struct err err;
    const struct task_end end = {.state = TASK_FAILED, .reason = "r", .summary = "{}", .now_ms = 7};
    int rc = store_end(place->store, id, TASK_ALL_STATES, &end, &err);
    OK(rc >= 0, &err);
    return rc;
}

static int forget(const char *id, void *arg)
{
    (void)id;
    (void)arg;
    return 0;
}

static int count(const struct task_record *record, void *arg)
{
    (void)record;
    ++*(int *)arg;
    return 0;
}

/* --- the tests ----------------------------------------------------------------------------- */

static void numbers_on_the_disk_stay_what_they_were(void **state)
{
    static const char *const names[] = {"pending",   "waiting_login", "waiting_limit", "running",
                                        "completed", "failed",        "cancelled"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        assert_string_equal(task_state_name((enum task_state)i), names[i]);
}

static void every_state_has_one_phase(void **state)
{
    (void)state;
    assert_int_equal(TASK_WAITING_STATES & TASK_ENDED_STATES, 0);
    assert_int_equal(TASK_WAITING_STATES & TASK_ACTIVE_STATES, TASK_WAITING_STATES);
    assert_int_equal(TASK_ACTIVE_STATES | TASK_ENDED_STATES, TASK_ALL_STATES);
    assert_true(task_state_in(TASK_RUNNING, TASK_ACTIVE_STATES & ~TASK_WAITING_STATES));
    for (int i = 0; i < TASK_STATE_COUNT; i++)
        assert_int_equal(task_state_is_active((enum task_state)i),
                         task_state_in((enum task_state)i, TASK_ACTIVE_STATES));
}

static void only_what_waits_is_claimed(void **state)
{
    struct place *place = *state;
    struct err err;
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        put(place, "t", (enum task_state)i);
        int claimed = store_claim(place->store, "t", PLACE_HERE, 5, NULL, NULL, &err);
        assert_int_equal(claimed, is_waiting((enum task_state)i));
        assert_int_equal(state_of(place, "t"), claimed ? TASK_RUNNING : i);
        remove_all(place);
    }
}

static void only_what_is_active_ends(void **state)
{
    struct place *place = *state;
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        put(place, "t", (enum task_state)i);
        bool active = task_state_is_active((enum task_state)i);
        assert_int_equal(end_it(place, "t"), active);
        assert_int_equal(state_of(place, "t"), active ? TASK_FAILED : i);
        remove_all(place);
    }
}

static void only_what_waits_is_paused(void **state)
{
    struct place *place = *state;
    struct err err;
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        put(place, "t", (enum task_state)i);
        OK(store_pause(place->store, TASK_WAITING_LIMIT, &err) == 0, &err);
        assert_int_equal(state_of(place, "t"),
                         is_waiting((enum task_state)i) ? TASK_WAITING_LIMIT : i);
        remove_all(place);
    }
}

static void only_what_has_ended_is_forgotten(void **state)
{
    struct place *place = *state;
    struct err err;
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        AUTO(task_record) struct task_record record = {0};
        bool ended = task_state_in((enum task_state)i, TASK_ENDED_STATES);
        put(place, "t", (enum task_state)i);
        assert_int_equal(store_expire(place->store, 1000, 10, forget, NULL, &err), ended);
        int rc = store_get(place->store, "t", &record, &err);
        assert_int_equal(rc == 0, !ended);
        remove_all(place);
    }
}

static void lists_of_active_tasks_have_those_and_no_others(void **state)
{
    struct place *place = *state;
    struct err err;
    const struct store_filter active = {
        .states = TASK_ACTIVE_STATES, .oldest_first = true, .limit = 100};
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        int found = 0;
        put(place, "t", (enum task_state)i);
        OK(store_list(place->store, &active, count, &found, &err) == 0, &err);
        assert_int_equal(found, task_state_is_active((enum task_state)i));
        remove_all(place);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_on_the_disk_stay_what_they_were),
        cmocka_unit_test(every_state_has_one_phase),
        TEST(only_what_waits_is_claimed),
        TEST(only_what_is_active_ends),
        TEST(only_what_waits_is_paused),
        TEST(only_what_has_ended_is_forgotten),
        TEST(lists_of_active_tasks_have_those_and_no_others),
    };
    return cmocka_run_group_tests_name("states", tests, NULL, NULL);
}
