#include "store_scene.h"

#include <stdatomic.h>

/* --- sessions ------------------------------------------------------------------------------ */

#define SESSION "0dc04b77-2b5a-4e55-9fa4-55a6cf5c8d7b"

/* Returns ERR_NONE when the task was added. */
static enum err_code try_session(const struct place *place, const char *id, bool resume,
                                 struct err *err)
{
    bool created;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of(id);
    task.conversation = SESSION;
    task.resume = resume;
    *err = (struct err)ERR_INIT;
    if (store_add(place->store, &task, &record, &created, err))
        return err->code;
    assert_string_equal(record.conversation, SESSION);
    return ERR_NONE;
}

static void end_session(const struct place *place, const char *id, bool kept)
{
    struct err err;
    const struct task_end end = {.state = TASK_FAILED,
                                 .reason = "r",
                                 .summary = "{}",
                                 .conversation_kept = kept,
                                 .now_ms = 7};
    OK(store_end(place->store, id, ~0u, &end, &err) == 1, &err);
}

static void a_session_is_used_by_one_task_at_a_time(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(try_session(place, "none", true, &err), ERR_NOT_FOUND);
    assert_int_equal(try_session(place, "first", false, &err), ERR_NONE);
    assert_int_equal(try_session(place, "early", true, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "'first'"));
    end_session(place, "first", false);
    assert_int_equal(try_session(place, "nothing", true, &err), ERR_NOT_FOUND);
    assert_int_equal(try_session(place, "again", false, &err), ERR_NONE);
    end_session(place, "again", true);
    assert_int_equal(try_session(place, "second", true, &err), ERR_NONE);
    reopen(place);
    assert_int_equal(try_session(place, "third", true, &err), ERR_CONFLICT);
    assert_int_equal(store_claim(place->store, "second", PLACE_HERE, 1, NULL, NULL, &err), 1);
    assert_int_equal(try_session(place, "third", true, &err), ERR_CONFLICT);
    end_session(place, "second", false); /* what was there before is still there */
    assert_int_equal(try_session(place, "third", true, &err), ERR_NONE);
}

struct rush {
    struct place *place;
    _Atomic int turn, won, refused;
};

static void *rush_in(void *arg)
{
    struct rush *rush = arg;
    struct err err;
    AUTO(str) char *id = textf("rush-%d", atomic_fetch_add(&rush->turn, 1));
    enum err_code code = try_session(rush->place, id, true, &err);
    rush->won += code == ERR_NONE;
    rush->refused += code == ERR_CONFLICT;
    return NULL;
}

static void of_many_that_want_a_session_one_gets_it(void **state)
{
    struct rush rush = {.place = *state};
    struct err err;
    assert_int_equal(try_session(rush.place, "first", false, &err), ERR_NONE);
    end_session(rush.place, "first", true);
    in_threads(8, rush_in, &rush);
    assert_int_equal(rush.won, 1);
    assert_int_equal(rush.refused, 7);
}

static int expire_all(const char *id, void *arg)
{
    return strcmp(id, arg) == 0 ? 0 : -1;
}

static void a_session_lasts_as_long_as_any_of_its_tasks(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(store_has_conversation(place->store, SESSION, &err), 0);
    assert_int_equal(store_has_conversation(place->store, "", &err), 0);
    assert_int_equal(try_session(place, "first", false, &err), ERR_NONE);
    end_session(place, "first", true);
    assert_int_equal(try_session(place, "second", true, &err), ERR_NONE);
    end_session(place, "second", false);
    char first[] = "first", second[] = "second";
    OK(store_expire(place->store, 100, 10, expire_all, first, &err) == 2, &err);
    assert_int_equal(store_has_conversation(place->store, SESSION, &err), 1);
    assert_int_equal(try_session(place, "third", true, &err), ERR_NONE);
    end_session(place, "third", true);
    OK(store_expire(place->store, 100, 10, expire_all, second, &err) == 2, &err);
    char third[] = "third";
    OK(store_expire(place->store, 100, 10, expire_all, third, &err) == 1, &err);
    assert_int_equal(store_has_conversation(place->store, SESSION, &err), 0);
    assert_int_equal(try_session(place, "fourth", true, &err), ERR_NOT_FOUND);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_session_is_used_by_one_task_at_a_time),
        TEST(of_many_that_want_a_session_one_gets_it),
        TEST(a_session_lasts_as_long_as_any_of_its_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
