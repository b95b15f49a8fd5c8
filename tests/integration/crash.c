/*
 * Stops and crashes of the runner: an accepted task is never lost, never runs twice without a
 * request for that, and leaves no process behind.
 */
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *one_slot(void)
{
    struct runner *runner = runner_new();
    runner_set(runner, "MAX_CONCURRENT_TASKS", "1");
    runner_set(runner, "KILL_GRACE_SECONDS", "1");
    return runner;
}

static void restart(struct runner *runner)
{
    runner_crash(runner);
    runner_start(runner);
}

static void assert_reason(const struct runner *runner, const char *id, const char *reason)
{
    struct reply *result = runner_result(runner, id);
    assert_json_bool(result->json, "success", false);
    assert_json_text(result->json, "reason", reason);
    reply_free(result);
}

static void what_waited_runs_and_what_ran_is_interrupted(void **state)
{
    (void)state;
    struct runner *runner = one_slot();
    runner_start(runner);
    char *mark = textf("%s/ran", runner->shared);
    char *prompt = textf("standin: touch %s", mark);
    char *running = runner_submit(runner, "standin: ignore-term", "");
    runner_await(runner, running, "running", 20000);
    char *first = runner_submit(runner, prompt, "");
    char *second = runner_submit(runner, prompt, "");
    restart(runner);
    runner_await(runner, first, "completed", 60000);
    runner_await(runner, second, "completed", 60000);
    runner_await(runner, running, "failed", 20000);
    assert_reason(runner, running, "interrupted");
    assert_int_equal(file_size(mark), 2);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    free(running);
    free(first);
    free(second);
    free(prompt);
    free(mark);
    runner_free(runner);
}

static void an_interrupted_task_runs_again_when_asked(void **state)
{
    (void)state;
    struct runner *runner = one_slot();
    runner_start(runner);
    char *mark = textf("%s/once", runner->shared);
    char *prompt = textf("standin: once %s", mark);
    char *id = runner_submit(runner, prompt, "\"retryInterrupted\":true");
    EVENTUALLY(20000, file_size(mark) >= 0);
    restart(runner);
    runner_await(runner, id, "completed", 60000);
    struct reply *result = runner_result(runner, id);
    assert_json_text(result->json, "output", "second run");
    reply_free(result);
    free(id);
    free(prompt);
    free(mark);
    runner_free(runner);
}

static void a_crash_leaves_no_process_behind(void **state)
{
    (void)state;
    static const char *const behaviours[] = {"ignore-term", "daemon-hang", "hang-middle"};
    struct runner *runner = runner_new();
    runner_start(runner);
    for (size_t i = 0; i < COUNT(behaviours); i++) {
        char *prompt = textf("standin: %s %s/d%zu", behaviours[i], runner->shared, i);
        char *id = runner_submit(runner, prompt, "");
        runner_await(runner, id, "running", 20000);
        EVENTUALLY(20000, runner_task_processes(runner) > 0);
        restart(runner);
        EVENTUALLY(20000, runner_task_processes(runner) == 0);
        free(id);
        free(prompt);
    }
    runner_free(runner);
}

static bool has_ended(const struct runner *runner, const char *id)
{
    char *state = runner_task_state(runner, id);
    bool ended = strcmp(state, "completed") == 0 || strcmp(state, "failed") == 0;
    free(state);
    return ended;
}

static bool is_idle(const struct runner *runner)
{
    struct reply *reply = runner_get(runner, "/health");
    bool idle = json_number(reply->json, "tasks.running") == 0 &&
                json_number(reply->json, "tasks.queued") == 0;
    reply_free(reply);
    return idle;
}

/* Kills the runner at many moments of tasks' lives. Each task that was answered with 202 must come
 * to an end. */
