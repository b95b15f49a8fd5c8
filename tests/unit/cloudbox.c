/* What of a box travels, and what state.json is worth. */
#include "testbase.h"

#include "base/fd.h"
#include "pack/tgz.h"
#include "pack/unpack.h"
#include "runner/cloudbox/manifest.h"
#include "runner/cloudbox/state.h"
#include "tmp.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;

static int make_box(void **state)
{
    (void)state;
    dir = tmp_dir_new();
    for (const char *const *part = manifest_parts; *part; part++) {
        char *path = textf("%s/%s", dir, *part);
        assert_int_equal(mkdir(path, 0755), 0);
        free(path);
    }
    return 0;
}

static int remove_box(void **state)
{
    (void)state;
    tmp_dir_free(dir);
    return 0;
}

static void put(const char *name, const char *text)
{
    char *path = textf("%s/workspace/%s", dir, name);
    write_file(path, text, 0644);
    free(path);
}

static void read_box(struct manifest *manifest)
{
    struct err err = ERR_INIT;
    AUTO(fd) int box = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    OK(manifest_read(box, manifest, &err) == 0, &err);
}

struct seen {
    char text[500];
};

static int note(const struct manifest_entry *before, const struct manifest_entry *after, void *arg)
{
    struct seen *seen = arg;
    size_t len = strlen(seen->text);
    snprintf(seen->text + len, sizeof(seen->text) - len, "%c%s ",
             !before ? '+'
             : after ? '*'
                     : '-',
             (before ? before : after)->path);
    return 0;
}

static void what_has_changed_is_seen_whatever_its_times_say(void **state)
{
    (void)state;
    struct seen seen = {""};
    const struct timespec old[] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    AUTO(manifest) struct manifest before = {0}, after = {0};
    put("same", "1");
    put("edited", "1");
    put("removed", "1");
    put("file", "1");
    read_box(&before);
    put("edited", "2"); /* as long as before, and dated back */
    char *path = textf("%s/workspace/edited", dir);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    free(path);
    path = textf("%s/workspace/removed", dir);
    unlink(path);
    free(path);
    path = textf("%s/workspace/file", dir);
    unlink(path);
    assert_int_equal(mkdir(path, 0755), 0);
    free(path);
    path = textf("%s/workspace/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    free(path);
    put("added", "1");
    read_box(&after);
    manifest_compare(&before, &after, note, &seen);
    assert_string_equal(seen.text,
                        "+workspace/added *workspace/edited *workspace/file -workspace/removed ");
}

static int keep(const void *data, size_t len, void *arg)
{
    return buf_add(arg, data, len);
}

static ssize_t give(void *data, size_t max, void *arg, struct err *err)
{
    struct buf *from = arg;
    size_t n = from->len < max ? from->len : max;
    (void)err;
    memcpy(data, from->data, n);
    buf_drop(from, n);
    return (ssize_t)n;
}

/* Any name, links that lead anywhere, modes and times; nothing is written through a link. */
static void a_layer_is_unpacked_as_it_was(void **state)
{
    (void)state;
    struct stat st;
    char target[64] = "";
    struct err err = ERR_INIT;
    struct unpack_result result;
    const struct unpack_limits exact = {.bytes = 100000, .entries = 10, .exact = true},
                               strict = {.bytes = 100000, .entries = 10};
    for (int i = 0; i < 3; i++) {
        AUTO(buf) struct buf packed = BUF_INIT(65536);
        AUTO(tgz) struct tgz *tgz = tgz_new(keep, &packed, &err);
        OK(tgz_directory(tgz, "d", 0755, 5, &err) == 0, &err);
        OK(tgz_file(tgz, "d/\xff\n", 0755, 1234567, 1, &err) == 0, &err);
        OK(tgz_data(tgz, "x", 1, &err) == 0, &err);
        OK(tgz_link(tgz, "d/out", "/etc", &err) == 0, &err);
        if (i == 2)
            OK(tgz_file(tgz, "d/out/through", 0755, 5, 0, &err) == 0, &err);
        OK(tgz_end(tgz, &err) == 0, &err);
        AUTO(fd) int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int rc = unpack_below(at, give, &packed, i == 0 ? &strict : &exact, &result, &err);
        assert_int_equal(rc, i == 1 ? 0 : -1);
        if (rc)
            assert_int_equal(err.code, ERR_MISMATCH);
    }
    char *path = textf("%s/d/\xff\n", dir);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    assert_int_equal(st.st_mtime, 1234567);
    free(path);
    path = textf("%s/d/out", dir);
    assert_true(readlink(path, target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "/etc");
    free(path);
}

static void a_state_of_the_replaced_sandbox_is_one(void **state)
{
    (void)state;
    static const char replaced[] = "{\"session_id\":\"a\",\"cwd\":\"/tmp\",\"env_vars\":{\"A\":"
                                   "\"1\"},\"background_pids\":{},\"created_at\":\"2025\"}";
    static const char *const wrong[] = {
        "",
        "[]",
        "{\"cwd\":\"tmp\"}",
        "{\"cwd\":1}",
        "{\"env_vars\":{\"A\":1}}",
        "{\"workspace\":[{\"name\":\"../a\",\"bytes\":1,\"gone\":false}]}",
        "{\"workspace\":[{\"name\":\"a\",\"bytes\":-1,\"gone\":false}]}",
        "{\"shells\":[]}"};
    struct err err = ERR_INIT;
    AUTO(box_state) struct box_state read = {0};
    OK(box_state_parse(replaced, strlen(replaced), &read, &err) == 0, &err);
    assert_string_equal(read.cwd, "/tmp");
    assert_string_equal(read.env, "{\"A\":\"1\"}");
    assert_int_equal(read.layer_count, 0);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct box_state none;
        assert_int_equal(box_state_parse(wrong[i], strlen(wrong[i]), &none, &err), -1);
        assert_int_equal(err.code, ERR_UPSTREAM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_has_changed_is_seen_whatever_its_times_say, make_box,
                                        remove_box),
        cmocka_unit_test_setup_teardown(a_layer_is_unpacked_as_it_was, make_box, remove_box),
        cmocka_unit_test(a_state_of_the_replaced_sandbox_is_one),
    };
    return cmocka_run_group_tests_name("cloudbox", tests, NULL, NULL);
}
