/* Webhooks of the service at Google: handed in by executions, or by whoever runs next. */
#include "service_scene.h"

#include "loopback.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

/* --- a receiver ---------------------------------------------------------------------------- */

#define SECRET "callback-secret-0123456789"

enum { SEEN_MAX = 16 };

struct receiver {
    struct loopback *http;
    _Atomic int status;
    _Atomic int count;
    pthread_mutex_t lock;
    char *bodies[SEEN_MAX], *heads[SEEN_MAX], ids[SEEN_MAX][80];
};

/* How many webhooks have come. One comes again when it was delivered just before its sender died.
 */
static int webhooks_of(struct receiver *r)
{
    int count = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count && i < SEEN_MAX; i++) {
        bool known = false;
        for (int k = 0; k < i; k++)
            known |= strcmp(r->ids[k], r->ids[i]) == 0;
        count += !known;
    }
    pthread_mutex_unlock(&r->lock);
    return count;
}

static bool receive(struct loopback_call *call, void *arg)
{
    struct receiver *r = arg;
    char *body = loopback_body(call);
    pthread_mutex_lock(&r->lock);
    int n = r->count;
    if (n < SEEN_MAX) {
        loopback_header(call, "webhook-id", r->ids[n], sizeof r->ids[n]);
        r->bodies[n] = strdup(body);
        r->heads[n] = strdup(call->head);
    }
    r->count = n + 1;
    pthread_mutex_unlock(&r->lock);
    free(body);
    return loopback_answer(call, r->status, "", "");
}

static struct receiver *receiver_new(int status)
{
    struct receiver *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->status = status;
    pthread_mutex_init(&r->lock, NULL);
    r->http = loopback_start(receive, r);
    return r;
}

