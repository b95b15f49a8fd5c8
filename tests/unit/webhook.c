#include "testbase.h"

#include "base/clock.h"
#include "base/log.h"
#include "loopback.h"
#include "runner/webhook/allow.h"
#include "runner/webhook/payload.h"
#include "runner/webhook/schedule.h"
#include "runner/webhook/sign.h"
#include "runner/webhook/webhook.h"
#include "json/json.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "plain-secret-0123456789"
#define HOUR_MS 3600000

/* --- signatures ---------------------------------------------------------------------------- */

/* Made by the standardwebhooks package and by Node's crypto; the first is the specification's. */
static const struct {
    const char *secret, *standard, *hex;
} vectors[] = {
    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
     "2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"},
    {SECRET, "9veZrvlmG/Z7Dqrnbm1YENrC2+HpqzfLAu0nVPfiHWA=",
     "e1e9627e74a01ff738a18b8967bc324ad938747feea79e1702aa609e77eca513"},
    {"whsec_not base64!", "yUD2RuJUXJQ8HKsyjzbAMVmj4/ZkDavgvNxmEyGpKuU=",
     "da9f368d6f9b1dc749870826ff8df1a1d107ef2fd5ea6d4d4bc2349cbab6afc3"},
    {"whsec_+/+/+/+/8A==", "bISksFtc31tXm2j92C6+hR9S1QD3/2C/WHv1xShZ+oA=",
     "c3d54ad36d65ee43b013a42c9499f0bf0fb76b4cd6d6117126cb2d3f9603ee37"},
};

static void signatures_are_those_of_other_implementations(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct err err;
        AUTO(strlist) struct strlist headers = STRLIST_INIT;
        AUTO(buf) struct buf body = BUF_INIT(1000), all = BUF_INIT(1000);
        AUTO(str)
        char *want = textf("X-Webhook-Timestamp: 1614265330|X-Webhook-Signature: sha256=%s|"
                           "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek|"
                           "webhook-timestamp: 1614265330|webhook-signature: v1,%s",
                           vectors[i].hex, vectors[i].standard);
        buf_adds(&body, "{\"test\": 2432232314}");
        OK(sign_webhook(vectors[i].secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, &body,
                        &headers, &err) == 0,
           &err);
        strlist_join(&headers, "|", &all);
        assert_string_equal(buf_str(&all), want);
    }
}

/* --- the schedule -------------------------------------------------------------------------- */

static void tries_follow_the_contracts_schedule(void **state)
{
    (void)state;
    AUTO(strlist) struct strlist waits = STRLIST_INIT;
    static const int64_t contract_s[] = {5, 300, 1800, 7200, 18000, 36000, 36000};
    strlist_split(&waits, "5,300,1800,7200,18000,36000,36000");
    int64_t wait = 0;
    for (int i = 0; i < (int)COUNT_OF(contract_s); i++) {
        assert_true(schedule_next(&waits, i + 1, 0, &wait));
        assert_int_equal(wait, contract_s[i] * 1000);
    }
    assert_false(schedule_next(&waits, 8, 0, &wait));
    assert_false(schedule_next(&waits, 0, 0, &wait));
    /* what a receiver asks for, within the schedule's bounds */
    assert_true(schedule_next(&waits, 1, 60000, &wait) && wait == 60000);
    assert_true(schedule_next(&waits, 2, 60000, &wait) && wait == 300000);
    assert_true(schedule_next(&waits, 1, INT64_C(999999999000), &wait) && wait == 36000000);
    AUTO(strlist) struct strlist none = STRLIST_INIT;
    assert_false(schedule_next(&none, 1, 60000, &wait));
    assert_int_equal(schedule_longest(&none), 0);
}

