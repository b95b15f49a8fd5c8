#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "db/db.h"
#include "runner/task/engine.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOON_MS 20000
#define RUNNING (1u << TASK_RUNNING)

static int threads_at_start;

/* A kind of task that does as its request says. `gate` holds "hold" tasks until it is opened. */
struct house {
    char *dir;
    struct store *store;
    struct engine *engine;
    struct task_kind kinds[3];
    struct engine_config config;
    _Atomic bool gate;
    _Atomic int runs;
    _Atomic int at_once;
    _Atomic int most_at_once;
    pthread_mutex_t lock;
    char order[4096]; /* ids in the order in which they were begun */
};

static void note_begin(struct house *house, const struct task_record *record)
{
    int now = atomic_fetch_add(&house->at_once, 1) + 1, most = house->most_at_once;
    while (now > most && !atomic_compare_exchange_weak(&house->most_at_once, &most, now))
        continue;
    house->runs++;
    pthread_mutex_lock(&house->lock);
    size_t len = strlen(house->order);
    snprintf(house->order + len, sizeof(house->order) - len, "%s ", record->id);
    pthread_mutex_unlock(&house->lock);
}

static void hold(struct house *house, struct task_run *run)
{
    struct pollfd wait = {.fd = task_run_wake_fd(run), .events = POLLIN};
    while (!house->gate && task_run_stop(run) == STOP_NO)
        poll(&wait, 1, 2);
}

/* request: "good", "bad", "hold" (until the gate opens, or somebody stops it), "deaf" (only the
 * gate)
 */
static void run_fake(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct house *house = arg;
    const struct task_record *record = task_run_record(run);
    note_begin(house, record);
    task_run_event(run, NULL, "{\"line\":1}", 10);
    if (strcmp(record->request, "\"hold\"") == 0)
        hold(house, run);
    while (strcmp(record->request, "\"deaf\"") == 0 && !house->gate)
        poll_pause();
    outcome->state = TASK_COMPLETED;
    outcome->exit_code = 0;
    if (task_run_stop(run) != STOP_NO && strcmp(record->request, "\"hold\"") == 0) {
        bool cancel = task_run_stop(run) == STOP_CANCEL;
        outcome->state = cancel ? TASK_CANCELLED : TASK_FAILED;
        snprintf(outcome->reason, sizeof(outcome->reason), cancel ? "cancelled" : "interrupted");
        outcome->exit_code = 1;
    }
    if (strcmp(record->request, "\"bad\"") == 0) {
        outcome->state = TASK_FAILED;
        snprintf(outcome->reason, sizeof(outcome->reason), "cli_error");
        outcome->exit_code = 3;
    }
    buf_adds(&outcome->output, "said ");
    buf_adds(&outcome->output, record->id);
    buf_adds(&outcome->members, ",\"num_turns\":2");
    house->at_once--;
}

static void resize(struct engine *engine, int slots, int queue_max)
{
    const struct engine_limits limits = {.slots = slots, .queue_max = queue_max};
    engine_set_limits(engine, &limits);
}

static void open_house(struct house *house, int slots, int queue_max)
{
    struct err err;
    house->store = store_open(house->dir, &err);
    OK(house->store, &err);
    house->kinds[0] = (struct task_kind){.name = "fake", .run = run_fake, .arg = house};
    house->kinds[1] = (struct task_kind){.name = NULL};
    house->config = (struct engine_config){.store = house->store,
                                           .state_dir = house->dir,
                                           .kinds = house->kinds,
                                           .uid = geteuid(),
                                           .gid = getegid(),
                                           .limits = {.slots = slots, .queue_max = queue_max}};
    house->engine = engine_new(&house->config, &err);
    OK(house->engine, &err);
    OK(engine_start(house->engine, &err) == 0, &err);
}

static void close_house(struct house *house)
{
    if (house->engine) {
        engine_drain(house->engine);
        house->gate = true;
        assert_true(engine_wait_idle(house->engine, SOON_MS));
        engine_free(STEAL_PTR(house->engine));
    }
    store_close(STEAL_PTR(house->store));
}

static void reopen_house(struct house *house, int slots)
{
    close_house(house);
    house->gate = false;
    open_house(house, slots, 1000);
}

