/*
 * runner/janitor: what is over its time goes, and nothing else.
 */
#include "testbase.h"

#include "base/clock.h"
#include "base/path.h"
#include "runner/claude/conversation.h"
#include "runner/janitor/janitor.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OLD_SESSION "11111111-2b5a-4e55-9fa4-55a6cf5c8d7b"
#define NEW_SESSION "22222222-2b5a-4e55-9fa4-55a6cf5c8d7b"
#define NO_SESSION "33333333-2b5a-4e55-9fa4-55a6cf5c8d7b"
#define DAY_MS (24 * INT64_C(3600000))

struct house {
    char *dir;
    struct store *store;
    struct repos *repos;
    struct config_in_force in_force;
};

static struct launcher *launcher; /* of the repositories */

static int set_up(void **state)
{
    struct err err;
    struct house *house = calloc(1, sizeof(*house));
    AUTO(config_report) struct config_report report = {0};
    house->dir = tmp_dir_new();
    AUTO(str) char *state_dir = textf("RUNNER_STATE_DIR=%s", house->dir);
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"},
                   (char[]){"KEEP_TASKS_DAYS=3"},
                   (char[]){"JANITOR_SECONDS=1"},
                   (char[]){"HOME=/nonexistent"},
                   state_dir,
                   NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    OK(config, &err);
    config_in_force_init(&house->in_force, config);
    house->store = store_open(house->dir, &err);
    OK(house->store, &err);
    const struct repos_config repos = {
        .config = &house->in_force, .launcher = launcher, .state_dir = house->dir, .marker = "M=1"};
    house->repos = repos_new(&repos, &err);
    OK(house->repos, &err);
    *state = house;
    return 0;
}

static int tear_down(void **state)
{
    struct house *house = *state;
    repos_free(house->repos);
    store_close(house->store);
    config_in_force_done(&house->in_force);
    tmp_dir_free(house->dir);
    free(house);
    return 0;
}

static char *place_of(const struct house *house, const char *in, const char *name)
{
    return textf("%s/%s/%s", house->dir, in, name);
}

/* A directory with something in it that was last changed so long ago. */
static void make(const struct house *house, const char *in, const char *name, int hours)
{
    struct err err;
    AUTO(str) char *path = place_of(house, in, name);
    AUTO(str) char *file = textf("%s/file", path);
    OK(path_make_dirs(path, 0700, &err) == 0, &err);
    write_bytes(file, "x", 1);
    struct timespec then[2];
    clock_gettime(CLOCK_REALTIME, &then[0]);
    then[0].tv_sec -= hours * 3600;
    then[1] = then[0];
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
}

static bool there(const struct house *house, const char *in, const char *name)
{
    AUTO(str) char *path = place_of(house, in, name);
    return access(path, F_OK) == 0;
}

/* A task with a session that ended so long ago, or runs. */
static void add(const struct house *house, const char *id, const char *session, int days_ago)
{
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new task = {.id = id, .kind = "k", .conversation = session, .request = "{}"};
    const struct task_end end = {.state = TASK_COMPLETED,
                                 .reason = "",
                                 .summary = "{}",
                                 .conversation_kept = true,
                                 .now_ms = clock_real_ms() - days_ago * DAY_MS};
    OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
    OK(store_end(house->store, id, ~0u, &end, &err) == 1, &err);
    make(house, "tasks", id, days_ago * 24);
    make(house, CONVERSATIONS, session, days_ago * 24);
}

static void rounds(struct house *house, const char *in, const char *until_gone)
{
    struct err err;
    const struct janitor_config config = {
        .config = &house->in_force, .store = house->store, .repos = house->repos};
    struct janitor *janitor = janitor_new(&config, &err);
    OK(janitor, &err);
    EVENTUALLY(20000, !there(house, in, until_gone));
    janitor_free(janitor); /* at the end of its round */
}

static void tasks_and_their_sessions_go_when_their_time_is_over(void **state)
{
    struct house *house = *state;
    struct err err;
    add(house, "old", OLD_SESSION, 4);
    add(house, "new", NEW_SESSION, 2);
    rounds(house, CONVERSATIONS, OLD_SESSION);
    assert_false(there(house, "tasks", "old"));
    assert_true(there(house, "tasks", "new"));
    assert_true(there(house, CONVERSATIONS, NEW_SESSION));
    assert_int_equal(store_has_conversation(house->store, OLD_SESSION, &err), 0);
    assert_int_equal(store_has_conversation(house->store, NEW_SESSION, &err), 1);
}

static void what_belongs_to_no_task_goes_once_it_is_old(void **state)
{
    struct house *house = *state;
    make(house, "tasks", "young", 0);
    make(house, "tasks", "stray", 2);
    make(house, CONVERSATIONS, NEW_SESSION ".new", 0); /* somebody may be at it */
    make(house, CONVERSATIONS, OLD_SESSION ".new", 2);
    make(house, CONVERSATIONS, NO_SESSION, 2);
    rounds(house, CONVERSATIONS, NO_SESSION);
    assert_true(there(house, "tasks", "young"));
    assert_false(there(house, "tasks", "stray"));
    assert_true(there(house, CONVERSATIONS, NEW_SESSION ".new"));
    assert_false(there(house, CONVERSATIONS, OLD_SESSION ".new"));
}

int main(int argc, char **argv)
{
    struct err err;
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
    launcher = launcher_start(&err);
    if (!launcher)
        return fprintf(stderr, "%s\n", err.msg), 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(tasks_and_their_sessions_go_when_their_time_is_over),
        TEST(what_belongs_to_no_task_goes_once_it_is_old),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    launcher_free(launcher);
    return failed;
}