static void retry_after_is_seconds_or_a_date(void **state)
{
    (void)state;
    const int64_t now = INT64_C(1445412480000); /* Wed, 21 Oct 2015 07:28:00 GMT */
    static const struct {
        const char *value;
        int64_t ms;
    } cases[] = {
        {"0", 0},
        {"120", 120000},
        {"Wed, 21 Oct 2015 07:29:30 GMT", 90000},
        {"Wed, 21 Oct 2015 07:27:00 GMT", 0},
        {"Wed, 21 Oct 2015 07:29:30 GMT x", 0},
        {"-5", 0},
        {"1.5", 0},
        {"99999999999999999999", 0},
        {"soon", 0},
        {"", 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (schedule_retry_after(cases[i].value, now) != cases[i].ms)
            fail_msg("'%s'", cases[i].value);
}

/* --- where to ------------------------------------------------------------------------------ */

static struct config *config_of(const char *more, const char *more2)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    AUTO(str) char *a = strdup(more);
    AUTO(str) char *b = strdup(more2);
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"},
                   (char[]){"HOME=/tmp"},
                   (char[]){"CALLBACK_SECRET=" SECRET},
                   a,
                   *b ? b : NULL,
                   NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    if (!config)
        fail_msg("%s", report.errors.count ? report.errors.items[0] : err.msg);
    return config;
}

static void urls_are_refused_as_early_as_can_be(void **state)
{
    (void)state;
    static const struct {
        const char *allow, *url, *refusal; /* NULL: taken */
    } cases[] = {
        {"", "https://example.com/hook?token=x", NULL},
        {"", "https://8.8.8.8/", NULL},
        {"", "http://example.com/", "must be an https URL"},
        {"", "http://8.8.8.8/", "must be an https URL"},
        {"", "https://u:p@example.com/", "without user"},
        {"", "https://127.0.0.1/", "must be public"},
        {"", "https://localhost/", "must be public"},
        {"", "https://a.LOCALHOST:1/", "must be public"},
        {"", "https://[::1]/", "must be public"},
        {"", "https://[::ffff:10.0.0.1]/", "must be public"},
        {"", "https://2130706433/", "must be public"},
        {"", "https://0x7f.1/", "must be public"},
        {"", "https://0177.0.0.1/", "must be public"},
        {"", "https://169.254.169.254/latest", "must be public"},
        {"", "https://10.1.2.3:8443/", "must be public"},
        {"10.0.0.0/8", "https://10.1.2.3:8443/", NULL},
        {"10.0.0.0/8", "http://10.1.2.3/", NULL},
        {"10.0.0.0/8", "http://11.1.2.3/", "must be an https URL"},
        {"10.0.0.0/8", "https://192.168.0.1/", "must be public"},
        {"10.0.0.0/8", "http://nas.lan/", NULL}, /* where it is shows when it is connected to */
        {"10.1.2.3", "http://10.1.2.3/", NULL},
        {"10.1.2.3", "http://10.1.2.4/", "must be public"},
        {"127.0.0.1", "http://2130706433/", NULL},
        {"fd00::/8", "http://[fd12::1]/", NULL},
        {"fd00::/8", "http://[fe80::1]/", "must be public"},
        {"nas.lan", "http://NAS.lan:8080/", NULL},
        {"nas.lan:80", "http://nas.lan/", NULL},
        {"nas.lan:80", "http://nas.lan:81/", "must be an https URL"},
        {"*.lan", "http://nas.lan/", NULL},
        {"*.lan", "http://lan/", "must be an https URL"},
        {"localhost", "http://localhost:9/", NULL},
        {"[::1]:9", "http://[::1]:9/", NULL},
        {"10.0.0.0/33,x/8,/", "https://10.0.0.1/", "must be public"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(str) char *allow = textf("CALLBACK_ALLOW=%s", cases[i].allow);
        struct config *config = config_of(allow, "");
        int rc = webhook_check_url(cases[i].url, config, &err);
        if ((rc == 0) != !cases[i].refusal || (rc && !strstr(err.msg, cases[i].refusal)))
            fail_msg("%s with '%s': %s", cases[i].url, cases[i].allow, rc ? err.msg : "taken");
        config_free(config);
    }
}

static void without_a_secret_no_url_is_taken(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"}, (char[]){"HOME=/tmp"}, NULL};
    const struct config_source source = {.env = env};
    struct config *config = config_load(&source, &report, &err);
    assert_int_equal(webhook_check_url("https://example.com/", config, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "CALLBACK_SECRET"));
    config_free(config);
}

static void a_host_is_told_with_its_port(void **state)
{
    (void)state;
    char host[WEBHOOK_HOST_SIZE];
    static const char *const cases[][2] = {{"https://Example.com/x?y", "example.com:443"},
                                           {"http://h:8080", "h:8080"},
                                           {"https://[FD00::1]/", "[fd00::1]:443"},
                                           {"nothing", ""}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        webhook_host(cases[i][0], host);
        assert_string_equal(host, cases[i][1]);
    }
}

/* --- a world: a store, a receiver and a clock ---------------------------------------------- */

static _Atomic int64_t real_ms, set_ms; /* what passes; by how much the real clock was set */

static int64_t fake_real(void *arg)
{
    (void)arg;
    return atomic_load(&real_ms) + atomic_load(&set_ms);
}

static int64_t fake_mono(void *arg)
{
    (void)arg;
    return atomic_load(&real_ms) * 1000;
}

static const struct clock fake_clock = {.mono_us = fake_mono, .real_ms = fake_real};

struct seen {
    char id[64], body[200];
    int64_t at_ms;
};

struct world {
    char *dir;
    struct store *store;
    struct config_in_force in_force;
    struct webhook *webhook;
    struct loopback *http;
    _Atomic int status; /* of the answers; 0: none, the connection is closed; -1: it hangs */
    const char *_Atomic headers;
    _Atomic bool long_body;
    _Atomic int count, at_once, crowd;
    pthread_mutex_t lock;
    struct seen seen[64];
};

static bool answer_long(struct loopback_call *call)
{
    static char piece[65536];
    memset(piece, 'x', sizeof(piece));
    if (!loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n"))
        return false;
    for (int i = 0; i < 160; i++)
        if (!loopback_send(call, piece, sizeof(piece)))
            return false;
    return true;
}

static void keep(struct world *w, struct loopback_call *call, const char *body)
{
    pthread_mutex_lock(&w->lock);
    int n = atomic_fetch_add(&w->count, 1);
    if (n < (int)COUNT_OF(w->seen)) {
        struct seen *seen = &w->seen[n];
        loopback_header(call, "webhook-id", seen->id, sizeof(seen->id));
        snprintf(seen->body, sizeof(seen->body), "%s", body);
        seen->at_ms = clock_real_ms();
    }
    pthread_mutex_unlock(&w->lock);
}

static bool receive(struct loopback_call *call, void *arg)
{
    struct world *w = arg;
    int now = atomic_fetch_add(&w->at_once, 1) + 1;
    if (now > atomic_load(&w->crowd))
        atomic_store(&w->crowd, now);
    char *body = loopback_body(call);
    keep(w, call, body);
    free(body);
    int status = atomic_load(&w->status);
    const char *headers = atomic_load(&w->headers);
    bool go_on = false;
    if (status < 0)
        loopback_await_close(call, 60000);
    else if (atomic_load(&w->long_body))
        go_on = answer_long(call);
    else if (status > 0)
        go_on = loopback_answer(call, status, headers ? headers : "", "thanks");
    atomic_fetch_sub(&w->at_once, 1);
    return go_on;
}

static void open_webhook(struct world *w)
{
    struct err err;
    const struct webhook_config config = {
        .config = &w->in_force, .store = w->store, .version = "test"};
    w->webhook = webhook_new(&config, &err);
    OK(w->webhook, &err);
    OK(webhook_start(w->webhook, &err) == 0, &err);
}

static struct world *world_new(void)
{
    struct err err;
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    pthread_mutex_init(&w->lock, NULL);
    w->dir = tmp_dir_new();
    w->store = store_open(w->dir, &err);
    OK(w->store, &err);
    config_in_force_init(&w->in_force, config_of("CALLBACK_ALLOW=127.0.0.1", ""));
    w->status = 200;
    w->http = loopback_start(receive, w);
    atomic_store(&real_ms, INT64_C(1800000000000));
    atomic_store(&set_ms, 0);
    clock_use(&fake_clock);
    return w;
}

static void world_free(struct world *w)
{
    webhook_free(w->webhook);
    loopback_stop(w->http);
    store_close(w->store);
    tmp_dir_free(w->dir);
    config_in_force_done(&w->in_force);
    pthread_mutex_destroy(&w->lock);
    free(w);
    clock_use(NULL);
}

static void pass(struct world *w, int64_t ms)
{
    atomic_fetch_add(&real_ms, ms);
    webhook_wake(w->webhook);
}

static void add_task(struct world *w, const char *id, const char *url)
{
    struct err err;
    bool created;
    char host[WEBHOOK_HOST_SIZE];
    AUTO(task_record) struct task_record record = {0};
    webhook_host(url, host);
    const struct task_new task = {.id = id,
                                  .kind = "claude",
                                  .request = "{\"prompt\":\"p\",\"metadata\":{\"a\": 1.50}}",
                                  .webhook_url = url,
                                  .webhook_host = host};
    OK(store_add(w->store, &task, &record, &created, &err) == 0, &err);
}

static void end_task(struct world *w, const char *id, const char *output, size_t len)
{
    struct err err;
    const struct task_end end = {
        .state = TASK_COMPLETED,
        .reason = "",
        .summary = "{\"exit_code\":0,\"duration_ms\":12,\"truncated\":false,\"num_turns\":2,"
                   "\"gitCommit\":{\"sha\":\"abc\",\"pushed\":true}}",
        .output = output,
        .output_len = len,
        .now_ms = clock_real_ms()};
    OK(store_end(w->store, id, ~0u, &end, &err) == 1, &err);
}

/* A task that has ended, and whose webhook goes to the receiver. */
static void owe(struct world *w, const char *id)
{
    AUTO(str) char *url = loopback_url(w->http, "/hook?token=hunter2");
    add_task(w, id, url);
    end_task(w, id, "done", 4);
}

static enum webhook_state state_of(struct world *w, const char *task_id)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(w->store, task_id, &record, &err) == 0, &err);
    return record.state;
}

static int tries_of(struct world *w, const char *task_id)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(w->store, task_id, &record, &err) == 0, &err);
    return record.tries;
}