static int set_up(void **state)
{
    struct house *house = calloc(1, sizeof(*house));
    pthread_mutex_init(&house->lock, NULL);
    house->dir = tmp_dir_new();
    open_house(house, 2, 1000);
    *state = house;
    return 0;
}

static int tear_down(void **state)
{
    struct house *house = *state;
    close_house(house);
    tmp_dir_free(house->dir);
    pthread_mutex_destroy(&house->lock);
    free(house);
    return 0;
}

struct wish {
    const char *id;
    const char *what;
    int priority;
    bool retry;
    const char *kind;
};

static int try_submit(struct house *house, struct wish wish, struct err *err)
{
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    AUTO(str) char *request = textf("\"%s\"", wish.what);
    const struct task_new task = {.id = wish.id,
                                  .kind = wish.kind ? wish.kind : "fake",
                                  .priority = wish.priority,
                                  .retry_interrupted = wish.retry,
                                  .request = request};
    return engine_submit(house->engine, &task, &record, &created, err);
}

static void submit(struct house *house, const char *id, const char *what)
{
    struct err err;
    OK(try_submit(house, (struct wish){.id = id, .what = what}, &err) == 0, &err);
}

static enum task_state state_of(const struct house *house, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    return record.state;
}

static bool has_reason(const struct house *house, const char *id, const char *reason)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    return strcmp(record.reason, reason) == 0;
}

static bool has_ended(const struct house *house, const char *id)
{
    return !task_state_is_active(state_of(house, id));
}

static bool is_quiet(const struct house *house)
{
    struct engine_load load;
    engine_load(house->engine, &load);
    return load.running == 0 && load.queued == 0;
}

/* The names of a task's events, one character each: t(ask) .(unnamed) c(ancelled) d(one). */
static char *events_of(const struct house *house, const char *id)
{
    struct err err;
    struct event event = {0};
    char names[64] = "";
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    AUTO(str) char *path = engine_events_path(house->engine, id);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    int got = 0;
    for (size_t n = 0; fd >= 0 && n + 1 < sizeof(names); n++) {
        got = events_read(fd, event.next, &scratch, &event, &err);
        if (got != 1)
            break;
        names[n] = event.name[0] ? event.name[0] : '.';
    }
    OK(got == 0, &err);
    return strdup(names);
}

static void expect_events(const struct house *house, const char *id, const char *names)
{
    struct err err;
    OK(engine_mend_events(house->engine, id, &err) == 0, &err);
    AUTO(str) char *got = events_of(house, id);
    if (strcmp(got, names) != 0)
        fail_msg("%s has the events '%s', not '%s'", id, got, names);
}

/* --- running ------------------------------------------------------------------------------- */

