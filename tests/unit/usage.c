/* The account's windows: what is recorded of them, when they hold tasks, and what is known after a
 * restart. */
#include "keeper_world.h"

#include "base/buf.h"
#include "base/metric.h"
#include "runner/oauth/usage.h"

struct scene {
    char dir[64], path[128];
    struct breaker *breaker;
    struct usage_windows *usage;
};

static void on_turn(const struct breaker_status *status, void *arg)
{
    (void)status, (void)arg;
}

static void start(struct scene *s)
{
    struct err err = ERR_INIT;
    s->breaker = breaker_new(on_turn, s, &err);
    assert_non_null(s->breaker);
    s->usage = usage_new(s->breaker, &err);
    assert_non_null(s->usage);
    assert_int_equal(usage_remember(s->usage, s->path, &err), 0);
}

static void stop(struct scene *s)
{
    usage_free(s->usage);
    breaker_free(s->breaker);
}

static struct scene *scene_new(void)
{
    struct scene *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    mono_moved_ms = real_moved_ms = 0;
    clock_use(&moved_clock);
    log_set_level(LOG_ERROR);
    snprintf(s->dir, sizeof(s->dir), "/tmp/unit-usage-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/windows", s->dir);
    start(s);
    return s;
}

static void scene_free(struct scene *s)
{
    struct err err;
    stop(s);
    assert_int_equal(path_remove_tree(s->dir, &err), 0);
    clock_use(NULL);
    free(s);
}

static void note(struct scene *s, enum usage_window window, double ratio, int64_t in_ms)
{
    struct usage_reading readings[USAGE_WINDOWS] = {0};
    readings[window] = (struct usage_reading){true, ratio, clock_real_ms() + in_ms};
    usage_note(s->usage, readings);
}

static struct usage_reading reading(struct scene *s, enum usage_window window)
{
    struct usage_reading readings[USAGE_WINDOWS];
    usage_read(s->usage, readings);
    return readings[window];
}

static struct breaker_status held(struct scene *s)
{
    struct breaker_status status;
    breaker_status(s->breaker, &status);
    return status;
}

static void each_window_is_kept_until_it_ends(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    assert_false(reading(s, USAGE_FIVE_HOUR).known);
    note(s, USAGE_FIVE_HOUR, 0.25, HOUR_MS);
    note(s, USAGE_SEVEN_DAY, 1.5, 48 * HOUR_MS); /* paid extra use exceeds the window */
    assert_true(reading(s, USAGE_FIVE_HOUR).ratio > 0.2499);
    assert_true(reading(s, USAGE_SEVEN_DAY).ratio > 1.4999);
    pass(2 * HOUR_MS);
    assert_false(reading(s, USAGE_FIVE_HOUR).known);
    assert_true(reading(s, USAGE_SEVEN_DAY).known);
    usage_forget(s->usage);
    assert_false(reading(s, USAGE_SEVEN_DAY).known);
    scene_free(s);
}

static void nonsense_changes_nothing(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    note(s, USAGE_FIVE_HOUR, 0.5, HOUR_MS);
    note(s, USAGE_FIVE_HOUR, -1, HOUR_MS);
    note(s, USAGE_FIVE_HOUR, 1e300, HOUR_MS);
    note(s, USAGE_FIVE_HOUR, 0.0 / (double)(s == NULL), HOUR_MS);
    note(s, USAGE_FIVE_HOUR, 0.9, -HOUR_MS);
    note(s, USAGE_FIVE_HOUR, 0.9, 24 * 400 * HOUR_MS);
    assert_true(reading(s, USAGE_FIVE_HOUR).ratio < 0.51);
    scene_free(s);
}

static void it_prints_percents_and_times(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    AUTO(buf) struct buf out = BUF_INIT(4096);
    struct usage_reading readings[USAGE_WINDOWS] = {
        [USAGE_FIVE_HOUR] = {true, 0.42, (clock_real_ms() / 1000 + 60) * 1000}};
    usage_print(s->usage, &out);
    assert_string_equal(buf_str(&out), "{\"five_hour\":null,\"seven_day\":null}");
    buf_clear(&out);
    usage_note(s->usage, readings);
    usage_print(s->usage, &out);
    char time[CLOCK_TEXT_SIZE], want[256];
    snprintf(want, sizeof(want),
             "{\"five_hour\":{\"used_percent\":42,\"resets_at\":\"%s\"},\"seven_day\":null}",
             clock_format(readings[0].resets_ms, time));
    assert_string_equal(buf_str(&out), want);
    scene_free(s);
}

