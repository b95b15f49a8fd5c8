/*
 * Batches against the real daemon with the stand-in CLI: thousands of runs, a client that is killed
 * again and again, a runner that goes away, a disk that is full, limits, and what a terminal shows.
 */
#include "client_terminal.h"
#include "testing.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FINISH_MS 300000

static struct runner *runner;
static char *dir; /* of one test */

static const char *const settings[] = {"MAX_CONCURRENT_TASKS", "16", NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

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

/* ---- a batch ---- */

/* Writes `count` tasks of this prompt, with %d for their number. */
static void write_tasks(int count, const char *more, const char *prompt)
{
    char *path = textf("%s/tasks.jsonl", dir);
    FILE *out = fopen(path, "w");
    for (int i = 0; i < count; i++)
        fprintf(out, "{\"id\":\"t%d\",\"prompt\":\"%s\"%s}\n", i, prompt, more);
    fclose(out);
    free(path);
}

static pid_t start(const struct runner *at, const char *const args[])
{
    char *argv[24] = {(char[]){TEST_RUNNER}, (char[]){"batch"}, textf("%s/tasks.jsonl", dir),
                      (char[]){"--out"}, textf("%s/out", dir)};
    char *env[] = {textf("RUNNER_URL=%s", at->base), (char[]){"RUNNER_SECRET=" RUNNER_SECRET},
                   NULL};
    char *out = textf("%s/stdout", dir), *err = textf("%s/stderr", dir);
    for (size_t i = 0; args[i]; i++)
        argv[5 + i] = (char *)(uintptr_t)args[i];
    unlink(out);
    unlink(err);
    pid_t pid = proc_start(argv, env, out, err);
    free(argv[2]);
    free(argv[4]);
    free(env[0]);
    free(out);
    free(err);
    return pid;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static char *said(void)
{
    char *path = textf("%s/stderr", dir), *text = read_file(path, NULL);
    free(path);
    return text ? text : strdup("");
}

static int finish(pid_t pid)
{
    int status = -1;
    assert_true(proc_wait(pid, FINISH_MS, &status));
    return status;
}

static void expect(const struct runner *at, const char *const args[], int status, const char *says)
{
    int got = finish(start(at, args));
    char *text = said();
    if (got != status || (says && !strstr(text, says)))
        fail_msg("status %d: %s", got, text);
    free(text);
}

static char *results_path(void)
{
    return textf("%s/out/results.jsonl", dir);
}

static long results_size(void)
{
    char *path = results_path();
    long size = file_size(path);
    free(path);
    return size;
}

struct results {
    int lines, ok;
    int seen[4096]; /* lines of a task's run 0 */
    double cost;
};

/* Reads results.jsonl; fails the test when a line is not whole. */
static struct results results(void)
{
    struct results r = {.lines = 0};
    char *path = results_path(), *text = read_file(path, NULL), *save = NULL;
    assert_non_null(text);
    assert_true(!*text || text[strlen(text) - 1] == '\n');
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *json = cJSON_Parse(line);
        assert_non_null(json);
        r.lines++;
        r.ok += cJSON_IsTrue(json_at(json, "success"));
        r.cost += json_number(json, "cost_usd");
        long number = strtol(json_text(json, "id") + 1, NULL, 10);
        assert_in_range(number, 0, COUNT(r.seen) - 1);
        r.seen[number]++;
        cJSON_Delete(json);
    }
    free(text);
    free(path);
    return r;
}

static void expect_each_once(int count)
{
    struct results r = results();
    assert_int_equal(r.lines, count);
    assert_int_equal(r.ok, count);
    for (int i = 0; i < count; i++)
        if (r.seen[i] != 1)
            fail_msg("t%d has %d lines", i, r.seen[i]);
}

/* A file that each run appends a byte to. */
static char *marker(void)
{
    char *path = textf("%s/marker", shared()->shared);
    unlink(path);
    return path;
}

/* ---- many ---- */

static void two_thousand_tasks_each_run_once(void **state)
{
    (void)state;
    char *file = marker(), *prompt = textf("standin: touch %s", file);
    write_tasks(2000, "", prompt);
    expect(shared(), ARGS("-p", "32", "--quiet"), 0, "2000 of 2000 runs ok");
    expect_each_once(2000);
    assert_int_equal(file_size(file), 2000);
    char *path = textf("%s/out/t1999/0/transcript.jsonl", dir), *text = read_file(path, NULL);
    assert_non_null(strstr(text, "\"type\":\"result\""));
    free(text);
    free(path);
    path = textf("%s/out/t7/0/response.txt", dir);
    text = read_file(path, NULL);
    assert_string_equal(text, "touched");
    free(text);
    free(path);
    path = textf("%s/out/summary.md", dir);
    text = read_file(path, NULL);
    assert_non_null(strstr(text, "| t1999 | 1/1 | 0 |"));
    free(text);
    free(path);
    path = textf("%s/out/report.html", dir);
    text = read_file(path, NULL);
    assert_non_null(strstr(text, "<svg"));
    assert_null(strstr(text, "http"));
    free(text);
    free(path);
    free(prompt);
    free(file);
}

static void runs_have_folders_of_their_own(void **state)
{
    (void)state;
    write_tasks(3, ",\"n\":4", "standin: ok {{id}}");
    expect(shared(), ARGS("--json"), 0, NULL);
    struct results r = results();
    assert_int_equal(r.lines, 12);
    for (int i = 0; i < 4; i++) {
        char *path = textf("%s/out/t2/%d/response.txt", dir, i), *text = read_file(path, NULL);
        assert_string_equal(text, "t2");
        free(text);
        free(path);
    }
}

/* ---- kills ---- */

static void killed_fifty_times_it_loses_nothing_and_repeats_nothing(void **state)
{
    enum { TASKS = 400, KILLS = 50 };
    (void)state;
    char *file = marker(), *prompt = textf("standin: touch %s", file);
    write_tasks(TASKS, "", prompt);
    int kills = 0;
    srandom(16);
    for (bool over = false; !over && kills < KILLS; kills++) {
        long until = results_size() + random() % 2000;
        pid_t pid = start(shared(), ARGS("--resume", "-p", "8", "-q"));
        int64_t end = now_ms() + 60000 * (int64_t)slowness();
        while (proc_alive(pid) && results_size() < until && now_ms() < end)
            poll_pause();
        kill(pid, SIGKILL);
        over = finish(pid) == 0;
    }
    expect(shared(), ARGS("--resume", "-q"), 0, "400 of 400 runs ok");
    expect_each_once(TASKS);
    assert_int_equal(file_size(file), TASKS);
    char *script = textf("test -z \"$(find %s/out -name '*.part*')\"", dir);
    proc_shell(script);
    free(script);
    free(prompt);
    free(file);
}

static void a_torn_line_is_run_again_under_its_key(void **state)
{
    (void)state;
    char *file = marker(), *prompt = textf("standin: touch %s", file), *path = results_path();
    write_tasks(3, "", prompt);
    expect(shared(), ARGS("-q"), 0, NULL);
    assert_int_equal(truncate(path, results_size() - 5), 0);
    expect(shared(), ARGS("-q"), 1, "--resume goes on with it");
    expect(shared(), ARGS("-q", "--resume"), 0, "3 of 3 runs ok");
    expect_each_once(3);
    assert_int_equal(file_size(file), 3);
    free(path);
    free(prompt);
    free(file);
}

static void two_clients_do_not_share_a_folder(void **state)
{
    (void)state;
    write_tasks(1, "", "standin: sleep 60000");
    pid_t first = start(shared(), ARGS("-q"));
    EVENTUALLY(20000, results_size() == 0);
    char *task = NULL;
    expect(shared(), ARGS("-q", "--resume"), 1, "another batch is at work");
    kill(first, SIGINT);
    kill(first, SIGTERM);
    EVENTUALLY(20000, kill(first, SIGINT) || !proc_alive(first));
    assert_int_equal(finish(first), 130);
    struct reply *reply = runner_get(shared(), "/tasks?status=running");
    const cJSON *item;
    cJSON_ArrayForEach(item, json_at(reply->json, "tasks"))
    {
        task = textf("/tasks/%s", json_text(item, "taskId"));
        reply_free(runner_delete(shared(), task));
        free(task);
    }
    reply_free(reply);
}

/* ---- a runner that goes away ---- */

static void a_runner_that_crashes_in_the_middle_is_waited_for(void **state)
{
    enum { TASKS = 120 };
    (void)state;
    struct runner *own = runner_new_with(settings);
    char *port = textf("%d", port_reserve());
    runner_set(own, "PORT", port);
    runner_start(own);
    write_tasks(TASKS, "", "standin: sleep 50");
    pid_t pid = start(own, ARGS("-p", "8", "-q"));
    for (int i = 0; i < 3; i++) {
        long size = results_size() > 0 ? results_size() : 0;
        EVENTUALLY(60000, results_size() > size + 2000);
        runner_crash(own);
        runner_start(own);
    }
    int status = finish(pid);
    char *text = said();
    if (status != 0)
        fail_msg("status %d: %s", status, text);
    expect_each_once(TASKS);
    free(text);
    free(port);
    runner_free(own);
}

static void a_full_queue_is_heeded(void **state)
{
    static const char *const narrow[] = {"MAX_CONCURRENT_TASKS", "2", "QUEUE_MAX", "3", NULL};
    (void)state;
    struct runner *own = runner_new_with(narrow);
    runner_start(own);
    write_tasks(60, "", "standin: ok x");
    expect(own, ARGS("-p", "40", "-q"), 0, "60 of 60 runs ok");
    expect_each_once(60);
    runner_free(own);
}

/* ---- limits ---- */

static void failures_are_results_and_can_be_run_again(void **state)
{
    (void)state;
    char *path = results_path();
    write_tasks(4, "", "standin: exit 3");
    expect(shared(), ARGS("-q", "--retries", "2"), 1, "0 of 4 runs ok, 4 failed");
    char *text = read_file(path, NULL);
    assert_non_null(strstr(text, "\"returncode\":3"));
    assert_non_null(strstr(text, "\"attempts\":3"));
    assert_non_null(strstr(text, "\"error\":\"Claude Code ended"));
    free(text);
    assert_int_equal(results().lines, 4);
    expect(shared(), ARGS("-q", "--resume"), 1, "4 failed");
    assert_int_equal(results().lines, 4);
    expect(shared(), ARGS("-q", "--retry-failed"), 1, "4 failed");
    assert_int_equal(results().lines, 8);
    free(path);
}

static void a_request_that_is_refused_is_a_result_too(void **state)
{
    (void)state;
    char *path = results_path();
    write_tasks(2, ",\"priority\":99", "standin: ok x");
    expect(shared(), ARGS("-q"), 1, "2 failed");
    char *text = read_file(path, NULL);
    assert_non_null(strstr(text, "0..9"));
    assert_non_null(strstr(text, "\"returncode\":1"));
    assert_non_null(strstr(text, "\"task_id\":null"));
    free(text);
    free(path);
}

static void limits_end_a_batch_early(void **state)
{
    (void)state;
    write_tasks(40, "", "standin: exit 1");
    expect(shared(), ARGS("-q", "-p", "2", "--fail-on-error", "10%"), 1,
           "too many runs have failed");
    assert_in_range(results().lines, 5, 7);
    tear_down(NULL);
    set_up(NULL);
    write_tasks(40, "", "standin: exit 1");
    expect(shared(), ARGS("-q", "--fail-on-error", "40"), 0, "40 failed");
    tear_down(NULL);
    set_up(NULL);
    write_tasks(40, "", "standin: ok x");
    expect(shared(), ARGS("-q", "-p", "2", "--max-cost", "0.001"), 1, "--max-cost is reached");
    assert_in_range(results().lines, 8, 10);
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    char *out = textf("%s/out", dir), *filler = textf("%s/out/filler", dir);
    mkdir(out, 0777);
    if (!small_disk_mount(out, 24 << 20)) {
        free(out);
        free(filler);
        SKIP_BECAUSE("no file system can be mounted here");
    }
    write_tasks(20, "", "standin: big-result 200000");
    small_disk_fill(filler);
    assert_int_equal(truncate(filler, file_size(filler) - (4 << 20)), 0);
    expect(shared(), ARGS("-q", "-p", "4"), 1, "No space left on device");
    struct results r = results();
    assert_in_range(r.lines, 1, 19);
    unlink(filler);
    expect(shared(), ARGS("-q", "--resume"), 0, "20 of 20 runs ok");
    expect_each_once(20);
    small_disk_unmount(out);
    free(out);
    free(filler);
}

/* ---- a terminal ---- */

static struct terminal begin_on_terminal(int columns)
{
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir);
    struct terminal t = terminal_start(shared(), columns,
                                       (const char *const[]){"batch", tasks, "--out", out, NULL});
    free(tasks);
    free(out);
    return t;
}