static void assert_last(struct world *w, const char *task_id, int status, const char *error)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(w->store, task_id, &record, &err) == 0, &err);
    assert_int_equal(record.last_status, status);
    if (!strstr(record.last_error, error))
        fail_msg("%s", record.last_error);
    assert_null(strstr(record.last_error, "hunter2"));
}

/* --- what is sent -------------------------------------------------------------------------- */

static void the_body_says_what_the_contract_says(void **state)
{
    (void)state;
    struct err err;
    struct world *w = world_new();
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf first = BUF_INIT(4096), second = BUF_INIT(4096);
    owe(w, "t-1");
    OK(store_get(w->store, "t-1", &record, &err) == 0, &err);
    OK(payload_print(w->store, &record, &first, &err) == 0, &err);
    assert_string_equal(
        buf_str(&first),
        "{\"taskId\":\"t-1\",\"status\":\"completed\",\"exitCode\":0,"
        "\"logsPath\":\"/tasks/t-1/events\",\"summary\":{\"durationMs\":12,\"turns\":2,"
        "\"errors\":0,\"startedAt\":null,\"completedAt\":\"2027-01-15T08:00:00.000Z\"},"
        "\"result\":\"done\",\"truncated\":false,\"error\":null,\"metadata\":{\"a\":1.5},"
        "\"uploadedFiles\":[],\"gitCommit\":{\"sha\":\"abc\",\"pushed\":true}}");
    atomic_fetch_add(&real_ms, 5000);
    OK(payload_print(w->store, &record, &second, &err) == 0, &err);
    assert_string_equal(buf_str(&first), buf_str(&second));
    world_free(w);
}