static void nothing_accepted_is_lost_whenever_it_dies(void **state)
{
    (void)state;
    static const int delays_ms[] = {0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144};
    struct runner *runner = runner_new();
    runner_set(runner, "MAX_CONCURRENT_TASKS", "2");
    runner_start(runner);
    char *ids[COUNT(delays_ms) * 4];
    size_t n = 0;
    for (size_t i = 0; i < COUNT(delays_ms); i++) {
        for (int j = 0; j < 4; j++)
            ids[n++] = runner_submit(runner, j % 2 ? "standin: sleep 30" : "standin: ok x", "");
        for (int64_t end = now_ms() + delays_ms[i]; now_ms() < end;)
            ;
        restart(runner);
    }
    for (size_t i = 0; i < n; i++) {
        EVENTUALLY(60000, has_ended(runner, ids[i]));
        struct reply *result = runner_result(runner, ids[i]);
        assert_status(result, 200);
        if (!cJSON_IsTrue(json_at(result->json, "success")))
            assert_json_text(result->json, "reason", "interrupted");
        reply_free(result);
        free(ids[i]);
    }
    EVENTUALLY(20000, is_idle(runner)); /* the end of a task is stored a moment before the runner
                                         * reports it */
    runner_free(runner);
}

static void results_and_events_survive(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *before = runner_execute(runner, "standin: tick 3 1", "");
    char *id = strdup(json_text(before->json, "taskId"));
    char *path = textf("/tasks/%s/events", id);
    struct reply *events =
        http_call(runner->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    restart(runner);
    struct reply *after = runner_result(runner, id);
    assert_json_text(after->json, "output", json_text(before->json, "output"));
    struct reply *replay =
        http_call(runner->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    assert_string_equal(replay->body, events->body);
    reply_free(replay);
    reply_free(after);
    reply_free(events);
    reply_free(before);
    free(path);
    free(id);
    runner_free(runner);
}

/* ---- stopping ---- */

static bool is_draining(const struct runner *runner)
{
    struct reply *reply = http_call(runner->base, "GET", "/health", NULL, NULL);
    bool draining = strcmp(json_text(reply->json, "status"), "draining") == 0;
    reply_free(reply);
    return draining;
}

static void sigterm_lets_what_runs_end_and_keeps_what_waits(void **state)
{
    (void)state;
    struct runner *runner = one_slot();
    runner_set(runner, "DRAIN_SECONDS", "120");
    runner_start(runner);
    char *file = textf("%s/may-end", runner->shared), *prompt = textf("standin: wait %s", file);
    char *json = prompt_json(prompt, "\"taskId\":\"drained\"");
    int fd = http_begin(runner->base, "POST", "/execute",
                        RUNNER_AUTH "Content-Type: application/json\r\n", json);
    runner_await(runner, "drained", "running", 20000);
    char *waiting = runner_submit(runner, "standin: ok waited", "");
    kill(runner->pid, SIGTERM);
    EVENTUALLY(20000, is_draining(runner));
    struct reply *refused = runner_execute(runner, "standin: ok x", "");
    assert_problem(refused, 503, NULL);
    reply_free(refused);
    write_file(file, "", 0644);
    struct reply *reply = http_read(fd, 60000);
    assert_status(reply, 200);
    assert_json_text(reply->json, "output", "waited");
    reply_free(reply);
    close(fd);
    int status = -1;
    assert_true(proc_wait(runner->pid, 30000, &status));
    runner->pid = 0;
    assert_int_equal(status, 0);
    runner_start(runner);
    runner_await(runner, waiting, "completed", 60000);
    runner_await(runner, "drained", "completed", 20000);
    free(waiting);
    free(json);
    free(prompt);
    free(file);
    runner_free(runner);
}

static void a_drain_that_takes_too_long_interrupts(void **state)
{
    (void)state;
    struct runner *runner = one_slot();
    runner_set(runner, "DRAIN_SECONDS", "1");
    runner_start(runner);
    char *id = runner_submit(runner, "standin: ignore-term", "");
    runner_await(runner, id, "running", 20000);
    assert_int_equal(runner_stop(runner, 25000), 0);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    runner_start(runner);
    runner_await(runner, id, "failed", 20000);
    assert_reason(runner, id, "interrupted");
    free(id);
    runner_free(runner);
}

static void a_second_signal_ends_it_now(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < COUNT(signals); i++) {
        struct runner *runner = one_slot();
        runner_set(runner, "DRAIN_SECONDS", "60");
        runner_start(runner);
        char *id = runner_submit(runner, "standin: ignore-term", "");
        runner_await(runner, id, "running", 20000);
        kill(runner->pid, signals[i]);
        EVENTUALLY(20000, is_draining(runner));
        kill(runner->pid, signals[i]);
        int status = -1;
        assert_true(proc_wait(runner->pid, 30000, &status));
        runner->pid = 0;
        EVENTUALLY(20000, runner_task_processes(runner) == 0);
        free(id);
        runner_free(runner);
    }
}

/* The best of a few: on a busy machine any one may have to wait for a processor. */
static void an_idle_runner_stops_at_once(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    int64_t best = INT64_MAX;
    for (int i = 0; i < 5 && best >= 1000 * slowness(); i++) {
        runner_start(runner);
        int64_t start = now_ms();
        assert_int_equal(runner_stop(runner, 30000), 0);
        int64_t took = now_ms() - start;
        best = took < best ? took : best;
    }
    assert_true(best < 1000 * slowness());
    runner_free(runner);
}

static void one_state_directory_serves_one_runner(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    struct runner *second = runner_new();
    runner_start(runner);
    runner_set(second, "RUNNER_STATE_DIR", runner->state);
    assert_int_not_equal(runner_start_refused(second), 0);
    struct reply *reply = runner_execute(runner, "standin: ok still alone", "");
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
    runner_free(second);
    runner_free(runner);
}

static void signals_that_mean_nothing_end_nothing(void **state)
{
    (void)state;
    struct runner *runner = one_slot();
    runner_start(runner);
    char *id = runner_submit(runner, "standin: sleep 300", "");
    kill(runner->pid, SIGUSR1);
    kill(runner->pid, SIGUSR2);
    kill(runner->pid, SIGPIPE);
    runner_await(runner, id, "completed", 60000);
    free(id);
    assert_int_equal(runner_stop(runner, 30000), 0);
    runner_free(runner);
}

/* An init may start the runner with closed streams: no file that it opens may become its standard
 * output. */
static void it_starts_with_its_streams_closed(void **state)
{
    (void)state;
    char program[4096] = "", link[64];
    struct runner *runner = runner_new();
    runner_start(runner);
    snprintf(link, sizeof link, "/proc/%d/exe", (int)runner->pid);
    assert_true(readlink(link, program, sizeof program - 1) > 0);
    assert_int_equal(runner_stop(runner, 30000), 0);
    char *path = textf("%s/start", runner->dir), *was = getenv("CR_BINARY");
    char *script = textf("#!/bin/sh\nexec '%s' \"$@\" <&- >&-\n", program);
    write_file(path, script, 0755);
    was = was ? strdup(was) : NULL;
    setenv("CR_BINARY", path, 1);
    runner_start(runner);
    if (was)
        setenv("CR_BINARY", was, 1);
    else
        unsetenv("CR_BINARY");
    reply_free(runner_succeeded(runner, "standin: ok x", ""));
    free(was);
    free(path);
    free(script);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waited_runs_and_what_ran_is_interrupted),
        cmocka_unit_test(an_interrupted_task_runs_again_when_asked),
        cmocka_unit_test(a_crash_leaves_no_process_behind),
        cmocka_unit_test(nothing_accepted_is_lost_whenever_it_dies),
        cmocka_unit_test(results_and_events_survive),
        cmocka_unit_test(sigterm_lets_what_runs_end_and_keeps_what_waits),
        cmocka_unit_test(a_drain_that_takes_too_long_interrupts),
        cmocka_unit_test(a_second_signal_ends_it_now),
        cmocka_unit_test(an_idle_runner_stops_at_once),
        cmocka_unit_test(one_state_directory_serves_one_runner),
        cmocka_unit_test(signals_that_mean_nothing_end_nothing),
        cmocka_unit_test(it_starts_with_its_streams_closed),
    };
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
