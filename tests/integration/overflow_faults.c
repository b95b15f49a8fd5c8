/*
 * Overflow when Google is slow, full or wrong: finished work is not reported as lost, a burst of
 * refusals passes, a task that had not begun is placed again, and outputs are passed on as they are
 * read.
 */
#include "cloud.h"
#include "stream.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN "run.projects.locations.jobs.run"
#define GET "storage.objects.get"
#define PUT "storage.objects.insert"

enum { END_MS = 150000, MANY = 12, OUTPUTS = 300 };

static struct api *api;
static struct cloud *cloud;
static struct runner *runner; /* at home */
static struct runner *there;  /* never started: the places and variables of executions */

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
    runner_start(runner);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"faults\":[],\"release\":1}");
    runner_free(runner);
    cloud_free(cloud);
    runner_free(there);
    api_free(api);
    return 0;
}

/* Starts a task for the cloud without waiting for it; its response is kept. */
static void begin_with(const char *id, const char *behaviour, const char *fields)
{
    char *prompt = textf("standin: %s", behaviour);
    char *more = textf("\"executor\":\"cloud\",\"taskId\":\"%s\",\"postExecutionActions\":{"
                       "\"uploadFiles\":{\"globPatterns\":[\"*.out\"]}}%s",
                       id, fields);
    free(runner_submit(runner, prompt, more));
    free(more);
    free(prompt);
}

static void begin(const char *id, const char *behaviour)
{
    begin_with(id, behaviour, "");
}

static void faults(const char *list)
{
    char *json = textf("{\"faults\":[%s]}", list);
    cloud_control(cloud, json);
    free(json);
}

/* The task had exactly one execution, and its outcome was reported correctly. */
static void assert_completed(const char *id, int attempt)
{
    runner_await(runner, id, "completed", END_MS);
    struct reply *reply = runner_result(runner, id);
    assert_json_text(reply->json, "status", "completed");
    assert_json_number(reply->json, "cloud.attempt", attempt);
    reply_free(reply);
}

static void assert_output(const char *id, const char *name, size_t size)
{
    char *path = textf("/tasks/%s/outputs/%s", id, name);
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    assert_int_equal(reply->body_size, size);
    reply_free(reply);
    free(path);
}

static char *json_of(const char *id)
{
    char *path = textf("/tasks/%s", id);
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    char *body = strdup(reply->body);
    reply_free(reply);
    free(path);
    return body;
}

/* ---- finished work ---- */

/* One output that takes long, and beside it another task with very many. */
static void slow_outputs_are_waited_for(void **state)
{
    (void)state;
    char *many = strdup("write");
    for (int i = 0; i < OUTPUTS; i++) {
        char *more = textf("%s %d.out 1", many, i);
        free(many);
        many = more;
    }
    faults("{\"method\":\"" PUT "\",\"pathContains\":\"slow%2Foutputs%2Fb\",\"delayMs\":14000},"
           "{\"method\":\"" PUT
           "\",\"pathContains\":\"many%2Foutputs\",\"delayMs\":60,\"times\":9999}");
    begin("slow", "write a.out 2 b.out 3 c.out 4");
    begin("many", many);
    assert_completed("slow", 1);
    assert_output("slow", "a.out", 2);
    assert_output("slow", "b.out", 3);
    assert_output("slow", "c.out", 4);
    assert_completed("many", 1);
    struct reply *reply = runner_get(runner, "/tasks/many/outputs");
    assert_int_equal(text_count(reply->body, "\"path\":"), OUTPUTS);
    reply_free(reply);
    assert_int_equal(cloud_count(cloud, RUN, NULL), 2);
    free(many);
}

static void a_heartbeat_that_hangs_and_a_result_that_is_refused_lose_nothing(void **state)
{
    (void)state;
    faults("{\"method\":\"" PUT "\",\"pathContains\":\"heartbeat\",\"delayMs\":15000,\"times\":9},"
           "{\"method\":\"" PUT "\",\"pathContains\":\"result.json\",\"status\":503,\"times\":4},"
           "{\"method\":\"" GET "\",\"pathContains\":\"result.json\",\"status\":503,\"times\":8}");
    begin("beat", "write x.out 5");
    assert_completed("beat", 1);
    assert_output("beat", "x.out", 5);
    assert_int_equal(cloud_count(cloud, RUN, NULL), 1);
}

static void what_the_bucket_cannot_tell_for_a_while_is_not_lost(void **state)
{
    (void)state;
    begin("down", "write x.out 5");
    faults("{\"method\":\"" GET "\",\"pathContains\":\"result.json\",\"status\":403,\"times\":25}");
    assert_completed("down", 1);
    assert_output("down", "x.out", 5);
}

