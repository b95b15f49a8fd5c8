/*
 * The stand-in for Cloud Run: an execution is a process, and its reported state is the process's
 * state.
 */
#include "cloud.h"
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 100, CONNECTIONS = 200, RUN_MS = 60000 };

#define JOBS "run.projects.locations.jobs."

static struct cloud *cloud;

/* The script that takes the place of `claude-runner job`: its environment says what it does. */
static const char job_script[] = "#!/bin/sh\n"
                                 "echo \"arguments: $*\"\n"
                                 "env\n"
                                 "[ -z \"$DEAF\" ] || trap '' TERM\n"
                                 "[ -z \"$STRAY\" ] || setsid sleep \"$STRAY\" &\n"
                                 "[ -z \"$TERM_EXIT\" ] || trap 'exit $TERM_EXIT' TERM\n"
                                 "echo ready\n"
                                 "[ -z \"$SLEEP\" ] || { sleep \"$SLEEP\" & wait $!; }\n"
                                 "[ -z \"$DEAF\" ] || while :; do sleep 1; done\n"
                                 "exit ${EXIT:-0}\n";

static int start(void **state)
{
    static const char *const env[] = {"GIVEN=by the test", NULL};
    (void)state;
    cloud = cloud_new_script(job_script, env);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    cloud_free(cloud);
    return 0;
}

static int settle(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"faults\":[],\"maxExecutions\":1000,\"startDelayMs\":0,"
                         "\"stopGraceMs\":10000,\"killExecutions\":true}");
    return 0;
}

/* ---- helpers ---- */

/* {"overrides":…} of "NAME=VALUE NAME=VALUE" and more fields ("" or `,"timeout":"1s"`). */
static char *overrides(const char *env, const char *more)
{
    char *list = strdup(""), *copy = strdup(env), *save = NULL;
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        char *longer =
            textf("%s%s{\"name\":\"%s\",\"value\":\"%s\"}", list, *list ? "," : "", word, value);
        free(list);
        list = longer;
    }
    char *body = textf("{\"overrides\":{\"containerOverrides\":[{\"env\":[%s]}]%s}}", list, more);
    free(list);
    free(copy);
    return body;
}

static struct reply *run_reply(const char *job, const char *env, const char *more)
{
    char *path = textf("/v2/" CLOUD_LOCATION "/jobs/%s:run", job), *body = overrides(env, more);
    struct reply *reply = cloud_call(cloud, "POST", path, body);
    free(body);
    free(path);
    return reply;
}

/* Starts an execution. Returns its name. */
static char *run(const char *env, const char *more)
{
    struct reply *reply = run_reply(CLOUD_JOB, env, more);
    assert_status(reply, 200);
    assert_json_contains(reply->json, "name", CLOUD_LOCATION "/operations/");
    char *name = strdup(json_text(reply->json, "metadata.name"));
    reply_free(reply);
    return name;
}

static cJSON *get(const char *name, const char *below)
{
    char *path = textf("/v2/%s%s", name, below);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    cJSON *json = reply->json;
    reply->json = NULL;
    reply_free(reply);
    free(path);
    return json;
}

static bool has_ended(const char *name)
{
    cJSON *execution = get(name, "");
    bool ended = *json_text(execution, "completionTime") != '\0';
    cJSON_Delete(execution);
    return ended;
}

/* Waits until the execution ends. Returns its last description. */
static cJSON *await(const char *name)
{
    EVENTUALLY(RUN_MS, has_ended(name));
    return get(name, "");
}

/* What the execution has printed. */
static char *output(const char *name)
{
    char *path = textf("%s/executions/%s/output", cloud->state, strrchr(name, '/') + 1);
    char *text = read_file(path, NULL);
    free(path);
    return text ? text : strdup("");
}

static bool has_said(const char *name, const char *text)
{
    char *all = output(name);
    bool said = strstr(all, text) != NULL;
    free(all);
    return said;
}

static struct reply *cancel(const char *name)
{
    char *path = textf("/v2/%s:cancel", name);
    struct reply *reply = cloud_call(cloud, "POST", path, "{}");
    free(path);
    return reply;
}