static void a_long_result_is_cut_between_two_characters(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (int shift = 0; shift < 4; shift++) {
        struct err err;
        bool truncated = false;
        const size_t size = 40u << 20;
        AUTO(str) char *id = textf("t-%d", shift);
        AUTO(str) char *text = malloc(size);
        AUTO(task_record) struct task_record record = {0};
        AUTO(buf) struct buf body = BUF_INIT(PAYLOAD_BYTES_MAX);
        memset(text, 'a', (size_t)shift);
        for (size_t i = (size_t)shift; i + 4 <= size; i += 4)
            memcpy(text + i, "\xf0\x9f\x98\x80", 4);
        add_task(w, id, "https://example.com/");
        end_task(w, id, text, size);
        OK(store_get(w->store, id, &record, &err) == 0, &err);
        OK(payload_print(w->store, &record, &body, &err) == 0, &err);
        AUTO(json) struct json *root = json_parse(buf_str(&body), body.len, &err);
        OK(root, &err);
        const char *result = json_text(json_get(root, "result"));
        assert_true(strlen(result) > PAYLOAD_RESULT_MAX - 8 &&
                    strlen(result) <= PAYLOAD_RESULT_MAX);
        assert_null(strstr(result, "\xef\xbf\xbd"));
        assert_int_equal(json_bool(json_get(root, "truncated"), &truncated), 0);
        assert_true(truncated);
    }
    world_free(w);
}

