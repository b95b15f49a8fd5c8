/*
 * GET /metrics: Prometheus' own Python client reads it, and the values are compared with what has
 * happened.
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK TEST_METRICS_FOLDER "/check.py"
#define MANY 10000

static struct reply *scrape(const struct runner *runner)
{
    struct reply *reply = runner_get(runner, "/metrics");
    char type[80] = "";
    assert_status(reply, 200);
    assert_true(reply_header(reply, "Content-Type", type, sizeof type));
    assert_string_equal(type, "text/plain; version=0.0.4; charset=utf-8");
    return reply;
}

/* What check.py prints about the current page; fails the test when check.py refuses it. `option`
 * may be NULL. The caller frees it. */
static char *checked(const struct runner *runner, char *option)
{
    struct reply *reply = scrape(runner);
    char *page = textf("%s/page", runner->dir), *out = textf("%s/checked", runner->dir);
    char *argv[] = {(char[]){CHECK}, option ? option : page, option ? page : NULL, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    int status = -1;
    if (access("/usr/lib/python3/dist-packages/prometheus_client", R_OK))
        SKIP_BECAUSE("python3-prometheus-client is missing");
    write_file(page, reply->body, 0600);
    write_file(out, "", 0600);
    assert_true(proc_wait(proc_start(argv, env, out, out), 60000, &status));
    char *said = read_file(out, NULL);
    if (status != 0)
        fail_msg("%s", said);
    reply_free(reply);
    free(page);
    free(out);
    return said;
}

/* The value of a sample, "name{a=b,c=d}" with its labels in order; -1 when there is none. */
static double value_in(const char *samples, const char *sample)
{
    char *line = textf("\n%s ", sample);
    const char *at = strstr(samples, line);
    double value = at ? strtod(at + strlen(line), NULL) : -1;
    free(line);
    return value;
}

static double value_of(const struct runner *runner, const char *sample)
{
    char *samples = checked(runner, NULL);
    double value = value_in(samples, sample);
    free(samples);
    return value;
}

static void assert_value(const char *samples, const char *sample, double value)
{
    double got = value_in(samples, sample);
    if (got < value - 1e-9 || got > value + 1e-9)
        fail_msg("%s is %g, not %g, in:\n%s", sample, got, value, samples);
}

static void it_asks_for_the_secret(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    struct reply *none = http_call(runner->base, "GET", "/metrics", NULL, NULL);
    assert_problem(none, 403, "forbidden");
    struct reply *wrong = http_call(runner->base, "GET", "/metrics",
                                    "X-Runner-Secret: not-the-secret-at-all\r\n", NULL);
    assert_problem(wrong, 403, "forbidden");
    /* the runner counts an answer when it has sent it, and the test may have read it earlier */
    EVENTUALLY(20000, value_of(runner, "claude_runner_http_requests_total{code=4xx,method=GET,"
                                       "route=/metrics}") >= 2);
    char *samples = checked(runner, NULL);
    assert_value(samples, "claude_runner_auth_failures_total{}", 1);
    assert_value(samples, "claude_runner_http_requests_total{code=4xx,method=GET,route=/metrics}",
                 2);
    free(samples);
    reply_free(none);
    reply_free(wrong);
    runner_free(runner);
}

static void every_family_is_in_the_documentation(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    char *table = checked(runner, (char[]){"--table"});
    char *documentation = read_file(TEST_SOURCES "/runner/docs/metrics.md", NULL);
    if (!documentation || !strstr(documentation, table))
        fail_msg("runner/docs/metrics.md has another table than this:\n%s", table);
    free(documentation);
    free(table);
    runner_free(runner);
}

static void cancel(struct runner *runner, const char *id)
{
    char *path = textf("/tasks/%s", id);
    reply_free(runner_delete(runner, path));
    runner_await(runner, id, "cancelled", 20000);
    free(path);
}

#define ENDED(status, reason) \
    "claude_runner_tasks_ended_total{kind=claude,reason=" reason ",status=" status "}"

static void tasks_are_counted_once_by_how_they_ended(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "MAX_CONCURRENT_TASKS", "1");
    runner_start(runner);
    char *empty = checked(runner, NULL);
    assert_value(empty, ENDED("completed", ""), -1);
    assert_value(empty, "claude_runner_task_run_seconds_count{kind=claude}", 0);
    assert_value(empty, "claude_runner_cost_usd_total{kind=claude}", 0);
    for (int i = 0; i < 3; i++)
        reply_free(runner_execute(runner, "standin: ok x", ""));
    reply_free(runner_execute(runner, "standin: exit 3", ""));
    reply_free(runner_execute(runner, "standin: hang-middle", "\"timeout_ms\":300"));
    char *running = runner_submit(runner, "standin: hang-middle", "");
    runner_await(runner, running, "running", 20000);
    char *waiting = runner_submit(runner, "standin: ok x", "");
    char *busy = checked(runner, NULL);
    assert_value(busy, "claude_runner_tasks_running{executor=local}", 1);
    assert_value(busy, "claude_runner_tasks_queued{}", 1);
    assert_value(busy, "claude_runner_task_slots{}", 1);
    cancel(runner, waiting);
    cancel(runner, running);
    cancel(runner, running); /* the second cancel does not count */
    /* a task's end is counted a moment after its state is known */
    EVENTUALLY(20000, value_of(runner, "claude_runner_task_run_seconds_count{kind=claude}") >= 6 &&
                          value_of(runner, ENDED("cancelled", "cancelled")) >= 2);
    char *samples = checked(runner, NULL);
    assert_value(samples, ENDED("completed", ""), 3);
    assert_value(samples, ENDED("failed", "cli_error"), 1);
    assert_value(samples, ENDED("failed", "timeout"), 1);
    assert_value(samples, ENDED("cancelled", "cancelled"), 2);
    assert_value(samples, "claude_runner_task_wait_seconds_count{kind=claude}", 6);
    assert_value(samples, "claude_runner_task_run_seconds_count{kind=claude}", 6);
    assert_value(samples, "claude_runner_tokens_total{kind=claude,type=input}", 9);
    assert_value(samples, "claude_runner_tokens_total{kind=claude,type=output}", 6);
    assert_value(samples, "claude_runner_cost_usd_total{kind=claude}", 0.000375);
    assert_true(value_in(samples, "claude_runner_event_bytes_total{}") > 500);
    assert_true(value_in(samples, "claude_runner_spawn_seconds_count{}") >= 6);
    free(samples);
    free(busy);
    free(empty);
    free(waiting);
    free(running);
    runner_free(runner);
}

