/* The breaker: what opens and closes it, what it knows after a restart, and a clock that jumps. */
#include "keeper_world.h"

#include "base/thread.h"
#include "runner/oauth/breaker.h"

#include <pthread.h>
#include <stdatomic.h>

#define DAY_MS (24 * HOUR_MS)
#define SLACK_MS \
    60000 /* of a time that is told: much less than a pause here, much more than a test */

struct scene {
    char dir[64], path[128];
    struct breaker *breaker;
    _Atomic int turns;
    _Atomic int state;  /* the state of the last report */
    _Atomic int limits; /* reports of a pause by a limit */

    /* The report of a pause by a limit; the callback does not return until `go`. */
    _Atomic bool held, holding, go;
};

static void on_turn(const struct breaker_status *status, void *arg)
{
    struct scene *s = arg;
    if (s->held && status->state == BREAKER_LIMIT) {
        s->holding = true;
        await(20000, s->go);
    }
    s->state = (int)status->state;
    s->limits += status->state == BREAKER_LIMIT;
    s->turns++;
}

static void start(struct scene *s)
{
    struct err err = ERR_INIT;
    s->breaker = breaker_new(on_turn, s, &err);
    assert_non_null(s->breaker);
    assert_int_equal(breaker_remember(s->breaker, s->path, &err), 0);
}

static void restart(struct scene *s)
{
    breaker_free(s->breaker);
    s->state = BREAKER_CLOSED;
    s->turns = 0;
    start(s);
}

static struct scene *scene_new(void)
{
    struct scene *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    mono_moved_ms = real_moved_ms = 0;
    clock_use(&moved_clock);
    log_set_level(LOG_ERROR);
    snprintf(s->dir, sizeof(s->dir), "/tmp/unit-breaker-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/usage-limit", s->dir);
    start(s);
    return s;
}

static void scene_free(struct scene *s)
{
    struct err err;
    breaker_free(s->breaker);
    assert_int_equal(path_remove_tree(s->dir, &err), 0);
    clock_use(NULL);
    free(s);
}

static struct breaker_status now(struct scene *s)
{
    struct breaker_status status;
    breaker_status(s->breaker, &status);
    return status;
}

static void limit(struct scene *s, int64_t ms)
{
    breaker_limit(s->breaker, clock_real_ms() + ms);
}

/* --- opening and closing ------------------------------------------------------------------- */

static void a_limit_ends_when_it_was_said_to(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    int64_t until = clock_real_ms() + 5 * HOUR_MS;
    breaker_limit(s->breaker, until);
    assert_int_equal(now(s).state, BREAKER_LIMIT);
    assert_true(llabs((long long)(now(s).until_ms - until)) < SLACK_MS);
    limit(s, HOUR_MS); /* a limit of a shorter window: the longer pause stays */
    assert_true(llabs((long long)(now(s).until_ms - until)) < SLACK_MS);
    assert_int_equal(now(s).limits, 2);
    breaker_accepted(s->breaker); /* the answer to a request that began before */
    assert_int_equal(now(s).state, BREAKER_LIMIT);
    assert_int_equal(s->turns, 1);
    pass(5 * HOUR_MS);
    assert_int_equal(now(s).state, BREAKER_CLOSED);
    limit(s, 100 * DAY_MS); /* an absurd time does not cause a pause of months */
    assert_true(now(s).until_ms < clock_real_ms() + 9 * DAY_MS);
    limit(s, -DAY_MS);
    scene_free(s);
}

static void it_goes_on_by_itself(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    limit(s, 0); /* at least a second */
    await(20000, s->turns == 2);
    assert_int_equal(s->limits, 1);
    assert_int_equal(s->state, BREAKER_CLOSED);
    scene_free(s);
}

static void a_few_refusals_in_a_row_open_it_for_a_while(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    breaker_refused(s->breaker);
    breaker_refused(s->breaker);
    breaker_accepted(s->breaker);
    breaker_refused(s->breaker);
    breaker_refused(s->breaker);
    assert_int_equal(now(s).state, BREAKER_CLOSED);
    breaker_refused(s->breaker);
    assert_int_equal(now(s).state, BREAKER_LOGIN);
    assert_true(now(s).until_ms > clock_real_ms());
    limit(s, HOUR_MS);
    assert_int_equal(now(s).state, BREAKER_LOGIN); /* the worse cause is reported first */
    pass(61000);
    assert_int_equal(now(s).state, BREAKER_LIMIT);
    breaker_refused(s->breaker); /* the only attempt after that */
    assert_int_equal(now(s).state, BREAKER_LOGIN);
    scene_free(s);
}

static void another_login_ends_what_was_said_of_the_old_one(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    limit(s, DAY_MS);
    for (int i = 0; i < 3; i++)
        breaker_refused(s->breaker);
    assert_int_equal(now(s).state, BREAKER_LOGIN);
    breaker_renewed(s->breaker);
    assert_int_equal(now(s).state, BREAKER_CLOSED);
    assert_int_equal(s->state, BREAKER_CLOSED);
    breaker_login(s->breaker, true);
    breaker_renewed(s->breaker); /* the keeper decides whether there is a login */
    assert_int_equal(now(s).state, BREAKER_LOGIN);
    breaker_login(s->breaker, false);
    assert_int_equal(now(s).state, BREAKER_CLOSED);
    await(20000, !exists(s->path));
    scene_free(s);
}

