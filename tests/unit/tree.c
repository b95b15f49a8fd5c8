/* Objects of a repository that are linked, or copied where linking is impossible. */
#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "git/worktree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(const char *dir, const char *name, const char *text)
{
    struct err err;
    AUTO(str) char *path = path_join(dir, name);
    AUTO(str) char *parent = strndup(path, (size_t)(strrchr(path, '/') - path));
    OK(path_make_dirs(parent, 0755, &err) == 0, &err);
    OK(file_replace(path, text, strlen(text), 0644, &err) == 0, &err);
}

static void assert_has(const char *dir, const char *name, const char *text)
{
    struct err err;
    AUTO(buf) struct buf got = BUF_INIT(1000);
    AUTO(str) char *path = path_join(dir, name);
    OK(file_read(path, &got, &err) == 0, &err);
    assert_string_equal(buf_str(&got), text);
}

static dev_t device_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_dev;
}

static void objects_are_copied_to_another_file_system(void **state)
{
    struct err err;
    char there[] = "/dev/shm/unit-tree-XXXXXX";
    (void)state;
    if (!mkdtemp(there))
        SKIP_BECAUSE("there is no /dev/shm");
    char *here = tmp_dir_new();
    bool same = device_of(here) == device_of(there);
    put(here, "objects/ab/01234567890123456789012345678901234567", "loose");
    put(here, "objects/pack/pack-1.pack", "packed");
    put(here, "objects/pack/tmp_pack", "half");
    int rc = worktree_link_objects(here, there, geteuid(), getegid(), &err);
    if (!same) {
        OK(rc == 0, &err);
        assert_has(there, "objects/ab/01234567890123456789012345678901234567", "loose");
        assert_has(there, "objects/pack/pack-1.pack", "packed");
        AUTO(str) char *half = path_join(there, "objects/pack/tmp_pack");
        assert_int_equal(access(half, F_OK), -1);
    }
    tmp_dir_free(here);
    assert_int_equal(path_remove_tree(there, &err), 0);
    if (same)
        SKIP_BECAUSE("temporary files and /dev/shm are one file system");
}

static void a_directory_that_cannot_be_made_is_what_the_error_names(void **state)
{
    struct err err;
    (void)state;
    char *from = tmp_dir_new(), *to = tmp_dir_new();
    put(from, "objects/00/01234567890123456789012345678901234567", "loose");
    put(to, "objects/00", "a file");
    assert_int_equal(worktree_link_objects(from, to, geteuid(), getegid(), &err), -1);
    AUTO(str) char *at_fault = path_join(to, "objects/00");
    assert_non_null(strstr(err.msg, at_fault));
    tmp_dir_free(from);
    tmp_dir_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_copied_to_another_file_system),
        cmocka_unit_test(a_directory_that_cannot_be_made_is_what_the_error_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