static void numbers_begin_again_with_the_process(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    reply_free(runner_execute(runner, "standin: ok x", ""));
    char *id = runner_submit(runner, "standin: hang-middle", "");
    runner_await(runner, id, "running", 20000);
    runner_crash(runner);
    runner_start(runner);
    char *samples = checked(runner, NULL);
    assert_value(samples, ENDED("completed", ""), -1);
    assert_value(samples, ENDED("failed", "interrupted"), 1);
    assert_value(samples, "claude_runner_task_run_seconds_count{kind=claude}", 0);
    assert_true(value_in(samples, "process_start_time_seconds{}") > (double)time(NULL) - 600);
    assert_true(value_in(samples, "process_start_time_seconds{}") < (double)time(NULL) + 5);
    free(samples);
    free(id);
    runner_free(runner);
}

static bool requests_are_counted(const struct runner *runner)
{
    static const struct {
        const char *sample;
        int count;
    } wanted[] = {
        {"claude_runner_http_malformed_total{}", 2},
        {"claude_runner_http_requests_total{code=4xx,method=GET,route=/tasks/{id}}", 2},
        {"claude_runner_http_requests_total{code=2xx,method=GET,route=/health}", 1},
        {"claude_runner_http_requests_total{code=4xx,method=other,route=other}", 3},
        {"claude_runner_http_request_duration_seconds_count{method=GET,route=/tasks/{id}}", 2},
    };
    char *samples = checked(runner, NULL);
    bool all = true;
    for (size_t i = 0; i < COUNT(wanted); i++)
        all &= value_in(samples, wanted[i].sample) >= wanted[i].count;
    free(samples);
    return all;
}

