#include "testbase.h"

#include "base/buf.h"
#include "base/fd.h"
#include "db/db.h"
#include "runner/store/store.h"
#include "runner/store/webhooks.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANARY "canary-that-must-not-be-on-the-disk"
#define THREADS 8

struct place {
    char *dir;
    struct store *store;
};

static void reopen(struct place *place)
{
    struct err err;
    store_close(place->store);
    place->store = store_open(place->dir, &err);
    OK(place->store, &err);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    place->dir = tmp_dir_new();
    reopen(place);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    store_close(place->store);
    tmp_dir_free(place->dir);
    free(place);
    return 0;
}

static struct task_new task_of(const char *id)
{
    return (struct task_new){.id = id, .kind = "claude", .priority = 5, .request = "{}"};
}

static void add(const struct place *place, const char *id)
{
    struct err err;
    bool created = false;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of(id);
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
    assert_true(created);
}

static enum task_state state_of(const struct place *place, const char *id)
{
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    OK(store_get(place->store, id, &record, &err) == 0, &err);
    return record.state;
}

static int end_as(const struct place *place, const char *id, unsigned from, enum task_state state)
{
    struct err err;
    const struct task_end end = {.state = state,
                                 .reason = "r",
                                 .summary = "{}",
                                 .output = "out",
                                 .output_len = 3,
                                 .now_ms = 7};
    int rc = store_end(place->store, id, from, &end, &err);
    OK(rc >= 0, &err);
    return rc;
}

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

/* --- secrets ------------------------------------------------------------------------------- */

static bool on_disk(const struct place *place, const char *text)
{
    static const char *const files[] = {"runner.db", "runner.db-wal", "runner.db-shm",
                                        "secret.key"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        size_t size = 0;
        AUTO(str) char *path = textf("%s/%s", place->dir, files[i]);
        AUTO(str) char *bytes = read_file(path, &size);
        if (bytes && memmem(bytes, size, text, strlen(text)))
            return true;
    }
    return false;
}

static void add_secret(const struct place *place, const char *id)
{
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of(id);
    task.request = "{\"prompt\":\"visible\"}";
    task.secrets = "{\"k\":\"" CANARY "\"}";
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
}

static void secrets_are_sealed_on_the_disk_and_come_back(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(1000);
    add_secret(place, "a");
    assert_true(on_disk(place, "visible"));
    assert_false(on_disk(place, CANARY));
    reopen(place);
    assert_false(on_disk(place, CANARY));
    OK(store_secrets(place->store, "a", &out, &err) == 0, &err);
    assert_string_equal(buf_str(&out), "{\"k\":\"" CANARY "\"}");
}

