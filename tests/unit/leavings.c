/* The directories of ended tasks, which go a moment later. */
#include "engine_scene.h"

#include "base/path.h"
#include "runner/task/leavings.h"

#include <dirent.h>
#include <sys/stat.h>

static int entries_of(const char *dir)
{
    int count = 0;
    const struct dirent *entry;
    DIR *list = opendir(dir);
    while (list && (entry = readdir(list)))
        count += entry->d_name[0] != '.' || (entry->d_name[1] && entry->d_name[1] != '.');
    if (list)
        closedir(list);
    return list ? count : -1;
}

/* Makes a directory with a file in a directory. The caller frees its path. */
static char *make_tree(const char *dir, int number)
{
    AUTO(str) char *below = textf("%s/%d/below", dir, number);
    AUTO(str) char *file = textf("%s/file", below);
    struct err err;
    OK(path_make_dirs(below, 0700, &err) == 0, &err);
    AUTO(fd) int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return textf("%s/%d", dir, number);
}

static void removes_a_directory_a_moment_later(void **state)
{
    struct err err;
    const struct house *house = *state;
    struct leavings leavings = {.count = 0};
    AUTO(str) char *dir = textf("%s/left", house->dir);
    leavings_init(&leavings);
    OK(leavings_start(&leavings, &err) == 0, &err);
    assert_true(leavings_take(&leavings, make_tree(dir, 0), -1));
    EVENTUALLY(SOON_MS, entries_of(dir) == 0);
    leavings_stop(&leavings);
    leavings_done(&leavings);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_file_in(const char *dir)
{
    AUTO(str) char *path = textf("%s/events", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void syncs_and_closes_files_and_does_so_at_once_when_it_has_stopped(void **state)
{
    struct err err;
    const struct house *house = *state;
    struct leavings leavings = {.count = 0};
    int fds[8];
    leavings_init(&leavings);
    OK(leavings_start(&leavings, &err) == 0, &err);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = open_file_in(house->dir);
        assert_true(leavings_take(&leavings, NULL, fds[i]));
    }
    for (size_t i = 0; i < COUNT_OF(fds); i++)
        EVENTUALLY(SOON_MS, !is_open(fds[i]));
    leavings_stop(&leavings);
    int late = open_file_in(house->dir);
    assert_false(leavings_take(&leavings, NULL, late));
    assert_false(is_open(late));
    leavings_done(&leavings);
}

static void removes_all_that_is_left_when_it_stops_and_at_once_what_it_cannot_hold(void **state)
{
    struct err err;
    const struct house *house = *state;
    struct leavings leavings = {.count = 0};
    int later = 0;
    AUTO(str) char *dir = textf("%s/left", house->dir);
    leavings_init(&leavings);
    assert_false(leavings_take(&leavings, make_tree(dir, 0), -1)); /* it does not run yet */
    assert_int_equal(entries_of(dir), 0);
    OK(leavings_start(&leavings, &err) == 0, &err);
    for (int i = 1; i <= LEAVINGS_MAX * 2; i++)
        later += leavings_take(&leavings, make_tree(dir, i), -1);
    assert_true(later >= LEAVINGS_MAX);
    leavings_stop(&leavings);
    assert_int_equal(entries_of(dir), 0);
    assert_false(leavings_take(&leavings, make_tree(dir, 0), -1));
    assert_int_equal(entries_of(dir), 0);
    leavings_done(&leavings);
}

static void nothing_of_ended_tasks_is_there_once_the_engine_has_gone(void **state)
{
    struct house *house = *state;
    AUTO(str) char *run = textf("%s/run", house->dir);
    for (int i = 0; i < 20; i++) {
        AUTO(str) char *id = textf("task-%d", i);
        submit(house, id, i % 2 ? "good" : "bad");
    }
    EVENTUALLY(SOON_MS, is_quiet(house));
    close_house(house);
    assert_int_equal(entries_of(run), 0);
    open_house(house, 2, 1000);
}

static void a_task_may_come_again_before_its_old_directory_has_gone(void **state)
{
    struct house *house = *state;
    AUTO(str) char *run = textf("%s/run", house->dir);
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *id = textf("again-%d", i);
        submit(house, id, "good");
        EVENTUALLY(SOON_MS, has_ended(house, id));
    }
    EVENTUALLY(SOON_MS, entries_of(run) == 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(removes_a_directory_a_moment_later),
        TEST(syncs_and_closes_files_and_does_so_at_once_when_it_has_stopped),
        TEST(removes_all_that_is_left_when_it_stops_and_at_once_what_it_cannot_hold),
        TEST(nothing_of_ended_tasks_is_there_once_the_engine_has_gone),
        TEST(a_task_may_come_again_before_its_old_directory_has_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