static void requests_are_told_by_route_and_never_by_what_a_caller_writes(void **state)
{
    (void)state;
    static const char *const paths[] = {"/tasks/hostile-1", "/tasks/hostile-2", "/hostile-3",
                                        "/hostile-4/%22%7D"};
    struct runner *runner = runner_new();
    runner_start(runner);
    for (size_t i = 0; i < COUNT(paths); i++)
        reply_free(runner_get(runner, paths[i]));
    reply_free(http_call(runner->base, "HOSTILE", "/tasks", RUNNER_AUTH, NULL));
    reply_free(http_call(runner->base, "HEAD", "/health", NULL, NULL));
    int fd = http_connect(runner->base);
    http_send_text(fd, "hostile\r\n\r\n");
    reply_free(http_read(fd, 10000));
    close(fd);
    /* each request is counted when its answer has been sent */
    EVENTUALLY(20000, requests_are_counted(runner));
    struct reply *page = scrape(runner);
    assert_null(strcasestr(page->body, "hostile"));
    reply_free(page);
    char *samples = checked(runner, NULL);
    assert_value(samples,
                 "claude_runner_http_requests_total{code=4xx,method=GET,route=/tasks/{id}}", 2);
    assert_value(samples, "claude_runner_http_requests_total{code=2xx,method=GET,route=/health}",
                 1);
    assert_true(value_in(samples, "claude_runner_http_requests_total{code=4xx,method=other,"
                                  "route=other}") >= 3);
    assert_value(samples, "claude_runner_http_malformed_total{}", 2); /* and the method */
    assert_value(samples,
                 "claude_runner_http_request_duration_seconds_count{method=GET,route=/tasks/{id}}",
                 2);
    free(samples);
    runner_free(runner);
}

static void who_streams_and_who_waits_is_seen_while_it_lasts(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    char *json = prompt_json("standin: hang-middle", "");
    struct stream *stream = stream_open(runner->base, "POST", "/run", RUNNER_AUTH, json);
    stream_until(stream, "event: task", 20000);
    int waiting = http_begin(runner->base, "POST", "/execute", RUNNER_AUTH, json);
    EVENTUALLY(20000, value_of(runner, "claude_runner_http_parked{}") == 1);
    char *samples = checked(runner, NULL);
    assert_value(samples, "claude_runner_http_streams{}", 1);
    assert_true(value_in(samples, "process_open_fds{}") > 10);
    assert_true(value_in(samples, "process_threads{}") > 10);
    assert_true(value_in(samples, "process_resident_memory_bytes{}") > 1e6);
    assert_true(value_in(samples, "process_cpu_seconds_total{}") > 0);
    assert_true(value_in(samples, "claude_runner_disk_free_bytes{}") > 0);
    free(samples);
    stream_free(stream);
    close(waiting);
    EVENTUALLY(20000, value_of(runner, "claude_runner_http_streams{}") == 0);
    EVENTUALLY(20000, value_of(runner, "claude_runner_http_parked{}") == 0);
    free(json);
    runner_free(runner);
}

/* Writes a login of this runner, which ends in that many seconds. */
static void write_login(const struct runner *runner, int seconds)
{
    char *path = textf("%s/.credentials.json", runner->config);
    char *text = textf("{\"claudeAiOauth\":{\"accessToken\":\"%s\",\"refreshToken\":\"%s\","
                       "\"expiresAt\":%lld}}",
                       API_TOKEN, REFRESH_TOKEN, ((long long)time(NULL) + seconds) * 1000);
    write_file(path, text, 0600);
    free(text);
    free(path);
}

static void the_login_and_its_refreshes_are_shown(void **state)
{
    (void)state;
    struct api *tokens = token_server_new();
    struct runner *runner = runner_new();
    char *url = textf("%s/v1/oauth/token", tokens->base);
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_set(runner, "OAUTH_TOKEN_URL", url);
    runner_start(runner);
    char *before = checked(runner, NULL);
    assert_value(before, "claude_runner_login_usable{}", 0);
    assert_value(before, "claude_runner_login_remaining_seconds{}", -1);
    assert_value(before, "claude_runner_breaker_state{state=login}", 1);
    assert_value(before, "claude_runner_breaker_state{state=closed}", 0);
    write_login(runner, 8 * 3600);
    EVENTUALLY(20000, value_of(runner, "claude_runner_breaker_state{state=closed}") == 1);
    double left = value_of(runner, "claude_runner_login_remaining_seconds{}");
    assert_true(left > 7 * 3600 && left <= 8 * 3600);
    reply_free(runner_post(runner, "/oauth/refresh", ""));
    char *after = checked(runner, NULL);
    assert_value(after, "claude_runner_login_usable{}", 1);
    assert_value(after, "claude_runner_oauth_refreshes_total{outcome=done}", 1);
    assert_value(after, "claude_runner_oauth_refreshes_total{outcome=refused}", 0);
    free(after);
    free(before);
    free(url);
    runner_free(runner);
    api_free(tokens);
}

