/*
 * Archives that are the same bytes on every machine: compared with GNU tar, gzip and Python's
 * tarfile.
 */
#include "testbase.h"

#include "pack/bundle.h"
#include "pack/gzip.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;

static int set_up(void **state)
{
    (void)state;
    dir = tmp_dir_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tmp_dir_free(dir);
    return 0;
}

/* Runs a script in the test's directory; $A is the argument. */
static void shell(const char *script_text, const char *a)
{
    AUTO(str) char *script = NULL;
    assert_true(asprintf(&script, "set -e; cd %s; A=%s; %s", dir, a, script_text) > 0);
    proc_shell(script);
}

static struct bundle pack(const char *name, const struct bundle_options *options, const char *to)
{
    struct err err = ERR_INIT;
    struct bundle bundle;
    AUTO(str) char *path = textf("%s/%s", dir, name), *out = textf("%s/%s", dir, to);
    int fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    OK(bundle_write(path, options, fd, &bundle, &err) == 0, &err);
    close(fd);
    assert_int_equal(file_size(out), bundle.size);
    return bundle;
}

static const struct bundle_options plain = {.level = 0};

static void make_tree(void)
{
    shell("mkdir -p tree/sub/deep tree/empty tree/.git; printf one >tree/a.txt; printf 'x\\n' "
          ">tree/sub/b;"
          "printf two >tree/a; mkdir 'tree/a-b'; printf z >'tree/a-b/ü n'; : >tree/none;"
          "ln -s sub/b tree/link; ln -s $(printf 'long/%.0s' {1..60}) tree/farlink;"
          "d=tree/$(printf 'd%.0s' {1..90}); mkdir $d; printf long >$d/$(printf 'f%.0s' {1..90});"
          "head -c 700000 /dev/zero | tr '\\0' 'q' >tree/big; head -c 900000 /dev/urandom "
          ">tree/noise;"
          "chmod 755 tree/a.txt; chmod 600 tree/sub/b; chmod 500 tree/empty; printf g >tree/.git/x",
          "");
}

static void gnu_tar_and_python_read_it_as_they_would_write_it(void **state)
{
    (void)state;
    make_tree();
    pack("tree", &plain, "ours.tgz");
    shell(
        "gzip -t ours.tgz; mkdir out; tar -xzpf ours.tgz -C out; diff -r --no-dereference tree out;"
        "(cd tree && find . -printf '%P %m %l\\n' | sort) | sed '/^ /d' >a;"
        "(cd out && find . -printf '%P %m %l\\n' | sort) | sed '/^ /d' >b; diff a b;"
        "tar --quoting-style=literal -tzf ours.tgz | sed 's,/$,,' | LC_ALL=C sort >names;"
        "(cd tree && find . -mindepth 1 -printf '%P\\n' | LC_ALL=C sort) >found; diff names found",
        "");
    shell("cat >check.py <<'X'\n"
          "import tarfile, os\n"
          "members = tarfile.open('ours.tgz').getmembers()\n"
          "for m in members: assert (m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, '', "
          "''), m\n"
          "theirs = tarfile.open('theirs.tar', 'w')\n"
          "for name in sorted(os.listdir('tree')): theirs.add('tree/' + name, name)\n"
          "theirs.close()\n"
          "key = lambda m: (m.name, m.mode, m.size, m.type, m.linkname)\n"
          "theirs = tarfile.open('theirs.tar').getmembers()\n"
          "assert sorted(map(key, members)) == sorted(map(key, theirs))\n"
          "X\nLC_ALL=C.UTF-8 /usr/bin/python3 check.py",
          "");
}

static void the_same_tree_is_the_same_bytes(void **state)
{
    struct bundle first, other;
    static const struct bundle_options threads[] = {{.threads = 1}, {.threads = 2}, {.threads = 7}};
    (void)state;
    make_tree();
    first = pack("tree", &plain, "first.tgz");
    for (size_t i = 0; i < COUNT(threads); i++) {
        other = pack("tree", &threads[i], "other.tgz");
        assert_string_equal(other.sha256, first.sha256);
    }
    mode_t mask = umask(077);
    shell("cp -a tree copy; find copy -exec touch -h -d 2001-01-01 {} +", "");
    other = pack("copy", &plain, "other.tgz");
    umask(mask);
    assert_string_equal(other.sha256, first.sha256);
    shell("sha256sum first.tgz | cut -c1-64 >sum; test $(cat sum) = $A", first.sha256);
    shell("chmod u+x copy/none", "");
    other = pack("copy", &plain, "other.tgz");
    assert_string_not_equal(other.sha256, first.sha256);
}

static void a_file_is_its_archives_one_member(void **state)
{
    (void)state;
    shell("printf data >file; mkdir lone; printf data >lone/file; mkdir none", "");
    struct bundle file = pack("file", &plain, "file.tgz");
    assert_int_equal(file.members, 1);
    assert_int_equal(file.bytes, 4);
    shell("test \"$(tar -tzf file.tgz)\" = file; test \"$(tar -xzOf file.tgz)\" = data", "");
    /* A directory that holds only that file gives another archive. */
    struct bundle lone = pack("lone", &plain, "lone.tgz");
    assert_string_not_equal(lone.sha256, file.sha256);
    shell("test \"$(tar -tzf lone.tgz | tr '\\n' ,)\" = ./,file,", "");
    assert_int_equal(pack("none", &plain, "none.tgz").members, 0);
    shell("test -z \"$(tar -tzf none.tgz)\"", "");
}