static bool is_stored(const char *id, const char *name)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/sessions%%2F%s%%2F%s", id, name);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool is = reply->status == 200;
    reply_free(reply);
    free(path);
    return is;
}

/* One of the stand-in's numbers: "held" requests, or "running" executions. */
static int now(const char *what)
{
    cJSON *json = cloud_state(cloud);
    int count = (int)json_number(json, what);
    cJSON_Delete(json);
    return count;
}

/* The one output that the bucket has taken, whichever was sent first. */
static const char *arrived_of_some(void)
{
    static const char *const names[] = {"a.out", "b.out", "c.out"};
    for (size_t i = 0; i < COUNT(names); i++) {
        char *name = textf("outputs%%2F%s", names[i]);
        bool is = is_stored("some", name);
        free(name);
        if (is)
            return names[i];
    }
    return NULL;
}

/* What is known of a task that had written before its execution died. */
static struct reply *assert_interrupted(const char *id)
{
    runner_await(runner, id, "failed", END_MS);
    struct reply *reply = runner_result(runner, id);
    assert_json_text(reply->json, "reason", "interrupted");
    assert_non_null(strstr(json_text(reply->json, "error"), "2 of 3 outputs"));
    assert_json_number(reply->json, "exit_code", 1);
    assert_non_null(strstr(json_text(reply->json, "output"), "written"));
    assert_true(json_number(reply->json, "num_turns") > 0);
    return reply;
}

/* The execution dies when Claude has ended and the outputs are on their way: of one task all are
 * there, of another one of three, and the third may run again. */
static void a_death_over_the_outputs_loses_only_what_had_not_arrived(void **state)
{
    (void)state;
    const char *arrived = NULL;
    faults("{\"method\":\"" PUT "\",\"pathContains\":\"all%2Fresult.json\",\"times\":9999,"
           "\"status\":503},{\"method\":\"" PUT "\",\"pathContains\":\"some%2Foutputs\","
           "\"skip\":1,\"times\":9999,\"status\":503},{\"method\":\"" PUT
           "\",\"pathContains\":\"rerun%2Foutputs\",\"times\":9999,\"status\":503}");
    begin("all", "write x.out 5");
    begin("some", "write a.out 4 b.out 4 c.out 4");
    begin_with("rerun", "write b.out 3", ",\"retryInterrupted\":true");
    EVENTUALLY(END_MS, is_stored("all", "outputs%2Fx.out") && is_stored("rerun", "outcome.json"));
    EVENTUALLY(END_MS, (arrived = arrived_of_some()));
    cloud_control(cloud, "{\"killExecutions\":true}");
    EVENTUALLY(END_MS, now("running") == 0);
    faults("");
    assert_completed("all", 1);
    assert_output("all", "x.out", 5);
    assert_false(is_stored("all", "result.json"));
    reply_free(assert_interrupted("some"));
    assert_output("some", arrived, 4);
    struct reply *reply = runner_get(runner, "/tasks/some/outputs");
    assert_status(reply, 200);
    assert_int_equal(text_count(reply->body, "\"path\":"), 1);
    reply_free(reply);
    assert_completed("rerun", 2);
    assert_output("rerun", "b.out", 3);
}

/* ---- a full quota ---- */

static bool all_have_ended(char ids[][16], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *state = runner_task_state(runner, ids[i]);
        bool ended = strcmp(state, "completed") == 0;
        free(state);
        if (!ended)
            return false;
    }
    return true;
}

static void a_burst_past_the_quota_widens_to_what_is_granted(void **state)
{
    (void)state;
    char ids[MANY][16];
    bool told = false;
    cloud_control(cloud, "{\"maxExecutions\":3}");
    int64_t begin_ms = now_ms();
    for (int i = 0; i < MANY; i++) {
        snprintf(ids[i], sizeof ids[i], "many-%d", i);
        begin(ids[i], "sleep 1500");
    }
    while (!all_have_ended(ids, MANY)) {
        char *last = json_of(ids[MANY - 1]);
        told |= strstr(last, "\"status\":\"pending\"") && strstr(last, "\"reason\":\"cloud_full\"");
        free(last);
        assert_true(now_ms() - begin_ms < END_MS * slowness());
    }
    print_message("%d tasks of 1.5 s, three at once: %lld ms, %zu requests for an execution\n",
                  MANY, (long long)(now_ms() - begin_ms), cloud_count(cloud, RUN, NULL));
    assert_true(told);
}

