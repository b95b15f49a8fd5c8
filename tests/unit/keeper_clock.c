#include "keeper_scene.h"

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
    await(20000, pair_in(w->path) == 2);
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
    await(20000, w->server.asked == 1);
    usleep(3500000);
    assert_int_equal(w->server.asked, 1);
    pass(61000);
    await(20000, w->server.asked == 2);
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
    await(20000, w->told > told);
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
        await(20000, w->server.asked == w->server.granted); /* the background may be asking */
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
