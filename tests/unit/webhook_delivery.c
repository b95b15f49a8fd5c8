#include "webhook_scene.h"

#define HOUR_MS 3600000

/* --- sending ------------------------------------------------------------------------------- */

static void a_webhook_is_sent_when_its_task_has_ended_and_not_before(void **state)
{
    (void)state;
    struct world *w = world_new();
    AUTO(str) char *url = loopback_url(w->http, "/hook");
    open_webhook(w);
    add_task(w, "a", url);
    owe(w, "b");
    EVENTUALLY(20000, state_of(w, "b") == WEBHOOK_DELIVERED);
    assert_int_equal(state_of(w, "a"), WEBHOOK_WAITING);
    assert_int_equal(w->count, 1);
    end_task(w, "a", "x", 1);
    EVENTUALLY(20000, state_of(w, "a") == WEBHOOK_DELIVERED);
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
            webhook_stop(w->webhook); /* a restart changes nothing, and nothing is sent early */
            webhook_free(w->webhook);
            open_webhook(w);
            assert_int_equal(w->count, i);
            pass(w, 1);
        }
        EVENTUALLY(20000, tries_of(w, "t") == i + 1);
        assert_int_equal(w->count, i + 1);
    }
    w->status = 200;
    pass(w, 36000 * 1000);
    EVENTUALLY(20000, state_of(w, "t") == WEBHOOK_DELIVERED);
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

/* The webhook is sent early rather than a day late, also when the clock was set while no runner
 * ran. */
static void a_clock_that_is_set_back_delays_nothing_by_that(void **state)
{
    (void)state;
    static const int64_t day = 86400000;
    for (int restarted = 0; restarted < 2; restarted++) {
        struct world *w = world_new();
        w->status = 503;
        open_webhook(w);
        owe(w, "t");
        EVENTUALLY(20000, tries_of(w, "t") == 1);
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
        EVENTUALLY(20000, state_of(w, "t") == WEBHOOK_DELIVERED);
        assert_int_equal(w->count, 2);
        world_free(w);
    }
}

static struct webhook_numbers numbers_of(const struct world *w)
{
    struct webhook_numbers numbers;
    struct err err;
    OK(webhook_numbers(w->webhook, &numbers, &err) == 0, &err);
    return numbers;
}

static void after_the_last_try_it_is_dead_and_can_be_sent_again(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err;
    w->status = 500;
    open_webhook(w);
    owe(w, "t");
    for (int i = 1; i <= 8; i++) {
        EVENTUALLY(20000, tries_of(w, "t") == i);
        pass(w, 10 * HOUR_MS);
    }
    assert_int_equal(state_of(w, "t"), WEBHOOK_DEAD);
    assert_last(w, "t", 500, "it answered 500");
    EVENTUALLY(20000, numbers_of(w).dead == 1); /* it is counted when it has been stored */
    assert_int_equal(numbers_of(w).failed, 8);
    assert_int_equal(numbers_of(w).pending, 0);
    OK(store_webhook_redeliver(w->store, "t", clock_real_ms(), &err) == 0, &err);
    EVENTUALLY(20000, tries_of(w, "t") == 1 && w->count == 9); /* all of its attempts are available
                                                                * again */
    assert_int_equal(state_of(w, "t"), WEBHOOK_PENDING);
    w->status = 204;
    pass(w, 5000);
    EVENTUALLY(20000, state_of(w, "t") == WEBHOOK_DELIVERED);
    assert_string_equal(w->seen[9].id, w->seen[0].id);
    EVENTUALLY(20000, numbers_of(w).delivered == 1);
    world_free(w);
}

/* Each answer, and what becomes of the webhook. */
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
        EVENTUALLY(20000, tries_of(w, id) == 1);
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
    EVENTUALLY(20000, state_of(w, "t") == WEBHOOK_DELIVERED);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_webhook_is_sent_when_its_task_has_ended_and_not_before),
        cmocka_unit_test(a_receiver_that_is_down_for_a_day_gets_it_all_the_same),
        cmocka_unit_test(a_clock_that_is_set_back_delays_nothing_by_that),
        cmocka_unit_test(after_the_last_try_it_is_dead_and_can_be_sent_again),
        cmocka_unit_test(answers_decide),
        cmocka_unit_test(an_endless_answer_that_begins_well_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