static void make_job(const char *id, const char *task)
{
    char *path = textf("/v2/" CLOUD_LOCATION "/jobs?jobId=%s", id);
    char *body = textf("{\"template\":{\"template\":{\"containers\":[{\"image\":\"i\"%s}}}", task);
    struct reply *reply = cloud_call(cloud, "POST", path, body);
    assert_status(reply, 200);
    reply_free(reply);
    free(body);
    free(path);
}

/* ---- one execution ---- */

static void it_gets_what_cloud_run_gives(void **state)
{
    (void)state;
    char *name = run("MARK=seen", "");
    cJSON *execution = await(name);
    assert_json_number(execution, "succeededCount", 1);
    assert_json_lacks(execution, "failedCount");
    assert_json_text(execution, "conditions.0.type", "Completed");
    assert_json_text(execution, "conditions.0.state", "CONDITION_SUCCEEDED");
    assert_json_text(execution, "template.containers.0.env.0.name", "MARK");
    assert_json_text(execution, "job", CLOUD_JOB);
    char *all = output(name), *id = textf("CLOUD_RUN_EXECUTION=%s\n", strrchr(name, '/') + 1);
    const char *const wanted[] = {"arguments: job\n",
                                  "MARK=seen\n",
                                  "GIVEN=by the test\n",
                                  "CLOUD_RUN_JOB=" CLOUD_JOB "\n",
                                  "CLOUD_RUN_TASK_INDEX=0\n",
                                  "CLOUD_RUN_TASK_ATTEMPT=0\n",
                                  "CLOUD_RUN_TASK_COUNT=1\n",
                                  "GCE_METADATA_HOST=127.0.0.1:",
                                  id};
    for (size_t i = 0; i < COUNT(wanted); i++)
        if (!strstr(all, wanted[i]))
            fail_msg("%s is not in %s", wanted[i], all);
    assert_null(strstr(all, "HOME="));
    free(id);
    free(all);
    cJSON_Delete(execution);
    free(name);
}

/* The metadata server that the execution is given identifies it as its own account. */
static void it_is_its_jobs_account(void **state)
{
    (void)state;
    char *name = run("", "");
    cJSON_Delete(await(name));
    char *all = output(name), *at = strstr(all, "GCE_METADATA_HOST=");
    assert_non_null(at);
    at += strlen("GCE_METADATA_HOST=");
    at[strcspn(at, "\n")] = '\0';
    char *base = textf("http://%s", at);
    struct reply *reply =
        http_call(base, "GET", "/computeMetadata/v1/instance/service-accounts/default/email",
                  "Metadata-Flavor: Google\r\n", NULL);
    assert_status(reply, 200);
    assert_string_equal(reply->body, CLOUD_JOB_ACCOUNT);
    reply_free(reply);
    free(base);
    free(all);
    free(name);
}

static void its_exit_code_is_told(void **state)
{
    (void)state;
    char *name = run("EXIT=7", "");
    cJSON *execution = await(name), *tasks = get(name, "/tasks");
    assert_json_number(execution, "failedCount", 1);
    assert_json_text(execution, "conditions.0.state", "CONDITION_FAILED");
    assert_json_text(execution, "conditions.0.executionReason", "NON_ZERO_EXIT_CODE");
    assert_json_number(tasks, "tasks.0.lastAttemptResult.exitCode", 7);
    cJSON_Delete(tasks);
    cJSON_Delete(execution);
    free(name);
}

static void a_failed_task_is_tried_again_as_often_as_may_be(void **state)
{
    (void)state;
    make_job("again", "}],\"maxRetries\":2");
    struct reply *reply = run_reply("again", "EXIT=1", "");
    assert_status(reply, 200);
    const char *name = json_text(reply->json, "metadata.name");
    cJSON *execution = await(name);
    assert_json_number(execution, "retriedCount", 2);
    assert_json_number(execution, "failedCount", 1);
    assert_true(has_said(name, "CLOUD_RUN_TASK_ATTEMPT=2\n"));
    cJSON_Delete(execution);
    reply_free(reply);
}