static void a_terminal_shows_what_fits(void **state)
{
    static const int columns[] = {80, 200, 24};
    (void)state;
    for (size_t i = 0; i < COUNT(columns); i++) {
        if (i > 0) {
            tear_down(NULL);
            set_up(NULL);
        }
        write_tasks(30, ",\"n\":2", "standin: tick 3 100");
        struct terminal t = begin_on_terminal(columns[i]);
        assert_int_equal(terminal_finish(&t), 0);
        char *end = strstr(t.text, "60 of 60 runs ok"); /* the summary is no drawing */
        assert_non_null(end);
        *end = '\0';
        assert_in_range(terminal_widest(t.text), 10, columns[i] - 1);
        assert_non_null(strstr(t.text, columns[i] < 50 ? "…" : "under way"));
        assert_non_null(strstr(t.text, "/min"));
        free(t.text);
    }
}

/* The first bar of so many cells in the text; NULL: there is none. */
static const char *find_bar(const char *text, size_t cells)
{
    for (; (text = strchr(text, '[')); text++)
        if (strspn(text + 1, "#.") == cells && text[cells + 1] == ']')
            return text;
    return NULL;
}

/* The batch goes on meanwhile: a bar may be part full when it is seen. */
static void a_window_that_changes_is_drawn_anew(void **state)
{
    struct winsize size = {.ws_col = 80, .ws_row = 12};
    (void)state;
    write_tasks(40, ",\"n\":2", "standin: tick 4 150");
    struct terminal t = begin_on_terminal(200);
    while (!find_bar(t.text, 40) && terminal_read(&t))
        continue;
    assert_non_null(find_bar(t.text, 40));
    ioctl(t.fd, TIOCSWINSZ, &size);
    size_t from = t.len;
    while (!find_bar(t.text + from, 20) && terminal_read(&t))
        continue;
    const char *narrow = find_bar(t.text + from, 20);
    assert_non_null(narrow);
    from = (size_t)(narrow - t.text);
    assert_int_equal(terminal_finish(&t), 0);
    /* Up to the summary, which is no drawing. */
    char *end = strstr(t.text + from, "80 of 80 runs ok");
    assert_non_null(end);
    *end = '\0';
    assert_in_range(terminal_widest(t.text + from), 1, 79);
    free(t.text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_thousand_tasks_each_run_once),
        TEST(runs_have_folders_of_their_own),
        TEST(killed_fifty_times_it_loses_nothing_and_repeats_nothing),
        TEST(a_torn_line_is_run_again_under_its_key),
        TEST(two_clients_do_not_share_a_folder),
        TEST(a_runner_that_crashes_in_the_middle_is_waited_for),
        TEST(a_full_queue_is_heeded),
        TEST(failures_are_results_and_can_be_run_again),
        TEST(a_request_that_is_refused_is_a_result_too),
        TEST(limits_end_a_batch_early),
        TEST(a_full_disk_loses_nothing),
        TEST(a_terminal_shows_what_fits),
        TEST(a_window_that_changes_is_drawn_anew),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