/* --- sending ------------------------------------------------------------------------------- */

static void a_webhook_is_sent_when_its_task_has_ended_and_not_before(void **state)
{
    (void)state;
    struct world *w = world_new();
    AUTO(str) char *url = loopback_url(w->http, "/hook");
    open_webhook(w);
    add_task(w, "a", url);
    owe(w, "b");
    EVENTUALLY(10000, state_of(w, "b") == WEBHOOK_DELIVERED);
    assert_int_equal(state_of(w, "a"), WEBHOOK_WAITING);
    assert_int_equal(w->count, 1);
    end_task(w, "a", "x", 1);
    EVENTUALLY(10000, state_of(w, "a") == WEBHOOK_DELIVERED);
    assert_int_equal(w->count, 2);
    assert_last(w, "a", 200, "");
    world_free(w);
}

static void a_receiver_that_is_down_for_a_day_gets_it_all_the_same(void **state)
{
    (void)state;
    struct world *w = world_new();
    static const int64_t after_s[] = {0, 5, 300, 1800, 7200, 18000, 36000};
    w->status = 503;
    open_webhook(w);
    owe(w, "t");
    for (int i = 0; i < (int)COUNT_OF(after_s); i++) {
        if (i > 0) {
            pass(w, after_s[i] * 1000 - 1);
            webhook_stop(w->webhook); /* a restart changes nothing, and sends nothing early */
            webhook_free(w->webhook);
            open_webhook(w);
            assert_int_equal(w->count, i);
            pass(w, 1);
        }
        EVENTUALLY(10000, tries_of(w, "t") == i + 1);
        assert_int_equal(w->count, i + 1);
    }
    w->status = 200;
    pass(w, 36000 * 1000);
    EVENTUALLY(10000, state_of(w, "t") == WEBHOOK_DELIVERED);
    assert_int_equal(w->count, 8);
    for (int i = 1; i < 8; i++) {
        int64_t after = i < 7 ? after_s[i] : 36000;
        assert_int_equal(w->seen[i].at_ms - w->seen[i - 1].at_ms, after * 1000);
        assert_string_equal(w->seen[i].id, w->seen[0].id);
        assert_string_equal(w->seen[i].body, w->seen[0].body);
    }
    assert_true(strncmp(w->seen[0].id, "msg_", 4) == 0);
    world_free(w);
}

/* It comes early rather than a day late; also when it was set while nobody ran. */
static void a_clock_that_is_set_back_delays_nothing_by_that(void **state)
{
    (void)state;
    static const int64_t day = 86400000;
    for (int restarted = 0; restarted < 2; restarted++) {
        struct world *w = world_new();
        w->status = 503;
        open_webhook(w);
        owe(w, "t");
        EVENTUALLY(10000, tries_of(w, "t") == 1);
        w->status = 200;
        if (restarted) {
            webhook_stop(w->webhook);
            webhook_free(w->webhook);
        }
        set_ms -= day;
        if (restarted)
            open_webhook(w);
        else
            webhook_wake(w->webhook);
        EVENTUALLY(10000, state_of(w, "t") == WEBHOOK_DELIVERED);
        assert_int_equal(w->count, 2);
        world_free(w);
    }
}

