#include "keeper_scene.h"

#include <sys/resource.h>

static void many_callers_at_an_expired_token_make_one_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller callers[CALLERS];
    put_pair(w, 1, -1000);
    open_keeper(w);
    w->server.delay_ms = 100;
    call_all(w, callers, want_token);
    for (int i = 0; i < CALLERS; i++) {
        if (callers[i].rc)
            fail_msg("%s", callers[i].err.msg);
        assert_string_equal(buf_str(&callers[i].token), "access-2");
        buf_done(&callers[i].token);
    }
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void many_refusals_of_one_token_make_one_request(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller callers[CALLERS];
    put_pair(w, 1, 8 * HOUR_MS);
    open_keeper(w);
    w->server.delay_ms = 50;
    call_all(w, callers, meet_refusal);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(callers[i].rc, 0);
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void many_callers_share_one_failure(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller callers[CALLERS];
    put_pair(w, 7, -1000); /* the server has never heard of it */
    open_keeper(w);
    w->server.delay_ms = 100;
    call_all(w, callers, want_token);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(callers[i].rc, -1);
        assert_int_equal(callers[i].err.code, ERR_LOGIN);
        assert_int_equal(strncmp(callers[i].err.msg, "OAuth", 5), 0);
        assert_int_equal(callers[i].token.len, 0);
    }
    assert_int_equal(w->server.asked, 1);
    world_free(w);
}

static void a_hundred_rotations_lose_nothing(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    open_keeper(w);
    for (int i = 1; i <= 100; i++) {
        if (keeper_refresh(w->keeper, &err))
            fail_msg("%d: %s", i, err.msg);
        assert_int_equal(pair_in(w->path), i + 1);
    }
    assert_int_equal(w->server.granted, 100);
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    assert_int_equal(file_read(w->path, &text, &err), 0);
    assert_non_null(strstr(buf_str(&text), "{\"mcpOAuth\":{\"x\":1.50},\"claudeAiOauth\":{"));
    assert_non_null(strstr(buf_str(&text), "\"rateLimitTier\":\"t\""));
    assert_false(exists(w->spare));
    world_free(w);
}

/* --- need and expiry ----------------------------------------------------------------------- */

static void a_token_is_made_to_live_as_long_as_its_task(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, HOUR_MS);
    open_keeper(w);
    assert_int_equal(keeper_prepare(w->keeper, 50 * 60000, &err), 0);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(keeper_prepare(w->keeper, 56 * 60000, &err), 0); /* with the margin: not */
    assert_int_equal(w->server.asked, 1);
    /* Another refresh would not make it live longer. */
    assert_int_equal(keeper_prepare(w->keeper, 100 * HOUR_MS, &err), 0);
    assert_int_equal(w->server.asked, 1);
    pass(11 * 60000);
    assert_int_equal(keeper_prepare(w->keeper, 100 * HOUR_MS, &err), 0);
    assert_int_equal(w->server.asked, 2);
    world_free(w);
}

static void a_token_without_an_end_is_used_until_it_is_refused(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_file(w, "{\"accessToken\":\"access-1\",\"refreshToken\":\"refresh-1\"}");
    open_keeper(w);
    pass(1000 * HOUR_MS);
    assert_int_equal(keeper_prepare(w->keeper, 100 * HOUR_MS, &err), 0);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(keeper_refused(w->keeper, "access-1", &err), 0);
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(keeper_refused(w->keeper, "access-1", &err), 0); /* there is another by now */
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void a_token_that_came_without_an_end_gets_one(void **state)
{
    (void)state;
    static const char *const odd[] = {"",
                                      ",\"expires_in\":null",
                                      ",\"expires_in\":0",
                                      ",\"expires_in\":-1",
                                      ",\"expires_in\":\"3600\"",
                                      ",\"expires_in\":3600.5",
                                      ",\"expires_in\":1e300",
                                      ",\"expires_in\":9007199254740991"};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        struct world *w = world_new();
        struct err err = ERR_INIT;
        put_pair(w, 1, -1000);
        w->server.expires_in = odd[i];
        open_keeper(w);
        if (keeper_refresh(w->keeper, &err))
            fail_msg("%s: %s", odd[i], err.msg);
        struct keeper_status status = status_of(w);
        assert_false(status.token_expired);
        assert_true(status.remaining_ms > HOUR_MS - 60000);
        assert_true(status.expires_ms > clock_real_ms());
        world_free(w);
    }
}

static void a_refresh_token_that_stays_is_kept(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    put_pair(w, 1, -1000);
    w->server.keeps_refresh = true;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(file_read(w->path, &text, &err), 0);
    assert_non_null(strstr(buf_str(&text), "access-2"));
    assert_non_null(strstr(buf_str(&text), "refresh-1"));
    world_free(w);
}

/* --- the states of a login ----------------------------------------------------------------- */