static void what_the_api_says_of_the_account_is_shown(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = runner_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_use_real_cli(runner, api);
    write_login(runner, 8 * 3600);
    runner_start(runner);
    struct reply *good = runner_execute(runner, "[[usage:input=10 output=20]][[text:done]]", "");
    assert_json_bool(good->json, "success", true);
    char *id = runner_submit(runner, "[[error:429 reset=+3600 claim=five_hour]]", "");
    EVENTUALLY(60000, value_of(runner, "claude_runner_breaker_state{state=limit}") == 1);
    EVENTUALLY(20000, value_of(runner, "claude_runner_proxy_answers_total{code=4xx}") >= 1 &&
                          value_of(runner, "claude_runner_usage_limits_total{}") >= 1);
    char *samples = checked(runner, NULL);
    assert_value(samples, "claude_runner_account_utilization_ratio{window=5h}", 1);
    double reset = value_in(samples, "claude_runner_account_reset_timestamp_seconds{window=5h}");
    assert_true(reset > (double)time(NULL) + 3000 && reset < (double)time(NULL) + 3700);
    assert_true(value_in(samples, "claude_runner_breaker_until_timestamp_seconds{}") > reset - 60);
    assert_true(value_in(samples, "claude_runner_usage_limits_total{}") >= 1);
    assert_true(value_in(samples, "claude_runner_proxy_answers_total{code=2xx}") >= 1);
    assert_true(value_in(samples, "claude_runner_proxy_answers_total{code=4xx}") >= 1);
    assert_true(value_in(samples, "claude_runner_proxy_tokens_total{type=output}") >= 20);
    assert_true(value_in(samples, "claude_runner_tokens_total{kind=claude,type=output}") >= 20);
    assert_true(value_in(samples, "claude_runner_cost_usd_total{kind=claude}") > 0);
    free(samples);
    free(id);
    reply_free(good);
    runner_free(runner);
    api_free(api);
}

/* Submits that many tasks, several at once, so that they share the syncs to the disk. */
static void submit_many(const struct runner *runner, int many)
{
    int fds[50];
    for (int done = 0; done < many; done += (int)COUNT(fds)) {
        for (size_t i = 0; i < COUNT(fds); i++)
            fds[i] =
                http_begin(runner->base, "POST", "/run-async", RUNNER_AUTH, "{\"prompt\":\"x\"}");
        for (size_t i = 0; i < COUNT(fds); i++) {
            struct reply *reply = http_read(fds[i], HTTP_DEADLINE_MS);
            assert_status(reply, 202);
            reply_free(reply);
            close(fds[i]);
        }
    }
}

/* Takes the quickest of many scrapes. Load of other programs does not slow that one down; a walk
 * over the table of tasks would. */
static void a_scrape_costs_no_more_with_many_tasks_in_the_database(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    int64_t best = INT64_MAX;
    int many = slowness() > 1 ? MANY / 10 : MANY;
    runner_set(runner, "ANTHROPIC_API_KEY", NULL); /* the tasks wait for a login */
    runner_set(runner, "QUEUE_MAX", "100000");
    runner_start(runner);
    submit_many(runner, many);
    assert_true(value_of(runner, "claude_runner_tasks_queued{}") == many);
    for (int i = 0; i < 50; i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        reply_free(scrape(runner));
        clock_gettime(CLOCK_MONOTONIC, &to);
        int64_t us = (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000;
        best = us < best ? us : best;
    }
    print_message("  %d tasks: %lld us\n", many, (long long)best);
    assert_true(best < 5000 * slowness());
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_asks_for_the_secret),
        cmocka_unit_test(every_family_is_in_the_documentation),
        cmocka_unit_test(tasks_are_counted_once_by_how_they_ended),
        cmocka_unit_test(numbers_begin_again_with_the_process),
        cmocka_unit_test(requests_are_told_by_route_and_never_by_what_a_caller_writes),
        cmocka_unit_test(who_streams_and_who_waits_is_seen_while_it_lasts),
        cmocka_unit_test(the_login_and_its_refreshes_are_shown),
        cmocka_unit_test(what_the_api_says_of_the_account_is_shown),
        cmocka_unit_test(a_scrape_costs_no_more_with_many_tasks_in_the_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
