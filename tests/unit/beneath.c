/* Paths below a directory: the kernel's answers, and those where it has no openat2(). */
#include "testbase.h"

#include "base/beneath.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "tmp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *dir;

static void put(const char *name)
{
    AUTO(str) char *path = textf("%s/%s", dir, name);
    struct err err;
    OK(file_replace(path, name, strlen(name), 0644, &err) == 0, &err);
}

static void link_to(const char *text, const char *name)
{
    AUTO(str) char *path = textf("%s/%s", dir, name);
    assert_int_equal(symlink(text, path), 0);
}

static void make_deep(char *path, size_t size, int depth)
{
    size_t len = strlen(path);
    for (int i = 0; i < depth && len + 2 < size; i++, len += 2) {
        assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
        memcpy(path + len, "/d", 3);
    }
}

static int set_up(void **state)
{
    char deep[PATH_MAX];
    struct err err;
    (void)state;
    dir = tmp_dir_new();
    AUTO(str) char *below = textf("%s/in/a/b", dir);
    OK(path_make_dirs(below, 0755, &err) == 0, &err);
    put("out");
    put("in/file");
    put("in/a/b/leaf");
    link_to("a/b", "in/link");
    link_to("/a/b", "in/whole");
    link_to("../out", "in/up");
    link_to("../../out", "in/a/upper");
    link_to("loop", "in/loop");
    link_to("nothing", "in/nowhere");
    link_to("link/leaf", "in/leaf");
    link_to("b/../../file", "in/a/roundabout");
    link_to("link/", "in/slash");
    snprintf(deep, sizeof(deep), "%s/in/a/d", dir);
    make_deep(deep, sizeof(deep), 60);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tmp_dir_free(dir);
    return 0;
}

/* Each with every way and some flags. */
static const char *const paths[] = {
    "file",
    "a/b/leaf",
    "a//b/./leaf",
    "a/b/",
    "a/b/..",
    "a/b/../../file",
    "..",
    "../out",
    "../../../../out",
    ".",
    "/",
    "/file",
    "/a/b/leaf",
    "/..",
    "",
    "link",
    "link/",
    "link/leaf",
    "link/../b/leaf",
    "whole",
    "whole/leaf",
    "up",
    "a/upper",
    "/up",
    "loop",
    "loop/x",
    "nowhere",
    "nowhere/x",
    "leaf",
    "leaf/x",
    "a/roundabout",
    "slash",
    "slash/leaf",
    "file/",
    "file/x",
    "file/..",
    "none",
    "none/x",
    "a/none",
    "a/b/none",
    "a/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d",
    "a/d/d/../../b/leaf",
    "./.././a",
    "a/../../in/file",
};

static const int flags[] = {O_RDONLY,
                            O_PATH,
                            O_PATH | O_NOFOLLOW,
                            O_PATH | O_DIRECTORY,
                            O_RDONLY | O_DIRECTORY,
                            O_RDONLY | O_NOFOLLOW,
                            O_WRONLY};

/* What it led to, by inode, or why it did not. */
static void tell_one(int top, const char *path, int how, int flag, struct buf *out)
{
    struct stat st;
    AUTO(fd) int fd = beneath_open(top, path, flag, 0, (enum beneath)how);
    int error = fd < 0 ? errno : 0;
    bool there = fd >= 0 && fstat(fd, &st) == 0;
    bool kept = fd < 0 || fcntl(fd, F_GETFD) & FD_CLOEXEC;
    buf_addf(out, "%d '%s' %x: %llu %s%s\n", how, path, (unsigned)flag,
             there ? (unsigned long long)st.st_ino : 0, strerror(error), kept ? "" : " inherited");
}

static void tell_all(struct buf *out)
{
    AUTO(str) char *place = textf("%s/in", dir);
    AUTO(fd) int top = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int before = dup(top);
    close(before);
    for (size_t i = 0; i < COUNT(paths); i++)
        for (int how = BENEATH_NO_LINKS; how <= BENEATH_ROOT; how++)
            for (size_t k = 0; k < COUNT(flags); k++)
                tell_one(top, paths[i], how, flags[k], out);
    int after = dup(top); /* The same number: no descriptor was left open. */
    close(after);
    buf_addf(out, "%s\n", before == after ? "none left" : "a descriptor is left");
}