static void each_state_of_the_file_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum login_state want;
        bool configured;
    } cases[] = {
        {NULL, LOGIN_MISSING, false},
        {"", LOGIN_MALFORMED, false},
        {"{\"claudeAiOauth\":", LOGIN_MALFORMED, false},
        {"{\"accessToken\":\"access-1\"}", LOGIN_OK, true},
        {"{\"accessToken\":\"access-1\",\"expiresAt\":1000}", LOGIN_EXPIRED, true},
        {"{\"accessToken\":\"access-1\",\"refreshToken\":\"refresh-1\",\"expiresAt\":1000}",
         LOGIN_OK, true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world *w = world_new();
        struct err err = ERR_INIT;
        if (cases[i].text)
            put_file(w, cases[i].text);
        open_keeper(w);
        struct keeper_status status = status_of(w);
        assert_int_equal(status.state, cases[i].want);
        assert_int_equal(status.configured, cases[i].configured);
        if (status.state != LOGIN_OK) {
            assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
            assert_int_equal(err.code, ERR_LOGIN);
            assert_int_equal(strncmp(err.msg, "OAuth", 5), 0);
            assert_int_equal(keeper_refresh(w->keeper, &err), -1);
            assert_int_equal(err.code, cases[i].text ? ERR_LOGIN : ERR_NOT_FOUND);
        }
        assert_int_equal(w->server.asked, 0);
        world_free(w);
    }
}

static void what_is_no_regular_file_is_unreadable(void **state)
{
    (void)state;
    struct world *w = world_new();
    assert_int_equal(mkdir(w->path, 0700), 0);
    open_keeper(w);
    assert_int_equal(status_of(w).state, LOGIN_UNREADABLE);
    assert_int_equal(rmdir(w->path), 0);
    assert_int_equal(mkfifo(w->path, 0600), 0); /* is not waited for */
    assert_int_equal(status_of(w).state, LOGIN_UNREADABLE);
    world_free(w);
}

/* Lets no file be opened any more, or again. */
static void use_up_descriptors(struct rlimit *before, bool up)
{
    if (up)
        assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before->rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, up ? &none : before), 0);
}

static void one_bad_moment_is_not_remembered(void **state)
{
    (void)state;
    struct rlimit before;
    struct world *w = world_new();
    put_pair(w, 1, HOUR_MS);
    use_up_descriptors(&before, true);
    open_keeper(w);
    enum login_state first = status_of(w).state;
    use_up_descriptors(&before, false);
    assert_int_equal(first, LOGIN_UNREADABLE);
    keeper_look(w->keeper);
    assert_int_equal(status_of(w).state, LOGIN_OK);
    put_pair(w, 2, HOUR_MS);
    use_up_descriptors(&before, true);
    keeper_look(w->keeper);
    enum login_state then = status_of(w).state;
    use_up_descriptors(&before, false);
    assert_int_equal(then, LOGIN_OK); /* what was known stays */
    keeper_look(w->keeper);
    AUTO(buf) struct buf token = BUF_INIT(100);
    struct err err;
    assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
    assert_string_equal(buf_str(&token), "access-2");
    world_free(w);
}

static void a_refused_login_stays_refused_until_the_file_changes(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 7, -1000);
    open_keeper(w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
        assert_int_equal(err.code, ERR_LOGIN);
        pass(HOUR_MS);
    }
    assert_int_equal(status_of(w).state, LOGIN_REFUSED);
    assert_int_equal(keeper_refresh(w->keeper, &err), -1);
    assert_int_equal(w->server.asked, 1); /* once is enough */
    put_pair(w, 7, -2000);                /* the same token in a new file */
    assert_int_equal(status_of(w).state, LOGIN_REFUSED);
    put_pair(w, 1, -1000);
    assert_int_equal(status_of(w).state, LOGIN_OK);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void a_refusal_by_the_api_marks_the_token_whatever_the_file_says(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_pair(w, 7, 8 * HOUR_MS);
    open_keeper(w);
    assert_int_equal(keeper_refused(w->keeper, "access-7", &err), -1);
    assert_int_equal(err.code, ERR_LOGIN);
    assert_int_equal(status_of(w).state, LOGIN_REFUSED);
    assert_int_equal(keeper_token(w->keeper, &token, &err), -1);
    struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
    assert_int_equal(utimensat(AT_FDCWD, w->path, now, 0), 0); /* touched: nothing is new */
    assert_int_equal(status_of(w).state, LOGIN_REFUSED);
    world_free(w);
}

static void a_half_written_file_does_not_condemn_the_token(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    open_keeper(w);
    put_file(w, "");
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    assert_int_equal(status_of(w).state, LOGIN_MALFORMED);
    put_pair(w, 1, -1000);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    world_free(w);
}

/* --- a token server in trouble ------------------------------------------------------------- */

