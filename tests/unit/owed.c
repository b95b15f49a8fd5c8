/* Webhooks of the service at Google: what is told of a task that was given up and came after all.
 */
#include "testbase.h"

#include "google_peer.h"
#include "runner/config/config.h"
#include "runner/replica/owed.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAVE_UP "{\"status\":\"failed\"}"
#define CAME "{\"status\":\"completed\"}"

enum { SEEN_MAX = 8 };

struct world {
    struct google_peer *peer;
    struct cloud cloud;
    struct config *config;
    struct loopback *http; /* the receiver */
    char *url;
    _Atomic int status, count;
    char ids[SEEN_MAX][80], *bodies[SEEN_MAX];
};

static bool receive(struct loopback_call *call, void *arg)
{
    struct world *w = arg;
    int n = w->count;
    assert_true(n < SEEN_MAX);
    loopback_header(call, "webhook-id", w->ids[n], sizeof(w->ids[n]));
    w->bodies[n] = loopback_body(call);
    w->count = n + 1;
    return loopback_answer(call, w->status, "", "");
}

static int set_up(void **state)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"},
                   (char[]){"HOME=/tmp"},
                   (char[]){"CALLBACK_SECRET=callback-secret-0123456789"},
                   (char[]){"CALLBACK_ALLOW=127.0.0.1"},
                   (char[]){"CALLBACK_RETRY_SECONDS=0,0,0"},
                   NULL};
    const struct config_source source = {.env = env};
    struct world *w = calloc(1, sizeof(*w));
    w->peer = google_peer_start(NULL, NULL);
    w->cloud = (struct cloud){.google = google_peer_client(w->peer), .bucket = strdup("b")};
    w->config = config_load(&source, &report, &err);
    if (!w->config)
        fail_msg("%s", report.errors.count ? report.errors.items[0] : err.msg);
    w->status = 200;
    w->http = loopback_start(receive, w);
    w->url = loopback_url(w->http, "/hook");
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    loopback_stop(w->http);
    for (int i = 0; i < SEEN_MAX; i++)
        free(w->bodies[i]);
    free(w->url);
    config_free(w->config);
    cloud_close(&w->cloud);
    google_peer_stop(w->peer);
    free(w);
    return 0;
}

static void note(struct world *w, const char *id)
{
    struct err err = ERR_INIT;
    if (owed_note(&w->cloud, w->config, id, w->url, &err))
        fail_msg("%s", err.msg);
}

static void put(struct world *w, const char *id, const char *text, bool provisional)
{
    struct err err = ERR_INIT;
    AUTO(buf) struct buf body = BUF_INIT(1024);
    buf_adds(&body, text);
    if (owed_put(&w->cloud, w->config, id, w->url, &body, provisional, &err))
        fail_msg("%s", err.msg);
}

/* 1: nothing is left to tell. */
static int try(struct world *w, const char *id)
{
    struct err err = ERR_INIT;
    int rc = owed_try(&w->cloud, w->config, id, NULL, NULL, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
    return rc;
}

static bool is_there(struct world *w, const char *place, const char *id)
{
    char name[160];
    size_t len;
    snprintf(name, sizeof(name), "%s/%s", place, id);
    char *data = google_peer_object(w->peer, name, &len);
    free(data);
    return data != NULL;
}

static void assert_seen(struct world *w, int n, const char *id, const char *body)
{
    assert_true(w->count > n);
    assert_string_equal(w->ids[n], id);
    assert_string_equal(w->bodies[n], body);
}

static void a_result_that_comes_late_is_told_once_more(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    note(w, "late");
    assert_int_equal(owed_is_known(&w->cloud, "late", &err), 0);
    put(w, "late", GAVE_UP, true);
    assert_int_equal(owed_is_known(&w->cloud, "late", &err), 1);
    assert_int_equal(try(w, "late"), 1);
    put(w, "late", GAVE_UP, true); /* another instance sees the same */
    assert_int_equal(try(w, "late"), 1);
    assert_int_equal(w->count, 1);
    assert_true(is_there(w, "owing", "late"));
    assert_int_equal(owed_is_known(&w->cloud, "late", &err), 1);

    put(w, "late", CAME, false);
    assert_false(is_there(w, "owing", "late"));
    put(w, "late", CAME, false); /* its execution, and an instance */
    assert_int_equal(try(w, "late"), 1);
    put(w, "late", CAME, false);
    put(w, "late", GAVE_UP, true); /* one that has not seen it yet */
    assert_int_equal(try(w, "late"), 1);
    assert_int_equal(w->count, 2);
    assert_seen(w, 0, "msg_late", GAVE_UP);
    assert_seen(w, 1, "msg_late_late", CAME);
    assert_false(is_there(w, "owed", "late"));
}

static void what_was_not_said_yet_is_replaced(void **state)
{
    struct world *w = *state;
    note(w, "quick");
    put(w, "quick", GAVE_UP, true);
    put(w, "quick", CAME, false);
    assert_int_equal(try(w, "quick"), 1);
    assert_int_equal(w->count, 1);
    assert_seen(w, 0, "msg_quick", CAME);
    assert_false(is_there(w, "owing", "quick"));
}

/* The receiver may have taken the first one although its answer says otherwise: an id of its own
 * keeps the second from being thrown away as a repetition. */
static void what_may_have_been_said_is_followed_by_another_id(void **state)
{
    struct world *w = *state;
    note(w, "tried");
    put(w, "tried", GAVE_UP, true);
    w->status = 503;
    assert_int_equal(try(w, "tried"), 0);
    w->status = 200;
    put(w, "tried", CAME, false);
    put(w, "tried", GAVE_UP, true);
    EVENTUALLY(20000, try(w, "tried") == 1);
    assert_int_equal(w->count, 2);
    assert_seen(w, 1, "msg_tried_late", CAME);
}

static void a_plain_end_is_told_once(void **state)
{
    struct world *w = *state;
    note(w, "plain");
    put(w, "plain", CAME, false);
    assert_int_equal(try(w, "plain"), 1);
    put(w, "plain", GAVE_UP, true);
    put(w, "plain", CAME, false);
    assert_int_equal(try(w, "plain"), 1);
    assert_int_equal(w->count, 1);
    assert_seen(w, 0, "msg_plain", CAME);
    assert_false(is_there(w, "owing", "plain"));
    assert_false(is_there(w, "owed", "plain"));
    assert_true(is_there(w, "told", "plain"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_result_that_comes_late_is_told_once_more),
        TEST(what_was_not_said_yet_is_replaced),
        TEST(what_may_have_been_said_is_followed_by_another_id),
        TEST(a_plain_end_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