static void after_the_last_try_it_is_dead_and_can_be_sent_again(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err;
    struct webhook_numbers numbers;
    w->status = 500;
    open_webhook(w);
    owe(w, "t");
    for (int i = 1; i <= 8; i++) {
        EVENTUALLY(10000, tries_of(w, "t") == i);
        pass(w, 10 * HOUR_MS);
    }
    assert_int_equal(state_of(w, "t"), WEBHOOK_DEAD);
    assert_last(w, "t", 500, "it answered 500");
    OK(webhook_numbers(w->webhook, &numbers, &err) == 0, &err);
    assert_int_equal(numbers.failed, 8);
    assert_int_equal(numbers.dead, 1);
    assert_int_equal(numbers.pending, 0);
    OK(store_webhook_redeliver(w->store, "t", clock_real_ms(), &err) == 0, &err);
    EVENTUALLY(10000, tries_of(w, "t") == 1 && w->count == 9); /* all of its tries anew */
    assert_int_equal(state_of(w, "t"), WEBHOOK_PENDING);
    w->status = 204;
    pass(w, 5000);
    EVENTUALLY(10000, state_of(w, "t") == WEBHOOK_DELIVERED);
    assert_string_equal(w->seen[9].id, w->seen[0].id);
    OK(webhook_numbers(w->webhook, &numbers, &err) == 0, &err);
    assert_int_equal(numbers.delivered, 1);
    world_free(w);
}

/* Each answer by what becomes of the webhook. */
static void answers_decide(void **state)
{
    (void)state;
    static const struct {
        int status;
        enum webhook_state after;
        int last_status;
        const char *error;
    } cases[] = {
        {200, WEBHOOK_DELIVERED, 200, ""},
        {204, WEBHOOK_DELIVERED, 204, ""},
        {299, WEBHOOK_DELIVERED, 299, ""},
        {410, WEBHOOK_DEAD, 410, "it answered 410"},
        {302, WEBHOOK_PENDING, 302, "it answered 302"},
        {304, WEBHOOK_PENDING, 304, "it answered 304"},
        {400, WEBHOOK_PENDING, 400, "it answered 400"},
        {404, WEBHOOK_PENDING, 404, "it answered 404"},
        {500, WEBHOOK_PENDING, 500, "it answered 500"},
        {0, WEBHOOK_PENDING, 0, "127.0.0.1"},
    };
    struct world *w = world_new();
    w->headers = "Location: /elsewhere\r\n";
    open_webhook(w);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(str) char *id = textf("t-%zu", i);
        w->status = cases[i].status;
        owe(w, id);
        EVENTUALLY(10000, tries_of(w, id) == 1);
        assert_int_equal(state_of(w, id), cases[i].after);
        assert_last(w, id, cases[i].last_status, cases[i].error);
        assert_int_equal(w->count, i + 1); /* no redirect is followed */
    }
    world_free(w);
}

static void an_endless_answer_that_begins_well_is_one(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->long_body = true;
    open_webhook(w);
    owe(w, "t");
    EVENTUALLY(10000, state_of(w, "t") == WEBHOOK_DELIVERED);
    world_free(w);
}

/* Comes back when the outbox has been looked at: another receiver has been served. */
static void look_around(struct world *w, const char *id)
{
    struct world other = {.status = 200};
    pthread_mutex_init(&other.lock, NULL);
    other.http = loopback_start(receive, &other);
    AUTO(str) char *url = loopback_url(other.http, "/");
    add_task(w, id, url);
    end_task(w, id, "x", 1);
    EVENTUALLY(10000, state_of(w, id) == WEBHOOK_DELIVERED);
    loopback_stop(other.http);
    pthread_mutex_destroy(&other.lock);
}

