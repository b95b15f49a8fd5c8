#include "keeper_world.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* --- one for everybody --------------------------------------------------------------------- */

#define CALLERS 32

struct caller {
    pthread_t thread;
    struct world *world;
    struct buf token;
    struct err err;
    int rc;
};

static void *want_token(void *arg)
{
    struct caller *caller = arg;
    caller->rc = keeper_token(caller->world->keeper, &caller->token, &caller->err);
    return NULL;
}

static void *meet_refusal(void *arg)
{
    struct caller *caller = arg;
    caller->rc = keeper_refused(caller->world->keeper, "access-1", &caller->err);
    return NULL;
}

static void call_all(struct world *w, struct caller callers[CALLERS], void *(*run)(void *))
{
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.world = w, .token = BUF_INIT(4096)};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, run, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i].thread, NULL);
}

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
    w->server.status = 500;
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    for (size_t i = 0; i < COUNT_OF(pauses_s); i++) {
        int asked = w->server.asked;
        pass(pauses_s[i] * 1000 - 500);
        assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
        assert_int_equal(w->server.asked, asked);
        pass(600);
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

/* --- the lock ------------------------------------------------------------------------------ */

static void *refresh_thread(void *arg)
{
    struct caller *caller = arg;
    caller->rc = keeper_refresh(caller->world->keeper, &caller->err);
    return NULL;
}

static void begin_refresh(struct world *w, struct caller *caller)
{
    *caller = (struct caller){.world = w};
    assert_int_equal(pthread_create(&caller->thread, NULL, refresh_thread, caller), 0);
}

static void waits_while_somebody_holds_the_lock(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    begin_refresh(w, &caller);
    usleep(200000);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(rmdir(w->lock), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(w->server.asked, 1);
    world_free(w);
}

static void adopts_what_the_holder_of_the_lock_has_written(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    begin_refresh(w, &caller);
    usleep(100000);
    put_pair(w, 5, HOUR_MS);
    assert_int_equal(rmdir(w->lock), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
    assert_string_equal(buf_str(&token), "access-5");
    world_free(w);
}

static void refreshes_what_the_holder_left_when_that_has_expired_too(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    put_pair(w, 9, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    begin_refresh(w, &caller);
    usleep(100000);
    put_pair(w, 1, -500);
    assert_int_equal(rmdir(w->lock), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

static void a_lock_left_by_a_dead_process_is_cleared(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 60}, {.tv_sec = time(NULL) - 60}};
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    assert_int_equal(utimensat(AT_FDCWD, w->lock, old, 0), 0);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(w->server.asked, 1);
    world_free(w);
}

/* The clock was set back after it was made; or was it the keeper itself that keeps it young? */
static void a_dead_lock_from_the_future_is_cleared_once_nobody_renews_it(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    struct err err = ERR_INIT;
    struct timespec ahead[2] = {{.tv_sec = time(NULL) + 9999}, {.tv_sec = time(NULL) + 9999}};
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    await(5000, status_of(w).refresh_ok); /* the background's, on its start */
    assert_int_equal(mkdir(w->lock, 0700), 0);
    assert_int_equal(utimensat(AT_FDCWD, w->lock, ahead, 0), 0);
    begin_refresh(w, &caller);
    usleep(100000);
    mono_moved_ms += 29000;
    usleep(2500000); /* two ticks of the background thread */
    mono_moved_ms += 5000;
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(w->server.asked, 2);
    world_free(w);
}

static void our_lock_is_renewed_while_the_server_takes_its_time(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    struct stat st;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 9}, {.tv_sec = time(NULL) - 9}};
    put_pair(w, 1, -1000);
    w->server.delay_ms = 3000;
    open_keeper(w);
    begin_refresh(w, &caller);
    await(5000, w->server.asked == 1);
    assert_int_equal(utimensat(AT_FDCWD, w->lock, old, 0), 0);
    await(5000, stat(w->lock, &st) == 0 && st.st_mtim.tv_sec > old[1].tv_sec + 5);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    world_free(w);
}

static void a_lock_that_was_taken_from_us_is_not_removed(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct caller caller;
    put_pair(w, 1, -1000);
    w->server.delay_ms = 500;
    open_keeper(w);
    begin_refresh(w, &caller);
    await(5000, w->server.asked == 1);
    assert_int_equal(rmdir(w->lock), 0);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.rc, 0);
    assert_int_equal(rmdir(w->lock), 0);
    world_free(w);
}

static void a_keeper_that_ends_does_not_wait_for_the_lock(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    assert_int_equal(mkdir(w->lock, 0700), 0);
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    usleep(100000);
    int64_t began = system_us(CLOCK_MONOTONIC);
    keeper_free(w->keeper);
    w->keeper = NULL;
    assert_true(system_us(CLOCK_MONOTONIC) - began < 5000000);
    assert_int_equal(w->server.asked, 0);
    assert_int_equal(rmdir(w->lock), 0);
    world_free(w);
}

/* --- while the server is asked ------------------------------------------------------------- */

static void login_meanwhile(void *arg)
{
    put_pair(arg, 50, HOUR_MS);
}

static void a_login_made_during_the_refresh_stays(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    w->server.arg = w;
    w->server.after = login_meanwhile;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(pair_in(w->path), 50);
    assert_false(exists(w->spare));
    world_free(w);
}

static void note_meanwhile(void *arg)
{
    struct world *w = arg;
    put_file(w, "{\"note\":[1,2],\"claudeAiOauth\":{\"accessToken\":\"access-1\","
                "\"refreshToken\":\"refresh-1\",\"expiresAt\":1}}");
}

static void other_changes_made_during_the_refresh_stay(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    put_pair(w, 1, -1000);
    w->server.arg = w;
    w->server.after = note_meanwhile;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    assert_int_equal(pair_in(w->path), 2);
    assert_int_equal(file_read(w->path, &text, &err), 0);
    assert_non_null(strstr(buf_str(&text), "\"note\":[1,2]"));
    world_free(w);
}

static void logout_meanwhile(void *arg)
{
    struct world *w = arg;
    unlink(w->path);
}

static void a_logout_during_the_refresh_stays(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    w->server.arg = w;
    w->server.after = logout_meanwhile;
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), -1);
    assert_int_equal(err.code, ERR_LOGIN);
    assert_false(exists(w->path));
    assert_false(exists(w->spare));
    assert_int_equal(status_of(w).state, LOGIN_MISSING);
    world_free(w);
}