static void a_task_runs_and_leaves_its_answer(void **state)
{
    struct house *house = *state;
    struct err err;
    static const struct {
        const char *what;
        enum task_state state;
        const char *answer;
        const char *events;
    } cases[] = {
        {"good", TASK_COMPLETED,
         "{\"success\":true,\"taskId\":\"good\",\"status\":\"completed\",\"output\":\"said good\","
         "\"executor\":\"local\",\"exit_code\":0,",
         "t.d"},
        {"bad", TASK_FAILED,
         "{\"success\":false,\"taskId\":\"bad\",\"status\":\"failed\",\"output\":\"said bad\","
         "\"executor\":\"local\",\"exit_code\":3,",
         "t.ed"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(buf) struct buf answer = BUF_INIT(10000);
        AUTO(task_record) struct task_record record = {0};
        submit(house, cases[i].what, cases[i].what);
        EVENTUALLY(SOON_MS, has_ended(house, cases[i].what));
        OK(store_get(house->store, cases[i].what, &record, &err) == 0, &err);
        assert_int_equal(record.state, cases[i].state);
        OK(engine_print_result(house->engine, &record, &answer, &err) == 0, &err);
        if (strncmp(buf_str(&answer), cases[i].answer, strlen(cases[i].answer)) != 0)
            fail_msg("%s", buf_str(&answer));
        assert_non_null(strstr(buf_str(&answer), ",\"num_turns\":2}"));
        expect_events(house, cases[i].what, cases[i].events);
    }
}

static void an_unknown_kind_fails_by_name(void **state)
{
    struct house *house = *state;
    struct err err;
    OK(try_submit(house, (struct wish){.id = "a", .what = "good", .kind = "other"}, &err) == 0,
       &err);
    EVENTUALLY(SOON_MS, has_ended(house, "a"));
    assert_true(has_reason(house, "a", "internal"));
    expect_events(house, "a", "ted");
}

static void as_many_run_at_once_as_there_are_slots(void **state)
{
    struct house *house = *state;
    struct engine_load load;
    for (int i = 0; i < 8; i++) {
        AUTO(str) char *id = textf("t%d", i);
        submit(house, id, "deaf");
    }
    EVENTUALLY(SOON_MS, house->at_once == 2);
    engine_load(house->engine, &load);
    assert_int_equal(load.running, 2);
    assert_int_equal(load.queued, 6);
    resize(house->engine, 5, 1000);
    EVENTUALLY(SOON_MS, house->at_once == 5);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(house->most_at_once, 5);
    engine_load(house->engine, &load);
    assert_int_equal(load.completed, 8);
}

static void priority_goes_before_age(void **state)
{
    struct house *house = *state;
    struct err err;
    resize(house->engine, 1, 1000);
    submit(house, "first", "deaf");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    static const struct {
        const char *id;
        int priority;
    } rest[] = {{"a0", 0}, {"a5", 5}, {"b5", 5}, {"a9", 9}, {"c5", 5}, {"over", 99}, {"under", -7}};
    for (size_t i = 0; i < COUNT_OF(rest); i++)
        OK(try_submit(house,
                      (struct wish){.id = rest[i].id, .what = "good", .priority = rest[i].priority},
                      &err) == 0,
           &err);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_string_equal(house->order, "first a9 over a5 b5 c5 a0 under ");
}

static void a_full_queue_refuses(void **state)
{
    struct house *house = *state;
    struct err err;
    resize(house->engine, 1, 2);
    submit(house, "a", "deaf");
    submit(house, "b", "good");
    submit(house, "c", "good");
    assert_int_equal(try_submit(house, (struct wish){.id = "d", .what = "good"}, &err), -1);
    assert_int_equal(err.code, ERR_RATE);
    AUTO(task_record) struct task_record record = {0};
    assert_int_equal(store_get(house->store, "d", &record, &err), -1);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    submit(house, "d", "good"); /* there is room again: a refusal took none for ever */
    EVENTUALLY(SOON_MS, has_ended(house, "d"));
}

static void a_refused_id_takes_no_place_in_the_queue(void **state)
{
    struct house *house = *state;
    struct err err;
    resize(house->engine, 1, 1);
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(try_submit(house, (struct wish){.id = "a", .what = "good"}, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
    }
    submit(house, "b", "good");
    EVENTUALLY(SOON_MS, has_ended(house, "b"));
}

/* --- cancelling ---------------------------------------------------------------------------- */

static void a_waiting_task_is_cancelled_at_once(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    resize(house->engine, 1, 1000);
    submit(house, "first", "deaf");
    submit(house, "a", "good");
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err);
    assert_int_equal(now, TASK_CANCELLED);
    expect_events(house, "a", "tcd");
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err); /* again: the same answer */
    assert_int_equal(now, TASK_CANCELLED);
    house->gate = true;
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(house->runs, 1);
}

static void a_running_task_is_asked_to_end(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    submit(house, "a", "hold");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err);
    assert_int_equal(now, TASK_RUNNING);
    EVENTUALLY(SOON_MS, has_ended(house, "a"));
    assert_int_equal(state_of(house, "a"), TASK_CANCELLED);
    EVENTUALLY(SOON_MS, is_quiet(house));
    expect_events(house, "a", "t.cd");
}

