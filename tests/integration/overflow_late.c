/* Results of cloud tasks that come after the runner at home has given the task up. */
#include "overflow_scene.h"

#include "loopback.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

/* Google says that there is no such execution, its events cannot be seen, and its result cannot be
 * stored: home gives up for sure, and the execution goes on until it can. */
#define UNSEEN                                                                                   \
    "{\"method\":\"run.projects.locations.jobs.executions.get\",\"times\":9999,\"status\":404}," \
    "{\"method\":\"storage.objects.get\",\"pathContains\":\"events%2F\",\"times\":9999,"         \
    "\"status\":404}"
#define UNSTORED(id)                                                                    \
    "{\"method\":\"storage.objects.insert\",\"pathContains\":\"" id "%2Fresult.json\"," \
    "\"times\":9999,\"status\":503}"

/* --- a receiver of webhooks ------------------------------------------------------------------ */

enum { SEEN_MAX = 8 };

struct receiver {
    struct loopback *http;
    pthread_mutex_t lock;
    _Atomic int count;
    char *bodies[SEEN_MAX], ids[SEEN_MAX][80];
};

/* Counts each webhook once: one that was delivered just before a crash comes again. */
static bool receive(struct loopback_call *call, void *arg)
{
    struct receiver *r = arg;
    char *body = loopback_body(call);
    char id[sizeof(r->ids[0])] = "";
    loopback_header(call, "webhook-id", id, sizeof(id));
    pthread_mutex_lock(&r->lock);
    int n = r->count;
    bool known = false;
    for (int i = 0; i < n && i < SEEN_MAX; i++)
        known |= strcmp(r->ids[i], id) == 0;
    if (!known && n < SEEN_MAX) {
        memcpy(r->ids[n], id, sizeof(id));
        r->bodies[n] = body;
        body = NULL;
    }
    r->count = known ? n : n + 1;
    pthread_mutex_unlock(&r->lock);
    free(body);
    return loopback_answer(call, 200, "", "");
}

static void assert_said(const struct receiver *r, int n, const char *status)
{
    cJSON *body = cJSON_Parse(r->bodies[n]);
    assert_json_text(body, "status", status);
    cJSON_Delete(body);
}

static void receiver_done(struct receiver *r)
{
    loopback_stop(r->http);
    for (int i = 0; i < SEEN_MAX; i++)
        free(r->bodies[i]);
    pthread_mutex_destroy(&r->lock);
}

/* --- late results ---------------------------------------------------------------------------- */

static void assert_event_names(const char *id)
{
    char *events = events_of(id);
    /* the `done` with which it was given up is no end any more */
    const char *lost = strstr(events, "\"event\":\"lost\"");
    const char *late = strstr(events, "\"event\":\"late\"");
    const char *done = strstr(events, "\"event\":\"done\"");
    assert_non_null(lost);
    assert_true(late > lost);
    assert_true(done > late);
    assert_int_equal(text_count(events, "\"event\":\"lost\""), 1);
    assert_int_equal(text_count(events, "\"event\":\"done\""), 1);
    assert_int_equal(text_count(events, "\"event\":\"task\""), 1);
    for (int i = 0; i < 40; i++) {
        char *tick = textf("\"tick %d\"", i);
        if (text_count(events, tick) != 1)
            fail_msg("%s is there %zu times: %.3000s", tick, text_count(events, tick), events);
        free(tick);
    }
    free(events);
}

/* How long it ran is the execution's time, not until home took it in. */
static void assert_duration(const char *id, double duration_ms)
{
    char *path =
        textf("/storage/v1/b/" CLOUD_BUCKET "/o/sessions%%2F%s%%2Fresult.json?alt=media", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    double there_ms = json_number(reply->json, "endedMs") - json_number(reply->json, "startedMs");
    if (duration_ms <= 0 || duration_ms != there_ms)
        fail_msg("%s: %.0f ms, %.0f ms there", id, duration_ms, there_ms);
    reply_free(reply);
    free(path);
}

/* It is counted once, as what it became. */
static void assert_counted(int completed)
{
    struct reply *reply = http_call(runner->base, "GET", "/metrics", RUNNER_AUTH, NULL);
    char *line = textf("claude_runner_tasks_ended_total{kind=\"claude\",status=\"completed\","
                       "reason=\"\"} %d\n",
                       completed);
    assert_status(reply, 200);
    if (!strstr(reply->body, line) ||
        strstr(reply->body, "status=\"failed\",reason=\"interrupted\""))
        fail_msg("no '%s', or a failure, in %.4000s", line,
                 strstr(reply->body, "claude_runner_tasks_ended_total"));
    free(line);
    reply_free(reply);
}

static void assert_is_completed(const char *id)
{
    runner_await(runner, id, "completed", END_MS);
    struct reply *reply = runner_result(runner, id);
    assert_status(reply, 200);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(reply->json, "success")));
    assert_json_text(reply->json, "executor", "cloud");
    assert_null(cJSON_GetObjectItem(reply->json, "reason"));
    assert_duration(id, json_number(reply->json, "duration_ms"));
    reply_free(reply);
    assert_event_names(id);
}

static void await_failure(const char *id)
{
    assert_outcome(id, "failed", "interrupted");
    assert_false(object_is_there(id, "result.json"));
}

/* One result comes while home runs, and both webhooks say what was so; the other one while home has
 * been killed. */
static void a_result_that_comes_late_ends_the_task_as_what_it_became(void **state)
{
    (void)state;
    struct receiver r = {.count = 0};
    pthread_mutex_init(&r.lock, NULL);
    r.http = loopback_start(receive, &r);
    char *url = loopback_url(r.http, "/hook");
    char *more = textf(AWAY ",\"taskId\":\"late\",\"callbackUrl\":\"%s\"", url);
    runner_set(runner, "CALLBACK_SECRET", "callback-secret-0123456789");
    runner_set(runner, "CALLBACK_ALLOW", "127.0.0.1");
    runner_start(runner);
    cloud_control(cloud, "{\"faults\":[" UNSTORED("late") "," UNSTORED("away") "]}");
    free(runner_submit(runner, "standin: tick 40 20", more));
    free(runner_submit(runner, "standin: tick 40 20", AWAY ",\"taskId\":\"away\""));
    EVENTUALLY(END_MS,
               object_is_there("late", "claim-1.json") && object_is_there("away", "claim-1.json"));
    cloud_control(cloud, "{\"faults\":[" UNSEEN "," UNSTORED("late") "," UNSTORED("away") "]}");
    await_failure("late");
    await_failure("away");
    EVENTUALLY(END_MS, r.count == 1);
    assert_said(&r, 0, "failed");

    cloud_control(cloud, "{\"faults\":[" UNSTORED("away") "]}");
    assert_is_completed("late");
    EVENTUALLY(END_MS, r.count == 2);
    assert_said(&r, 1, "completed");
    assert_string_not_equal(r.ids[0], r.ids[1]);
    assert_counted(1);

    runner_crash(runner);
    cloud_control(cloud, "{\"faults\":[]}");
    EVENTUALLY(END_MS, object_is_there("away", "result.json"));
    runner_start(runner);
    assert_is_completed("away");
    runner_crash(runner);
    runner_start(runner);
    assert_is_completed("away"); /* they stay what they became */
    assert_is_completed("late");
    assert_int_equal(executions(), 2);
    assert_int_equal(r.count, 2);
    receiver_done(&r);
    free(more);
    free(url);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_result_that_comes_late_ends_the_task_as_what_it_became),
    };
    return cmocka_run_group_tests_name("overflow_late", tests, NULL, NULL);
}