static void a_burst_of_refusals_is_one_episode(void **state)
{
    (void)state;
    char ids[MANY][16];
    cloud_control(cloud, "{\"maxExecutions\":0}");
    for (int i = 0; i < MANY; i++) {
        snprintf(ids[i], sizeof ids[i], "burst-%d", i);
        begin(ids[i], "ok x");
    }
    EVENTUALLY(END_MS, cloud_count(cloud, RUN, "\"status\":429") >= MANY);
    int64_t freed_ms = now_ms();
    cloud_control(cloud, "{\"maxExecutions\":100}");
    EVENTUALLY(END_MS, cloud_count(cloud, RUN, "\"status\":200") > 0);
    int64_t waited_ms = now_ms() - freed_ms;
    print_message("first start %lld ms after the quota was free\n", (long long)waited_ms);
    assert_true(waited_ms < 150000); /* a pause is 60 s at most, those of all refusals 298 s */
    EVENTUALLY(END_MS, all_have_ended(ids, MANY));
}

/* ---- before the claim ---- */

static void what_fails_before_the_claim_is_placed_again(void **state)
{
    (void)state;
    faults("{\"method\":\"" PUT "\",\"pathContains\":\"claim-1\",\"status\":403}");
    begin("again", "write x.out 5");
    assert_completed("again", 2);
    assert_output("again", "x.out", 5);
    assert_int_equal(cloud_count(cloud, RUN, NULL), 2);
}

static void a_job_that_never_begins_is_told_soon(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"storage.objects.create\"]}}");
    begin("never", "ok x");
    runner_await(runner, "never", "failed", END_MS);
    struct reply *reply = runner_result(runner, "never");
    assert_json_text(reply->json, "reason", "cloud_error");
    assert_non_null(strstr(json_text(reply->json, "error"), "before it began"));
    assert_non_null(strstr(json_text(reply->json, "error"), "exit status"));
    reply_free(reply);
    assert_int_equal(cloud_count(cloud, RUN, NULL), 4);
}

/* ---- the table ---- */

/* Each kind of request of a cloud task's life; `object` is in the folder of the task. What has none
 * befalls whichever task asks. */
static const struct kind {
    const char *id, *method, *object;
} kinds[] = {
    {"payload", PUT, "payload.enc"},    {"claim", PUT, "claim-1"},
    {"opened", GET, "payload.enc"},     {"gone", "storage.objects.delete", "payload.enc"},
    {"meta", PUT, "metadata.json"},     {"pulse", PUT, "heartbeat.json"},
    {"events", PUT, "events%2F"},       {"relayed", GET, "events%2F"},
    {"outcome", PUT, "outcome.json"},   {"output", PUT, "outputs%2F"},
    {"result", PUT, "result.json"},     {"read", GET, "result.json"},
    {"fetched", GET, "outputs%2F"},     {NULL, "cloudkms.*.encrypt", ""},
    {NULL, "cloudkms.*.decrypt", ""},   {NULL, "secretmanager.*.access", ""},
    {NULL, "run.*.executions.get", ""}, {NULL, "token", ""},
};

/* What befalls each of them, one after the other: the retry of one meets the next. */
static const char *const befalls[] = {
    "\"status\":503",     "\"status\":429,\"retryAfter\":1",
    "\"cut\":\"before\"", "\"cut\":\"after\"",
    "\"status\":502",     "\"delayMs\":1500",
};

static char *fault_of(const struct kind *kind, const char *what)
{
    char *where = kind->id ? textf("%s%%2F%s", kind->id, kind->object) : strdup("");
    char *fault =
        textf("{\"method\":\"%s\",\"pathContains\":\"%s\",%s}", kind->method, where, what);
    free(where);
    return fault;
}

static void plan_table(void)
{
    char *list = strdup("");
    for (size_t i = 0; i < COUNT(kinds) * COUNT(befalls); i++) {
        char *fault = fault_of(&kinds[i / COUNT(befalls)], befalls[i % COUNT(befalls)]);
        char *more = textf("%s%s%s", list, *list ? "," : "", fault);
        free(fault);
        free(list);
        list = more;
    }
    faults(list);
    free(list);
}

/* How many faults of the plan have befallen nobody yet. */
static int left_over(void)
{
    cJSON *json = cloud_state(cloud);
    int count = cJSON_GetArraySize(cJSON_GetObjectItem(json, "faults"));
    cJSON_Delete(json);
    return count;
}