/* --- the file ------------------------------------------------------------------------------ */

static void owner_and_link_are_kept_and_others_cannot_read(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct stat st;
    char real[160];
    snprintf(real, sizeof(real), "%s/kept/credentials", w->dir);
    put_pair(w, 1, -1000);
    snprintf(real, sizeof(real), "%s/kept", w->dir);
    assert_int_equal(mkdir(real, 0700), 0);
    snprintf(real, sizeof(real), "%s/kept/credentials", w->dir);
    assert_int_equal(rename(w->path, real), 0);
    assert_int_equal(symlink("kept/credentials", w->path), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(real, 1234, 1235), 0);
    mode_t mask = umask(0);
    open_keeper(w);
    assert_int_equal(keeper_refresh(w->keeper, &err), 0);
    umask(mask);
    assert_int_equal(lstat(w->path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(pair_in(real), 2);
    assert_int_equal(stat(real, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    if (geteuid() == 0) {
        assert_int_equal(st.st_uid, 1234);
        assert_int_equal(st.st_gid, 1235);
    }
    world_free(w);
}

static void a_change_within_one_tick_of_the_file_system_is_seen(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_file(w, "{\"accessToken\":\"access-1\"}");
    open_keeper(w);
    for (char n = '2'; n <= '9'; n++) { /* in place: same inode, same size, same time stamp */
        int fd = open(w->path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, &n, 1, 23), 1);
        close(fd);
        buf_clear(&token);
        assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
        assert_int_equal(buf_str(&token)[7], n);
    }
    world_free(w);
}

/* Runs `in` in a thread with mounts of its own; false when the host does not allow that. */
struct apart {
    struct world *world;
    void (*in)(struct world *world);
    bool allowed;
};

static void *go_apart(void *arg)
{
    struct apart *apart = arg;
    apart->allowed =
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    if (apart->allowed)
        apart->in(apart->world);
    return NULL;
}

static void run_apart(struct world *w, void (*in)(struct world *))
{
    pthread_t thread;
    struct apart apart = {.world = w, .in = in};
    assert_int_equal(pthread_create(&thread, NULL, go_apart, &apart), 0);
    pthread_join(thread, NULL);
    if (!apart.allowed) {
        print_message("SKIPPED: no mount namespaces here\n");
        world_free(w);
        skip();
    }
}

static struct {
    bool mounted;
    int rc, pair, asked;
    struct err err;
} found;

static void refresh_on_a_full_disk(struct world *w)
{
    char filler[160];
    static char zeros[65536];
    found.mounted = mount("tmpfs", w->dir, "tmpfs", 0, "size=256k") == 0;
    if (!found.mounted)
        return;
    put_pair(w, 1, -1000);
    snprintf(filler, sizeof(filler), "%s/filler", w->dir);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        continue;
    open_keeper(w);
    found.rc = keeper_refresh(w->keeper, &found.err);
    found.pair = pair_in(w->path);
    found.asked = w->server.asked;
    (void)!ftruncate(fd, 0);
    close(fd);
    struct err err;
    if (keeper_refresh(w->keeper, &err) || pair_in(w->path) != 2)
        found.rc = 1;
}

static void on_a_full_disk_the_server_is_not_even_asked(void **state)
{
    (void)state;
    struct world *w = world_new();
    run_apart(w, refresh_on_a_full_disk);
    assert_true(found.mounted);
    assert_int_equal(found.rc, -1);
    assert_int_equal(found.err.code, ERR_NO_SPACE);
    assert_int_equal(found.asked, 0);
    assert_int_equal(found.pair, 1);
    world_free(w);
}

static void refresh_a_mounted_file(struct world *w)
{
    put_pair(w, 1, -1000);
    found.mounted = mount(w->path, w->path, NULL, MS_BIND, NULL) == 0;
    open_keeper(w);
    found.rc = keeper_refresh(w->keeper, &found.err);
    found.pair = pair_in(w->path);
    found.asked = w->server.asked;
}

/* As containers mount single files: the rename would fail when the old token is spent. */
static void a_file_that_cannot_be_replaced_is_not_refreshed(void **state)
{
    (void)state;
    struct world *w = world_new();
    run_apart(w, refresh_a_mounted_file);
    assert_true(found.mounted);
    assert_int_equal(found.rc, -1);
    assert_non_null(strstr(found.err.msg, "mount its directory"));
    assert_int_equal(found.asked, 0);
    assert_int_equal(found.pair, 1);
    world_free(w);
}

/* --- what a killed process left ------------------------------------------------------------ */

static void leave_spare(const struct world *w, int n, off_t padding)
{
    struct world at_spare = *w;
    snprintf(at_spare.path, sizeof(at_spare.path), "%s", w->spare);
    put_pair(&at_spare, n, HOUR_MS);
    struct stat st;
    assert_int_equal(stat(w->spare, &st), 0);
    assert_int_equal(truncate(w->spare, st.st_size + padding), 0);
}

static void a_pair_that_a_killed_process_left_is_adopted(void **state)
{
    (void)state;
    for (off_t padding = 0; padding <= 4096; padding += 4096) {
        struct world *w = world_new();
        struct err err = ERR_INIT;
        put_pair(w, 1, -1000);
        w->server.serial = 2;
        leave_spare(w, 2, padding);
        open_keeper(w);
        assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
        assert_int_equal(w->server.asked, 0);
        assert_int_equal(pair_in(w->path), 2);
        assert_false(exists(w->spare));
        assert_int_equal(keeper_refresh(w->keeper, &err), 0);
        assert_int_equal(pair_in(w->path), 3);
        world_free(w);
    }
}

static void a_left_pair_older_than_the_login_is_not(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 60}, {.tv_sec = time(NULL) - 60}};
    put_pair(w, 1, -1000);
    leave_spare(w, 9, 0);
    assert_int_equal(utimensat(AT_FDCWD, w->spare, old, 0), 0);
    open_keeper(w);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(pair_in(w->path), 2);
    assert_false(exists(w->spare));
    world_free(w);
}

static void what_was_left_unfinished_is_not(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    leave_spare(w, 9, 0);
    struct stat st;
    assert_int_equal(stat(w->spare, &st), 0);
    assert_int_equal(truncate(w->spare, st.st_size - 3), 0);
    open_keeper(w);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

/* --- clocks -------------------------------------------------------------------------------- */

static void a_clock_set_forward_does_not_expire_a_token(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    AUTO(buf) struct buf token = BUF_INIT(64);
    put_pair(w, 1, 8 * HOUR_MS);
    open_keeper(w);
    w->server.status = 500;
    real_moved_ms += 24 * HOUR_MS;
    assert_int_equal(keeper_token(w->keeper, &token, &err), 0);
    assert_string_equal(buf_str(&token), "access-1");
    struct keeper_status status = status_of(w);
    assert_int_equal(status.state, LOGIN_OK);
    assert_false(status.token_expired);
    assert_true(status.remaining_ms > 7 * HOUR_MS);
    world_free(w);
}

static void a_clock_set_back_does_not_revive_a_token(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, HOUR_MS);
    open_keeper(w);
    real_moved_ms -= 24 * HOUR_MS;
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(w->server.asked, 0);
    mono_moved_ms += 2 * HOUR_MS;
    real_moved_ms += 2 * HOUR_MS;
    assert_true(status_of(w).token_expired);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(w->server.asked, 1);
    assert_false(status_of(w).token_expired);
    world_free(w);
}

/* While a machine sleeps only the wall clock goes on. */
static void a_machine_that_slept_refreshes_on_waking(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, 8 * HOUR_MS);
    open_keeper(w);
    real_moved_ms += 9 * HOUR_MS;
    assert_int_equal(keeper_prepare(w->keeper, HOUR_MS, &err), 0);
    assert_int_equal(w->server.asked, 1);
    assert_int_equal(pair_in(w->path), 2);
    world_free(w);
}

