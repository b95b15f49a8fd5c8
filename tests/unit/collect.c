/*
 * Outputs are collected while somebody swaps directories and files for links: what is kept was
 * below the workspace.
 */
#include "testbase.h"

#include "base/path.h"
#include "runner/repo/collect.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROUNDS 150
#define SWAPS_MIN 2000
#define EXCHANGE 2u /* RENAME_EXCHANGE */

static atomic_bool over;
static atomic_long swaps;

/* The directories in which names are swapped, by descriptors: no link is on the way. */
struct places {
    int work, out;
};

/* Swaps each name with a link (or a pipe) as fast as it can. */
static void *swap(void *arg)
{
    static const char *const pairs[][2] = {
        {"deep", "to-deep"}, {"file", "to-file"}, {"pipe", "a-pipe"}};
    const struct places *places = arg;
    while (!atomic_load(&over)) {
        for (size_t i = 0; i < COUNT(pairs); i++)
            if (syscall(SYS_renameat2, places->out, pairs[i][0], places->out, pairs[i][1],
                        EXCHANGE) == 0)
                atomic_fetch_add(&swaps, 1);
        (void)syscall(SYS_renameat2, places->work, "out", places->work, "to-house", EXCHANGE);
    }
    return NULL;
}

static void build(const char *dir)
{
    AUTO(str)
    char *script =
        textf("cd %s && mkdir -p house/deep work/out/deep && for f in file deep/file pipe; do"
              " echo canary >house/$f; echo mine >work/out/$f; done;"
              " ln -s %s/house work/to-house; ln -s %s/house/deep work/out/to-deep;"
              " ln -s %s/house/file work/out/to-file; mkfifo work/out/a-pipe",
              dir, dir, dir, dir);
    proc_shell(script);
}

static void nothing_is_kept_that_lies_behind_a_link_that_comes_and_goes(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    pthread_t swapper;
    char *dir = tmp_dir_new();
    AUTO(str) char *work = textf("%s/work", dir);
    AUTO(str)
    char *check = textf(
        "cd %s/kept && ! grep -rqs canary . && [ -z \"$(find . ! -type f ! -type d)\" ]", dir);
    AUTO(strlist) struct strlist patterns = STRLIST_INIT;
    long found = 0;
    build(dir);
    assert_int_equal(strlist_add(&patterns, "**"), 0);
    AUTO(str) char *all = textf("%s/kept", dir);
    OK(path_make_dirs(all, 0700, &err) == 0, &err);
    AUTO(str) char *out = textf("%s/out", work);
    struct places places = {open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                            open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    assert_true(places.work >= 0 && places.out >= 0 &&
                pthread_create(&swapper, NULL, swap, &places) == 0);
    for (int i = 0; i < ROUNDS || atomic_load(&swaps) < SWAPS_MIN; i++) {
        struct json_writer w;
        AUTO(str) char *kept = textf("%s/kept/%d", dir, i);
        AUTO(buf) struct buf json = BUF_INIT(1u << 20);
        json_write(&w, &json);
        json_open_object(&w, NULL);
        OK(collect_files(work, &patterns, kept, &w, &err) == 0, &err);
        json_close(&w);
        found += strstr(buf_str(&json), "\"path\":\"out/") != NULL;
    }
    atomic_store(&over, true);
    pthread_join(swapper, NULL);
    close(places.work);
    close(places.out);
    proc_shell(check);
    assert_true(found > 0);
    tmp_dir_free(dir);
}

/* Where a task's files are in memory there may be no room for a copy. */
static void what_is_kept_is_not_copied_and_what_does_not_fit_is_named(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct stat made, kept;
    struct json_writer w;
    char *dir = tmp_dir_new();
    AUTO(str) char *file = textf("%s/small", dir);
    AUTO(str) char *big = textf("%s/big", dir);
    AUTO(str) char *to = textf("%s.kept", dir);
    AUTO(str) char *same = textf("%s/small", to);
    AUTO(strlist) struct strlist patterns = STRLIST_INIT;
    AUTO(buf) struct buf json = BUF_INIT(1u << 20);
    write_file(file, "x", 0644);
    write_file(big, "", 0644);
    assert_int_equal(truncate(big, COLLECT_BYTES_MAX + 5), 0); /* takes no space */
    assert_int_equal(strlist_add(&patterns, "*"), 0);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    OK(collect_files(dir, &patterns, to, &w, &err) == 0, &err);
    json_close(&w);
    assert_int_equal(stat(file, &made), 0);
    assert_int_equal(stat(same, &kept), 0);
    assert_true(made.st_ino == kept.st_ino && made.st_dev == kept.st_dev);
    assert_non_null(strstr(buf_str(&json), "\"leftPath\":\"big\""));
    assert_non_null(strstr(buf_str(&json), "\"leftBytes\":4294967301"));
    tmp_dir_free(dir);
    tmp_dir_free(to[0] ? strdup(to) : NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept_is_not_copied_and_what_does_not_fit_is_named),
        cmocka_unit_test(nothing_is_kept_that_lies_behind_a_link_that_comes_and_goes),
    };
    return cmocka_run_group_tests_name("collect", tests, NULL, NULL);
}