/* Faults by kinds of request: each task runs once, is told as completed, and has its output. */
static void whatever_befalls_a_request_the_task_runs_once(void **state)
{
    (void)state;
    size_t tasks = 0;
    int64_t begin_ms = now_ms();
    plan_table();
    for (; tasks < COUNT(kinds) && kinds[tasks].id; tasks++)
        begin(kinds[tasks].id, "write x.out 7");
    for (size_t i = 0; i < tasks; i++) {
        assert_completed(kinds[i].id, 1);
        assert_output(kinds[i].id, "x.out", 7);
        EVENTUALLY(END_MS, !is_stored(kinds[i].id, "payload.enc"));
    }
    assert_int_equal(cloud_count(cloud, RUN, NULL), tasks);
    print_message("%zu kinds of request, %zu faults each: %lld ms, %d befell nobody\n",
                  COUNT(kinds), COUNT(befalls), (long long)(now_ms() - begin_ms), left_over());
}

/* ---- outputs ---- */

static void one_slow_output_holds_up_no_other(void **state)
{
    (void)state;
    begin("two", "write big.out 3000000 small.out 7");
    assert_completed("two", 1);
    faults("{\"method\":\"" GET "\",\"pathContains\":\"outputs%2Fbig\",\"truncateAt\":1000000},"
           "{\"method\":\"" GET "\",\"pathContains\":\"outputs%2Fbig\",\"hold\":true}");
    struct stream *big =
        stream_open(runner->base, "GET", "/tasks/two/outputs/big.out", RUNNER_AUTH, NULL);
    EVENTUALLY(END_MS, now("held") == 1);
    /* what has come is passed on while the rest is waited for */
    assert_true(stream_until_size(big, 1, END_MS));
    assert_int_equal(now("held"), 1);
    assert_output("two", "small.out", 7);
    cloud_control(cloud, "{\"release\":1}");
    assert_true(stream_until_size(big, 3000000, END_MS));
    stream_free(big);
}

static void a_range_of_an_output_is_a_range_of_the_object(void **state)
{
    (void)state;
    begin("part", "write seq.out 588895");
    assert_completed("part", 1);
    struct reply *reply = http_call(runner->base, "GET", "/tasks/part/outputs/seq.out",
                                    RUNNER_AUTH "Range: bytes=0-9\r\n", NULL);
    assert_status(reply, 206);
    assert_int_equal(reply->body_size, 10);
    reply_free(reply);
    assert_int_equal(cloud_count(cloud, GET, "\"bytes=0-9\""), 1);
    reply = http_call(runner->base, "HEAD", "/tasks/part/outputs/seq.out", RUNNER_AUTH, NULL);
    assert_status(reply, 200);
    reply_free(reply);
    reply = http_call(runner->base, "GET", "/tasks/part/outputs/seq.out",
                      RUNNER_AUTH "Range: bytes=999999-\r\n", NULL);
    assert_status(reply, 416);
    reply_free(reply);
    reply = runner_get(runner, "/tasks/part/outputs.tgz");
    assert_status(reply, 200);
    reply_free(reply);
    struct reply *streamed = runner_get(runner, "/tasks/part/outputs/seq.out");
    assert_int_equal(streamed->body_size, 588895);
    size_t before = cloud_count(cloud, GET, "outputs%2Fseq");
    reply = runner_get(runner, "/tasks/part/outputs/seq.out"); /* this time from the disk */
    assert_int_equal(reply->body_size, 588895);
    assert_memory_equal(reply->body, streamed->body, 588895);
    reply_free(streamed);
    reply_free(reply);
    assert_int_equal(cloud_count(cloud, GET, "outputs%2Fseq"), before);
}

static void an_output_that_is_gone_or_changed_is_told(void **state)
{
    (void)state;
    begin("gone", "write a.out 2 b.out 2");
    assert_completed("gone", 1);
    cloud_control(cloud, "{\"vanish\":{\"bucket\":\"" CLOUD_BUCKET
                         "\",\"name\":\"sessions/gone/outputs/a.out\"}}");
    struct reply *reply = runner_get(runner, "/tasks/gone/outputs/a.out");
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    assert_output("gone", "b.out", 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(slow_outputs_are_waited_for),
        TEST(a_heartbeat_that_hangs_and_a_result_that_is_refused_lose_nothing),
        TEST(what_the_bucket_cannot_tell_for_a_while_is_not_lost),
        TEST(a_death_over_the_outputs_loses_only_what_had_not_arrived),
        TEST(a_burst_past_the_quota_widens_to_what_is_granted),
        TEST(a_burst_of_refusals_is_one_episode),
        TEST(what_fails_before_the_claim_is_placed_again),
        TEST(a_job_that_never_begins_is_told_soon),
        TEST(whatever_befalls_a_request_the_task_runs_once),
        TEST(one_slow_output_holds_up_no_other),
        TEST(a_range_of_an_output_is_a_range_of_the_object),
        TEST(an_output_that_is_gone_or_changed_is_told),
    };
    return cmocka_run_group_tests_name("overflow_faults", tests, NULL, NULL);
}
