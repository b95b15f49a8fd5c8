/* An engine for tests, whose tasks do what their prompts say. */
#ifndef TESTS_ENGINE_SCENE_H
#define TESTS_ENGINE_SCENE_H

#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
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

static inline void note_begin(struct house *house, const struct task_record *record)
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

static inline void hold(struct house *house, struct task_run *run)
{
    struct pollfd wait = {.fd = task_run_wake_fd(run), .events = POLLIN};
    while (!house->gate && task_run_stop(run) == STOP_NO)
        poll(&wait, 1, 2);
}

/* request: "good", "bad", "hold" (until the gate opens, or somebody stops it), "deaf" (only the
 * gate)
 */
static inline void run_fake(struct task_run *run, struct task_outcome *outcome, void *arg)
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

static inline void resize(struct engine *engine, int slots, int queue_max)
{
    const struct engine_limits limits = {.slots = slots, .queue_max = queue_max};
    engine_set_limits(engine, &limits);
}

static inline void open_house(struct house *house, int slots, int queue_max)
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

static inline void close_house(struct house *house)
{
    if (house->engine) {
        engine_drain(house->engine);
        house->gate = true;
        assert_true(engine_wait_idle(house->engine, SOON_MS));
        engine_free(STEAL_PTR(house->engine));
    }
    store_close(STEAL_PTR(house->store));
}

static inline int set_up(void **state)
{
    struct house *house = calloc(1, sizeof(*house));
    pthread_mutex_init(&house->lock, NULL);
    house->dir = tmp_dir_new();
    open_house(house, 2, 1000);
    *state = house;
    return 0;
}

static inline int tear_down(void **state)
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

static inline int try_submit(struct house *house, struct wish wish, struct err *err)
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

static inline void submit(struct house *house, const char *id, const char *what)
{
    struct err err;
    OK(try_submit(house, (struct wish){.id = id, .what = what}, &err) == 0, &err);
}

static inline enum task_state state_of(const struct house *house, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    return record.state;
}

static inline bool has_reason(const struct house *house, const char *id, const char *reason)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(house->store, id, &record, &err) == 0, &err);
    return strcmp(record.reason, reason) == 0;
}

static inline bool has_ended(const struct house *house, const char *id)
{
    return !task_state_is_active(state_of(house, id));
}

static inline bool is_quiet(const struct house *house)
{
    struct engine_load load;
    engine_load(house->engine, &load);
    return load.running == 0 && load.queued == 0;
}

/* The names of a task's events, one character each: t(ask) .(unnamed) c(ancelled) d(one). */
static inline char *events_of(const struct house *house, const char *id)
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

static inline void expect_events(const struct house *house, const char *id, const char *names)
{
    struct err err;
    OK(engine_mend_events(house->engine, id, &err) == 0, &err);
    AUTO(str) char *got = events_of(house, id);
    if (strcmp(got, names) != 0)
        fail_msg("%s has the events '%s', not '%s'", id, got, names);
}

/* --- watching ------------------------------------------------------------------------------ */

struct looker {
    struct engine_watch watch; /* first */
    _Atomic int told;
};

static inline void on_ended(struct engine_watch *watch)
{
    ((struct looker *)(void *)watch)->told++;
}

static inline struct looker looker_of(bool attached)
{
    return (struct looker){.watch = {.ended = on_ended, .attached = attached}};
}

static inline void *do_nothing(void *arg)
{
    return arg;
}

#endif
