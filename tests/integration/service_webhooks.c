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

static bool owed(const char *id)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o/owed%%2F%s", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool is = reply->status == 200;
    reply_free(reply);
    free(path);
    return is;
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
    assert_int_equal(receiver->count, 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(the_execution_hands_the_webhook_in),
        SERVICE_TEST(what_could_not_be_handed_in_is_tried_by_whoever_runs_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