/* --- the owner's share ----------------------------------------------------------------------- */

static void beyond_the_tasks_share_they_wait_until_the_window_ends(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    note(s, USAGE_FIVE_HOUR, 0.99, HOUR_MS);
    assert_int_equal(held(s).state, BREAKER_CLOSED); /* nothing is reserved for the owner */
    usage_keep(s->usage, 20);
    assert_int_equal(held(s).state, BREAKER_LIMIT);
    assert_true(held(s).reserved);
    assert_true(held(s).until_ms > clock_real_ms() + HOUR_MS - 60000);
    note(s, USAGE_SEVEN_DAY, 0.81, 3 * HOUR_MS); /* the later of the two counts */
    assert_true(held(s).until_ms > clock_real_ms() + 2 * HOUR_MS);
    note(s, USAGE_SEVEN_DAY, 0.80, 3 * HOUR_MS); /* exactly the share is not beyond it */
    assert_true(held(s).until_ms < clock_real_ms() + 2 * HOUR_MS);
    pass(HOUR_MS + 1000);
    assert_int_equal(held(s).state, BREAKER_CLOSED);
    note(s, USAGE_FIVE_HOUR, 0.9, HOUR_MS);
    assert_int_equal(held(s).state, BREAKER_LIMIT);
    usage_keep(s->usage, 5);
    assert_int_equal(held(s).state, BREAKER_CLOSED);
    scene_free(s);
}

static void a_limit_of_the_apis_is_told_from_the_share(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    usage_keep(s->usage, 50);
    note(s, USAGE_FIVE_HOUR, 0.6, 2 * HOUR_MS);
    breaker_limit(s->breaker, clock_real_ms() + HOUR_MS);
    assert_false(held(s).reserved);
    pass(HOUR_MS + 1000);
    assert_int_equal(held(s).state, BREAKER_LIMIT);
    assert_true(held(s).reserved);
    usage_forget(s->usage); /* another account */
    assert_int_equal(held(s).state, BREAKER_CLOSED);
    scene_free(s);
}

/* --- over restarts --------------------------------------------------------------------------- */

static void a_restart_knows_what_was_known(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    usage_keep(s->usage, 10);
    note(s, USAGE_FIVE_HOUR, 0.95, HOUR_MS);
    note(s, USAGE_SEVEN_DAY, 0.125, 100 * HOUR_MS);
    stop(s);
    start(s);
    assert_true(reading(s, USAGE_FIVE_HOUR).ratio > 0.949);
    assert_true(reading(s, USAGE_SEVEN_DAY).ratio > 0.1249);
    assert_int_equal(held(s).state, BREAKER_CLOSED); /* the share is not yet configured */
    usage_keep(s->usage, 10);
    assert_int_equal(held(s).state, BREAKER_LIMIT);
    stop(s);
    pass(2 * HOUR_MS);
    start(s);
    assert_false(reading(s, USAGE_FIVE_HOUR).known);
    assert_true(reading(s, USAGE_SEVEN_DAY).known);
    scene_free(s);
}

static void a_damaged_file_says_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "[]", "{", "{\"five_hour\":{\"ratio\":\"x\"}}",
                                        "{\"five_hour\":{\"ratio\":1,\"resets_ms\":1e99}}"};
    struct scene *s = scene_new();
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct err err;
        stop(s);
        assert_int_equal(file_replace(s->path, texts[i], strlen(texts[i]), 0600, &err), 0);
        start(s);
        assert_false(reading(s, USAGE_FIVE_HOUR).known);
    }
    scene_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_window_is_kept_until_it_ends),
        cmocka_unit_test(nonsense_changes_nothing),
        cmocka_unit_test(it_prints_percents_and_times),
        cmocka_unit_test(beyond_the_tasks_share_they_wait_until_the_window_ends),
        cmocka_unit_test(a_limit_of_the_apis_is_told_from_the_share),
        cmocka_unit_test(a_restart_knows_what_was_known),
        cmocka_unit_test(a_damaged_file_says_nothing),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
