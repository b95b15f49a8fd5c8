/* The copy of an output that is stored at home while it is sent to a caller. */
#include "testbase.h"

#include "base/fd.h"
#include "base/path.h"
#include "runner/overflow/overflow.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((size_t)100000)
#define PIECES 23

static char dir[] = "/tmp/overflow-copyXXXXXX";

static int make_dir(void **state)
{
    (void)state;
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct err err;
    (void)state;
    return path_remove_tree(dir, &err);
}

/* Entries of the directory. */
static int count(void)
{
    int n = 0;
    DIR *entries = opendir(dir);
    assert_non_null(entries);
    for (struct dirent *at; (at = readdir(entries));)
        n += at->d_name[0] != '.';
    closedir(entries);
    return n;
}

/* Feeds a copy from two halves that take turns, as its caller does: each is filled anew once the
 * other was handed over. */
static void feed(struct cloud_copy *copy, size_t pieces)
{
    static char halves[2][PIECE];
    for (size_t i = 0; i < pieces; i++) {
        memset(halves[i % 2], 'a' + (int)i, PIECE);
        cloud_copy_add(copy, halves[i % 2], PIECE);
    }
    cloud_copy_add(copy, "", 0);
}

static void holds_each_piece_in_its_order(void **state)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(PIECE * PIECES);
    AUTO(str) char *path = path_join(dir, "outputs/a/b.out");
    (void)state;
    struct cloud_copy *copy = cloud_copy_new(dir, "a/b.out", (int64_t)(PIECE * PIECES));
    assert_non_null(copy);
    feed(copy, PIECES);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_true(cloud_copy_end(copy, true));
    assert_int_equal(file_read(path, &text, &err), 0);
    assert_int_equal(text.len, PIECE * PIECES);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != (char)('a' + (int)(i / PIECE)))
            fail_msg("byte %zu is wrong", i);
    assert_int_equal(count(), 1);
}

static void leaves_nothing_of_what_is_not_whole(void **state)
{
    (void)state;
    struct cloud_copy *copy = cloud_copy_new(dir, "b.out", (int64_t)(PIECE * PIECES));
    assert_non_null(copy);
    feed(copy, PIECES / 2);
    assert_int_equal(count(), 1);
    assert_false(cloud_copy_end(copy, false));
    assert_int_equal(count(), 0);
    assert_false(cloud_copy_end(NULL, true));
}

static void an_empty_output_is_a_file(void **state)
{
    struct stat st;
    AUTO(str) char *path = path_join(dir, "outputs/none");
    (void)state;
    struct cloud_copy *copy = cloud_copy_new(dir, "none", 0);
    assert_non_null(copy);
    assert_true(cloud_copy_end(copy, true));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
}

static void there_is_none_without_room(void **state)
{
    (void)state;
    assert_null(cloud_copy_new(dir, "huge", INT64_MAX / 2));
    assert_int_equal(count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(holds_each_piece_in_its_order, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(leaves_nothing_of_what_is_not_whole, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(an_empty_output_is_a_file, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(there_is_none_without_room, make_dir, remove_dir),
    };
    return cmocka_run_group_tests_name("overflow_copy", tests, NULL, NULL);
}
