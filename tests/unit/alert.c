#include "keeper_world.h"

#include "runner/oauth/alert.h"
#include "json/json.h"

#include <pthread.h>

/* --- who is told --------------------------------------------------------------------------- */

struct told {
    struct loopback *http;
    _Atomic int status; /* the status of answers */
    _Atomic int count;
    pthread_mutex_t lock;
    char head[4096], body[8192]; /* of the last request */
};

static bool take(struct loopback_call *call, void *arg)
{
    struct told *told = arg;
    char *body = loopback_body(call);
    pthread_mutex_lock(&told->lock);
    snprintf(told->head, sizeof(told->head), "%s\r\n", call->head);
    snprintf(told->body, sizeof(told->body), "%s", body);
    pthread_mutex_unlock(&told->lock);
    free(body);
    told->count++;
    return loopback_answer(call, told->status, "", "ok");
}

/* --- the world: a keeper's, and an alert --------------------------------------------------- */

struct beside {
    struct world *w;
    struct told told;
    struct breaker *breaker;
    struct alert *alert;
    int waiting;
};

static int count_waiting(void *arg)
{
    struct beside *b = arg;
    return b->waiting;
}

static void open_alert(struct beside *b)
{
    struct err err = ERR_INIT;
    const struct alert_config config = {.config = &b->w->in_force,
                                        .keeper = b->w->keeper,
                                        .breaker = b->breaker,
                                        .waiting = count_waiting,
                                        .arg = b,
                                        .state_dir = b->w->dir};
    alert_free(b->alert);
    b->alert = alert_new(&config, &err);
    assert_non_null(b->alert);
}

static void use_config(struct beside *b, const char *form, const char *more)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    char place[128], token_url[256], alert_url[256], port[16];
    snprintf(port, sizeof(port), "%d", loopback_port(b->told.http));
    snprintf(place, sizeof(place), "CLAUDE_CONFIG_DIR=%s", b->w->dir);
    snprintf(token_url, sizeof(token_url), "OAUTH_TOKEN_URL=%s", b->w->server.url);
    snprintf(alert_url, sizeof(alert_url), "ALERT_URL=http://127.0.0.1:%s%s", port, form);
    char *extra = strdup(more);
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"},
                   place,
                   token_url,
                   extra,
                   *form ? alert_url : NULL,
                   NULL};
    const struct config_source source = {.env = env};
    struct config *with_url = config_load(&source, &report, &err);
    if (!with_url)
        fail_msg("%s", err.msg);
    config_replace(&b->w->in_force, with_url);
    free(extra);
}

static void on_breaker(const struct breaker_status *status, void *arg)
{
    (void)status;
    (void)arg;
}

static struct beside *beside_new(const char *form)
{
    struct err err = ERR_INIT;
    struct beside *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    b->w = world_new();
    b->told.status = 200;
    pthread_mutex_init(&b->told.lock, NULL);
    b->told.http = loopback_start(take, &b->told);
    use_config(b, form, "LOG_LEVEL=error");
    b->breaker = breaker_new(on_breaker, b, &err);
    assert_non_null(b->breaker);
    return b;
}

static void beside_free(struct beside *b)
{
    alert_free(b->alert);
    breaker_free(b->breaker);
    loopback_stop(b->told.http);
    pthread_mutex_destroy(&b->told.lock);
    world_free(b->w);
    free(b);
}

/* Lets that many seconds pass, one at a time. */
static void look(struct beside *b, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        pass(1000);
        alert_look(b->alert);
    }
}

/* Makes a login that ends in an hour, whose refresh has failed. */
static void get_into_trouble(struct beside *b)
{
    struct err err;
    put_pair(b->w, 1, HOUR_MS);
    if (!b->w->keeper)
        open_keeper(b->w);
    b->w->server.status = 503;
    assert_int_equal(keeper_refresh(b->w->keeper, &err), -1);
    if (!b->alert)
        open_alert(b);
}

/* --- when ---------------------------------------------------------------------------------- */

