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

/* ---- a quota, in its own time ---- */

enum {
    TASKS = 12,
    QUOTA = 3,
    RUNS_MS = 1500,   /* a task */
    SEEN_MS = 2000,   /* from a task's end until home knows */
    COUNTED_MS = 250, /* from an execution's end until Google counts it no more */
    ANSWER_MS = 100,  /* to a request */
};

struct quota {
    struct window window;
    int waiting, asked, refused, granted_now;
    int64_t ends_ms[TASKS]; /* of those that were granted */
    int granted;
};

static int counted_at(const struct quota *quota, int64_t now_ms)
{
    int count = 0;
    for (int i = 0; i < quota->granted; i++)
        count += now_ms < quota->ends_ms[i] + COUNTED_MS;
    return count;
}

static void ask(struct quota *quota, int64_t now_ms)
{
    quota->asked++;
    if (counted_at(quota, now_ms) >= QUOTA) {
        quota->refused++;
        window_refused(&quota->window, now_ms, now_ms + ANSWER_MS);
        return;
    }
    window_granted(&quota->window, now_ms + ANSWER_MS);
    quota->ends_ms[quota->granted++] = now_ms + RUNS_MS;
    quota->waiting--;
}

/* Twelve tasks of 1.5 s, three at once: four waves, and no more refusals than a few a wave. No
 * clock of this machine is in it. */
static void twelve_tasks_with_three_granted_are_done_within_thirty_seconds(void **state)
{
    (void)state;
    struct quota quota = {.waiting = TASKS};
    int64_t now_ms = 1000, first_ms = now_ms;
    int ended = 0;
    window_init(&quota.window);
    for (; ended < TASKS; now_ms += 10) {
        while (ended < quota.granted && now_ms >= quota.ends_ms[ended] + SEEN_MS) {
            window_ended(&quota.window, now_ms);
            ended++;
        }
        int room = quota.window.room - quota.window.in_flight;
        if (window_closed_ms(&quota.window, now_ms) > 0)
            continue;
        for (int asking = quota.waiting < room ? quota.waiting : room; asking > 0; asking--)
            ask(&quota, now_ms);
        assert_true(now_ms - first_ms < 30000);
    }
    print_message("%lld ms, %d requests, %d refused\n", (long long)(now_ms - first_ms), quota.asked,
                  quota.refused);
    assert_true(quota.refused <= TASKS * 2);
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
        cmocka_unit_test(twelve_tasks_with_three_granted_are_done_within_thirty_seconds),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
