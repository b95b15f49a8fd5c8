#include "store_scene.h"

#include "base/buf.h"
#include "db/db.h"

#include <stdatomic.h>
#include <unistd.h>

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

/* Checks that closed connections leave no descriptors: see reader_take(). */
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
    for (int i = 0; i < 2; i++) { /* the second time there is nothing to do */
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
    /* the table can be created, but not its index */
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(secrets_are_sealed_on_the_disk_and_come_back),
        TEST(secrets_outlive_a_claim_and_are_wiped_at_the_end),
        TEST(sealed_secrets_belong_to_their_task),
        TEST(another_key_opens_nothing),
        TEST(a_crowd_of_readers_leaves_few_descriptors),
        TEST(a_key_file_of_another_length_is_refused),
        TEST(a_database_of_a_newer_runner_is_refused_and_left_alone),
        TEST(a_crash_while_the_database_is_made_is_mended),
        TEST(a_database_of_version_1_is_brought_up_to_date),
        TEST(a_step_that_fails_half_way_leaves_the_old_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