static void several_tasks_are_told_apart(void **state)
{
    (void)state;
    char *name = run("", ",\"taskCount\":3");
    cJSON *execution = await(name), *tasks = get(name, "/tasks");
    assert_json_number(execution, "succeededCount", 3);
    assert_true(has_said(name, "CLOUD_RUN_TASK_INDEX=2\n"));
    assert_true(has_said(name, "CLOUD_RUN_TASK_COUNT=3\n"));
    assert_int_equal(cJSON_GetArraySize(json_at(tasks, "tasks")), 2);
    assert_json_has(tasks, "nextPageToken");
    cJSON_Delete(tasks);
    cJSON_Delete(execution);
    free(name);
}

/* Runs it until its time is over: one that is so long that the program is ready for it. */
static void assert_timed_out(const char *env, const char *member, double value)
{
    static const char *const limits[] = {"3s", "12s", "40s"};
    bool right = false;
    for (size_t i = 0; i < COUNT(limits) && !right; i++) {
        char *more = textf(",\"timeout\":\"%s\"", limits[i]), *name = run(env, more);
        cJSON *execution = await(name), *tasks = get(name, "/tasks");
        assert_json_contains(execution, "conditions.0.message", "timeout");
        right = json_number(tasks, member) == value;
        if (i + 1 == COUNT(limits))
            assert_json_number(tasks, member, value);
        cJSON_Delete(tasks);
        cJSON_Delete(execution);
        free(name);
        free(more);
    }
}

static void its_time_ends_with_a_warning_and_then_without(void **state)
{
    (void)state;
    assert_timed_out("SLEEP=600 TERM_EXIT=5", "tasks.0.lastAttemptResult.exitCode", 5);
    cloud_control(cloud, "{\"stopGraceMs\":200}");
    assert_timed_out("SLEEP=600 DEAF=1", "tasks.0.lastAttemptResult.termSignal", SIGKILL);
}

static void it_is_cancelled_once(void **state)
{
    (void)state;
    char *name = run("SLEEP=600", "");
    EVENTUALLY(RUN_MS, has_said(name, "ready"));
    struct reply *reply = cancel(name);
    assert_status(reply, 200);
    reply_free(reply);
    cJSON *execution = await(name);
    assert_json_number(execution, "cancelledCount", 1);
    assert_json_text(execution, "conditions.0.executionReason", "CANCELLED");
    reply = cancel(name);
    assert_status(reply, 400);
    assert_json_text(reply->json, "error.status", "FAILED_PRECONDITION");
    reply_free(reply);
    cJSON_Delete(execution);
    free(name);
}

static void one_that_has_just_begun_is_cancelled_too(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"startDelayMs\":60000}");
    char *name = run("", "");
    cJSON *execution = get(name, "");
    assert_json_lacks(execution, "startTime");
    assert_json_text(execution, "conditions.0.state", "CONDITION_RECONCILING");
    cJSON_Delete(execution);
    struct reply *reply = cancel(name);
    assert_status(reply, 200);
    reply_free(reply);
    execution = await(name);
    assert_json_number(execution, "cancelledCount", 1);
    assert_json_lacks(execution, "startTime");
    cJSON_Delete(execution);
    free(name);
}

static void nothing_that_it_started_outlives_it(void **state)
{
    (void)state;
    char *mark = proc_mark(4242), *stray = textf("STRAY=%s", mark), *name = run(stray, "");
    cJSON_Delete(await(name));
    assert_int_equal(proc_with_argument(mark), 0);
    free(mark);
    free(stray);
    free(name);
}

static void secrets_come_as_variables_when_they_may(void **state)
{
    (void)state;
    make_job("secretive", ",\"env\":[{\"name\":\"KEY\",\"valueSource\":{\"secretKeyRef\":{"
                          "\"secret\":\"" CLOUD_SECRET "\",\"version\":\"latest\"}}}]}],"
                          "\"maxRetries\":0");
    struct reply *reply = run_reply("secretive", "", "");
    assert_status(reply, 200);
    const char *name = json_text(reply->json, "metadata.name");
    cJSON_Delete(await(name));
    assert_true(has_said(name, "KEY=a secret key\n"));
    reply_free(reply);
    make_job("curious", ",\"env\":[{\"name\":\"KEY\",\"valueSource\":{\"secretKeyRef\":{"
                        "\"secret\":\"none\",\"version\":\"1\"}}}]}],\"maxRetries\":0");
    reply = run_reply("curious", "", "");
    assert_status(reply, 200);
    cJSON *execution = await(json_text(reply->json, "metadata.name"));
    assert_json_contains(execution, "conditions.0.message", "Secret none");
    assert_json_number(execution, "failedCount", 1);
    cJSON_Delete(execution);
    reply_free(reply);
}

