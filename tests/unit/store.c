#include "store_scene.h"

#include "base/buf.h"

#include <stdatomic.h>

#define THREADS 8

/* --- one task ------------------------------------------------------------------------------ */

static void what_is_added_is_there_after_reopening(void **state)
{
    struct place *place = *state;
    struct err err;
    bool created;
    AUTO(task_record) struct task_record added = {0}, got = {0};
    const struct task_new task = {.kind = "claude",
                                  .priority = 9,
                                  .retry_interrupted = true,
                                  .request = "{\"prompt\":\"\xc3\xa4\"}",
                                  .caller = "edge",
                                  .request_id = "r-1"};
    OK(store_add(place->store, &task, &added, &created, &err) == 0, &err);
    assert_true(created && id_is_valid(added.id) && added.seq > 0 && added.created_ms > 0);
    AUTO(str) char *instance = strdup(store_instance(place->store));
    reopen(place);
    assert_string_equal(store_instance(place->store), instance);
    OK(store_get(place->store, added.id, &got, &err) == 0, &err);
    assert_int_equal(got.seq, added.seq);
    assert_string_equal(got.kind, "claude");
    assert_int_equal(got.state, TASK_PENDING);
    assert_int_equal(got.priority, 9);
    assert_true(got.retry_interrupted);
    assert_string_equal(got.request, task.request);
    assert_string_equal(got.caller, "edge");
    assert_string_equal(got.request_id, "r-1");
    assert_null(got.summary);
}

