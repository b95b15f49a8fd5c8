#include "webhook_scene.h"

#include "runner/webhook/payload.h"
#include "runner/webhook/schedule.h"
#include "runner/webhook/sign.h"

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
    /* the pause that a receiver asks for, within the schedule's bounds */
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
        {"10.0.0.0/8", "http://nas.lan/", NULL}, /* the address is checked when the runner
                                                  * connects */
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
    OK(webhook_print_payload(w->store, &record, &first, &err) == 0, &err);
    assert_string_equal(
        buf_str(&first),
        "{\"taskId\":\"t-1\",\"status\":\"completed\",\"exitCode\":0,"
        "\"logsPath\":\"/tasks/t-1/events\",\"summary\":{\"durationMs\":12,\"turns\":2,"
        "\"errors\":0,\"startedAt\":null,\"completedAt\":\"2027-01-15T08:00:00.000Z\"},"
        "\"result\":\"done\",\"truncated\":false,\"error\":null,\"metadata\":{\"a\":1.5},"
        "\"uploadedFiles\":[],\"gitCommit\":{\"sha\":\"abc\",\"pushed\":true}}");
    atomic_fetch_add(&real_ms, 5000);
    OK(webhook_print_payload(w->store, &record, &second, &err) == 0, &err);
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
        OK(webhook_print_payload(w->store, &record, &body, &err) == 0, &err);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