static void receiver_free(struct receiver *r)
{
    loopback_stop(r->http);
    for (int i = 0; i < SEEN_MAX; i++) {
        free(r->bodies[i]);
        free(r->heads[i]);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static char *fields_to(const struct receiver *r)
{
    char *url = loopback_url(r->http, "/hook?token=hunter2");
    char *fields = textf("\"callbackUrl\":\"%s\"", url);
    free(url);
    return fields;
}

static void let_call_back(struct runner *one)
{
    runner_set(one, "CALLBACK_SECRET", SECRET);
    runner_set(one, "CALLBACK_ALLOW", "127.0.0.1");
    runner_set(one, "CALLBACK_RETRY_SECONDS", "1,1,1,1,1");
}

/* The job's definition has these, too. */
static void let_all_call_back(void)
{
    let_call_back(runner);
    let_call_back(other);
    let_call_back(there);
    cloud_define_job(cloud, there);
}

/* ---- webhooks ---- */

static bool is_there(const char *place, const char *id)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/%s%%2F%s", place, id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool is = reply->status == 200;
    reply_free(reply);
    free(path);
    return is;
}

static bool owed(const char *id)
{
    return is_there("owed", id);
}

/* The instance is gone before the task ends: the execution hands the webhook in. */
static void the_execution_hands_the_webhook_in(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_new(200);
    let_all_call_back();
    runner_start(runner);
    char *more = fields_to(receiver);
    free(submit_to(runner, "told", "standin: tick 20 100", more));
    EVENTUALLY(END_MS, is_claimed("told"));
    runner_crash(runner);
    EVENTUALLY(END_MS, receiver->count >= 1);
    cJSON *body = cJSON_Parse(receiver->bodies[0]);
    assert_json_text(body, "taskId", "told");
    assert_json_text(body, "status", "completed");
    cJSON_Delete(body);
    assert_non_null(strstr(receiver->heads[0], "X-Webhook-Signature: sha256="));
    runner_start(other);
    assert_result(other, "told", "completed");
    assert_int_equal(webhooks_of(receiver), 1);
    free(more);
    receiver_free(receiver);
}

/* A receiver that was away while the execution lived is told by whoever runs next, once. */
static void what_could_not_be_handed_in_is_tried_by_whoever_runs_next(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_new(503);
    let_all_call_back();
    runner_set(there, "CALLBACK_RETRY_SECONDS", "12");
    cloud_define_job(cloud, there);
    runner_start(runner);
    char *more = fields_to(receiver);
    free(submit_to(runner, "later", "standin: ok said", more));
    EVENTUALLY(END_MS, receiver->count == 1);
    runner_crash(runner); /* its execution leaves meanwhile */
    receiver->status = 200;
    runner_start(other);
    EVENTUALLY(END_MS, receiver->count == 2);
    assert_string_equal(receiver->bodies[0], receiver->bodies[1]);
    assert_string_equal(receiver->ids[0], receiver->ids[1]);
    EVENTUALLY(END_MS, !owed("later"));
    free(more);
    receiver_free(receiver);
}

/* Instance and execution are both gone before anybody could deliver: whoever runs next does, once,
 * with what the task became. */
static void whoever_runs_next_delivers_what_nobody_is_left_for(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_new(200);
    let_all_call_back();
    runner_start(runner);
    char *more = fields_to(receiver);
    free(submit_to(runner, "lost", "standin: hang-middle", more));
    EVENTUALLY(END_MS, object_is_there("lost", "heartbeat.json"));
    assert_true(is_there("owing", "lost"));
    assert_no_trace("hunter2"); /* where it goes is a secret, too */
    runner_crash(runner);
    cloud_control(cloud, "{\"killExecutions\":true}");
    EVENTUALLY(END_MS, cloud_number("running") == 0);
    /* a heartbeat is believed for a while: this one has stopped */
    reply_free(cloud_call(cloud, "DELETE",
                          "/storage/v1/b/" CLOUD_BUCKET "/o/sessions%2Flost%2Fheartbeat.json",
                          NULL));
    assert_int_equal(receiver->count, 0);
    runner_start(other);
    EVENTUALLY(END_MS, receiver->count == 1);
    cJSON *body = cJSON_Parse(receiver->bodies[0]);
    assert_json_text(body, "taskId", "lost");
    assert_json_text(body, "status", "failed");
    cJSON_Delete(body);
    EVENTUALLY(END_MS, is_there("told", "lost") && !owed("lost"));
    assert_true(is_there("owing", "lost")); /* in case a result is still under way */
    runner_start(runner);                   /* and nobody else does it again */
    assert_result(runner, "lost", "failed");
    assert_int_equal(receiver->count, 1);
    /* its execution has ended: after ten minutes nothing of it arrives any more */
    runner_crash(runner);
    runner_crash(other);
    char *older = textf("sqlite3 '%s/runner.db' \"UPDATE tasks SET ended_ms=ended_ms-601000 "
                        "WHERE id='lost'\"",
                        other->state);
    proc_shell(older);
    runner_start(other);
    EVENTUALLY(END_MS, !is_there("owing", "lost"));
    assert_false(owed("lost"));
    assert_int_equal(receiver->count, 1);
    free(older);
    free(more);
    receiver_free(receiver);
}

/* Its execution is told to end, and does not know why: the instance that does delivers. */
static void a_cancelled_task_is_told_as_cancelled(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_new(200);
    let_all_call_back();
    runner_start(runner);
    char *more = fields_to(receiver);
    free(submit_to(runner, "stopped", "standin: hang-middle", more));
    EVENTUALLY(END_MS, is_claimed("stopped"));
    reply_free(runner_post(runner, "/tasks/stopped/cancel", "{}"));
    assert_result(runner, "stopped", "cancelled");
    EVENTUALLY(END_MS, receiver->count == 1);
    cJSON *body = cJSON_Parse(receiver->bodies[0]);
    assert_json_text(body, "status", "cancelled");
    cJSON_Delete(body);
    free(more);
    receiver_free(receiver);
}

/* Google says that there is no such execution, nothing of it can be seen, and its result cannot be
 * stored: the instance gives the task up, and the execution goes on until it can. Then the
 * execution says so itself. */
static void a_result_that_comes_late_is_told_once_more(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_new(200);
    let_all_call_back();
    runner_start(runner);
    static const char unstored[] = "{\"method\":\"storage.objects.insert\",\"pathContains\":"
                                   "\"late%2Fresult.json\",\"times\":9999,\"status\":503}";
    char *faults = textf("{\"faults\":[%s]}", unstored), *more = fields_to(receiver);
    cloud_control(cloud, faults);
    free(submit_to(runner, "late", "standin: tick 20 20", more));
    EVENTUALLY(END_MS, is_claimed("late"));
    free(faults);
    faults = textf("{\"faults\":[%s,{\"method\":\"run.projects.locations.jobs.executions.get\","
                   "\"times\":9999,\"status\":404},{\"method\":\"storage.objects.get\","
                   "\"pathContains\":\"events%%2F\",\"times\":9999,\"status\":404}]}",
                   unstored);
    cloud_control(cloud, faults);
    assert_result(runner, "late", "failed");
    EVENTUALLY(END_MS, receiver->count == 1);
    assert_true(is_there("owing", "late"));
    cloud_control(cloud, "{\"faults\":[]}");
    assert_result(runner, "late", "completed");
    EVENTUALLY(END_MS, receiver->count == 2);
    assert_string_equal(receiver->ids[0], "msg_late");
    assert_string_equal(receiver->ids[1], "msg_late_late");
    assert_non_null(strstr(receiver->bodies[0], "\"status\":\"failed\""));
    assert_non_null(strstr(receiver->bodies[1], "\"status\":\"completed\""));
    EVENTUALLY(END_MS, !is_there("owing", "late") && !owed("late"));
    assert_int_equal(receiver->count, 2);
    free(faults);
    free(more);
    receiver_free(receiver);
}

/* The execution had sent its result when it died, and the bucket takes it after both instances have
 * given the task up: nobody is left to say so but them, and they say it once. */
static void instances_tell_what_an_execution_that_is_dead_had_sent(void **state)
{
    (void)state;
    struct receiver *receiver = receiver_new(200);
    let_all_call_back();
    runner_start(runner);
    runner_start(other);
    char *more = fields_to(receiver);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"kept%2Fresult.json\",\"hold\":true}]}");
    free(submit_to(runner, "kept", "standin: ok said", more));
    EVENTUALLY(END_MS, cloud_number("held") == 1);
    cloud_control(cloud, "{\"killExecutions\":true}");
    assert_result(runner, "kept", "failed");
    assert_result(other, "kept", "failed");
    EVENTUALLY(END_MS, receiver->count == 1);
    assert_non_null(strstr(receiver->bodies[0], "\"status\":\"failed\""));
    assert_true(is_there("owing", "kept"));
    cloud_control(cloud, "{\"faults\":[],\"release\":true}");
    EVENTUALLY(END_MS, object_is_there("kept", "result.json"));
    /* an execution that lived would have handed the webhook in by now */
    cloud_control(cloud, "{\"age\":{\"bucket\":\"" CLOUD_BUCKET
                         "\",\"name\":\"sessions/kept/result.json\",\"ms\":60000}}");
    assert_result(runner, "kept", "completed");
    assert_result(other, "kept", "completed");
    EVENTUALLY(END_MS, receiver->count == 2);
    assert_string_equal(receiver->ids[0], "msg_kept");
    assert_string_equal(receiver->ids[1], "msg_kept_late");
    assert_non_null(strstr(receiver->bodies[1], "\"status\":\"completed\""));
    EVENTUALLY(END_MS, !is_there("owing", "kept") && !owed("kept"));
    assert_int_equal(receiver->count, 2);
    assert_int_equal(executions(), 1);
    free(more);
    receiver_free(receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(the_execution_hands_the_webhook_in),
        SERVICE_TEST(whoever_runs_next_delivers_what_nobody_is_left_for),
        SERVICE_TEST(a_cancelled_task_is_told_as_cancelled),
        SERVICE_TEST(a_result_that_comes_late_is_told_once_more),
        SERVICE_TEST(instances_tell_what_an_execution_that_is_dead_had_sent),
        SERVICE_TEST(what_could_not_be_handed_in_is_tried_by_whoever_runs_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
