/*
 * kill -9 at every step of a cloud task: of the runner at home, of the job, and of the stand-in for
 * Google. The stand-in holds the request of each step. Then one of the three dies and the held
 * requests continue. Every task must have had one execution, end once, and leave no payload.
 */
#include "cloud.h"
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-51c0ffee77-secret"
#define RUN "run.projects.locations.jobs.run"
#define PUT "storage.objects.insert"
#define GET "storage.objects.get"

enum { END_MS = 90000, SLOW_MS = 150000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *runner; /* at home */
static struct runner *there;  /* never started: the places and variables of executions */

/* A step at which a task is held. Steps without an object are reached one by one, before the
 * others. */
static const struct step {
    const char *id;
    const char *method;
    const char *object; /* the object in the task's folder, as a URL spells it */
    int skip;
    const char *more;
    /* The task's reason when the job has died at this step. NULL: the task succeeds, because its
     * execution had not begun, or its result, or its outcome and all outputs, had arrived. */
    const char *without_job;
} steps[] = {
    {"claimed", "cloudkms.projects.locations.keyRings.cryptoKeys.encrypt", NULL, 0, "", NULL},
    {"asked", RUN, NULL, 0, "", NULL},
    {"answer-lost", RUN, NULL, 0, ",\"cut\":\"after\"", NULL},
    {"payload", PUT, "payload.enc", 0, "", NULL},
    {"job-claims", PUT, "claim-1.json", 0, "", "interrupted"},
    {"opened", "storage.objects.delete", "payload.enc", 0, "", "interrupted"},
    {"first-piece", PUT, "events%2F", 0, "", "interrupted"},
    {"next-piece", PUT, "events%2F", 1, "", "interrupted"},
    {"outputs", PUT, "outputs%2F", 0, "", NULL}, /* the bucket takes the one that it was sent */
    {"result", PUT, "result.json", 0, "", NULL},
    {"relayed", GET, "events%2F", 2, "", NULL},
    {"read", GET, "result.json", 0, "", NULL},
};

static int set_up(void **state)
{
    (void)state;
    const char *binary = getenv("CR_BINARY");
    api = api_new();
    runner = runner_new();
    there = runner_new();
    cloud = cloud_new(binary ? binary : TEST_RUNNER, NULL);
    cloud_furnish(cloud, API_KEY "\n");
    cloud_use(cloud, there);
    runner_set(there, "ANTHROPIC_UPSTREAM", api->base);
    assert_int_equal(mkdir(there->state, 0711), 0);
    cloud_define_job(cloud, there);
    cloud_use(cloud, runner);
    runner_set(runner, "CLOUD_RESOLVE_SECONDS", "6");
    runner_start(runner);
    return 0;
}

/* No object in the bucket, no request to Google and no event at home holds the secret. */
static void assert_no_trace(void)
{
    char *command =
        textf("grep -rlF -- '" CANARY "' '%s' '%s' >/dev/null 2>&1", cloud->state, runner->state);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    int status = -1;
    assert_true(proc_wait(proc_start(argv, runner->env, NULL, "/dev/null"), 60000, &status));
    assert_int_not_equal(status, 0);
    free(command);
}

static int tear_down(void **state)
{
    (void)state;
    assert_no_trace();
    runner_free(runner);
    cloud_free(cloud);
    runner_free(there);
    api_free(api);
    return 0;
}

static bool is_there(const char *id, const char *object)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/sessions%%2F%s%%2F%s", id, object);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool is = reply->status != 404;
    reply_free(reply);
    free(path);
    return is;
}

/* ---- to the steps ---- */

/* One of the stand-in's numbers: "held" requests, or "running" executions. */
static int now(const char *what)
{
    cJSON *state = cloud_state(cloud);
    int count = (int)json_number(state, what);
    cJSON_Delete(state);
    return count;
}

static char *fault_of(const struct step *step)
{
    char *path = step->object ? textf("sessions%%2F%s%%2F%s", step->id, step->object) : strdup("");
    char *fault = textf("{\"method\":\"%s\",\"pathContains\":\"%s\",\"skip\":%d,\"hold\":true%s}",
                        step->method, path, step->skip, step->more);
    free(path);
    return fault;
}

static void submit(const struct step *step)
{
    char *more =
        textf("\"executor\":\"cloud\",\"taskId\":\"%s\","
              "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"}%s",
              step->id,
              strcmp(step->id, "outputs") == 0
                  ? ",\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"*\"]}}"
                  : "");
    free(runner_submit(runner,
                       strcmp(step->id, "outputs") == 0 ? "standin: touch made.txt"
                                                        : "standin: tick 6 300",
                       more));
    free(more);
}