static void what_git_ignores_stays_behind_when_asked(void **state)
{
    const struct bundle_options asked = {.gitignore = true};
    (void)state;
    shell(
        "mkdir -p r/build r/src/build r/docs r/keep r/.git/x; cd r;"
        "printf '*.o\\n/build\\n!keep.o\\n# no\\n\\nlogs/\\nsrc/**/gen\\n\\\\!odd\\ntail  \\n' "
        ">.gitignore;"
        "printf '*.tmp\\n!important.tmp\\n' >docs/.gitignore; mkdir -p logs src/a/gen docs/logs;"
        "touch a.o keep.o b.c build/x src/build/y src/a/gen/z logs/l docs/n.tmp docs/important.tmp"
        " docs/logs/k n.tmp '!odd' tail .git/x/y src/logs",
        "");
    pack("r", &asked, "r.tgz");
    shell("cd r; git init -q . 2>/dev/null; git ls-files -co --exclude-standard | LC_ALL=C sort "
          ">../want;"
          "cd ..; tar -tzf r.tgz | grep -v '/$' | LC_ALL=C sort >got; diff want got",
          "");
    assert_true(pack("r", &plain, "all.tgz").members > 20);
}

/* The sink of an archive may be slow, and the file may change before it continues. */
static void a_file_that_changes_while_it_is_read_is_noticed(void **state)
{
    struct err err = ERR_INIT;
    struct bundle bundle;
    int ends[2];
    (void)state;
    shell("mkdir c; head -c 4000000 /dev/urandom >c/grows", "");
    AUTO(str) char *path = textf("%s/c", dir), *file = textf("%s/c/grows", dir);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const struct bundle_options one = {.threads = 1};
    pid_t reader = fork(); /* reads some bytes, changes the file, reads the rest */
    if (reader == 0) {
        static char piece[65536];
        close(ends[1]);
        if (read(ends[0], piece, sizeof(piece)) < 0)
            _exit(1);
        int fd = open(file, O_WRONLY | O_APPEND);
        if (fd < 0 || write(fd, "more", 4) != 4)
            _exit(2);
        while (read(ends[0], piece, sizeof(piece)) > 0)
            continue;
        _exit(0);
    }
    close(ends[0]);
    int rc = bundle_write(path, &one, ends[1], &bundle, &err);
    close(ends[1]);
    int status = -1;
    assert_true(proc_wait(reader, 20000, &status));
    assert_int_equal(status, 0);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "grows changed while it was read"));
}

static void errors_name_the_path(void **state)
{
    struct err err = ERR_INIT;
    struct bundle bundle;
    (void)state;
    AUTO(str) char *missing = textf("%s/missing", dir);
    assert_int_equal(bundle_write(missing, &plain, -1, &bundle, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "missing"));
    assert_int_equal(bundle_write("/dev/null", &plain, -1, &bundle, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    shell("mkdir odd; mkfifo odd/pipe; printf x >odd/file", "");
    assert_int_equal(pack("odd", &plain, "odd.tgz").skipped, 1);
}

static void a_full_disk_ends_the_packing(void **state)
{
    struct err err = ERR_INIT;
    struct bundle bundle;
    (void)state;
    shell("mkdir full; head -c 3000000 /dev/urandom >full/x", "");
    AUTO(str) char *path = textf("%s/full", dir);
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(bundle_write(path, &plain, fd, &bundle, &err), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    close(fd);
}

static int add_to_file(const void *data, size_t len, void *arg, struct err *err)
{
    (void)err;
    return fwrite(data, 1, len, arg) == len ? 0 : -1;
}

/* Sizes about the edges of a block, with and without noise. */
static void any_size_comes_back_as_it_was(void **state)
{
    static const size_t sizes[] = {
        0, 1, GZIP_BLOCK - 1, GZIP_BLOCK, GZIP_BLOCK + 1, 5 * GZIP_BLOCK};
    (void)state;
    for (size_t i = 0; i < COUNT(sizes) * 2; i++) {
        size_t size = sizes[i / 2];
        struct err err = ERR_INIT;
        AUTO(str) char *raw = textf("%s/raw", dir), *packed = textf("%s/raw.gz", dir);
        AUTO(str) char *data = calloc(1, size + 1);
        for (size_t k = 0; k < size; k++)
            data[k] = (char)(i % 2 ? random() : (long)(k / 100));
        FILE *plain_file = fopen(raw, "w"), *out = fopen(packed, "w");
        assert_int_equal(fwrite(data, 1, size, plain_file), size);
        fclose(plain_file);
        struct gzip *gzip = gzip_new(6, 3, add_to_file, out, &err);
        OK(gzip && gzip_add(gzip, data, size, &err) == 0 && gzip_end(gzip, &err) == 0, &err);
        gzip_free(gzip);
        fclose(out);
        shell("gzip -dc raw.gz | cmp - raw", "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gnu_tar_and_python_read_it_as_they_would_write_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_same_tree_is_the_same_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_is_its_archives_one_member, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_git_ignores_stays_behind_when_asked, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_changes_while_it_is_read_is_noticed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(errors_name_the_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_ends_the_packing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_size_comes_back_as_it_was, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