static void an_unknown_task_is_not_found(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf out = BUF_INIT(100);
    assert_int_equal(store_get(place->store, "none", &record, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(store_claim(place->store, "none", PLACE_HERE, 1, NULL, NULL, &err), 0);
    assert_int_equal(store_requeue(place->store, "none", TASK_PENDING, &err), 0);
    assert_int_equal(end_as(place, "none", ~0u, TASK_FAILED), 0);
    assert_int_equal(store_secrets(place->store, "none", &out, &err), 0);
    assert_int_equal(out.len, 0);
}

static void an_id_that_is_taken_is_a_conflict(void **state)
{
    struct place *place = *state;
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of("mine");
    add(place, "mine");
    assert_int_equal(store_add(place->store, &task, &record, &created, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_string_equal(err.msg, "taskId 'mine' is taken");
}

/* Every state by every move: which are allowed, and where they lead. */
static void moves_between_states_are_those_of_the_contract(void **state)
{
    struct place *place = *state;
    enum { WAIT = 1u << TASK_PENDING, RUN = 1u << TASK_RUNNING };
    enum move { CLAIM, REQUEUE, END_WAITING, END_RUNNING, MOVES };
    static const struct {
        const char *name;
        enum task_state state;
        int result[MOVES]; /* the state after it, -1: refused */
    } rows[] = {
        {"pending", TASK_PENDING, {TASK_RUNNING, -1, TASK_CANCELLED, -1}},
        {"running", TASK_RUNNING, {-1, TASK_PENDING, -1, TASK_CANCELLED}},
        {"completed", TASK_COMPLETED, {-1, -1, -1, -1}},
        {"failed", TASK_FAILED, {-1, -1, -1, -1}},
        {"cancelled", TASK_CANCELLED, {-1, -1, -1, -1}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int move = 0; move < MOVES; move++) {
            struct err err;
            AUTO(str) char *id = textf("%s-%d", rows[i].name, move);
            add(place, id);
            if (rows[i].state != TASK_PENDING)
                assert_int_equal(store_claim(place->store, id, PLACE_HERE, 1, NULL, NULL, &err), 1);
            if (!task_state_is_active(rows[i].state))
                assert_int_equal(end_as(place, id, RUN, rows[i].state), 1);
            int rc = move == CLAIM ? store_claim(place->store, id, PLACE_HERE, 5, NULL, NULL, &err)
                     : move == REQUEUE
                         ? store_requeue(place->store, id, TASK_PENDING, &err)
                         : end_as(place, id, move == END_WAITING ? WAIT : RUN, TASK_CANCELLED);
            int after = rows[i].result[move];
            assert_int_equal(rc, after >= 0);
            assert_int_equal(state_of(place, id), after >= 0 ? after : (int)rows[i].state);
        }
    }
}

static void an_ended_state_is_none_to_end_from(void **state)
{
    struct place *place = *state;
    struct err err;
    add(place, "a");
    assert_int_equal(store_claim(place->store, "a", PLACE_HERE, 1, NULL, NULL, &err), 1);
    assert_int_equal(end_as(place, "a", ~0u, TASK_COMPLETED), 1);
    assert_int_equal(end_as(place, "a", ~0u, TASK_FAILED), 0);
    assert_int_equal(state_of(place, "a"), TASK_COMPLETED);
}

static void the_end_is_kept_with_its_output(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(100);
    AUTO(task_record) struct task_record record = {0};
    const struct task_end end = {.state = TASK_FAILED,
                                 .reason = "timeout",
                                 .summary = "{\"exit_code\":1}",
                                 .output = "a\0b",
                                 .output_len = 3,
                                 .now_ms = 42};
    add(place, "a");
    OK(store_claim(place->store, "a", PLACE_HERE, 40, NULL, NULL, &err) == 1, &err);
    OK(store_end(place->store, "a", 1u << TASK_RUNNING, &end, &err) == 1, &err);
    reopen(place);
    OK(store_get(place->store, "a", &record, &err) == 0, &err);
    assert_int_equal(record.started_ms, 40);
    assert_int_equal(record.ended_ms, 42);
    assert_int_equal(record.attempts, 1);
    assert_string_equal(record.reason, "timeout");
    assert_string_equal(record.summary, "{\"exit_code\":1}");
    OK(store_output(place->store, "a", &out, NULL, &err) == 0, &err);
    assert_int_equal(out.len, 3);
    assert_memory_equal(out.data, "a\0b", 3);
}

/* --- races --------------------------------------------------------------------------------- */

#define TASKS 40

struct race {
    struct place *place;
    int (*move)(struct store *store, const char *id);
    _Atomic int won[TASKS];
};

static int race_to_claim(struct store *store, const char *id)
{
    struct err err;
    return store_claim(store, id, PLACE_HERE, 1, NULL, NULL, &err);
}

static int race_to_end(struct store *store, const char *id)
{
    struct err err;
    static _Atomic unsigned turn;
    const struct task_end end = {.state = atomic_fetch_add(&turn, 1) % 2 ? TASK_COMPLETED
                                                                         : TASK_CANCELLED,
                                 .reason = "",
                                 .summary = "{}"};
    return store_end(store, id, 1u << TASK_RUNNING, &end, &err);
}

static int race_to_requeue(struct store *store, const char *id)
{
    struct err err;
    return store_requeue(store, id, TASK_PENDING, &err);
}

static void *run_race(void *arg)
{
    struct race *race = arg;
    for (int i = 0; i < TASKS; i++) {
        char id[32];
        snprintf(id, sizeof(id), "task-%d", i);
        race->won[i] += race->move(race->place->store, id);
    }
    return NULL;
}

static void each_move_is_made_exactly_once_whoever_races(void **state)
{
    struct place *place = *state;
    for (int i = 0; i < TASKS; i++) {
        AUTO(str) char *id = textf("task-%d", i);
        add(place, id);
    }
    int (*const moves[])(struct store *, const char *) = {race_to_claim, race_to_requeue,
                                                          race_to_claim, race_to_end};
    for (size_t m = 0; m < COUNT_OF(moves); m++) {
        struct race race = {.place = place, .move = moves[m]};
        in_threads(THREADS, run_race, &race);
        for (int i = 0; i < TASKS; i++)
            assert_int_equal(race.won[i], 1);
    }
}

struct key_race {
    struct place *place;
    _Atomic int created;
    _Atomic int64_t seq;
    _Atomic int different;
};

static void *add_with_key(void *arg)
{
    struct key_race *race = arg;
    struct err err;
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of(NULL);
    task.idempotency_key = "one-key";
    task.body_hash = "hash";
    task.body_hash_len = 4;
    if (store_add(race->place->store, &task, &record, &created, &err))
        abort();
    race->created += created;
    int64_t none = 0;
    if (!atomic_compare_exchange_strong(&race->seq, &none, record.seq) && none != record.seq)
        race->different++;
    return NULL;
}

static void a_key_makes_one_task_whoever_races(void **state)
{
    struct key_race race = {.place = *state};
    in_threads(16, add_with_key, &race);
    assert_int_equal(race.created, 1);
    assert_int_equal(race.different, 0);
}

static void a_key_gives_the_same_task_and_only_to_the_same_body(void **state)
{
    struct place *place = *state;
    struct err err;
    char first[ID_SIZE] = "";
    static const struct {
        const char *body;
        bool reopen;
        int rc;
        bool created;
    } steps[] = {
        {"body", false, 0, true},    {"body", false, 0, false}, {"bodz", false, -1, false},
        {"body ", false, -1, false}, {"", false, -1, false},    {"body", true, 0, false},
        {"other", true, -1, false},
    };
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        bool created = false;
        AUTO(task_record) struct task_record record = {0};
        struct task_new task = task_of(NULL);
        task.idempotency_key = "k";
        task.body_hash = steps[i].body;
        task.body_hash_len = strlen(steps[i].body);
        if (steps[i].reopen)
            reopen(place);
        assert_int_equal(store_add(place->store, &task, &record, &created, &err), steps[i].rc);
        assert_int_equal(created, steps[i].created);
        if (steps[i].rc)
            assert_int_equal(err.code, ERR_CONFLICT);
        else if (first[0])
            assert_string_equal(record.id, first);
        else
            snprintf(first, sizeof(first), "%s", record.id);
    }
}

static void a_key_is_not_used_up_by_a_task_that_could_not_be_added(void **state)
{
    struct place *place = *state;
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of("taken");
    task.idempotency_key = "k";
    task.body_hash = "h";
    task.body_hash_len = 1;
    add(place, "taken");
    assert_int_equal(store_add(place->store, &task, &record, &created, &err), -1);
    task.id = "free";
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
    assert_true(created);
}

static void lists_are_filtered_and_walked_by_cursor(void **state)
{
    struct place *place = *state;
    struct err err;
    for (int i = 1; i <= 6; i++) {
        bool created;
        AUTO(str) char *id = textf("t%d", i);
        AUTO(task_record) struct task_record record = {0};
        struct task_new task = task_of(id);
        task.kind = i % 2 ? "claude" : "python";
        OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
        assert_int_equal(record.seq, i);
    }
    store_claim(place->store, "t2", PLACE_HERE, 1, NULL, NULL, &err);
    store_claim(place->store, "t3", PLACE_HERE, 1, NULL, NULL, &err);
    end_as(place, "t3", ~0u, TASK_COMPLETED);
    end_as(place, "t4", ~0u, TASK_CANCELLED);
    const struct {
        struct store_filter filter;
        const char *ids;
    } cases[] = {
        {{.limit = 100}, "t6 t5 t4 t3 t2 t1"},
        {{.limit = 100, .oldest_first = true}, "t1 t2 t3 t4 t5 t6"},
        {{.limit = 2}, "t6 t5"},
        {{.limit = 2, .before = 5}, "t4 t3"},
        {{.limit = 2, .before = 1}, ""},
        {{.limit = 100, .after = 4, .oldest_first = true}, "t5 t6"},
        {{.limit = 100, .kind = "python"}, "t6 t4 t2"},
        {{.limit = 100, .kind = "none"}, ""},
        {{.limit = 100, .states = 1u << TASK_PENDING}, "t6 t5 t1"},
        {{.limit = 100, .states = 1u << TASK_PENDING, .oldest_first = true}, "t1 t5 t6"},
        {{.limit = 100, .states = 1u << TASK_RUNNING, .oldest_first = true}, "t2"},
        {{.limit = 100, .states = 1u << TASK_COMPLETED | 1u << TASK_CANCELLED}, "t4 t3"},
        {{.limit = 100, .states = 1u << TASK_COMPLETED, .oldest_first = true}, "t3"},
        {{.limit = 100, .states = 1u << TASK_PENDING | 1u << TASK_CANCELLED, .kind = "python"},
         "t6 t4"},
        {{.limit = 0}, ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(list(place, cases[i].filter).text, cases[i].ids);
    struct listed first = {.stop_after = 2};
    OK(store_list(place->store, &(struct store_filter){.limit = 100}, list_one, &first, &err) == 0,
       &err);
    assert_string_equal(first.text, "t6 t5");
    assert_string_equal(list(place, (struct store_filter){.limit = 9, .before = first.last}).text,
                        "t4 t3 t2 t1");
}

static void counts_by_state(void **state)
{
    struct place *place = *state;
    struct err err;
    int64_t counts[TASK_STATE_COUNT];
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *id = textf("t%d", i);
        add(place, id);
    }
    store_claim(place->store, "t0", PLACE_HERE, 1, NULL, NULL, &err);
    end_as(place, "t1", ~0u, TASK_FAILED);
    OK(store_count(place->store, counts, &err) == 0, &err);
    assert_int_equal(counts[TASK_PENDING], 3);
    assert_int_equal(counts[TASK_RUNNING], 1);
    assert_int_equal(counts[TASK_FAILED], 1);
    assert_int_equal(counts[TASK_COMPLETED], 0);
}

static void states_have_names_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < TASK_STATE_COUNT; i++) {
        enum task_state parsed;
        assert_int_equal(task_state_parse(task_state_name((enum task_state)i), &parsed), 0);
        assert_int_equal(parsed, i);
    }
    enum task_state untouched = TASK_FAILED;
    assert_int_equal(task_state_parse("Pending", &untouched), -1);
    assert_int_equal(task_state_parse("", &untouched), -1);
    assert_int_equal(untouched, TASK_FAILED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_added_is_there_after_reopening),
        TEST(an_unknown_task_is_not_found),
        TEST(an_id_that_is_taken_is_a_conflict),
        TEST(moves_between_states_are_those_of_the_contract),
        TEST(an_ended_state_is_none_to_end_from),
        TEST(the_end_is_kept_with_its_output),
        TEST(each_move_is_made_exactly_once_whoever_races),
        TEST(a_key_makes_one_task_whoever_races),
        TEST(a_key_gives_the_same_task_and_only_to_the_same_body),
        TEST(a_key_is_not_used_up_by_a_task_that_could_not_be_added),
        TEST(lists_are_filtered_and_walked_by_cursor),
        TEST(counts_by_state),
        TEST(states_have_names_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