static void an_ended_or_unknown_task_cannot_be_cancelled(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(engine_cancel(house->engine, "a", &now, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(engine_cancel(house->engine, "none", &now, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    expect_events(house, "a", "t.d");
}

static void a_task_that_runs_only_in_the_store_does_not_hang_its_canceller(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new task = {.id = "a", .kind = "fake", .request = "{}"};
    OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
    OK(store_claim(house->store, "a", PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
    assert_int_equal(engine_cancel(house->engine, "a", &now, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
}

/* --- watching ------------------------------------------------------------------------------ */

struct looker {
    struct engine_watch watch; /* first */
    _Atomic int told;
};

static void on_ended(struct engine_watch *watch)
{
    ((struct looker *)(void *)watch)->told++;
}

static struct looker looker_of(bool attached)
{
    return (struct looker){.watch = {.ended = on_ended, .attached = attached}};
}

static void a_watcher_is_told_once_and_after_the_last_event(void **state)
{
    struct house *house = *state;
    struct looker one = looker_of(false), two = looker_of(false), late = looker_of(false);
    submit(house, "a", "deaf");
    assert_int_equal(engine_watch(house->engine, "a", &one.watch), 1);
    assert_int_equal(engine_watch(house->engine, "a", &two.watch), 1);
    assert_true(engine_unwatch(house->engine, "a", &two.watch, false));
    assert_false(engine_unwatch(house->engine, "a", &two.watch, false));
    house->gate = true;
    EVENTUALLY(SOON_MS, one.told == 1);
    AUTO(str) char *names = events_of(house, "a"); /* not mended: they were there */
    assert_string_equal(names, "t.d");
    assert_int_equal(engine_watch(house->engine, "a", &late.watch), 0);
    assert_false(engine_unwatch(house->engine, "a", &one.watch, true));
    EVENTUALLY(SOON_MS, is_quiet(house));
    assert_int_equal(one.told + two.told + late.told, 1);
}

static void the_last_attached_watcher_who_leaves_cancels(void **state)
{
    struct house *house = *state;
    struct looker one = looker_of(true), two = looker_of(true), other = looker_of(false);
    submit(house, "a", "hold");
    engine_watch(house->engine, "a", &one.watch);
    engine_watch(house->engine, "a", &two.watch);
    engine_watch(house->engine, "a", &other.watch);
    EVENTUALLY(SOON_MS, house->at_once == 1);
    assert_true(engine_unwatch(house->engine, "a", &one.watch, true));
    assert_int_equal(state_of(house, "a"), TASK_RUNNING);
    assert_true(engine_unwatch(house->engine, "a", &two.watch, true));
    EVENTUALLY(SOON_MS, other.told == 1);
    assert_int_equal(state_of(house, "a"), TASK_CANCELLED);
}

struct watch_race {
    struct house *house;
    _Atomic int told, taken_back, too_late, next;
};

static void *watch_and_leave(void *arg)
{
    struct watch_race *race = arg;
    for (int i = 0; i < 40; i++) {
        struct looker looker = looker_of(true);
        AUTO(str) char *id = textf("r%d", atomic_fetch_add(&race->next, 1));
        submit(race->house, id, i % 3 ? "good" : "hold");
        if (!engine_watch(race->house->engine, id, &looker.watch)) {
            race->too_late++;
        } else if (engine_unwatch(race->house->engine, id, &looker.watch, true)) {
            race->taken_back++;
            if (looker.told)
                abort();
        } else {
            while (!looker.told)
                poll_pause();
            race->told++;
        }
    }
    return NULL;
}

static void watching_and_leaving_race_with_the_end(void **state)
{
    struct watch_race race = {.house = *state};
    race.house->gate = true;
    resize(race.house->engine, 4, 1000);
    in_threads(6, watch_and_leave, &race);
    assert_int_equal(race.told + race.taken_back + race.too_late, 240);
    EVENTUALLY(SOON_MS, is_quiet(race.house));
}

struct cancel_race {
    struct house *house;
    _Atomic int next;
};

static void *submit_and_cancel(void *arg)
{
    struct cancel_race *race = arg;
    for (int i = 0; i < 40; i++) {
        struct err err;
        enum task_state now;
        AUTO(str) char *id = textf("c%d", atomic_fetch_add(&race->next, 1));
        submit(race->house, id, "hold");
        if (i % 2)
            engine_mend_events(race->house->engine, id, &err);
        if (engine_cancel(race->house->engine, id, &now, &err))
            abort();
        if (i % 2)
            engine_mend_events(race->house->engine, id, &err);
    }
    return NULL;
}

static void cancelling_races_with_starting(void **state)
{
    struct cancel_race race = {.house = *state};
    in_threads(6, submit_and_cancel, &race);
    EVENTUALLY(SOON_MS, is_quiet(race.house));
    for (int i = 0; i < 240; i++) {
        AUTO(str) char *id = textf("c%d", i);
        assert_int_equal(state_of(race.house, id), TASK_CANCELLED);
        AUTO(str) char *names = events_of(race.house, id);
        if (strcmp(names, "tcd") != 0 && strcmp(names, "t.cd") != 0)
            fail_msg("%s: %s", id, names);
    }
    struct engine_load load;
    engine_load(race.house->engine, &load);
    assert_int_equal(load.cancelled, 240);
}

/* --- going down and coming back ------------------------------------------------------------ */

static void draining_lets_run_what_runs_and_keeps_what_waits(void **state)
{
    struct house *house = *state;
    struct err err;
    struct looker queued = looker_of(true), running = looker_of(true), late = looker_of(true);
    resize(house->engine, 1, 1000);
    submit(house, "a", "deaf");
    submit(house, "b", "good");
    engine_watch(house->engine, "a", &running.watch);
    engine_watch(house->engine, "b", &queued.watch);
    EVENTUALLY(SOON_MS, house->at_once == 1);
    engine_drain(house->engine);
    assert_int_equal(queued.told, 1);
    assert_int_equal(running.told, 0);
    assert_int_equal(engine_watch(house->engine, "b", &late.watch), 0); /* nobody would tell */
    assert_int_equal(try_submit(house, (struct wish){.id = "c", .what = "good"}, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_false(engine_wait_idle(house->engine, 5));
    house->gate = true;
    assert_true(engine_wait_idle(house->engine, SOON_MS));
    assert_int_equal(running.told, 1);
    assert_int_equal(state_of(house, "a"), TASK_COMPLETED);
    assert_int_equal(state_of(house, "b"), TASK_PENDING);
    reopen_house(house, 1);
    EVENTUALLY(SOON_MS, has_ended(house, "b"));
    EVENTUALLY(SOON_MS, is_quiet(house));
    expect_events(house, "b", "t.d");
}

static void interrupting_fails_tasks_or_keeps_those_that_may_run_again(void **state)
{
    struct house *house = *state;
    struct err err;
    submit(house, "a", "hold");
    OK(try_submit(house, (struct wish){.id = "b", .what = "hold", .retry = true}, &err) == 0, &err);
    EVENTUALLY(SOON_MS, house->at_once == 2);
    engine_drain(house->engine);
    engine_interrupt(house->engine);
    assert_true(engine_wait_idle(house->engine, SOON_MS));
    assert_int_equal(state_of(house, "a"), TASK_FAILED);
    assert_true(has_reason(house, "a", "interrupted"));
    assert_int_equal(state_of(house, "b"), TASK_PENDING);
    for (int attempt = 2; attempt <= 3; attempt++) {
        reopen_house(house, 2);
        EVENTUALLY(SOON_MS, house->at_once == 1);
        engine_drain(house->engine);
        engine_interrupt(house->engine);
        assert_true(engine_wait_idle(house->engine, SOON_MS));
        assert_int_equal(state_of(house, "b"), attempt < 3 ? TASK_PENDING : TASK_FAILED);
    }
    assert_true(has_reason(house, "b", "interrupted"));
    expect_events(house, "b", "t...ed");
}

/* Puts tasks into the store as a runner that was killed would have left them. */
static void a_restart_brings_every_state_to_the_truth(void **state)
{
    struct house *house = *state;
    struct err err;
    static const struct {
        const char *id;
        enum task_state left; /* as it was left */
        bool retry;
        int attempts;
        enum task_state then;
        const char *events;
    } rows[] = {
        {"pending", TASK_PENDING, false, 0, TASK_COMPLETED, "t.d"},
        {"running", TASK_RUNNING, false, 1, TASK_FAILED, "ted"},
        {"retry-1", TASK_RUNNING, true, 1, TASK_COMPLETED, "t.d"},
        {"retry-2", TASK_RUNNING, true, 2, TASK_COMPLETED, "t.d"},
        {"retry-3", TASK_RUNNING, true, 3, TASK_FAILED, "ted"},
        {"completed", TASK_COMPLETED, false, 1, TASK_COMPLETED, "td"},
        {"failed", TASK_FAILED, false, 1, TASK_FAILED, "ted"},
        {"cancelled", TASK_CANCELLED, false, 1, TASK_CANCELLED, "tcd"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        bool created;
        AUTO(task_record) struct task_record record = {0};
        const struct task_new task = {.id = rows[i].id,
                                      .kind = "fake",
                                      .request = "\"good\"",
                                      .retry_interrupted = rows[i].retry};
        OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
        for (int n = 1; n <= rows[i].attempts; n++) {
            OK(store_claim(house->store, rows[i].id, PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
            if (n < rows[i].attempts)
                OK(store_requeue(house->store, rows[i].id, TASK_PENDING, &err) == 1, &err);
        }
        const struct task_end end = {.state = rows[i].left, .reason = "", .summary = "{}"};
        if (!task_state_is_active(rows[i].left))
            OK(store_end(house->store, rows[i].id, RUNNING, &end, &err) == 1, &err);
    }
    reopen_house(house, 2);
    EVENTUALLY(SOON_MS, is_quiet(house));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(state_of(house, rows[i].id), rows[i].then);
        expect_events(house, rows[i].id, rows[i].events);
    }
    assert_true(has_reason(house, "running", "interrupted"));
}

static void events_that_cannot_be_written_do_not_keep_the_runner_down(void **state)
{
    struct house *house = *state;
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    const struct task_new task = {.id = "a", .kind = "fake", .request = "{}"};
    OK(store_add(house->store, &task, &record, &created, &err) == 0, &err);
    OK(store_claim(house->store, "a", PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
    AUTO(str) char *in_the_way = textf("%s/tasks/a", house->dir);
    write_bytes(in_the_way, "", 0); /* a file where its directory should be */
    reopen_house(house, 1);
    assert_int_equal(state_of(house, "a"), TASK_FAILED);
    assert_int_equal(engine_mend_events(house->engine, "a", &err), -1);
    unlink(in_the_way);
    expect_events(house, "a", "ted");
}

static void a_last_event_that_a_crash_swallowed_is_made_up_for(void **state)
{
    struct house *house = *state;
    struct err err;
    size_t size;
    submit(house, "a", "good");
    EVENTUALLY(SOON_MS, is_quiet(house));
    AUTO(str) char *path = engine_events_path(house->engine, "a");
    AUTO(str) char *whole = read_file(path, &size);
    for (size_t cut = 0; cut <= size; cut++) {
        size_t now;
        write_bytes(path, whole, cut);
        OK(engine_mend_events(house->engine, "a", &err) == 0, &err);
        AUTO(str) char *mended = read_file(path, &now);
        if (cut > size - 200 && cut < size) /* only the last event was lost: it is the same again */
            assert_string_equal(mended + strlen(mended) - 100, whole + size - 100);
        assert_true(events_end_with(path, "done"));
    }
}

/* --- trouble ------------------------------------------------------------------------------- */

static void a_full_disk_fails_the_task_by_name_and_loses_no_outcome(void **state)
{
    struct house *house = *state;
    struct err err;
    enum task_state now;
    close_house(house);
    if (!small_disk_mount(house->dir, 4u << 20))
        SKIP_BECAUSE("no file system can be mounted here");
    house->gate = false;
    open_house(house, 1, 1000);
    AUTO(str) char *filler = textf("%s/filler", house->dir);
    submit(house, "a", "hold");
    EVENTUALLY(SOON_MS, house->at_once == 1);
    small_disk_fill(filler);
    OK(engine_cancel(house->engine, "a", &now, &err) == 0, &err);
    EVENTUALLY(SOON_MS, house->at_once == 0); /* its outcome may have to wait for space … */
    unlink(filler);
    EVENTUALLY(SOON_MS, is_quiet(house)); /* … and is stored then */
    assert_true(has_ended(house, "a"));
    OK(engine_mend_events(house->engine, "a", &err) == 0, &err);
    close_house(house);
    small_disk_unmount(house->dir);
    open_house(house, 1, 1000);
}

static void tasks_whose_key_was_lost_or_replaced_are_told_at_once(void **state)
{
    struct house *house = *state;
    struct err err;
    char wrong[32] = "wrong";
    bool created;
    AUTO(str) char *key = textf("%s/secret.key", house->dir);
    for (int lost = 0; lost < 2; lost++) {
        char sealed[] = "sealed-0", open[] = "open-0";
        sealed[7] = open[5] = (char)('0' + lost);
        const struct task_new tasks[] = {
            {.id = sealed, .kind = "fake", .request = "\"good\"", .secrets = "{\"k\":\"v\"}"},
            {.id = open, .kind = "fake", .request = "\"good\""}};
        for (size_t i = 0; i < COUNT_OF(tasks); i++) {
            AUTO(task_record) struct task_record record = {0};
            OK(store_add(house->store, &tasks[i], &record, &created, &err) == 0, &err);
        }
        close_house(house);
        if (lost)
            unlink(key);
        else
            write_bytes(key, wrong, sizeof(wrong));
        open_house(house, 0, 1000); /* nothing runs: it is the start that tells */
        assert_true(has_reason(house, sealed, "secrets_lost"));
        expect_events(house, sealed, "ted");
        assert_int_equal(state_of(house, open), TASK_PENDING);
    }
}

static void a_thousand_tasks_leave_nothing_behind(void **state)
{
    struct house *house = *state;
    submit(house, "warm-up", "good");
    EVENTUALLY(SOON_MS, is_quiet(house) && proc_threads(getpid()) == threads_at_start);
    int fds = proc_fds(getpid());
    resize(house->engine, 4, 10000);
    for (int i = 0; i < 1000; i++) {
        AUTO(str) char *id = textf("t%d", i);
        submit(house, id, "good");
    }
    EVENTUALLY(60000, is_quiet(house));
    struct engine_load load;
    engine_load(house->engine, &load);
    assert_int_equal(load.completed, 1001);
    EVENTUALLY(SOON_MS, proc_threads(getpid()) == threads_at_start);
    assert_true(proc_fds(getpid()) <=
                fds + 3 * 3); /* readers of the store, kept: three files each */
    AUTO(str) char *run_dir = textf("%s/run", house->dir);
    assert_int_equal(rmdir(run_dir), 0); /* is empty */
}

static void *do_nothing(void *arg)
{
    return arg;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_task_runs_and_leaves_its_answer),
        TEST(an_unknown_kind_fails_by_name),
        TEST(as_many_run_at_once_as_there_are_slots),
        TEST(priority_goes_before_age),
        TEST(a_full_queue_refuses),
        TEST(a_refused_id_takes_no_place_in_the_queue),
        TEST(a_waiting_task_is_cancelled_at_once),
        TEST(a_running_task_is_asked_to_end),
        TEST(an_ended_or_unknown_task_cannot_be_cancelled),
        TEST(a_task_that_runs_only_in_the_store_does_not_hang_its_canceller),
        TEST(a_watcher_is_told_once_and_after_the_last_event),
        TEST(the_last_attached_watcher_who_leaves_cancels),
        TEST(watching_and_leaving_race_with_the_end),
        TEST(cancelling_races_with_starting),
        TEST(draining_lets_run_what_runs_and_keeps_what_waits),
        TEST(interrupting_fails_tasks_or_keeps_those_that_may_run_again),
        TEST(a_restart_brings_every_state_to_the_truth),
        TEST(events_that_cannot_be_written_do_not_keep_the_runner_down),
        TEST(a_last_event_that_a_crash_swallowed_is_made_up_for),
        TEST(a_full_disk_fails_the_task_by_name_and_loses_no_outcome),
        TEST(tasks_whose_key_was_lost_or_replaced_are_told_at_once),
        TEST(a_thousand_tasks_leave_nothing_behind),
    };
    in_threads(1, do_nothing, NULL); /* with the first thread comes a sanitizer's own */
    threads_at_start = proc_threads(getpid());
    log_open(STDERR_FILENO, LOG_ERROR, LOG_TEXT, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
