/* Paths, descriptors and files, in a directory of the test's own. */
#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/strlist.h"
#include "base/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SOMEBODY 65534

static char dir[] = "/tmp/unit-file-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) && chmod(dir, 0777) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct err err = ERR_INIT;
    (void)state;
    return path_remove_tree(dir, &err);
}

static char *at(const char *name)
{
    char *path = path_join(dir, name);
    assert_non_null(path);
    return path;
}

static void put(const char *path, const char *text)
{
    struct err err = ERR_INIT;
    if (file_replace(path, text, strlen(text), 0644, &err))
        fail_msg("%s", err.msg);
}

static void assert_content(const char *path, const char *want)
{
    struct err err = ERR_INIT;
    AUTO(buf) struct buf have = BUF_INIT(1000);
    if (file_read(path, &have, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(buf_str(&have), want);
}

static void a_path_inside_has_no_way_out(void **state)
{
    (void)state;
    static const char *const inside[] = {"a", "a/b", ".git", "..a", "a..", "...", "a/.b/c", "-"};
    static const char *const outside[] = {"",       "/",  "/a",   ".",   "..",  "a/..", "../a",
                                          "a/../b", "a/", "a//b", "./a", "a/.", "a\nb", "a\x7f"};
    for (size_t i = 0; i < COUNT_OF(inside); i++)
        assert_true(path_is_inside(inside[i]));
    for (size_t i = 0; i < COUNT_OF(outside); i++)
        assert_false(path_is_inside(outside[i]));
}

static void makes_missing_parents_and_keeps_what_is_there(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct stat st;
    AUTO(str) char *deep = at("made/a//b/c/");
    AUTO(str) char *made = at("made");
    AUTO(str) char *file = at("plain");
    AUTO(str) char *below = at("plain/x");
    assert_int_equal(mkdir(made, 0700), 0);
    assert_int_equal(path_make_dirs(deep, 0755, &err), 0);
    assert_int_equal(path_make_dirs(deep, 0755, &err), 0);
    assert_int_equal(stat(made, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    put(file, "x");
    assert_int_equal(path_make_dirs(file, 0755, &err), -1);
    assert_int_equal(path_make_dirs(below, 0755, &err), -1);
    assert_int_equal(path_make_dirs("", 0755, &err), -1);
}

/* Links that point out, a directory without permissions, a FIFO, an empty directory. */
static void build_tree(const char *top)
{
    char path[512];
    static const char *const dirs[] = {"", "/a", "/a/b", "/locked", "/locked/in", "/empty"};
    for (size_t i = 0; i < COUNT_OF(dirs); i++) {
        snprintf(path, sizeof(path), "%s%s", top, dirs[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    snprintf(path, sizeof(path), "%s/a/b/file", top);
    put(path, "x");
    snprintf(path, sizeof(path), "%s/locked/in/file", top);
    put(path, "x");
    snprintf(path, sizeof(path), "%s/fifo", top);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof(path), "%s/a/out", top);
    assert_int_equal(symlink("../../kept", path), 0);
    snprintf(path, sizeof(path), "%s/a/gone", top);
    assert_int_equal(symlink("nowhere", path), 0);
    snprintf(path, sizeof(path), "%s/locked/in", top);
    assert_int_equal(chmod(path, 0400), 0);
    snprintf(path, sizeof(path), "%s/locked", top);
    assert_int_equal(chmod(path, 0), 0);
    snprintf(path, sizeof(path), "%s/a", top);
    assert_int_equal(chmod(path, 0555), 0);
}

static void removes_a_tree_and_follows_no_link(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(str) char *kept = at("kept");
    AUTO(str) char *inside = at("kept/file");
    AUTO(str) char *tree = at("tree");
    assert_int_equal(path_make_dirs(kept, 0755, &err), 0);
    put(inside, "x");
    build_tree(tree);
    if (path_remove_tree(tree, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(access(tree, F_OK), -1);
    assert_content(inside, "x");
}

/* Root may do everything, so only another user meets the permissions. */
static void removes_its_own_locked_directories_without_being_root(void **state)
{
    (void)state;
    AUTO(str) char *tree = at("theirs");
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct err err = ERR_INIT;
        if (geteuid() == 0 && (setgid(SOMEBODY) || setuid(SOMEBODY)))
            _exit(2);
        build_tree(tree);
        if (path_remove_tree(tree, &err))
            dprintf(2, "%s\n", err.msg);
        _exit(access(tree, F_OK) == -1 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void removes_what_is_deeper_than_a_path_can_say(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static char name[201];
    AUTO(str) char *tree = at("deep");
    memset(name, 'd', sizeof(name) - 1);
    assert_int_equal(mkdir(tree, 0755), 0);
    AUTO(fd) int fd = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        fd_close(&fd);
        fd = next;
    }
    if (path_remove_tree(tree, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(access(tree, F_OK), -1);
}

static void set_flags(const char *path, int flags)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, FS_IOC_SETFLAGS, &flags) != 0) {
        print_message("SKIPPED: no immutable files here\n");
        skip();
    }
}

static void removes_what_is_immutable(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(str) char *tree = at("fixed");
    AUTO(str) char *below = at("fixed/below");
    AUTO(str) char *file = at("fixed/below/file");
    AUTO(str) char *log = at("fixed/log");
    assert_int_equal(mkdir(tree, 0755), 0);
    assert_int_equal(mkdir(below, 0755), 0);
    put(file, "x");
    put(log, "x");
    set_flags(file, FS_IMMUTABLE_FL);
    set_flags(log, FS_APPEND_FL);
    set_flags(below, FS_IMMUTABLE_FL);
    set_flags(tree, FS_APPEND_FL);
    if (path_remove_tree(tree, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(access(tree, F_OK), -1);
}

static void removes_many_full_directories_side_by_side(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char path[256];
    AUTO(str) char *tree = at("wide");
    assert_int_equal(mkdir(tree, 0755), 0);
    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof(path), "%s/%d", tree, i);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof(path), "%s/%d/x", tree, i);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    if (path_remove_tree(tree, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(access(tree, F_OK), -1);
}

/* ext4 keeps the flag, whatever else it thinks of it; others may refuse it, and nothing changes. */
static void spreads_a_directory_and_harms_nothing_else(void **state)
{
    int before = 0, after = 0;
    struct err err = ERR_INIT;
    struct statfs fs;
    (void)state;
    AUTO(str) char *tree = at("spread");
    AUTO(str) char *below = at("spread/below");
    AUTO(str) char *file = at("spread/file");
    assert_int_equal(path_make_dirs(tree, 0711, &err), 0);
    AUTO(fd) int fd = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool has_flags = ioctl(fd, FS_IOC_GETFLAGS, &before) == 0;
    path_spread(tree);
    put(file, "x");
    path_spread(file);
    path_spread(below); /* There is none. */
    if (has_flags && fstatfs(fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC) {
        assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &after), 0);
        assert_int_equal(after, before | FS_TOPDIR_FL);
    }
    assert_int_equal(path_make_dirs(below, 0700, &err), 0);
    assert_content(file, "x");
    assert_int_equal(path_remove_tree(tree, &err), 0);
}

static void removes_a_file_a_link_and_nothing(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(str) char *file = at("one");
    AUTO(str) char *link = at("two");
    put(file, "x");
    assert_int_equal(symlink(dir, link), 0);
    assert_int_equal(path_remove_tree(file, &err), 0);
    assert_int_equal(path_remove_tree(link, &err), 0);
    assert_int_equal(path_remove_tree(link, &err), 0);
    assert_int_equal(access(dir, F_OK), 0);
}

static void finds_programs_as_a_shell_would(void **state)
{
    (void)state;
    AUTO(str) char *program = at("prog");
    AUTO(str) char *plain = at("noprog");
    put(program, "#!/bin/sh\n");
    put(plain, "x");
    assert_int_equal(chmod(program, 0755), 0);
    char search[256];
    snprintf(search, sizeof(search), "/nonexistent::%s", dir);
    AUTO(str) char *found = path_find_program("prog", search);
    assert_string_equal(found, program);
    AUTO(str) char *direct = path_find_program(program, NULL);
    assert_string_equal(direct, program);
    assert_null(path_find_program("noprog", search));
    assert_null(path_find_program("tmp", "/"));
    assert_null(path_find_program("prog", ""));
    assert_null(path_find_program("prog", NULL));
    assert_null(path_find_program("/nonexistent/x", search));
}

static void replaces_a_file_whole_and_leaves_nothing_beside_it(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct stat st;
    AUTO(str) char *path = at("replaced");
    AUTO(str) char *missing = at("no/such/dir");
    put(path, "one");
    assert_int_equal(file_replace(path, "two", 3, 0600, &err), 0);
    assert_content(path, "two");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_replace(missing, "x", 1, 0600, &err), -1);
    char next[512];
    snprintf(next, sizeof(next), "%s.%d.new", path, (int)gettid());
    assert_int_equal(access(next, F_OK), -1);
    /* A directory at that path cannot be replaced: the temporary file is removed again. */
    AUTO(str) char *taken = at("taken");
    assert_int_equal(mkdir(taken, 0755), 0);
    assert_int_equal(file_replace(taken, "x", 1, 0600, &err), -1);
    snprintf(next, sizeof(next), "%s.%d.new", taken, (int)gettid());
    assert_int_equal(access(next, F_OK), -1);
}

/* Copies between two files, and from a pipe, from which the kernel cannot copy by itself. */
static void copies_as_much_as_was_asked_for(void **state)
{
    int pipes[2];
    (void)state;
    AUTO(str) char *from = at("copy-from");
    AUTO(str) char *to = at("copy-to");
    put(from, "0123456789");
    AUTO(fd) int in = open(from, O_RDONLY);
    AUTO(fd) int out = open(to, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(in >= 0 && out >= 0);
    assert_int_equal(fd_copy(in, out, 4), 0);
    assert_content(to, "0123");
    assert_int_equal(fd_copy(in, out, 100), 0); /* there is no more */
    assert_content(to, "0123456789");
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(write(pipes[1], "abcdef", 6), 6);
    close(pipes[1]);
    assert_int_equal(fd_copy(pipes[0], out, 3), 0);
    assert_int_equal(fd_copy(-1, out, 3), -1);
    close(pipes[0]);
    assert_content(to, "0123456789abc");
}

static void reads_regular_files_only_and_up_to_a_maximum(void **state)
{
    (void)state;
    AUTO(str) char *path = at("read");
    AUTO(str) char *fifo = at("pipe");
    put(path, "0123456789");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        enum err_code code;
    } cases[] = {
        {"/nonexistent/x", ERR_NOT_FOUND}, {dir, ERR_INVALID},    {fifo, ERR_INVALID},
        {"/dev/null", ERR_INVALID},        {path, ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf out = BUF_INIT(9);
        assert_int_equal(file_read(cases[i].path, &out, &err), -1);
        assert_int_equal(err.code, cases[i].code);
    }
    assert_content(path, "0123456789");
}

static void reads_and_writes_at_offsets(void **state)
{
    (void)state;
    char text[16] = "";
    AUTO(str) char *path = at("offsets");
    AUTO(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_all(fd, "0123456789", 10), 0);
    assert_int_equal(fd_pwrite_all(fd, "ab", 2, 4), 0);
    assert_int_equal(fd_pread_full(fd, text, 4, 3), 4);
    assert_memory_equal(text, "3ab6", 4);
    assert_int_equal(fd_pread_full(fd, text, 16, 8), 2);
    assert_int_equal(fd_pread_full(fd, text, 16, 100), 0);
    assert_int_equal(fd_pread_full(-1, text, 1, 0), -1);
    assert_int_equal(fd_write_all(-1, "x", 1), -1);
    errno = 7;
    fd_close(&fd);
    fd_close(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(errno, 7);
}

static void a_lock_is_held_until_its_descriptor_closes(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(str) char *path = at("lock");
    AUTO(fd) int first = file_lock(path, &err);
    assert_true(first >= 0);
    assert_int_equal(file_lock(path, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    fd_close(&first);
    AUTO(fd) int second = file_lock(path, &err);
    assert_true(second >= 0);
}

static int note_file(int below, const char *name, const char *path, const struct stat *st,
                     void *arg)
{
    struct stat again;
    assert_int_equal(fstatat(below, name, &again, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(again.st_ino, st->st_ino);
    struct strlist *list = arg;
    strlist_addf(list, "%s:%ld", path, (long)st->st_size);
    return list->count == 3 ? 7 : 0;
}

static void walks_over_files_and_follows_no_link(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(strlist) struct strlist found = STRLIST_INIT;
    AUTO(str) char *top = at("walk"), *below = at("walk/a/b"), *link = at("walk/link");
    AUTO(str) char *way_out = at("walk/way-out"), *pipe = at("walk/pipe");
    assert_int_equal(path_make_dirs(below, 0755, &err), 0);
    AUTO(str) char *one = at("walk/one");
    put(one, "1");
    AUTO(str) char *two = at("walk/a/b/two");
    put(two, "22");
    assert_int_equal(symlink("one", link), 0);
    assert_int_equal(symlink("/etc", way_out), 0);
    assert_int_equal(mkfifo(pipe, 0644), 0);
    assert_int_equal(walk_files(open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC), note_file, &found),
                     0);
    assert_int_equal(found.count, 2);
    assert_true(strlist_has(&found, "one:1"));
    assert_true(strlist_has(&found, "a/b/two:2"));
    AUTO(str) char *three = at("walk/three");
    put(three, "333"); /* the third ends it */
    AUTO(str) char *four = at("walk/four");
    put(four, "4444");
    AUTO(strlist) struct strlist again = STRLIST_INIT;
    assert_int_equal(walk_files(open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC), note_file, &again),
                     7);
    assert_int_equal(again.count, 3);
}

static void walks_no_deeper_than_it_promises(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(strlist) struct strlist found = STRLIST_INIT;
    AUTO(str) char *top = at("deep");
    AUTO(buf) struct buf path = BUF_INIT(4096);
    buf_adds(&path, "deep");
    for (int i = 0; i < WALK_DEPTH_MAX + 1; i++) {
        buf_adds(&path, "/d");
        AUTO(str) char *full = at(buf_str(&path));
        assert_int_equal(path_make_dirs(full, 0755, &err), 0);
        if (i >= WALK_DEPTH_MAX - 1) {
            AUTO(str) char *name = path_join(full, "file");
            put(name, "x");
        }
    }
    assert_int_equal(walk_files(open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC), note_file, &found),
                     0);
    assert_int_equal(found.count, 1);
    assert_int_equal(walk_files(open("/dev/null", O_RDONLY | O_CLOEXEC), note_file, &found), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_inside_has_no_way_out),
        cmocka_unit_test(makes_missing_parents_and_keeps_what_is_there),
        cmocka_unit_test(removes_a_tree_and_follows_no_link),
        cmocka_unit_test(removes_its_own_locked_directories_without_being_root),
        cmocka_unit_test(removes_what_is_deeper_than_a_path_can_say),
        cmocka_unit_test(removes_what_is_immutable),
        cmocka_unit_test(removes_many_full_directories_side_by_side),
        cmocka_unit_test(spreads_a_directory_and_harms_nothing_else),
        cmocka_unit_test(removes_a_file_a_link_and_nothing),
        cmocka_unit_test(finds_programs_as_a_shell_would),
        cmocka_unit_test(replaces_a_file_whole_and_leaves_nothing_beside_it),
        cmocka_unit_test(copies_as_much_as_was_asked_for),
        cmocka_unit_test(reads_regular_files_only_and_up_to_a_maximum),
        cmocka_unit_test(reads_and_writes_at_offsets),
        cmocka_unit_test(walks_over_files_and_follows_no_link),
        cmocka_unit_test(walks_no_deeper_than_it_promises),
        cmocka_unit_test(a_lock_is_held_until_its_descriptor_closes),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