static void secrets_outlive_a_claim_and_are_wiped_at_the_end(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(1000);
    add_secret(place, "a");
    OK(store_claim(place->store, "a", PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
    OK(store_secrets(place->store, "a", &out, &err) == 0, &err);
    assert_true(out.len > 0);
    buf_clear(&out);
    assert_int_equal(end_as(place, "a", 1u << TASK_RUNNING, TASK_COMPLETED), 1);
    OK(store_secrets(place->store, "a", &out, &err) == 0, &err);
    assert_int_equal(out.len, 0);
}

static void sealed_secrets_belong_to_their_task(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(1000);
    AUTO(str) char *path = textf("%s/runner.db", place->dir);
    add_secret(place, "a");
    add(place, "b");
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    OK(db_run(db, &err,
              "UPDATE tasks SET secrets=(SELECT secrets FROM tasks WHERE id='a') WHERE id='b'",
              "") == 0,
       &err);
    assert_int_equal(store_secrets(place->store, "b", &out, &err), -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    assert_int_equal(out.len, 0);
}

static void another_key_opens_nothing(void **state)
{
    struct place *place = *state;
    struct err err;
    char wrong[32];
    AUTO(buf) struct buf out = BUF_INIT(1000);
    AUTO(str) char *path = textf("%s/secret.key", place->dir);
    memset(wrong, 'w', sizeof(wrong));
    add_secret(place, "a");
    write_bytes(path, wrong, sizeof(wrong));
    reopen(place);
    assert_int_equal(store_secrets(place->store, "a", &out, &err), -1);
    assert_int_equal(err.code, ERR_MISMATCH);
    assert_int_equal(out.len, 0);
}

struct crowd {
    struct place *place;
    _Atomic int failed;
};

static void *read_often(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < 50; i++) {
        struct err err;
        AUTO(task_record) struct task_record record = {0};
        if (store_get(crowd->place->store, "a", &record, &err))
            atomic_fetch_add(&crowd->failed, 1);
    }
    return NULL;
}

/* Descriptors of closed connections would stay: see reader_take(). */
static void a_crowd_of_readers_leaves_few_descriptors(void **state)
{
    struct crowd crowd = {.place = *state};
    add_secret(crowd.place, "a");
    int fds = proc_fds(getpid());
    in_threads(32, read_often, &crowd);
    assert_int_equal(crowd.failed, 0);
    assert_true(proc_fds(getpid()) <= fds + 8);
}

/* --- keys ---------------------------------------------------------------------------------- */

static void a_key_file_of_another_length_is_refused(void **state)
{
    struct place *place = *state;
    AUTO(str) char *path = textf("%s/secret.key", place->dir);
    static const size_t sizes[] = {0, 31, 33, 4096, 4097};
    store_close(STEAL_PTR(place->store));
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct err err;
        static const char bytes[5000] = "x";
        write_bytes(path, bytes, sizes[i]);
        assert_null(store_open(place->dir, &err));
        if (sizes[i] <= 4096)
            assert_int_equal(err.code, ERR_CONFIG);
        assert_non_null(strstr(err.msg, "secret.key"));
    }
}

/* --- webhooks: helpers --------------------------------------------------------------------- */

struct seen_webhook {
    enum webhook_state state;
    int64_t next_ms;
    int tries, attempts;
    char id[ID_SIZE], url[200];
};

static struct seen_webhook webhook_of(const struct place *place, const char *task_id)
{
    struct err err;
    AUTO(webhook_record) struct webhook_record record = {0};
    OK(store_webhook(place->store, task_id, &record, &err) == 0, &err);
    struct seen_webhook seen = {
        record.state, record.next_ms, record.tries, record.attempts, "", ""};
    snprintf(seen.id, sizeof(seen.id), "%s", record.id);
    snprintf(seen.url, sizeof(seen.url), "%s", record.url);
    return seen;
}

/* A task with a callbackUrl; the host is what stands between "https://" and the next slash. */
static void owe(const struct place *place, const char *id, const char *url)
{
    struct err err;
    bool created;
    AUTO(task_record) struct task_record record = {0};
    AUTO(str) char *host = strndup(url + 8, strcspn(url + 8, "/"));
    struct task_new task = task_of(id);
    task.webhook_url = url;
    task.webhook_host = host;
    OK(store_add(place->store, &task, &record, &created, &err) == 0, &err);
}

static void count_call(void *arg)
{
    ++*(int *)arg;
}

/* --- opening ------------------------------------------------------------------------------- */

static void a_database_of_a_newer_runner_is_refused_and_left_alone(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *path = textf("%s/runner.db", place->dir);
    add(place, "a");
    store_close(STEAL_PTR(place->store));
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    AUTO(db_stmt) struct db_stmt *stmt = db_query(db, &err, "PRAGMA user_version", "");
    OK(stmt && db_step(stmt, &err) == 1, &err);
    AUTO(str) char *back = textf("PRAGMA user_version=%d", (int)db_int(stmt, 0));
    db_done(STEAL_PTR(stmt));
    OK(db_exec(db, "PRAGMA user_version=999", &err) == 0, &err);
    assert_null(store_open(place->dir, &err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_non_null(strstr(err.msg, "version 999"));
    OK(db_exec(db, back, &err) == 0, &err);
    db_close(STEAL_PTR(db));
    reopen(place);
    assert_int_equal(state_of(place, "a"), TASK_PENDING);
}

static void a_crash_while_the_database_is_made_is_mended(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *path = textf("%s/runner.db", place->dir);
    store_close(STEAL_PTR(place->store));
    assert_int_equal(unlink(path), 0);
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    OK(db_exec(db,
               "CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
               "CREATE TABLE outputs(task_id TEXT PRIMARY KEY, body TEXT NOT NULL);",
               &err) == 0,
       &err);
    db_close(STEAL_PTR(db));
    reopen(place);
    add(place, "a");
    assert_int_equal(end_as(place, "a", ~0u, TASK_FAILED), 1);
}

/* A database as version 1 made it, with a task in every state. */
static void make_version_1(const char *path, const char *key_path)
{
    struct err err;
    static const char key[32] = "thirty-two bytes of a key, w/out";
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    OK(db, &err);
    OK(db_exec(db,
               "CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
               "CREATE TABLE tasks(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
               " kind TEXT NOT NULL, state INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '',"
               " priority INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,"
               " created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL DEFAULT 0,"
               " ended_ms INTEGER NOT NULL DEFAULT 0, retry_interrupted INTEGER NOT NULL,"
               " shared INTEGER NOT NULL, spec TEXT NOT NULL, secrets BLOB, summary TEXT,"
               " caller TEXT, request_id TEXT);"
               "CREATE INDEX tasks_by_state ON tasks(state, seq);"
               "CREATE INDEX tasks_by_kind ON tasks(kind, seq);"
               "CREATE TABLE outputs(task_id TEXT PRIMARY KEY, body TEXT NOT NULL);"
               "CREATE TABLE idempotency(key TEXT PRIMARY KEY, body_hash BLOB NOT NULL,"
               " task_id TEXT NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
               "PRAGMA user_version=1;"
               "INSERT INTO facts VALUES('instance','i-1');"
               "INSERT INTO tasks(id,kind,state,priority,created_ms,retry_interrupted,shared,spec)"
               " VALUES('a','claude',0,5,1,0,0,'{}'),('b','claude',3,5,1,0,0,'{}'),"
               "('c','claude',4,5,1,0,0,'{}');"
               "INSERT INTO outputs VALUES('c','kept');",
               &err) == 0,
       &err);
    write_bytes(key_path, key, sizeof(key));
}

static void a_database_of_version_1_is_brought_up_to_date(void **state)
{
    struct place *place = *state;
    struct err err;
    AUTO(str) char *dir = tmp_dir_new();
    AUTO(str) char *path = textf("%s/runner.db", dir);
    AUTO(str) char *key = textf("%s/secret.key", dir);
    AUTO(buf) struct buf out = BUF_INIT(100);
    make_version_1(path, key);
    struct store *was = place->store;
    for (int i = 0; i < 2; i++) { /* the second time nothing is to do */
        place->store = store_open(dir, &err);
        OK(place->store, &err);
        assert_string_equal(store_instance(place->store), "i-1");
        assert_int_equal(state_of(place, "a"), TASK_PENDING);
        assert_int_equal(state_of(place, "b"), TASK_RUNNING);
        assert_int_equal(state_of(place, "c"), TASK_COMPLETED);
        if (i == 0)
            store_close(place->store);
    }
    OK(store_output(place->store, "c", &out, NULL, &err) == 0, &err);
    assert_string_equal(buf_str(&out), "kept");
    assert_int_equal(end_as(place, "b", ~0u, TASK_FAILED), 1);
    owe(place, "d", "https://example.com/");
    assert_int_equal(end_as(place, "d", ~0u, TASK_FAILED), 1);
    assert_int_equal(webhook_of(place, "d").state, WEBHOOK_PENDING);
    store_close(place->store);
    place->store = was;
    tmp_dir_free(STEAL_PTR(dir));
}

static void a_step_that_fails_half_way_leaves_the_old_version(void **state)
{
    (void)state;
    struct err err;
    AUTO(str) char *dir = tmp_dir_new();
    AUTO(str) char *path = textf("%s/runner.db", dir);
    AUTO(str) char *key = textf("%s/secret.key", dir);
    make_version_1(path, key);
    AUTO(db) struct db *db = db_open(path, DB_WRITE, &err);
    /* the table can be made, its index cannot */
    OK(db_exec(db, "CREATE TABLE webhooks_due(x)", &err) == 0, &err);
    assert_null(store_open(dir, &err));
    assert_non_null(strstr(err.msg, "from version 1"));
    OK(db_exec(db, "DROP TABLE webhooks_due", &err) == 0, &err);
    struct db_stmt *stmt =
        db_query(db, &err, "SELECT count(*) FROM sqlite_master WHERE name='webhooks'", "");
    assert_int_equal(db_step(stmt, &err), 1);
    assert_int_equal(db_int(stmt, 0), 0);
    db_done(stmt);
    db_close(STEAL_PTR(db));
    struct store *store = store_open(dir, &err);
    OK(store, &err);
    store_close(store);
    tmp_dir_free(STEAL_PTR(dir));
}

/* --- sessions ------------------------------------------------------------------------------ */

#define SESSION "0dc04b77-2b5a-4e55-9fa4-55a6cf5c8d7b"

/* ERR_NONE when it was added. */
static enum err_code try_session(const struct place *place, const char *id, bool resume,
                                 struct err *err)
{
    bool created;
    AUTO(task_record) struct task_record record = {0};
    struct task_new task = task_of(id);
    task.conversation = SESSION;
    task.resume = resume;
    *err = (struct err)ERR_INIT;
    if (store_add(place->store, &task, &record, &created, err))
        return err->code;
    assert_string_equal(record.conversation, SESSION);
    return ERR_NONE;
}

static void end_session(const struct place *place, const char *id, bool kept)
{
    struct err err;
    const struct task_end end = {.state = TASK_FAILED,
                                 .reason = "r",
                                 .summary = "{}",
                                 .conversation_kept = kept,
                                 .now_ms = 7};
    OK(store_end(place->store, id, ~0u, &end, &err) == 1, &err);
}

static void a_session_is_used_by_one_task_at_a_time(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(try_session(place, "none", true, &err), ERR_NOT_FOUND);
    assert_int_equal(try_session(place, "first", false, &err), ERR_NONE);
    assert_int_equal(try_session(place, "early", true, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "'first'"));
    end_session(place, "first", false);
    assert_int_equal(try_session(place, "nothing", true, &err), ERR_NOT_FOUND);
    assert_int_equal(try_session(place, "again", false, &err), ERR_NONE);
    end_session(place, "again", true);
    assert_int_equal(try_session(place, "second", true, &err), ERR_NONE);
    reopen(place);
    assert_int_equal(try_session(place, "third", true, &err), ERR_CONFLICT);
    assert_int_equal(store_claim(place->store, "second", PLACE_HERE, 1, NULL, NULL, &err), 1);
    assert_int_equal(try_session(place, "third", true, &err), ERR_CONFLICT);
    end_session(place, "second", false); /* what was there before is there still */
    assert_int_equal(try_session(place, "third", true, &err), ERR_NONE);
}

struct rush {
    struct place *place;
    _Atomic int turn, won, refused;
};

static void *rush_in(void *arg)
{
    struct rush *rush = arg;
    struct err err;
    AUTO(str) char *id = textf("rush-%d", atomic_fetch_add(&rush->turn, 1));
    enum err_code code = try_session(rush->place, id, true, &err);
    rush->won += code == ERR_NONE;
    rush->refused += code == ERR_CONFLICT;
    return NULL;
}

static void of_many_that_want_a_session_one_gets_it(void **state)
{
    struct rush rush = {.place = *state};
    struct err err;
    assert_int_equal(try_session(rush.place, "first", false, &err), ERR_NONE);
    end_session(rush.place, "first", true);
    in_threads(8, rush_in, &rush);
    assert_int_equal(rush.won, 1);
    assert_int_equal(rush.refused, 7);
}

static int expire_all(const char *id, void *arg)
{
    return strcmp(id, arg) == 0 ? 0 : -1;
}

static void a_session_lasts_as_long_as_any_of_its_tasks(void **state)
{
    struct place *place = *state;
    struct err err;
    assert_int_equal(store_has_conversation(place->store, SESSION, &err), 0);
    assert_int_equal(store_has_conversation(place->store, "", &err), 0);
    assert_int_equal(try_session(place, "first", false, &err), ERR_NONE);
    end_session(place, "first", true);
    assert_int_equal(try_session(place, "second", true, &err), ERR_NONE);
    end_session(place, "second", false);
    char first[] = "first", second[] = "second";
    OK(store_expire(place->store, 100, 10, expire_all, first, &err) == 2, &err);
    assert_int_equal(store_has_conversation(place->store, SESSION, &err), 1);
    assert_int_equal(try_session(place, "third", true, &err), ERR_NONE);
    end_session(place, "third", true);
    OK(store_expire(place->store, 100, 10, expire_all, second, &err) == 2, &err);
    char third[] = "third";
    OK(store_expire(place->store, 100, 10, expire_all, third, &err) == 1, &err);
    assert_int_equal(store_has_conversation(place->store, SESSION, &err), 0);
    assert_int_equal(try_session(place, "fourth", true, &err), ERR_NOT_FOUND);
}

/* --- lists --------------------------------------------------------------------------------- */

struct listed {
    char text[256];
    int stop_after;
    int64_t last;
};

static int list_one(const struct task_record *record, void *arg)
{
    struct listed *listed = arg;
    size_t len = strlen(listed->text);
    snprintf(listed->text + len, sizeof(listed->text) - len, "%s%s", len ? " " : "", record->id);
    listed->last = record->seq;
    return --listed->stop_after == 0;
}

static struct listed list(const struct place *place, struct store_filter filter)
{
    struct err err;
    struct listed listed = {.stop_after = -1};
    OK(store_list(place->store, &filter, list_one, &listed, &err) == 0, &err);
    return listed;
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
        if (i < 3) { /* else cancelled while it waited */
            OK(store_claim(place->store, id, PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
            OK(store_requeue(place->store, id, TASK_WAITING_LIMIT, &err) == 1, &err);
            OK(store_claim(place->store, id, PLACE_HERE, 1, NULL, NULL, &err) == 1, &err);
        }
        struct seen_webhook before = webhook_of(place, id);
        assert_int_equal(before.state, WEBHOOK_WAITING); /* a pause is no end */
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

/* What ends the task and what makes the webhook due is one transaction. */
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
    struct webhook_host hosts[8];
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
    assert_int_equal(store_webhook_hosts(place->store, 100, hosts, 8, &err), 5);
    static const char *const order[] = {"new", "tried-early", "tried-late", "sooner", "later"};
    for (int i = 0; i < 5; i++)
        assert_string_equal(hosts[i].host, order[i]);
    assert_int_equal(hosts[3].due_ms, 200);
    assert_int_equal(store_webhook_hosts(place->store, 100, hosts, 2, &err), 2);
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
        TEST(secrets_are_sealed_on_the_disk_and_come_back),
        TEST(secrets_outlive_a_claim_and_are_wiped_at_the_end),
        TEST(sealed_secrets_belong_to_their_task),
        TEST(another_key_opens_nothing),
        TEST(a_crowd_of_readers_leaves_few_descriptors),
        TEST(a_key_file_of_another_length_is_refused),
        TEST(a_database_of_a_newer_runner_is_refused_and_left_alone),
        TEST(a_crash_while_the_database_is_made_is_mended),
        TEST(a_session_is_used_by_one_task_at_a_time),
        TEST(of_many_that_want_a_session_one_gets_it),
        TEST(a_session_lasts_as_long_as_any_of_its_tasks),
        TEST(lists_are_filtered_and_walked_by_cursor),
        TEST(counts_by_state),
        TEST(states_have_names_both_ways),
        TEST(a_database_of_version_1_is_brought_up_to_date),
        TEST(a_step_that_fails_half_way_leaves_the_old_version),
        TEST(a_webhook_is_due_in_the_moment_its_task_ends),
        TEST(an_end_that_cannot_be_written_owes_nothing),
        TEST(a_redelivery_needs_a_task_that_has_ended_and_a_url),
        TEST(a_host_that_asks_for_rest_gets_it_for_all),
        TEST(hosts_come_by_who_has_waited_longest),
        TEST(old_tasks_go_with_their_webhooks_but_not_before_those_are_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