/* Brings one task to each step. */
static void take_places(void)
{
    char *plan = strdup("");
    for (size_t i = 0; i < COUNT(steps); i++) {
        char *fault = fault_of(&steps[i]), *longer;
        if (!steps[i].object) {
            char *only = textf("{\"faults\":[%s]}", fault);
            cloud_control(cloud, only);
            submit(&steps[i]);
            EVENTUALLY(END_MS, now("held") == (int)i + 1);
            free(only);
            free(fault);
            continue;
        }
        longer = textf("%s%s%s", plan, *plan ? "," : "", fault);
        free(plan);
        free(fault);
        plan = longer;
    }
    char *all = textf("{\"faults\":[%s]}", plan);
    cloud_control(cloud, all);
    for (size_t i = 0; i < COUNT(steps); i++)
        if (steps[i].object)
            submit(&steps[i]);
    EVENTUALLY(END_MS, now("held") == (int)COUNT(steps));
    /* at this step the runner at home is held, so the job must be over */
    EVENTUALLY(END_MS, is_there("relayed", "result.json") && is_there("read", "result.json"));
    free(all);
    free(plan);
}

/* ---- what became of them ---- */

/* The number of this task's executions: all, or those that succeeded. An execution that starts
 * after the runner has given up its attempt runs nothing. */
static int executions_of(const char *id, bool good)
{
    int count = 0;
    char *token = strdup(""), *mark = textf("\"%s/", id);
    while (token) {
        char *path = textf("/v2/" CLOUD_JOB_NAME "/executions?pageSize=100%s%s",
                           *token ? "&pageToken=" : "", token);
        struct reply *reply = cloud_call(cloud, "GET", path, NULL);
        cJSON *one;
        assert_status(reply, 200);
        cJSON_ArrayForEach(one, cJSON_GetObjectItem(reply->json, "executions"))
        {
            char *text = cJSON_PrintUnformatted(one);
            count += strstr(text, mark) && (!good || strstr(text, "\"succeededCount\":1"));
            free(text);
        }
        const char *next = json_text(reply->json, "nextPageToken");
        free(token);
        token = *next ? strdup(next) : NULL;
        reply_free(reply);
        free(path);
    }
    free(mark);
    return count;
}

static void assert_said_once(const struct step *step, bool whole)
{
    char *path = textf("%s/tasks/%s/events", runner->state, step->id), *events = NULL;
    /* The result can be read a moment before the last event is written. */
    EVENTUALLY(20000, (free(events), events = read_file(path, NULL)) &&
                          text_count(events, "event: done\n") > 0);
    assert_int_equal(text_count(events, "event: done\n"), 1);
    assert_int_equal(text_count(events, "event: task\n"), 1);
    for (int i = 0; i < 6 && strcmp(step->id, "outputs") != 0; i++) {
        char *tick = textf("\"tick %d\"", i);
        size_t count = text_count(events, tick);
        if (count > 1 || (whole && count != 1))
            fail_msg("%s: %s is there %zu times: %.2000s", step->id, tick, count, events);
        free(tick);
    }
    free(events);
    free(path);
}

static bool is_over(const char *path)
{
    struct reply *reply = runner_get(runner, path);
    bool over = reply->status == 200;
    reply_free(reply);
    return over;
}

static void assert_outcome(const struct step *step, const char *reason, bool job_is_dead)
{
    print_message("  %s\n", step->id);
    char *path = textf("/tasks/%s/result", step->id);
    EVENTUALLY(SLOW_MS, is_over(path));
    free(path);
    struct reply *reply = runner_result(runner, step->id);
    assert_json_text(reply->json, "status", reason ? "failed" : "completed");
    if (reason)
        assert_json_text(reply->json, "reason", reason);
    reply_free(reply);
    assert_said_once(step, !reason);
    EVENTUALLY(20000, job_is_dead || executions_of(step->id, true) == 1);
    int count = executions_of(step->id, false);
    if (count != 1 && (step->object || count != 2))
        fail_msg("%s has had %d executions", step->id, count);
    EVENTUALLY(20000, !is_there(step->id, "payload.enc"));
}

static void assert_outcomes(bool job_is_dead)
{
    for (size_t i = 0; i < COUNT(steps); i++)
        assert_outcome(&steps[i], job_is_dead ? steps[i].without_job : NULL, job_is_dead);
    struct reply *reply = runner_get(runner, "/tasks/outputs/outputs/made.txt");
    assert_status(reply, 200);
    reply_free(reply);
}

/* ---- who dies ---- */

static void the_runner_dies_at_every_step(void **state)
{
    (void)state;
    take_places();
    runner_crash(runner);
    runner_start(runner);
    cloud_control(cloud, "{\"faults\":[],\"release\":true}");
    assert_outcomes(false);
}

static void the_job_dies_at_every_step(void **state)
{
    (void)state;
    take_places();
    cloud_control(cloud, "{\"killExecutions\":true}");
    EVENTUALLY(20000, now("running") == 0);
    cloud_control(cloud, "{\"faults\":[],\"release\":true}");
    assert_outcomes(true);
}

static void google_dies_at_every_step(void **state)
{
    (void)state;
    take_places();
    cloud_kill(cloud);
    cloud_restart(cloud);
    assert_outcomes(false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_runner_dies_at_every_step),
        TEST(the_job_dies_at_every_step),
        TEST(google_dies_at_every_step),
    };
    return cmocka_run_group_tests_name("kills", tests, NULL, NULL);
}