/* --- in the background --------------------------------------------------------------------- */

static void the_background_refreshes_before_the_end(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, 8 * HOUR_MS);
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    usleep(1200000);
    assert_int_equal(w->server.asked, 0);
    pass(6 * HOUR_MS + 60000); /* so that an alert would still be in time */
    await(5000, pair_in(w->path) == 2);
    usleep(1200000);
    assert_int_equal(w->server.asked, 1);
    world_free(w);
}

static void tokens_that_live_for_seconds_do_not_make_it_hammer(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, -1000);
    w->server.expires_in = ",\"expires_in\":1";
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    await(5000, w->server.asked == 1);
    usleep(3500000);
    assert_int_equal(w->server.asked, 1);
    pass(61000);
    await(5000, w->server.asked == 2);
    world_free(w);
}

static void a_login_made_elsewhere_counts_at_once_and_is_told(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), -1);
    usleep(50000);
    int told = w->told;
    put_pair(w, 1, 8 * HOUR_MS);
    await(5000, w->told > told);
    assert_int_equal(keeper_prepare(w->keeper, 0, &err), 0);
    assert_int_equal(w->server.asked, 0);
    world_free(w);
}

static void everything_at_once_stays_in_step(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    struct caller callers[CALLERS];
    put_pair(w, 1, -1000);
    open_keeper(w);
    assert_int_equal(keeper_start(w->keeper, &err), 0);
    for (int round = 1; round <= 5; round++) {
        call_all(w, callers, round % 2 ? want_token : meet_refusal);
        for (int i = 0; i < CALLERS; i++) {
            assert_int_equal(callers[i].rc, 0);
            buf_done(&callers[i].token);
        }
        int asked = w->server.asked, granted = w->server.granted;
        assert_int_equal(asked, granted);
        struct keeper_status status = status_of(w);
        assert_int_equal(status.state, LOGIN_OK);
        pass(HOUR_MS + 1000);
    }
    assert_int_equal(w->server.crowd, 1);
    world_free(w);
}