static void one_alert_an_episode(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook");
    get_into_trouble(b);
    look(b, 9);
    assert_int_equal(b->told.count, 0); /* one failure may be temporary */
    look(b, 60);
    assert_int_equal(b->told.count, 1);
    for (int i = 0; i < 3; i++) { /* it still fails, and the state gets worse */
        pass(HOUR_MS / 2);
        assert_int_equal(keeper_refresh(b->w->keeper, &err), -1);
        look(b, 30);
    }
    assert_int_equal(b->told.count, 1);
    b->w->server.status = 0;
    assert_int_equal(keeper_refresh(b->w->keeper, &err), 0);
    look(b, 30);
    assert_int_equal(b->told.count, 1);
    get_into_trouble(b);
    look(b, 30);
    assert_int_equal(b->told.count, 2); /* after a recovery the alert is sent again */
    beside_free(b);
}

/* Writes a login that ends soon, with a valid access token. */
static void put_ending(struct world *w, int n, int64_t left_ms)
{
    char text[512];
    snprintf(text, sizeof(text),
             "{\"claudeAiOauth\":{\"accessToken\":\"access-%d\",\"refreshToken\":\"refresh-%d\","
             "\"expiresAt\":%lld,\"refreshTokenExpiresAt\":%lld}}",
             n, n, (long long)(clock_real_ms() + 8 * HOUR_MS),
             (long long)(clock_real_ms() + left_ms));
    put_file(w, text);
    keeper_look(w->keeper);
}

static void the_logins_own_end_is_told_three_days_ahead(void **state)
{
    (void)state;
    struct beside *b = beside_new("/hook");
    open_keeper(b->w);
    put_ending(b->w, 1, 73 * HOUR_MS);
    open_alert(b);
    look(b, 20);
    assert_int_equal(b->told.count, 0);
    put_ending(b->w, 2, 71 * HOUR_MS);
    look(b, 20);
    assert_int_equal(b->told.count, 1);
    assert_non_null(strstr(b->told.body, "\"event\":\"login_ends\""));
    assert_non_null(strstr(b->told.body, "\"login_expires_at\":\""));
    put_ending(b->w, 3, 700 * HOUR_MS);
    look(b, 2);
    put_ending(b->w, 4, 71 * HOUR_MS);
    look(b, 20);
    assert_int_equal(b->told.count, 2);
    beside_free(b);
}

static void a_hiccup_is_not_told(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook");
    for (int i = 0; i < 3; i++) {
        get_into_trouble(b);
        look(b, 5);
        b->w->server.status = 0;
        b->w->server.serial = 1;
        assert_int_equal(keeper_refresh(b->w->keeper, &err), 0);
        look(b, 30);
    }
    assert_int_equal(b->told.count, 0);
    beside_free(b);
}

static void a_login_that_works_is_not_told(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook");
    put_pair(b->w, 1, HOUR_MS); /* it ends soon, but no refresh was tried */
    open_keeper(b->w);
    open_alert(b);
    b->waiting = 5;
    look(b, 60);
    b->w->server.status = 503;
    put_pair(b->w, 1, 8 * HOUR_MS); /* the refresh failed, but the login is valid for long */
    assert_int_equal(keeper_refresh(b->w->keeper, &err), -1);
    look(b, 60);
    assert_int_equal(b->told.count, 0);
    beside_free(b);
}

static void a_lost_login_is_told_at_once(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook");
    put_pair(b->w, 7, -1000);
    open_keeper(b->w);
    open_alert(b);
    assert_int_equal(keeper_prepare(b->w->keeper, 0, &err), -1);
    look(b, 1);
    assert_int_equal(b->told.count, 1);
    put_pair(b->w, 1, 8 * HOUR_MS);
    look(b, 5);
    put_file(b->w, "{\"accessToken\":\"access-1\",\"expiresAt\":1000}");
    look(b, 5);
    assert_int_equal(b->told.count, 2);
    beside_free(b);
}