/* ---- what goes wrong ---- */

static void too_many_are_too_many(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"maxExecutions\":1}");
    char *name = run("SLEEP=600", "");
    struct reply *reply = run_reply(CLOUD_JOB, "", "");
    assert_status(reply, 429);
    assert_json_text(reply->json, "error.status", "RESOURCE_EXHAUSTED");
    reply_free(reply);
    reply_free(cancel(name));
    cJSON_Delete(await(name));
    free(name);
    cJSON_Delete(await(name = run("", "")));
    free(name);
}

static void it_runs_on_when_the_stand_in_is_killed(void **state)
{
    (void)state;
    char *long_one = run("SLEEP=600", ""), *short_one = run("EXIT=3", "");
    EVENTUALLY(RUN_MS, has_said(long_one, "ready") && has_said(short_one, "ready"));
    cloud_kill(cloud);
    cloud_restart(cloud);
    cJSON *execution = await(short_one);
    assert_json_number(execution, "failedCount", 1);
    cJSON_Delete(execution);
    execution = get(long_one, "");
    assert_json_number(execution, "runningCount", 1);
    cJSON_Delete(execution);
    struct reply *reply = cancel(long_one);
    assert_status(reply, 200);
    reply_free(reply);
    cJSON_Delete(await(long_one));
    free(long_one);
    free(short_one);
}

static void lose(const char *name, const char *how)
{
    char *json = textf("{\"lose\":{\"execution\":\"%s\",\"how\":\"%s\"}}", name, how);
    cloud_control(cloud, json);
    free(json);
}

static void it_is_lost_in_three_ways(void **state)
{
    (void)state;
    char *mark = proc_mark(4243), *sleeps = textf("SLEEP=%s", mark);
    char *failed = run(sleeps, ""), *hangs = run(sleeps, ""), *forgotten = run(sleeps, "");
    EVENTUALLY(RUN_MS, proc_with_argument(mark) == 3);
    lose(failed, "fail");
    lose(hangs, "hang");
    lose(forgotten, "forget");
    EVENTUALLY(RUN_MS, proc_with_argument(mark) == 0);
    free(mark);
    free(sleeps);
    cJSON *execution = await(failed);
    assert_json_contains(execution, "conditions.0.message", "lost");
    cJSON_Delete(execution);
    execution = get(hangs, "");
    assert_json_number(execution, "runningCount", 1);
    cJSON_Delete(execution);
    char *path = textf("/v2/%s", forgotten);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 404);
    reply_free(reply);
    free(path);
    lose(hangs, "forget");
    free(failed);
    free(hangs);
    free(forgotten);
}

/* The number of executions that have this variable. */
static size_t count_with(const char *name, const char *value)
{
    size_t n = 0;
    char *token = strdup("");
    do {
        char *query = textf("/executions?pageSize=100%s%s", *token ? "&pageToken=" : "", token);
        cJSON *page = get(CLOUD_JOB_NAME, query);
        const cJSON *execution;
        assert_true(cJSON_GetArraySize(json_at(page, "executions")) <= 2);
        cJSON_ArrayForEach(execution, json_at(page, "executions"))
        {
            n += strcmp(json_text(execution, "template.containers.0.env.0.name"), name) == 0 &&
                 strcmp(json_text(execution, "template.containers.0.env.0.value"), value) == 0;
        }
        free(token);
        token = strdup(json_text(page, "nextPageToken"));
        cJSON_Delete(page);
        free(query);
    } while (*token);
    free(token);
    return n;
}