/* --- as JSON ------------------------------------------------------------------------------- */

static void a_status_is_json_without_a_token(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err = ERR_INIT;
    put_pair(w, 1, 2 * HOUR_MS + 1000);
    open_keeper(w);
    keeper_verified(w->keeper, "access-0"); /* not this one */
    assert_int_equal(status_of(w).verified_ms, 0);
    keeper_verified(w->keeper, "access-1");
    w->server.status = 500;
    assert_int_equal(keeper_refresh(w->keeper, &err), -1);
    struct keeper_status status = status_of(w);
    AUTO(buf) struct buf text = BUF_INIT(4096);
    keeper_print(&status, true, &text);
    assert_non_null(strstr(buf_str(&text), "\"configured\":true,\"expired\":false"));
    assert_non_null(strstr(buf_str(&text), "\"hours_remaining\":2.0,\"refreshable\":true"));
    assert_non_null(strstr(buf_str(&text), "\"scopes\":[\"user:inference\"]"));
    assert_non_null(strstr(buf_str(&text), "\"last_refresh\":\"failed\""));
    assert_null(strstr(buf_str(&text), "verified_at\":null"));
    assert_null(strstr(buf_str(&text), "access-1"));
    assert_null(strstr(buf_str(&text), "refresh-1"));
    world_free(w);
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
        cmocka_unit_test(waits_while_somebody_holds_the_lock),
        cmocka_unit_test(adopts_what_the_holder_of_the_lock_has_written),
        cmocka_unit_test(refreshes_what_the_holder_left_when_that_has_expired_too),
        cmocka_unit_test(a_lock_left_by_a_dead_process_is_cleared),
        cmocka_unit_test(a_dead_lock_from_the_future_is_cleared_once_nobody_renews_it),
        cmocka_unit_test(our_lock_is_renewed_while_the_server_takes_its_time),
        cmocka_unit_test(a_lock_that_was_taken_from_us_is_not_removed),
        cmocka_unit_test(a_keeper_that_ends_does_not_wait_for_the_lock),
        cmocka_unit_test(a_login_made_during_the_refresh_stays),
        cmocka_unit_test(other_changes_made_during_the_refresh_stay),
        cmocka_unit_test(a_logout_during_the_refresh_stays),
        cmocka_unit_test(owner_and_link_are_kept_and_others_cannot_read),
        cmocka_unit_test(a_change_within_one_tick_of_the_file_system_is_seen),
        cmocka_unit_test(on_a_full_disk_the_server_is_not_even_asked),
        cmocka_unit_test(a_file_that_cannot_be_replaced_is_not_refreshed),
        cmocka_unit_test(a_pair_that_a_killed_process_left_is_adopted),
        cmocka_unit_test(a_left_pair_older_than_the_login_is_not),
        cmocka_unit_test(what_was_left_unfinished_is_not),
        cmocka_unit_test(a_clock_set_forward_does_not_expire_a_token),
        cmocka_unit_test(a_clock_set_back_does_not_revive_a_token),
        cmocka_unit_test(a_machine_that_slept_refreshes_on_waking),
        cmocka_unit_test(the_background_refreshes_before_the_end),
        cmocka_unit_test(tokens_that_live_for_seconds_do_not_make_it_hammer),
        cmocka_unit_test(a_login_made_elsewhere_counts_at_once_and_is_told),
        cmocka_unit_test(everything_at_once_stays_in_step),
        cmocka_unit_test(a_status_is_json_without_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
