/*
 * git/reach: closed files and directories are opened, and nothing outside.
 */
#include "testbase.h"

#include "base/path.h"
#include "git/reach.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static mode_t mode_of(const char *dir, const char *name)
{
    struct stat st;
    AUTO(str) char *path = textf("%s/%s", dir, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void make(const char *dir, const char *name, mode_t mode)
{
    struct err err;
    AUTO(str) char *path = textf("%s/%s", dir, name);
    if (name[0] == 'd' || name[0] == '.')
        OK(path_make_dirs(path, 0755, &err) == 0, &err);
    else
        write_bytes(path, "x", 1);
    assert_int_equal(chmod(path, mode), 0);
}

static void opens_what_is_closed_and_nothing_else(void **state)
{
    (void)state;
    char *dir = tmp_dir_new();
    AUTO(str) char *work = textf("%s/work", dir);
    AUTO(str) char *link = textf("%s/work/link", dir);
    AUTO(str) char *below = textf("%s/work/d1/d2", dir);
    make(dir, "outside", 0);
    assert_int_equal(mkdir(work, 0755), 0);
    make(work, "file", 0);
    make(work, "run", 0111);
    make(work, "open", 0644);
    make(work, ".git/objects", 0);
    make(work, ".git", 0);
    make(work, "d1/d2", 0755);
    make(below, "low", 0200);
    make(work, "d1/d2", 0);
    make(work, "d1", 0555);
    assert_int_equal(symlink("../outside", link), 0);
    assert_int_equal(chmod(work, 0), 0);
    assert_int_equal(reach_open(work), 7);
    assert_int_equal(mode_of(dir, "work"), 0700);
    assert_int_equal(mode_of(work, "file"), 0400);
    assert_int_equal(mode_of(work, "run"), 0511);
    assert_int_equal(mode_of(work, "open"), 0644);
    assert_int_equal(mode_of(work, "d1"), 0755);
    assert_int_equal(mode_of(below, "low"), 0600);
    assert_int_equal(mode_of(work, ".git"), 0700);
    assert_int_equal(mode_of(work, ".git/objects"), 0);
    assert_int_equal(mode_of(dir, "outside"), 0);
    assert_int_equal(reach_open(work), 0);
    assert_int_equal(reach_open(link), 0);
    assert_false(reach_is_hidden(work, "no/such/file"));
    tmp_dir_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(opens_what_is_closed_and_nothing_else)};
    return cmocka_run_group_tests_name("reach", tests, NULL, NULL);
}