static void no_login_at_all_is_told_when_tasks_wait(void **state)
{
    (void)state;
    struct beside *b = beside_new("/hook");
    open_keeper(b->w);
    open_alert(b);
    look(b, 60);
    assert_int_equal(b->told.count, 0);
    b->waiting = 2;
    look(b, 5);
    assert_int_equal(b->told.count, 1);
    assert_non_null(strstr(b->told.body, "2 tasks wait for it"));
    b->waiting = 0;
    look(b, 5);
    b->waiting = 1;
    look(b, 5);
    assert_int_equal(b->told.count, 1); /* the same episode */
    beside_free(b);
}

static void what_the_api_refuses_is_told_when_tasks_wait(void **state)
{
    (void)state;
    struct beside *b = beside_new("/hook");
    put_pair(b->w, 1, 8 * HOUR_MS);
    open_keeper(b->w);
    open_alert(b);
    breaker_login(b->breaker, true);
    look(b, 5);
    assert_int_equal(b->told.count, 0);
    b->waiting = 1;
    look(b, 5);
    assert_int_equal(b->told.count, 1);
    assert_non_null(strstr(b->told.body, "1 task waits for it"));
    breaker_login(b->breaker, false);
    look(b, 5);
    breaker_login(b->breaker, true);
    look(b, 5);
    assert_int_equal(b->told.count, 2);
    beside_free(b);
}

static void with_a_key_or_without_a_url_nobody_is_told(void **state)
{
    (void)state;
    struct beside *b = beside_new("");
    b->waiting = 1;
    open_keeper(b->w);
    open_alert(b);
    look(b, 60);
    use_config(b, "/hook", "ANTHROPIC_API_KEY=sk-ant-api03-test");
    look(b, 60);
    assert_int_equal(b->told.count, 0);
    use_config(b, "/hook", "LOG_LEVEL=error"); /* SIGHUP */
    look(b, 5);
    assert_int_equal(b->told.count, 1);
    beside_free(b);
}

/* --- delivery ------------------------------------------------------------------------------ */

static void an_alert_is_tried_until_it_is_taken(void **state)
{
    (void)state;
    struct beside *b = beside_new("/hook");
    b->told.status = 500;
    b->waiting = 1;
    open_keeper(b->w);
    open_alert(b);
    look(b, 1);
    assert_int_equal(b->told.count, 1);
    look(b, 4);
    assert_int_equal(b->told.count, 1); /* not at once again */
    look(b, 2);
    assert_int_equal(b->told.count, 2);
    look(b, 3600);
    int count = b->told.count;
    assert_true(count > 6 && count < 15); /* the pauses get longer */
    b->told.status = 204;
    look(b, 901);
    assert_int_equal(b->told.count, count + 1);
    look(b, 3600);
    assert_int_equal(b->told.count, count + 1);
    beside_free(b);
}

static void redirects_and_refusals_are_no_delivery_and_tries_are_bounded(void **state)
{
    (void)state;
    struct beside *b = beside_new("/hook");
    b->waiting = 1;
    b->told.status = 302;
    open_keeper(b->w);
    open_alert(b);
    for (int i = 0; i < 300; i++) {
        pass(900000);
        b->told.status = i % 2 ? 404 : 302;
        alert_look(b->alert);
    }
    assert_int_equal(b->told.count, 100);
    beside_free(b);
}

static void a_restart_neither_repeats_nor_loses_it(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook");
    get_into_trouble(b);
    look(b, 20);
    assert_int_equal(b->told.count, 1);
    for (int i = 0; i < 3; i++) { /* the daemon starts anew */
        keeper_free(b->w->keeper);
        b->w->keeper = NULL;
        open_keeper(b->w);
        open_alert(b);
        look(b, 20); /* no refresh was tried yet, so nothing has recovered */
        assert_int_equal(keeper_refresh(b->w->keeper, &err), -1);
        look(b, 20);
    }
    assert_int_equal(b->told.count, 1);
    b->w->server.status = 0;
    assert_int_equal(keeper_refresh(b->w->keeper, &err), 0);
    open_alert(b);
    look(b, 5);
    get_into_trouble(b);
    b->told.status = 500;
    look(b, 20);
    int count = b->told.count;
    open_alert(b); /* the alert was not delivered: the next process sends it */
    b->told.status = 200;
    look(b, 20);
    assert_int_equal(b->told.count, count + 1);
    beside_free(b);
}

