/*
 * runner/claude/conversation: a conversation is kept whole or not at all, and restored.
 */
#include "testbase.h"

#include "base/path.h"
#include "runner/claude/conversation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SESSION "0dc04b77-2b5a-4e55-9fa4-55a6cf5c8d7b"
#define OTHER "11111111-2b5a-4e55-9fa4-55a6cf5c8d7b"
#define SLUG "-var-lib-work"

struct place {
    char *state;
    char *run;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    place->state = tmp_dir_new();
    place->run = textf("%s/run", place->state);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    tmp_dir_free(place->state);
    free(place->run);
    free(place);
    return 0;
}

/* Writes a file below the run's projects. */
static void put(const struct place *place, const char *name, const char *text)
{
    struct err err;
    AUTO(str) char *path = textf("%s/config/projects/%s", place->run, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    OK(path_make_dirs(path, 0700, &err) == 0, &err);
    *slash = '/';
    write_bytes(path, text, strlen(text));
}

/* Makes a sparse file of that size there. */
static void put_big(const struct place *place, const char *name, off_t size)
{
    AUTO(str) char *path = textf("%s/config/projects/%s", place->run, name);
    put(place, name, "x");
    assert_int_equal(truncate(path, size), 0);
}

static void new_run(const struct place *place)
{
    struct err err;
    OK(path_remove_tree(place->run, &err) == 0, &err);
    OK(path_make_dirs(place->run, 0700, &err) == 0, &err);
}

static int save(const struct place *place)
{
    struct err err = ERR_INIT;
    return conversation_save(place->state, SESSION, place->run, &err);
}

/* Restores the conversation into a new run. Returns the transcript's text, or NULL when there is
 * none. */
static char *restore(const struct place *place)
{
    struct err err;
    AUTO(str) char *path = NULL;
    new_run(place);
    if (conversation_restore(place->state, SESSION, place->run, getuid(), getgid(), &path, &err)) {
        assert_int_equal(err.code, ERR_NOT_FOUND);
        return NULL;
    }
    return read_file(path, NULL);
}

static void assert_restored(const struct place *place, const char *text)
{
    AUTO(str) char *got = restore(place);
    assert_non_null(got);
    assert_string_equal(got, text);
}

static bool there(const struct place *place, const char *name)
{
    struct stat st;
    AUTO(str) char *path = textf("%s/config/projects/%s", place->run, name);
    return lstat(path, &st) == 0;
}

static void what_was_kept_comes_back(void **state)
{
    const struct place *place = *state;
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    put(place, SLUG "/" SESSION "/tool-results/a.txt", "long");
    put(place, "other/" SESSION "/subagents/b.jsonl", "sub");
    put(place, SLUG "/" OTHER ".jsonl", "not ours");
    put(place, SLUG "/memory/m.md", "not ours");
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\n");
    assert_true(there(place, SLUG "/" SESSION "/tool-results/a.txt"));
    assert_true(there(place, "other/" SESSION "/subagents/b.jsonl"));
    assert_false(there(place, SLUG "/" OTHER ".jsonl"));
    assert_false(there(place, SLUG "/memory"));
}

static void only_the_owner_may_look(void **state)
{
    const struct place *place = *state;
    struct stat st;
    AUTO(str) char *all = textf("%s/" CONVERSATIONS, place->state);
    AUTO(str) char *one = textf("%s/" SESSION, all);
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    assert_int_equal(save(place), 1);
    assert_int_equal(stat(all, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(one, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void a_later_save_takes_the_place_of_an_earlier_one(void **state)
{
    const struct place *place = *state;
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    put(place, SLUG "/" SESSION "/a", "a");
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\n");
    put(place, SLUG "/" SESSION ".jsonl", "one\ntwo\n");
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\ntwo\n");
    assert_true(there(place, SLUG "/" SESSION "/a"));
}

static void a_task_that_left_nothing_changes_nothing(void **state)
{
    const struct place *place = *state;
    new_run(place);
    assert_int_equal(save(place), 0);
    put(place, SLUG "/" OTHER ".jsonl", "not ours");
    put(place, SLUG "/" SESSION ".jsonl", "");
    assert_int_equal(save(place), 0);
    assert_null(restore(place));
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    assert_int_equal(save(place), 1);
    new_run(place);
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\n");
}

static void what_a_crash_left_half_done_is_passed_over(void **state)
{
    const struct place *place = *state;
    AUTO(str) char *half = textf("%s/" CONVERSATIONS "/" SESSION ".new/x", place->state);
    struct err err;
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    assert_int_equal(save(place), 1);
    OK(path_make_dirs(half, 0700, &err) == 0, &err);
    assert_restored(place, "one\n");
    put(place, SLUG "/" SESSION ".jsonl", "two\n");
    assert_int_equal(save(place), 1);
    assert_restored(place, "two\n");
    assert_int_not_equal(access(half, F_OK), 0);
}

static void what_is_too_large_is_left_out(void **state)
{
    const struct place *place = *state;
    struct err err = ERR_INIT;
    put_big(place, SLUG "/" SESSION ".jsonl", (off_t)CONVERSATION_TRANSCRIPT_MAX + 1);
    assert_int_equal(conversation_save(place->state, SESSION, place->run, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_null(restore(place));
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    put_big(place, SLUG "/" SESSION "/a", CONVERSATION_BYTES_MAX);
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\n");
    assert_false(there(place, SLUG "/" SESSION "/a"));
    put_big(place, SLUG "/" SESSION ".jsonl", (off_t)CONVERSATION_TRANSCRIPT_MAX + 1);
    assert_int_equal(save(place), 1); /* what was kept earlier is still kept */
    assert_restored(place, "one\n");
}

static void a_tree_too_deep_is_left_out(void **state)
{
    const struct place *place = *state;
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    put(place, SLUG "/" SESSION "/1/2/3/4/5/6/7/8/9/a", "a");
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\n");
    assert_false(there(place, SLUG "/" SESSION));
}

/* Puts a link with this target at the conversation's place. */
static void put_link(const struct place *place, const char *name, const char *to)
{
    AUTO(str) char *path = textf("%s/config/projects/%s", place->run, name);
    put(place, name, "x");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(to, path), 0);
}

static void links_and_pipes_are_not_followed(void **state)
{
    const struct place *place = *state;
    AUTO(str) char *secret = textf("%s/secret", place->state);
    AUTO(str)
    char *pipe = textf("%s/config/projects/" SLUG "/" SESSION "/pipe", place->run);
    write_bytes(secret, "the runner's own", 16);
    put_link(place, SLUG "/" SESSION ".jsonl", secret);
    assert_int_equal(save(place), 0);
    new_run(place);
    put(place, "real/" SESSION ".jsonl", "one\n");
    put_link(place, "real/" SESSION "/link", secret);
    put_link(place, "project", "real");
    put(place, SLUG "/" SESSION "/plain", "plain");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(save(place), 1);
    assert_restored(place, "one\n");
    assert_false(there(place, "real/" SESSION "/link"));
    assert_false(there(place, "project"));
    assert_false(there(place, SLUG "/" SESSION "/pipe"));
    assert_true(there(place, SLUG "/" SESSION "/plain"));
}

static void projects_that_are_a_link_are_not_looked_into(void **state)
{
    const struct place *place = *state;
    AUTO(str) char *real = textf("%s/real", place->state);
    AUTO(str) char *projects = textf("%s/config/projects", place->run);
    put(place, SLUG "/" SESSION ".jsonl", "one\n");
    assert_int_equal(rename(projects, real), 0);
    assert_int_equal(symlink(real, projects), 0);
    assert_int_equal(save(place), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_was_kept_comes_back),
        TEST(only_the_owner_may_look),
        TEST(a_later_save_takes_the_place_of_an_earlier_one),
        TEST(a_task_that_left_nothing_changes_nothing),
        TEST(what_a_crash_left_half_done_is_passed_over),
        TEST(what_is_too_large_is_left_out),
        TEST(a_tree_too_deep_is_left_out),
        TEST(links_and_pipes_are_not_followed),
        TEST(projects_that_are_a_link_are_not_looked_into),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
