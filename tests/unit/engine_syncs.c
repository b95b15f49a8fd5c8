/* How often a task waits for the disk because of the store. */
#include "engine_scene.h"

#include <sys/syscall.h>
#include <unistd.h>

static _Atomic int wal_syncs; /* of the store's log */

static int count_sync(int fd, long call)
{
    char link[64], path[512] = "";
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof(path) - 1);
    if (len > 4 && strcmp(path + len - 4, "-wal") == 0)
        wal_syncs++;
    return (int)syscall(call, fd);
}

/* Counts SQLite's calls: a program's function takes precedence over a library's. */
int fsync(int fd)
{
    return count_sync(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return count_sync(fd, SYS_fdatasync);
}

static int syncs_of(struct house *house, const char *id, const char *what)
{
    int before = wal_syncs;
    submit(house, id, what);
    EVENTUALLY(SOON_MS, has_ended(house, id) && is_quiet(house));
    return wal_syncs - before;
}

static void a_task_that_finds_a_slot_takes_two_syncs(void **state)
{
    struct house *house = *state;
    syncs_of(house, "first", "good"); /* the first task also begins the log */
    assert_int_equal(syncs_of(house, "second", "good"), 2);
}

static void a_task_that_waited_is_claimed_on_disk_before_it_runs(void **state)
{
    struct house *house = *state;
    resize(house->engine, 1, 10);
    submit(house, "runs", "hold");
    EVENTUALLY(SOON_MS, state_of(house, "runs") == TASK_RUNNING);
    int before = wal_syncs;
    submit(house, "waits", "good");
    assert_int_equal(wal_syncs - before, 1);
    assert_int_equal(state_of(house, "waits"), TASK_PENDING);
    house->gate = true;
    EVENTUALLY(SOON_MS, has_ended(house, "waits") && is_quiet(house));
    assert_int_equal(wal_syncs - before, 4); /* accepted; the first ended; claimed; ended */
}

static void who_comes_past_a_queue_does_not_overtake_it(void **state)
{
    struct house *house = *state;
    resize(house->engine, 1, 10);
    submit(house, "runs", "hold");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    submit(house, "waits", "good");
    submit(house, "comes", "good");
    house->gate = true;
    EVENTUALLY(SOON_MS, has_ended(house, "comes") && is_quiet(house));
    assert_string_equal(house->order, "runs waits comes ");
}

static void a_slot_that_was_kept_for_nothing_is_given_back(void **state)
{
    struct err err;
    struct house *house = *state;
    resize(house->engine, 1, 10);
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(try_submit(house, (struct wish){.id = "a", .what = "good"}, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    submit(house, "b", "good");
    EVENTUALLY(SOON_MS, has_ended(house, "b") && is_quiet(house));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_task_that_finds_a_slot_takes_two_syncs),
        TEST(a_task_that_waited_is_claimed_on_disk_before_it_runs),
        TEST(who_comes_past_a_queue_does_not_overtake_it),
        TEST(a_slot_that_was_kept_for_nothing_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