/* --- restarts ------------------------------------------------------------------------------ */

static void a_limit_outlives_the_process(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    int64_t until = clock_real_ms() + 5 * HOUR_MS;
    breaker_limit(s->breaker, until);
    await(20000, exists(s->path));
    restart(s);
    assert_int_equal(now(s).state, BREAKER_LIMIT);
    assert_int_equal(s->state, BREAKER_LIMIT);
    assert_true(llabs((long long)(now(s).until_ms - until)) < SLACK_MS);
    assert_int_equal(now(s).limits, 0); /* the limit was hit in an earlier process */
    breaker_free(s->breaker);
    pass(6 * HOUR_MS); /* while no runner runs */
    start(s);
    assert_int_equal(now(s).state, BREAKER_CLOSED);
    await(20000, !exists(s->path));
    scene_free(s);
}

static void a_limit_of_the_last_moment_is_kept(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    for (int i = 1; i <= 20; i++) {
        limit(s, i * HOUR_MS);
        restart(s); /* at once */
        assert_int_equal(now(s).state, BREAKER_LIMIT);
        assert_true(now(s).until_ms > clock_real_ms() + i * HOUR_MS - SLACK_MS);
    }
    scene_free(s);
}

static void a_file_that_makes_no_sense_says_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"",  "soon", "-5", "99999999999999999999999",
                                        "0", "1e9",  " 7", "\n"};
    struct scene *s = scene_new();
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct err err;
        breaker_free(s->breaker);
        assert_int_equal(file_replace(s->path, texts[i], strlen(texts[i]), 0600, &err), 0);
        start(s);
        assert_int_equal(now(s).state, BREAKER_CLOSED);
        await(20000, !exists(s->path));
    }
    scene_free(s);
}

/* --- clocks that jump ---------------------------------------------------------------------- */

static void a_clock_that_is_set_moves_no_pause(void **state)
{
    (void)state;
    static const int64_t steps[] = {DAY_MS, -DAY_MS, -400 * DAY_MS, 400 * DAY_MS};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        struct scene *s = scene_new();
        limit(s, HOUR_MS);
        real_moved_ms += steps[i];
        assert_int_equal(now(s).state, BREAKER_LIMIT);
        assert_true(llabs((long long)(now(s).until_ms - clock_real_ms() - HOUR_MS)) < SLACK_MS);
        pass(HOUR_MS);
        assert_int_equal(now(s).state, BREAKER_CLOSED);
        scene_free(s);
    }
}

static void a_clock_that_is_set_between_two_lives_pauses_for_days_at_most(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    limit(s, HOUR_MS);
    await(20000, exists(s->path));
    breaker_free(s->breaker);
    real_moved_ms -= 400 * DAY_MS;
    start(s);
    assert_int_equal(now(s).state, BREAKER_LIMIT);
    pass(8 * DAY_MS);
    assert_int_equal(now(s).state, BREAKER_CLOSED);
    scene_free(s);
}

static void *set_limit(void *arg)
{
    limit(arg, HOUR_MS);
    return NULL;
}

static void *lift_limit(void *arg)
{
    struct scene *s = arg;
    breaker_renewed(s->breaker);
    return NULL;
}

/* A report that is slow must not come after a later one: the queue would be held for ever. */
static void changes_are_told_in_their_order(void **state)
{
    struct err err;
    struct thread first = {0}, second = {0};
    (void)state;
    struct scene *s = scene_new();
    s->held = true;
    assert_int_equal(thread_start(&first, "limit", 0, set_limit, s, &err), 0);
    await(20000, s->holding);
    assert_int_equal(thread_start(&second, "lift", 0, lift_limit, s, &err), 0);
    await(20000, now(s).state == BREAKER_CLOSED);
    /* without the order, the second would have reported by now, and the first would overwrite it */
    (void)thread_join_within(&second, 300);
    s->go = true;
    thread_join(&first);
    thread_join(&second);
    assert_int_equal(s->state, BREAKER_CLOSED);
    assert_int_equal(s->turns, 2);
    scene_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_ends_when_it_was_said_to),
        cmocka_unit_test(it_goes_on_by_itself),
        cmocka_unit_test(a_few_refusals_in_a_row_open_it_for_a_while),
        cmocka_unit_test(another_login_ends_what_was_said_of_the_old_one),
        cmocka_unit_test(a_limit_outlives_the_process),
        cmocka_unit_test(a_limit_of_the_last_moment_is_kept),
        cmocka_unit_test(a_file_that_makes_no_sense_says_nothing),
        cmocka_unit_test(a_clock_that_is_set_moves_no_pause),
        cmocka_unit_test(a_clock_that_is_set_between_two_lives_pauses_for_days_at_most),
        cmocka_unit_test(changes_are_told_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