static void a_receiver_may_ask_for_rest(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->status = 429;
    w->headers = "Retry-After: 100\r\n";
    open_webhook(w);
    owe(w, "a");
    EVENTUALLY(10000, tries_of(w, "a") == 1);
    pass(w, 99999);
    look_around(w, "b");
    assert_int_equal(w->count, 1);
    w->status = 200;
    w->headers = NULL;
    pass(w, 1);
    EVENTUALLY(10000, state_of(w, "a") == WEBHOOK_DELIVERED);
    assert_int_equal(w->seen[1].at_ms - w->seen[0].at_ms, 100000);
    world_free(w);
}

static void private_addresses_are_refused_when_they_are_connected_to(void **state)
{
    (void)state;
    struct world *w = world_new();
    AUTO(str)
    char *url = textf("http://localhost:%d/hook?token=hunter2", loopback_port(w->http));
    config_replace(&w->in_force, config_of("CALLBACK_ALLOW=10.0.0.0/8", ""));
    open_webhook(w);
    add_task(w, "t", url);
    end_task(w, "t", "x", 1);
    EVENTUALLY(10000, tries_of(w, "t") == 1);
    assert_last(w, "t", 0, "may not be reached");
    assert_int_equal(w->count, 0);
    config_replace(&w->in_force, config_of("CALLBACK_ALLOW=127.0.0.1", "")); /* SIGHUP */
    pass(w, 5000);
    EVENTUALLY(10000, state_of(w, "t") == WEBHOOK_DELIVERED);
    world_free(w);
}

static void one_host_gets_one_at_a_time(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (int i = 0; i < 50; i++) {
        AUTO(str) char *id = textf("t-%d", i);
        owe(w, id);
    }
    open_webhook(w);
    /* however often it looks */
    EVENTUALLY(30000, (webhook_wake(w->webhook), state_of(w, "t-49") == WEBHOOK_DELIVERED));
    webhook_stop(w->webhook);
    assert_int_equal(w->count, 50);
    assert_int_equal(w->crowd, 1);
    for (int i = 0; i < 50; i++) { /* in the order of their ends */
        AUTO(str) char *id = textf("\"taskId\":\"t-%d\"", i);
        assert_non_null(strstr(w->seen[i].body, id));
    }
    world_free(w);
}

/* More dead hosts than workers, with much to say to each. */
static void hosts_that_hang_do_not_keep_others_waiting(void **state)
{
    (void)state;
    enum { DEAD = 12, EACH = 20 };
    struct world *w = world_new(), dead[DEAD] = {0};
    for (int i = 0; i < DEAD; i++) {
        pthread_mutex_init(&dead[i].lock, NULL);
        dead[i].http = loopback_start(receive, &dead[i]); /* closes at once */
        for (int k = 0; k < EACH; k++) {
            AUTO(str) char *url = loopback_url(dead[i].http, "/");
            AUTO(str) char *id = textf("dead-%d-%d", i, k);
            add_task(w, id, url);
            end_task(w, id, "x", 1);
        }
    }
    atomic_fetch_add(&real_ms, 1);
    owe(w, "t"); /* due last of all */
    open_webhook(w);
    EVENTUALLY(30000, state_of(w, "t") == WEBHOOK_DELIVERED);
    int wasted = 0;
    for (int i = 0; i < DEAD; i++)
        wasted += dead[i].count;
    if (wasted > DEAD * EACH / 2) /* by due time alone it would be all of them */
        fail_msg("%d tries to dead hosts came first", wasted);
    webhook_stop(w->webhook);
    for (int i = 0; i < DEAD; i++) {
        loopback_stop(dead[i].http);
        pthread_mutex_destroy(&dead[i].lock);
    }
    world_free(w);
}

static void stopping_breaks_a_try_off_and_it_is_made_again(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->status = -1;
    open_webhook(w);
    owe(w, "t");
    EVENTUALLY(10000, w->count == 1);
    int64_t begun = now_ms();
    webhook_stop(w->webhook);
    assert_true(now_ms() - begun < 5000);
    assert_int_equal(tries_of(w, "t"), 0);
    webhook_free(w->webhook);
    w->status = 200;
    open_webhook(w);
    EVENTUALLY(10000, state_of(w, "t") == WEBHOOK_DELIVERED);
    assert_string_equal(w->seen[1].id, w->seen[0].id);
    world_free(w);
}

