#include "store_scene.h"

#include "db/db.h"

static void count_call(void *arg)
{
    ++*(int *)arg;
}

/* --- webhooks ------------------------------------------------------------------------------ */

static void a_webhook_is_due_in_the_moment_its_task_ends(void **state)
{
    struct place *place = *state;
    struct err err;
    int told = 0;
    static const enum task_state ends[] = {TASK_COMPLETED, TASK_FAILED, TASK_CANCELLED};
    store_on_webhook(place->store, count_call, &told);
    for (int i = 0; i < 6; i++) {
        AUTO(str) char *id = textf("t-%d", i);
        owe(place, id, "https://example.com/" CANARY "?" CANARY);
        if (i < 3) { /* the others are cancelled while they wait */
            OK(store_claim(place->store, id, PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
            OK(store_requeue(place->store, id, TASK_WAITING_LIMIT, &err) == 1, &err);
            OK(store_claim(place->store, id, PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
        }
        struct seen_webhook before = webhook_of(place, id);
        assert_int_equal(before.state, WEBHOOK_WAITING); /* a pause does not end the task */
        assert_int_equal(told, i);
        assert_int_equal(end_as(place, id, ~0u, ends[i % 3]), 1);
        assert_int_equal(end_as(place, id, ~0u, TASK_FAILED), 0);
        assert_int_equal(told, i + 1);
        struct seen_webhook after = webhook_of(place, id);
        assert_int_equal(after.state, WEBHOOK_PENDING);
        assert_int_equal(after.next_ms, 7);
        assert_string_equal(after.id, before.id);
        assert_string_equal(after.url, "https://example.com/" CANARY "?" CANARY);
    }
    add(place, "none");
    assert_int_equal(end_as(place, "none", ~0u, TASK_COMPLETED), 1);
    assert_int_equal(told, 6);
    assert_false(on_disk(place, CANARY));
}

/* A task that was given up ends once more when its result comes, and says so in another message. */
static void a_task_whose_result_comes_late_owes_another_webhook(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(strlist) struct strlist lost = STRLIST_INIT;
    struct store_placement placement = {.attempt = 1, .phase = PLACEMENT_STARTED};
    owe(place, "t", "https://example.com/late");
    OK(store_claim(place->store, "t", PLACE_AWAY, 1, NULL, NULL, &err) == 1, &err);
    OK(store_set_placement(place->store, "t", &placement, &err) == 0, &err);
    assert_int_equal(end_as(place, "t", ~0u, TASK_FAILED), 1);
    struct seen_webhook first = webhook_of(place, "t");
    assert_int_equal(store_resume(place->store, "t", &err), 0); /* it ended with a result */
    placement.phase = PLACEMENT_LOST;
    OK(store_set_placement(place->store, "t", &placement, &err) == 0, &err);
    reopen(place);
    OK(store_lost(place->store, 0, 10, &lost, &err) == 0, &err);
    assert_int_equal(lost.count, 1);
    assert_string_equal(lost.items[0], "t");
    assert_int_equal(store_resume(place->store, "t", &err), 1);
    assert_int_equal(store_resume(place->store, "t", &err), 0);
    assert_int_equal(state_of(place, "t"), TASK_RUNNING);
    struct seen_webhook second = webhook_of(place, "t");
    assert_int_equal(second.state, WEBHOOK_WAITING);
    assert_string_not_equal(second.id, first.id);
    assert_string_equal(second.url, first.url);
    assert_int_equal(end_as(place, "t", ~0u, TASK_COMPLETED), 1);
    struct seen_webhook third = webhook_of(place, "t");
    assert_int_equal(third.state, WEBHOOK_PENDING);
    assert_string_equal(third.id, second.id);
    OK(store_placement(place->store, "t", &placement, &err) == 0, &err);
    assert_int_equal(placement.phase, PLACEMENT_STARTED);
    placement.phase = PLACEMENT_LOST;
    owe(place, "gone", "https://example.com/late");
    OK(store_set_placement(place->store, "gone", &placement, &err) == 0, &err);
    assert_int_equal(end_as(place, "gone", ~0u, TASK_CANCELLED), 1);
    assert_int_equal(store_resume(place->store, "gone", &err), 0); /* it stays cancelled */
    placement.phase = PLACEMENT_ENDED;                             /* what it had sent may arrive */
    owe(place, "over", "https://example.com/late");
    OK(store_set_placement(place->store, "over", &placement, &err) == 0, &err);
    assert_int_equal(end_as(place, "over", ~0u, TASK_FAILED), 1);
    AUTO(strlist) struct strlist again = STRLIST_INIT;
    OK(store_lost(place->store, 0, 10, &again, &err) == 0, &err);
    assert_int_equal(again.count, 1);
    assert_string_equal(again.items[0], "over");
    assert_int_equal(store_resume(place->store, "over", &err), 1);
}

/* One transaction ends the task and makes the webhook due. */
static void an_end_that_cannot_be_written_owes_nothing(void **state)
{
    struct place *place = *state;
    struct err err;
    int told = 0;
    AUTO(str) char *path = textf("%s/runner.db", place->dir);
    const struct task_end end = {
        .state = TASK_FAILED, .reason = "r", .summary = "{}", .output = "x", .output_len = 1};
    owe(place, "t", "https://example.com/");
    store_on_webhook(place->store, count_call, &told);
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    static const char *const traps[] = {
        "CREATE TRIGGER trap BEFORE INSERT ON outputs BEGIN SELECT RAISE(FAIL,'full'); END",
        "CREATE TRIGGER trap BEFORE UPDATE ON webhooks BEGIN SELECT RAISE(FAIL,'full'); END",
    };
    for (size_t i = 0; i < COUNT_OF(traps); i++) {
        OK(db_exec(db, traps[i], &err) == 0, &err);
        assert_int_equal(store_end(place->store, "t", ~0u, &end, &err), -1);
        assert_int_equal(state_of(place, "t"), TASK_PENDING);
        assert_int_equal(webhook_of(place, "t").state, WEBHOOK_WAITING);
        assert_int_equal(told, 0);
        OK(db_exec(db, "DROP TRIGGER trap", &err) == 0, &err);
    }
    assert_int_equal(store_end(place->store, "t", ~0u, &end, &err), 1);
    assert_int_equal(webhook_of(place, "t").state, WEBHOOK_PENDING);
}

static void a_redelivery_needs_a_task_that_has_ended_and_a_url(void **state)
{
    struct place *place = *state;
    struct err err;
    add(place, "bare");
    owe(place, "t", "https://example.com/");
    assert_int_equal(store_webhook_redeliver(place->store, "bare", 5, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_webhook_redeliver(place->store, "t", 5, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(end_as(place, "t", ~0u, TASK_FAILED), 1);
    static const enum webhook_state from[] = {WEBHOOK_PENDING, WEBHOOK_DELIVERED, WEBHOOK_DEAD};
    for (int i = 0; i < 3; i++) {
        struct seen_webhook before = webhook_of(place, "t");
        const struct webhook_try try = {
            .state = from[i], .status = 500, .error = "e", .now_ms = 10, .next_ms = 1000};
        OK(store_webhook_note(place->store, before.id, &try, &err) == 0, &err);
        assert_int_equal(webhook_of(place, "t").state, from[i]);
        assert_int_equal(webhook_of(place, "t").tries, 1);
        OK(store_webhook_redeliver(place->store, "t", 20, &err) == 0, &err);
        struct seen_webhook after = webhook_of(place, "t");
        assert_int_equal(after.state, WEBHOOK_PENDING);
        assert_int_equal(after.next_ms, 20);
        assert_int_equal(after.tries, 0);
        assert_int_equal(after.attempts, i + 1);
        assert_string_equal(after.id, before.id);
    }
}

static void a_host_that_asks_for_rest_gets_it_for_all(void **state)
{
    struct place *place = *state;
    struct err err;
    static const struct {
        const char *id, *url;
    } tasks[] = {{"a", "https://one/"}, {"b", "https://one/x"}, {"c", "https://two/"}};
    for (size_t i = 0; i < COUNT_OF(tasks); i++) {
        owe(place, tasks[i].id, tasks[i].url);
        end_as(place, tasks[i].id, ~0u, TASK_FAILED);
    }
    const struct webhook_try try = {.state = WEBHOOK_PENDING,
                                    .status = 429,
                                    .error = "e",
                                    .now_ms = 10,
                                    .next_ms = 5000,
                                    .rest_ms = 3000};
    OK(store_webhook_note(place->store, webhook_of(place, "a").id, &try, &err) == 0, &err);
    assert_int_equal(webhook_of(place, "a").next_ms, 5000);
    assert_int_equal(webhook_of(place, "b").next_ms, 3000);
    assert_int_equal(webhook_of(place, "c").next_ms, 7);
}

static void hosts_come_by_who_has_waited_longest(void **state)
{
    struct place *place = *state;
    struct err err;
    struct webhook_receiver hosts[8];
    static const struct {
        const char *id, *url;
        int64_t tried_ms, next_ms; /* 0: not tried yet, due at 7 */
    } tasks[] = {
        {"a", "https://later/", 50, 900},  {"b", "https://tried-late/", 40, 60},
        {"c", "https://new/", 0, 0},       {"d", "https://tried-early/", 30, 80},
        {"e", "https://sooner/", 55, 200}, {"f", "https://new/", 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(tasks); i++) {
        owe(place, tasks[i].id, tasks[i].url);
        end_as(place, tasks[i].id, ~0u, TASK_FAILED);
        const struct webhook_try try = {.state = WEBHOOK_PENDING,
                                        .error = "e",
                                        .now_ms = tasks[i].tried_ms,
                                        .next_ms = tasks[i].next_ms};
        if (tasks[i].tried_ms)
            OK(store_webhook_note(place->store, webhook_of(place, tasks[i].id).id, &try, &err) == 0,
               &err);
    }
    owe(place, "waits", "https://waits/");
    assert_int_equal(store_webhook_receivers(place->store, 100, hosts, 8, &err), 5);
    static const char *const order[] = {"new", "tried-early", "tried-late", "sooner", "later"};
    for (int i = 0; i < 5; i++)
        assert_string_equal(hosts[i].host, order[i]);
    assert_int_equal(hosts[3].due_ms, 200);
    assert_int_equal(store_webhook_receivers(place->store, 100, hosts, 2, &err), 2);
}

static int forget(const char *id, void *arg)
{
    (void)id;
    (void)arg;
    return 0;
}

static void old_tasks_go_with_their_webhooks_but_not_before_those_are_sent(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    static const char *const ids[] = {"pending", "delivered", "dead"};
    for (int i = 0; i < 3; i++) {
        owe(place, ids[i], "https://example.com/");
        end_as(place, ids[i], ~0u, TASK_COMPLETED);
        const struct webhook_try try = {
            .state = (enum webhook_state)(WEBHOOK_PENDING + i), .error = "", .now_ms = 10};
        OK(store_webhook_note(place->store, webhook_of(place, ids[i]).id, &try, &err) == 0, &err);
    }
    assert_string_equal(
        list(place, (struct store_filter){.limit = 9, .webhook = WEBHOOK_DEAD}).text, "dead");
    assert_string_equal(
        list(place, (struct store_filter){.limit = 9, .webhook = WEBHOOK_WAITING}).text, "");
    assert_int_equal(store_expire(place->store, 1000, 100, forget, NULL, &err), 2);
    assert_string_equal(list(place, (struct store_filter){.limit = 9}).text, "pending");
    assert_int_equal(store_webhook(place->store, "dead", &record, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    int64_t counts[WEBHOOK_STATE_COUNT];
    OK(store_webhook_count(place->store, counts, &err) == 0, &err);
    assert_int_equal(counts[WEBHOOK_PENDING], 1);
    assert_int_equal(counts[WEBHOOK_DELIVERED] + counts[WEBHOOK_DEAD], 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_webhook_is_due_in_the_moment_its_task_ends),
        TEST(a_task_whose_result_comes_late_owes_another_webhook),
        TEST(an_end_that_cannot_be_written_owes_nothing),
        TEST(a_redelivery_needs_a_task_that_has_ended_and_a_url),
        TEST(a_host_that_asks_for_rest_gets_it_for_all),
        TEST(hosts_come_by_who_has_waited_longest),
        TEST(old_tasks_go_with_their_webhooks_but_not_before_those_are_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
