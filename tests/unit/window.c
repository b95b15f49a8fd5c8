/* How many executions may run at once: refusals, grants and ends, on the test's own clock. */
#include "testbase.h"

#include "runner/overflow/window.h"

static void nothing_is_limited_before_a_refusal(void **state)
{
    (void)state;
    struct window window;
    window_init(&window);
    for (int i = 0; i < 50; i++)
        window_granted(&window, i);
    assert_int_equal(window.room, WINDOW_OPEN);
    assert_int_equal(window_closed_ms(&window, 100), 0);
}

static void a_burst_of_refusals_is_one_episode(void **state)
{
    (void)state;
    struct window window;
    window_init(&window);
    assert_true(window_refused(&window, 1000, 1100));
    int64_t closed = window_closed_ms(&window, 1100);
    assert_true(closed > 0 && closed <= 1000);
    for (int i = 0; i < 20; i++) /* all were sent before the refusal */
        assert_false(window_refused(&window, 1000 + i, 1200 + i));
    assert_int_equal(window_closed_ms(&window, 1100), closed);
    assert_int_equal(window.room, 1);
}

static void probes_that_are_refused_wait_longer_up_to_a_minute(void **state)
{
    (void)state;
    struct window window;
    int64_t now = 1000, last = 0;
    window_init(&window);
    for (int i = 0; i < 12; i++) {
        assert_true(window_refused(&window, now, now + 10));
        int64_t closed = window_closed_ms(&window, now + 10);
        assert_true(closed >= last && closed <= 60000);
        assert_int_equal(window.room, 1); /* one task probes */
        last = closed;
        now += 10 + closed + 1;
    }
    assert_int_equal(last, 60000);
    window_granted(&window, now);
    assert_true(window_refused(&window, now + 1, now + 2));
    assert_true(window_closed_ms(&window, now + 2) <= 1000); /* a grant makes the pause short
                                                              * again */
}

static void it_widens_to_what_is_granted(void **state)
{
    (void)state;
    struct window window;
    window_init(&window);
    window_refused(&window, 1, 2);
    for (int i = 1; i <= 3; i++) {
        assert_true(window.room > window.in_flight);
        window_granted(&window, 2000 + i);
    }
    assert_true(window_refused(&window, 3000, 3001));
    assert_int_equal(window.room, 4); /* three, and a probe */
    window_ended(&window, 3100);
    assert_int_equal(window.in_flight, 2);
    assert_true(window_closed_ms(&window, 3100) <= 300); /* a place is free: the pause is short */
}

static void long_after_the_last_refusal_it_is_open_again(void **state)
{
    (void)state;
    struct window window;
    window_init(&window);
    window_refused(&window, 1, 2);
    window_granted(&window, 2000);
    assert_int_not_equal(window.room, WINDOW_OPEN);
    window_granted(&window, 1000000);
    assert_int_equal(window.room, WINDOW_OPEN);
}

static void what_an_earlier_process_was_granted_counts(void **state)
{
    (void)state;
    struct window window;
    window_init(&window);
    window_adopted(&window);
    window_adopted(&window);
    window_refused(&window, 1, 2);
    assert_int_equal(window.room, 3);
    for (int i = 0; i < 5; i++)
        window_ended(&window, 10);
    assert_int_equal(window.in_flight, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_limited_before_a_refusal),
        cmocka_unit_test(a_burst_of_refusals_is_one_episode),
        cmocka_unit_test(probes_that_are_refused_wait_longer_up_to_a_minute),
        cmocka_unit_test(it_widens_to_what_is_granted),
        cmocka_unit_test(long_after_the_last_refusal_it_is_open_again),
        cmocka_unit_test(what_an_earlier_process_was_granted_counts),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