/* Acts like a kernel whose openat2() fails so (ENOSYS: it has none), and that has no close_range()
 * past the last number. */
static bool be_older(int error)
{
    enum { NR = offsetof(struct seccomp_data, nr), ARGS = offsetof(struct seccomp_data, args) };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGS + 8),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, INT_MAX, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {COUNT_OF(filter), filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Runs it in a process that acts so; returns what it wrote. */
static char *told_by_older(void (*tell)(struct buf *out), int error)
{
    int ends[2], status;
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        AUTO(buf) struct buf out = BUF_INIT(1u << 20);
        close(ends[0]);
        if (!be_older(error))
            _exit(77);
        tell(&out);
        _exit(fd_write_all(ends[1], out.data, out.len) ? 1 : 0);
    }
    close(ends[1]);
    OK(fd_read_all(ends[0], &text, &err) == 0, &err);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        return NULL;
    assert_int_equal(status, 0);
    return strdup(buf_str(&text));
}

static void same_answers_when_it_fails_by(int error)
{
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    AUTO(str) char *older = told_by_older(tell_all, error);
    if (!older)
        SKIP_BECAUSE("no system-call filters here");
    tell_all(&text);
    char *save = NULL, *other_save = NULL;
    char *line = strtok_r(text.data, "\n", &save), *other = strtok_r(older, "\n", &other_save);
    for (; line && other;
         line = strtok_r(NULL, "\n", &save), other = strtok_r(NULL, "\n", &other_save))
        assert_string_equal(other, line);
    assert_null(line);
    assert_null(other);
}

static void an_older_kernel_gives_the_same_answers(void **state)
{
    (void)state;
    same_answers_when_it_fails_by(ENOSYS);
}

/* Somebody renames or mounts all the time. */
static void a_kernel_that_is_never_sure_gives_the_same_answers(void **state)
{
    (void)state;
    same_answers_when_it_fails_by(EAGAIN);
}

static void tell_made(struct buf *out)
{
    AUTO(str) char *place = textf("%s/in", dir);
    AUTO(fd) int top = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
    static const char *const names[] = {"new", "link/new", "nowhere", "a/upper", "loop", "file"};
    for (size_t i = 0; i < COUNT(names); i++)
        for (int excl = 0; excl < 2; excl++) {
            struct stat st = {0};
            AUTO(fd)
            int fd = beneath_open(top, names[i], O_WRONLY | O_CREAT | (excl ? O_EXCL : 0), 0640,
                                  BENEATH_ROOT);
            int error = fd < 0 ? errno : 0;
            if (fd >= 0)
                fstat(fd, &st);
            buf_addf(out, "%s %d: %o %s\n", names[i], excl, st.st_mode, strerror(error));
        }
    unlinkat(top, "new", 0);
    unlinkat(top, "a/b/new", 0);
    unlinkat(top, "nothing", 0);
    unlinkat(top, "out", 0);
}

static void an_older_kernel_makes_the_same_files(void **state)
{
    (void)state;
    AUTO(buf) struct buf text = BUF_INIT(1u << 16);
    AUTO(str) char *older = told_by_older(tell_made, ENOSYS);
    if (!older)
        SKIP_BECAUSE("no system-call filters here");
    tell_made(&text);
    assert_string_equal(older, buf_str(&text));
}

/* gVisor refuses a range that ends past the last number. */
static void tell_closed(struct buf *out)
{
    int high = fcntl(0, F_DUPFD, 200);
    int rc = fd_close_from(200);
    buf_addf(out, "%d %d", rc, fcntl(high, F_GETFD));
}

static void descriptors_are_closed_where_ranges_must_end(void **state)
{
    (void)state;
    AUTO(str) char *older = told_by_older(tell_closed, ENOSYS);
    if (!older)
        SKIP_BECAUSE("no system-call filters here");
    assert_string_equal(older, "0 -1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_kernel_gives_the_same_answers),
        cmocka_unit_test(a_kernel_that_is_never_sure_gives_the_same_answers),
        cmocka_unit_test(an_older_kernel_makes_the_same_files),
        cmocka_unit_test(descriptors_are_closed_where_ranges_must_end),
    };
    return cmocka_run_group_tests_name("beneath", tests, set_up, tear_down);
}