/* --- what is said -------------------------------------------------------------------------- */

static void assert_nothing_secret(struct beside *b)
{
    static const char *const secrets[] = {"access-", "refresh-1", "refresh-7", "0123456789abcdef",
                                          "topsecret"};
    for (size_t i = 0; i < COUNT_OF(secrets); i++)
        assert_null(strstr(b->told.body, secrets[i]));
}

static void a_webhook_gets_json(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook/topsecret");
    get_into_trouble(b);
    look(b, 20);
    assert_int_equal(b->told.count, 1);
    assert_non_null(strstr(b->told.head, "POST /hook/topsecret HTTP/1.1\r\n"));
    assert_non_null(strstr(b->told.head, "\r\nContent-Type: application/json\r\n"));
    AUTO(json) struct json *root = json_parse(b->told.body, strlen(b->told.body), &err);
    assert_non_null(root);
    assert_string_equal(json_text(json_get(root, "event")), "login_ends");
    assert_string_equal(json_text(json_get(root, "service")), "claude-runner");
    assert_non_null(strstr(json_text(json_get(root, "text")), "ends in 1.0 hours"));
    double hours = 0;
    assert_int_equal(json_number(json_get(json_get(root, "oauth"), "hours_remaining"), &hours), 0);
    assert_true(hours > 0.9 && hours < 1.1);
    assert_nothing_secret(b);
    beside_free(b);
}

static void ntfy_gets_text_and_headers(void **state)
{
    (void)state;
    static const char *const forms[] = {"/topic#ntfy"};
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        struct beside *b = beside_new(forms[i]);
        struct err err;
        put_pair(b->w, 7, -1000);
        open_keeper(b->w);
        open_alert(b);
        assert_int_equal(keeper_prepare(b->w->keeper, 0, &err), -1);
        look(b, 2);
        assert_int_equal(b->told.count, 1);
        assert_non_null(strstr(b->told.head, "POST /topic HTTP/1.1\r\n"));
        assert_non_null(strstr(b->told.head, "\r\nTitle: Claude login needed\r\n"));
        assert_non_null(strstr(b->told.head, "\r\nPriority: urgent\r\n"));
        assert_non_null(strstr(b->told.head, "\r\nTags: key,warning\r\n"));
        assert_non_null(strstr(b->told.body, "the login is no longer accepted"));
        assert_nothing_secret(b);
        beside_free(b);
    }
}

static void its_own_thread_does_the_same(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct beside *b = beside_new("/hook");
    b->waiting = 1;
    open_keeper(b->w);
    open_alert(b);
    assert_int_equal(alert_start(b->alert, &err), 0);
    await(20000, b->told.count == 1);
    beside_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_alert_an_episode),
        cmocka_unit_test(the_logins_own_end_is_told_three_days_ahead),
        cmocka_unit_test(a_hiccup_is_not_told),
        cmocka_unit_test(a_login_that_works_is_not_told),
        cmocka_unit_test(a_lost_login_is_told_at_once),
        cmocka_unit_test(no_login_at_all_is_told_when_tasks_wait),
        cmocka_unit_test(what_the_api_refuses_is_told_when_tasks_wait),
        cmocka_unit_test(with_a_key_or_without_a_url_nobody_is_told),
        cmocka_unit_test(an_alert_is_tried_until_it_is_taken),
        cmocka_unit_test(redirects_and_refusals_are_no_delivery_and_tries_are_bounded),
        cmocka_unit_test(a_restart_neither_repeats_nor_loses_it),
        cmocka_unit_test(a_webhook_gets_json),
        cmocka_unit_test(ntfy_gets_text_and_headers),
        cmocka_unit_test(its_own_thread_does_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