static void an_answer_is_lost_before_or_after_the_deed(void **state)
{
    (void)state;
    static const struct {
        const char *fault, *mark;
        int status;
        size_t executions;
    } cases[] = {
        {"\"cut\":\"before\"", "cut-before", 0, 0}, {"\"cut\":\"after\"", "cut-after", 0, 1},
        {"\"status\":503", "refused", 503, 0},      {"\"twice\":true", "twice", 200, 2},
        {"\"delayMs\":50", "late", 200, 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *plan = textf("{\"faults\":[{\"method\":\"" JOBS "run\",%s}]}", cases[i].fault);
        char *env = textf("MARK=%s", cases[i].mark);
        cloud_control(cloud, plan);
        struct reply *reply = run_reply(CLOUD_JOB, env, "");
        assert_int_equal(reply->status, cases[i].status);
        assert_int_equal(count_with("MARK", cases[i].mark), cases[i].executions);
        reply_free(reply);
        free(env);
        free(plan);
    }
    assert_int_equal(cloud_count(cloud, JOBS "run", "cut-after"), 1);
}

/* ---- many ---- */

static void the_newest_come_first_and_pages_expire(void **state)
{
    (void)state;
    char *older = run("", ""), *newer = run("", "");
    cJSON *page = get(CLOUD_JOB_NAME, "/executions?pageSize=1");
    assert_json_text(page, "executions.0.name", newer);
    char *path = textf("/v2/" CLOUD_JOB_NAME "/executions?pageSize=1&pageToken=%s",
                       json_text(page, "nextPageToken"));
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    assert_json_text(reply->json, "executions.0.name", older);
    reply_free(reply);
    cloud_control(cloud, "{\"expirePages\":true}");
    reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 400);
    reply_free(reply);
    cJSON_Delete(page);
    free(path);
    free(older);
    free(newer);
}

static int running(void)
{
    cJSON *json = cloud_state(cloud);
    int n = (int)json_number(json, "running");
    cJSON_Delete(json);
    return n;
}

static void a_hundred_run_at_once(void **state)
{
    (void)state;
    char *mark = proc_mark(4244), *sleeps = textf("SLEEP=%s", mark);
    for (int i = 0; i < MANY; i++)
        free(run(sleeps, ""));
    EVENTUALLY(60000, proc_with_argument(mark) == MANY);
    assert_int_equal(running(), MANY);
    cloud_control(cloud, "{\"killExecutions\":true}");
    EVENTUALLY(60000, proc_with_argument(mark) == 0);
    EVENTUALLY(60000, running() == 0);
    free(mark);
    free(sleeps);
}

static void two_hundred_connections_are_answered(void **state)
{
    (void)state;
    int fds[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++)
        fds[i] = http_begin(cloud->base, "GET", "/v2/" CLOUD_JOB_NAME,
                            "Authorization: Bearer " CLOUD_TOKEN "\r\n", NULL);
    for (int i = 0; i < CONNECTIONS; i++) {
        struct reply *reply = http_read(fds[i], HTTP_DEADLINE_MS);
        assert_status(reply, 200);
        reply_free(reply);
        close(fds[i]);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, settle)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_gets_what_cloud_run_gives),
        TEST(it_is_its_jobs_account),
        TEST(its_exit_code_is_told),
        TEST(a_failed_task_is_tried_again_as_often_as_may_be),
        TEST(several_tasks_are_told_apart),
        TEST(its_time_ends_with_a_warning_and_then_without),
        TEST(it_is_cancelled_once),
        TEST(one_that_has_just_begun_is_cancelled_too),
        TEST(nothing_that_it_started_outlives_it),
        TEST(secrets_come_as_variables_when_they_may),
        TEST(too_many_are_too_many),
        TEST(it_runs_on_when_the_stand_in_is_killed),
        TEST(it_is_lost_in_three_ways),
        TEST(an_answer_is_lost_before_or_after_the_deed),
        TEST(the_newest_come_first_and_pages_expire),
        TEST(a_hundred_run_at_once),
        TEST(two_hundred_connections_are_answered),
    };
    return cmocka_run_group_tests_name("google_executions", tests, start, stop);
}