static void a_failing_server_is_left_alone_and_the_token_used(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_pair(w, 1, 30 * 60000);
    open_keeper(w);
    stop_time();
    w->server.status = 503;
    assert_int_equal(keeper_prepare(w->keeper, HOUR_MS, &err), 0); /* good for now */
    assert_int_equal(w->server.asked, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(keeper_prepare(w->keeper, HOUR_MS, &err), 0);
    assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
    assert_string_equal(buf_str(&token), "access-1");
    assert_int_equal(w->server.asked, 1); /* backing off */
    struct keeper_status status = status_of(w);
    assert_false(status.refresh_ok);
    assert_string_equal(status.refresh_error, "the token server answered 503 (no reason given)");
    pass(31 * 60000); /* now it has expired */
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_int_equal(w->server.asked, 2);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_int_equal(w->server.asked, 2);
    assert_int_equal(status_of(w).state, LOGIN_OK); /* it can still be refreshed */
    w->server.status = 0;
    pass(11000);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void the_pause_grows_up_to_five_minutes(void **state)
{
    (void)state;
    static const int pauses_s[] = {5, 10, 20, 40, 80, 160, 300, 300, 300};
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    open_keeper(w);
    stop_time();
    w->server.status = 500;
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    for (size_t i = 0; i < COUNT_OF(pauses_s); i++) {
        int asked = w->server.asked;
        pass(pauses_s[i] * 1000 - 1);
        assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
        assert_int_equal(w->server.asked, asked);
        pass(1);
        assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
        assert_int_equal(w->server.asked, asked + 1);
    }
    world_free(w);
}

static void no_server_is_an_upstream_error(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    config_replace(&w->in_force, world_config(w->dir, "http://127.0.0.1:1/token"));
    open_keeper(w);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_int_equal(pair_in(w->path), 1);
    assert_false(exists(w->spare));
    world_free(w);
}

static void answers_that_are_none_change_nothing(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum err_code code;
    } cases[] = {
        {200, "", ERR_UPSTREAM},
        {200, "<html>captive portal</html>", ERR_UPSTREAM},
        {200, "{\"access_token\":7}", ERR_UPSTREAM},
        {200, "{\"access_token\":\"\"}", ERR_INTERNAL},
        {200, "{\"access_token\":\"a b\",\"refresh_token\":\"r\"}", ERR_INTERNAL},
        {200, "{\"access_token\":\"a\",\"refresh_token\":\"r\\r\\n\"}", ERR_INTERNAL},
        {301, "", ERR_UPSTREAM},
        {204, "", ERR_UPSTREAM},
        {400, "{\"error\":\"invalid_request\"}", ERR_UPSTREAM},
        {403, "{\"error\":\"invalid_grant\"}", ERR_UPSTREAM},
        {429, "{\"error\":{\"type\":\"rate_limit_error\"}}", ERR_UPSTREAM},
        {400, "{\"error\":{\"type\":\"invalid_grant\"}}", ERR_LOGIN},
        {401, "{\"error\":\"invalid_grant\"}", ERR_LOGIN},
        {400, "{\"error\":\"refresh-1 is spent\"}", ERR_UPSTREAM},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world *w = world_new();
        struct err err = ERR_INIT;
        put_pair(w, 1, -1000);
        w->server.status = cases[i].status;
        w->server.body = cases[i].body;
        open_keeper(w);
        assert_int_equal(keeper_refresh(w->keeper, &err), -1);
        if (err.code != cases[i].code)
            fail_msg("%d %s: %s", cases[i].status, cases[i].body, err.msg);
        assert_null(strstr(err.msg, "refresh-1"));
        assert_int_equal(pair_in(w->path), 1);
        assert_false(exists(w->spare));
        assert_false(exists(w->lock));
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_callers_at_an_expired_token_make_one_request),
        cmocka_unit_test(many_refusals_of_one_token_make_one_request),
        cmocka_unit_test(many_callers_share_one_failure),
        cmocka_unit_test(a_hundred_rotations_lose_nothing),
        cmocka_unit_test(a_token_is_made_to_live_as_long_as_its_task),
        cmocka_unit_test(a_token_without_an_end_is_used_until_it_is_refused),
        cmocka_unit_test(a_token_that_came_without_an_end_gets_one),
        cmocka_unit_test(a_refresh_token_that_stays_is_kept),
        cmocka_unit_test(each_state_of_the_file_is_named),
        cmocka_unit_test(what_is_no_regular_file_is_unreadable),
        cmocka_unit_test(one_bad_moment_is_not_remembered),
        cmocka_unit_test(a_refused_login_stays_refused_until_the_file_changes),
        cmocka_unit_test(a_refusal_by_the_api_marks_the_token_whatever_the_file_says),
        cmocka_unit_test(a_half_written_file_does_not_condemn_the_token),
        cmocka_unit_test(a_failing_server_is_left_alone_and_the_token_used),
        cmocka_unit_test(the_pause_grows_up_to_five_minutes),
        cmocka_unit_test(no_server_is_an_upstream_error),
        cmocka_unit_test(answers_that_are_none_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