static void a_lost_key_file_ends_in_dead_webhooks_not_in_a_loop(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err;
    char other[32];
    AUTO(webhook_record) struct webhook_record record = {0};
    AUTO(str) char *path = textf("%s/secret.key", w->dir);
    AUTO(buf) struct buf json = BUF_INIT(1000);
    struct json_writer writer;
    owe(w, "t");
    memset(other, 'x', sizeof(other));
    write_bytes(path, other, sizeof(other));
    store_close(w->store);
    w->store = store_open(w->dir, &err);
    OK(w->store, &err);
    open_webhook(w);
    EVENTUALLY(10000, tries_of(w, "t") == 1);
    assert_last(w, "t", 0, "secret.key");
    OK(store_webhook(w->store, "t", &record, &err) == 0, &err);
    json_write(&writer, &json);
    json_open_object(&writer, NULL);
    webhook_print(&record, &writer);
    assert_non_null(strstr(buf_str(&json), "\"url\":null"));
    world_free(w);
}

static long rss_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * 4;
}

static void *owe_many(void *arg)
{
    struct world *w = arg;
    static _Atomic int next;
    for (int i; (i = next++) < 10000;) {
        AUTO(str) char *id = textf("t-%d", i);
        AUTO(str) char *url = textf("https://host-%d.example/hook", i % 500);
        add_task(w, id, url);
        end_task(w, id, "x", 1);
    }
    return NULL;
}

/* None is due: the clock stands before all of their ends. */
static void ten_thousand_that_wait_cost_no_memory_and_no_time(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err;
    struct webhook_host hosts[16];
    struct webhook_numbers numbers;
    in_threads(16, owe_many, w);
    atomic_fetch_sub(&real_ms, 1000);
    long before = rss_kib();
    open_webhook(w);
    for (int i = 0; i < 20; i++)
        webhook_wake(w->webhook);
    int64_t begun = now_ms();
    assert_int_equal(store_webhook_hosts(w->store, clock_real_ms(), hosts, 16, &err), 16);
    assert_true(now_ms() - begun < 1000);
    OK(webhook_numbers(w->webhook, &numbers, &err) == 0, &err);
    assert_int_equal(numbers.pending, 10000);
    webhook_stop(w->webhook);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (rss_kib() - before > 4096)
        fail_msg("%ld KiB", rss_kib() - before);
#else
    (void)before;
#endif
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_are_those_of_other_implementations),
        cmocka_unit_test(tries_follow_the_contracts_schedule),
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
        cmocka_unit_test(urls_are_refused_as_early_as_can_be),
        cmocka_unit_test(without_a_secret_no_url_is_taken),
        cmocka_unit_test(a_host_is_told_with_its_port),
        cmocka_unit_test(the_body_says_what_the_contract_says),
        cmocka_unit_test(a_long_result_is_cut_between_two_characters),
        cmocka_unit_test(a_webhook_is_sent_when_its_task_has_ended_and_not_before),
        cmocka_unit_test(a_receiver_that_is_down_for_a_day_gets_it_all_the_same),
        cmocka_unit_test(a_clock_that_is_set_back_delays_nothing_by_that),
        cmocka_unit_test(after_the_last_try_it_is_dead_and_can_be_sent_again),
        cmocka_unit_test(answers_decide),
        cmocka_unit_test(an_endless_answer_that_begins_well_is_one),
        cmocka_unit_test(a_receiver_may_ask_for_rest),
        cmocka_unit_test(private_addresses_are_refused_when_they_are_connected_to),
        cmocka_unit_test(one_host_gets_one_at_a_time),
        cmocka_unit_test(hosts_that_hang_do_not_keep_others_waiting),
        cmocka_unit_test(stopping_breaks_a_try_off_and_it_is_made_again),
        cmocka_unit_test(a_lost_key_file_ends_in_dead_webhooks_not_in_a_loop),
        cmocka_unit_test(ten_thousand_that_wait_cost_no_memory_and_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
